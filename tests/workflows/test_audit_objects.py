# SPDX-License-Identifier: Apache-2.0
"""An audit of objects says the same as one of files, and leaves the objects alone."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from reticent.auditing.config import AuditConfig
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.in_memory import fingerprint
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.workflows.audit import audit

CONFIG = AuditConfig(attacks="loss,zlib", dtype="float32", device="cpu")
INSIDE = [f"note {number * 7919 % 997} about the order" for number in range(24)]
OUTSIDE = [f"note {number * 7907 % 991} about the letter" for number in range(24)]


def rows(texts: list[str]) -> list[dict[str, str]]:
    return [{"text": text, "user": f"u{number % 12}"} for number, text in enumerate(texts)]


def test_every_kind_of_rows_and_models_gives_the_same_numbers(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    files = {}
    for name, texts in (("in", INSIDE), ("out", OUTSIDE)):
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows(texts)), encoding="utf-8")
    from_files = audit(
        model=str(folder), members=files["in"], held_out=files["out"], config=CONFIG, out=tmp_path / "files"
    )
    model, tokenizer = tiny_model().train(), tiny_tokenizer()
    before = fingerprint(model)
    objects = {
        "dicts": (rows(INSIDE), rows(OUTSIDE)),
        "frames": (pd.DataFrame(rows(INSIDE)), pd.DataFrame(rows(OUTSIDE))),
    }
    for name, (members, held_out) in objects.items():
        results = audit(
            model=model, tokenizer=tokenizer, members=members, held_out=held_out, config=CONFIG, out=tmp_path / name
        )
        assert results.findings == from_files.findings
        assert results.confound == from_files.confound
    assert model.training
    assert fingerprint(model) == before


def test_records_are_taken_as_they_are(tmp_path: Path) -> None:
    members = [Record(id=f"a{number}", text=text) for number, text in enumerate(INSIDE)]
    held_out = [Record(id=f"b{number}", text=text) for number, text in enumerate(OUTSIDE)]
    results = audit(model=tiny_model(), tokenizer=tiny_tokenizer(), members=members, held_out=held_out, config=CONFIG,
                  out=tmp_path / "run")  # fmt: skip
    assert results.counts["trained_on"] == 24


def test_the_results_of_other_weights_are_not_mixed(tmp_path: Path) -> None:
    objects = {"tokenizer": tiny_tokenizer(), "members": INSIDE, "held_out": OUTSIDE, "config": CONFIG}
    model = tiny_model()
    audit(model=model, out=tmp_path / "run", **objects)
    audit(model=model, out=tmp_path / "run", **objects)
    with torch.no_grad():
        next(model.parameters()).mul_(1.1)
    with pytest.raises(BadInput, match="holds an audit of something else"):
        audit(model=model, out=tmp_path / "run", **objects)


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ({}, "without model, members, held_out"),
        ({"model": "m", "members": ["a"]}, "without held_out"),
        ({"model": tiny_model(), "members": ["a text"], "held_out": ["another"]}, "without a tokenizer"),
        ({"model": "m", "members": {"text": "a"}, "held_out": ["b"]}, "is no sequence of rows"),
        ({"model": "m", "members": [3], "held_out": ["b"]}, "is of type int"),
        ({"model": "m", "members": [], "held_out": ["b"]}, "has no usable row"),
        ({"model": "m", "tokenizer": tiny_tokenizer(), "members": ["a"], "held_out": ["b"]}, "is not used"),
        ({"what": "run", "model": "m"}, "the case names all of it"),
    ],
)
def test_what_is_no_audit_is_refused(objects: dict[str, object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=reason):
        audit(config=CONFIG, out=tmp_path / "run", **objects)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
