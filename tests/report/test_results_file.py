# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.report.results_file import RESULTS_VERSION, _dump, read_results, schema, to_json, write_results


@pytest.mark.parametrize(
    "kind", ["leaking", "not_detected", "confounded", "underpowered", "private", "broken", "extracted"]
)
def test_what_is_read_equals_what_was_written(sample: ModuleType, tmp_path: Path, kind: str) -> None:
    results = getattr(sample, kind)()
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json") == results


def test_findings_are_flat_and_versioned(sample: ModuleType, tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", sample.leaking())
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["schema_version"] == RESULTS_VERSION
    auc = next(row for row in content["findings"] if row["attack"] == "ratio" and row["metric"] == "auc")
    assert auc["lo"] < auc["value"] < auc["hi"]
    assert auc["n"] == 2202
    for row in content["findings"]:
        assert not any(isinstance(value, dict) for value in row.values())
        assert {"attack", "level", "metric", "value", "lo", "hi", "n", "confidence", "severity", "access"} <= set(row)


def test_one_sided_bounds_are_null(sample: ModuleType) -> None:
    rows = to_json(sample.leaking())["findings"]
    bound = next(row for row in rows if row["metric"] == "epsilon_lower")
    assert (bound["value"], bound["lo"], bound["hi"]) == (3.1, 3.1, None)


def test_results_of_before_the_curve_was_stated_are_read(sample: ModuleType, tmp_path: Path) -> None:
    content = to_json(sample.private())
    for name in ("auc_slack", "rates", "mu", "roc", "relation"):
        del content["promise"][name]
    (tmp_path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    old = read_results(tmp_path / "results.json").promise
    assert old is not None
    assert (old.auc_slack, old.rates, old.mu, old.roc, old.relation) == (0.0, (), None, (), "add_or_remove")
    assert not old.broken


def test_other_tools_need_not_work_out_whether_a_promise_is_broken(sample: ModuleType) -> None:
    assert to_json(sample.leaking())["promise"] is None
    assert to_json(sample.private())["promise"]["broken"] is False
    assert to_json(sample.broken())["promise"]["broken"] is True


def test_other_tools_need_not_work_out_what_leaks_word_for_word(sample: ModuleType) -> None:
    assert to_json(sample.leaking())["extraction"] is None
    rows = to_json(sample.extracted())["extraction"]["rows"]
    assert [row["leaks"] for row in rows] == [False, True, True, False, False, True, False]


def test_a_curve_needs_a_share_for_each_number_of_samples(sample: ModuleType, tmp_path: Path) -> None:
    results = sample.extracted()
    curve = replace(results.extraction.curves[0], base=(0.0,))
    with pytest.raises(ValueError, match="do not fit its numbers"):
        write_results(tmp_path / "r.json", replace(results, extraction=replace(results.extraction, curves=(curve,))))


def test_same_results_give_same_bytes(sample: ModuleType, tmp_path: Path) -> None:
    results = sample.leaking()
    shuffled = replace(results, provenance=dict(reversed(results.provenance.items())))
    write_results(tmp_path / "a.json", results)
    write_results(tmp_path / "b.json", shuffled)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_free_form_parts_hold_anything(sample: ModuleType, tmp_path: Path) -> None:
    odd = {
        "noise": math.inf,
        "probability": math.nan,
        "seed": np.int64(7),
        "at": Path("x"),
        "pair": (1, None),
        3: {"ü"},
    }
    write_results(tmp_path / "results.json", replace(sample.underpowered(), provenance=odd))
    assert read_results(tmp_path / "results.json").provenance == {
        "noise": "inf",
        "probability": "nan",
        "seed": 7,
        "at": "x",
        "pair": [1, None],
        "3": ["ü"],
    }


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(sample: ModuleType, tmp_path: Path) -> None:
    leaking = sample.leaking()
    broken = replace(leaking, exposed=(replace(leaking.exposed[0], score=math.inf),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path / "results.json", broken)
    assert not list(tmp_path.iterdir())


def test_lists_that_belong_together_must_have_one_length(sample: ModuleType, tmp_path: Path) -> None:
    leaking = sample.leaking()
    broken = replace(leaking, curves=(replace(leaking.curves[0], fpr=(0.0, 0.5, 1.0), tpr=(0.0, 1.0)),))
    with pytest.raises(ValueError, match="3 fpr and 2 tpr"):
        write_results(tmp_path / "results.json", broken)
    histogram = leaking.distributions[0]
    broken = replace(leaking, distributions=(replace(histogram, member=histogram.member[1:]),))
    with pytest.raises(ValueError, match="do not fit its edges"):
        write_results(tmp_path / "results.json", broken)


def _edited(tmp_path: Path, sample: ModuleType, **changes: Any) -> Path:
    path = tmp_path / "results.json"
    write_results(path, sample.leaking())
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"schema_version": None}, "schema version None"),
        ({"format": "other"}, "no results file of reticent"),
        ({"findings": {}}, "at findings"),
        ({"surprise": 1}, "surprise"),
        ({"verdict": {"status": "safe", "headline": "", "sentences": []}}, "verdict/status"),
        ({"counts": {"records": -1}}, "counts/records"),
    ],
)
def test_broken_and_foreign_files_are_refused(
    sample: ModuleType, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        read_results(_edited(tmp_path, sample, **changes))


def test_an_interval_upside_down_is_refused(sample: ModuleType, tmp_path: Path) -> None:
    rows = to_json(sample.leaking())["findings"]
    rows[0] |= {"lo": 0.9, "hi": 0.1}
    with pytest.raises(BadInput, match="upside down"):
        read_results(_edited(tmp_path, sample, findings=rows))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe{}", b'{"format": NaN}', b"null", b"[" * 100_000], ids=range(7)
)
def test_what_is_no_results_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        read_results(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_results(tmp_path / "results.json")


def _objects(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        return [node, *(found for value in node.values() for found in _objects(value))]
    return [found for value in node for found in _objects(value)] if isinstance(node, list) else []


def test_the_schema_is_sound_and_every_field_is_described() -> None:
    Draft202012Validator.check_schema(schema())
    fields = {name: field for node in _objects(schema()) for name, field in node.get("properties", {}).items()}
    assert len(fields) > 50
    assert not [name for name, field in fields.items() if "$ref" not in field and not field.get("description")]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None, max_examples=100)
@given(_JSON)
def test_the_dump_reads_back_as_the_same_json(value: Any) -> None:
    assert json.loads(_dump(value)) == value


@settings(deadline=None, max_examples=50)
@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    below=st.floats(min_value=0),
    above=st.floats(min_value=0),
)
def test_every_estimate_survives(
    sample: ModuleType, tmp_path_factory: pytest.TempPathFactory, value: float, below: float, above: float
) -> None:
    estimate = Estimate(value=value, lo=value - below, hi=value + above, n=3, method="any", unit="ü")
    results = replace(sample.underpowered(), confound=replace(sample.underpowered().confound, blind_auc=estimate))
    path = tmp_path_factory.mktemp("results") / "results.json"
    write_results(path, results)
    assert read_results(path).confound.blind_auc == estimate
