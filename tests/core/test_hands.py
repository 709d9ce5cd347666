# SPDX-License-Identifier: Apache-2.0
"""Hands help only with what they were asked for too."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from reticent.core import hands
from reticent.core.errors import BadInput


def test_nobody_helps_before_it_is_known_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "meeting" / hands.LEAD
    path.parent.mkdir()
    path.touch()  # a hand that begins: its words come a moment later
    helped = []

    def sleep(_: float) -> None:
        words = {"holder": "there", "count": "0", "kernel": "there", "locked": True, "about": "something else"}
        path.write_text(json.dumps(words))

    def help_out() -> bool:
        helped.append(1)
        return False

    monkeypatch.setattr(hands, "time", SimpleNamespace(sleep=sleep))
    with pytest.raises(BadInput, match="was asked for something else"):
        hands.lead_or_help(
            path.parent, flag="--jobs join", asked="this", lead=lambda: 3, help_out=help_out, done=lambda: None
        )
    assert not helped
