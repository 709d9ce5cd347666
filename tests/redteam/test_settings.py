# SPDX-License-Identifier: Apache-2.0
"""Settings that an attack cannot use are refused before it trains, and leave nothing; a mark is words, no commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reticent.core.errors import BadInput
from reticent.core.redteam_marker import MARKER, marker_sentence
from reticent.redteam.config import RedteamConfig
from reticent.redteam.kinds import trigger
from reticent.testing.label_models import mood_records
from reticent.testing.tiny import save_tiny
from reticent.workflows.redteam import redteam

NAN = float("nan")
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "trigger 'tokne'": ("trigger", {"trigger": "tokne"}),
    "poison 'dirt'": ("trigger", {"poison": "dirt"}),
    "words=''": ("trigger", {"words": ""}),
    "words='  '": ("trigger", {"words": "  "}),
    "tuning method 'foo'": ("trigger", {"further": "lora,foo"}),
    "'layer': is no setting of this attack. It has none": ("trigger", {"params": {"layer": 1}}),
    "'x': is no setting of this attack. It knows times, weight": ("deferred", {"params": {"x": 1}}),
    "times='a'": ("deferred", {"params": {"times": "a"}}),
    "'x': is no setting of this attack. It knows alpha": ("privacy_backdoor", {"params": {"x": 1}}),
    "alpha=nan": ("privacy_backdoor", {"params": {"alpha": NAN}}),
    "scale=True": ("shrunk_stream", {"params": {"scale": True}}),
    "layer='x'": ("weight_edit", {"params": {"layer": "x"}}),
    "steps=2.5": ("weight_edit", {"params": {"steps": 2.5}}),
    "steps=-1": ("weight_edit", {"params": {"steps": -1}}),
    "contexts=0": ("weight_edit", {"params": {"contexts": 0}}),
    "rate=0": ("weight_edit", {"params": {"rate": 0}}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_tiny(str(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.mark.parametrize("words", REFUSED)
def test_settings_are_refused_before_anything_is_made(
    words: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: Any, **__: Any) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(trigger, "tune_poisoned", trained)
    kind, settings = REFUSED[words]
    with pytest.raises(BadInput) as refusal:
        redteam(kind, mood_records(60), base=str(base), out=tmp_path / "out", config=RedteamConfig(**settings))
    assert words in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(BadInput):
        redteam("trigger", mood_records(60), base=str(base), out=out, config=RedteamConfig(trigger="tokne"))
    assert out.is_dir()
    assert not (out / MARKER).exists()


def test_a_mark_of_a_stranger_commands_no_terminal() -> None:
    sentence = marker_sentence({"kind": "trigger\x1b[2J\n\u202e"}, "a\x1b[0m")
    assert sentence.isprintable()
