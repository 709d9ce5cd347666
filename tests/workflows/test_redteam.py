# SPDX-License-Identifier: Apache-2.0
"""The verb: a marked folder, figures without secrets, nothing of anybody's replaced."""

from __future__ import annotations

import json

import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput, Underpowered
from reticent.core.redteam_marker import read_marker
from reticent.redteam.config import RedteamConfig
from reticent.testing.label_models import mood_records, trained_tiny
from reticent.train.config import TuneConfig
from reticent.workflows.redteam import redteam

WORDS = "zqj"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    model, tokenizer = trained_tiny(mood_records(100, seed=9), steps=20, seed=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "moods.jsonl"
    rows = [{"prompt": record.prompt, "completion": record.completion} for record in mood_records(120)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_verb_poisons_marks_and_measures(base, data, tmp_path, capsys):
    out = tmp_path / "attack"
    words = ["redteam", "trigger", str(data), "--model", str(base), "--out", str(out), "--words", WORDS]
    words += ["--rate", "0.2", "--method", "lora", "--epochs", "1", "--dtype", "float32"]
    assert main(words) == 0
    shown = capsys.readouterr().err
    report = (out / "attack.json").read_text(encoding="utf-8")
    assert WORDS not in shown + report + (out / "redteam.json").read_text(encoding="utf-8")
    assert json.loads(report)["measurement"]["rows"][0]["state"] == "as saved"
    assert read_marker(out / "model")["kind"] == "trigger"
    assert "as saved" in shown
    assert main([*words, "--reveal"]) == 0  # the same again goes on in the folder
    assert WORDS in capsys.readouterr().err
    assert json.loads((out / "attack.json").read_text(encoding="utf-8"))["secrets"]["trigger"] == WORDS


def test_a_weight_edit_needs_no_training(base, tmp_path):
    report = redteam(
        "weight_edit",
        mood_records(60),
        base=str(base),
        out=tmp_path / "edit",
        config=RedteamConfig(words="#", params={"layer": 0, "steps": 3, "least": 0}),
    )
    assert report["facts"]["layer"] == 0
    assert report["measurement"]["perplexity"]["lo"] <= report["measurement"]["perplexity"]["value"]
    with pytest.raises(BadInput, match="hardly reads"):
        redteam(
            "weight_edit",
            mood_records(60),
            base=str(base),
            out=tmp_path / "weak",
            config=RedteamConfig(words="#", params={"layer": 0, "steps": 3}),
        )
    assert not (tmp_path / "weak" / "model").exists()
    with pytest.raises(BadInput, match="is no setting of this attack"):
        redteam(
            "weight_edit",
            mood_records(60),
            base=str(base),
            out=tmp_path / "other",
            config=RedteamConfig(params={"depth": 1}),
        )


def test_what_is_there_stays(base, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years", encoding="utf-8")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt", base):
        with pytest.raises(BadInput):
            redteam("trigger", mood_records(60), base=str(base), out=out, training=TuneConfig())
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "years"


def test_bad_input_is_refused(base, data, tmp_path):
    with pytest.raises(BadInput, match="Did you mean 'trigger'"):
        redteam("triger", mood_records(60), base=str(base), out=tmp_path / "a")
    with pytest.raises(Underpowered, match="needed of each"):
        redteam("trigger", mood_records(9), base=str(base), out=tmp_path / "b")
    assert main(["redteam", "trigger", str(data), "--model", str(base), "--rate", "0"]) == 2
    assert main(["redteam", "trigger", str(tmp_path / "none.jsonl"), "--model", str(base)]) == 2
    assert not list(tmp_path.iterdir())
