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
from jsonschema import Draft202012Validator, ValidationError

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.report import make_schemas
from reticent.report.json_file import dumped
from reticent.report.make_schemas import schemas
from reticent.report.results_file import (
    RESULTS_VERSION,
    from_json,
    read_results,
    schema,
    to_json,
    validator,
    write_results,
)
from reticent.report.scope import ELSEWHERE, NOT_LISTED, statistics, tried, untried


@pytest.mark.parametrize(
    "kind", ["leaking", "not_detected", "confounded", "underpowered", "private", "broken", "extracted", "further"]
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
    content = to_json(sample.private()) | {"schema_version": 6}
    for name in ("auc_slack", "rates", "mu", "roc", "relation"):
        del content["promise"][name]
    (tmp_path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    old = read_results(tmp_path / "results.json").promise
    assert old is not None
    assert (old.auc_slack, old.rates, old.mu, old.roc, old.relation) == (0.0, (), None, (), "add_or_remove")
    assert not old.broken


ADDED = {6: ("tests",), 5: ("together",), 4: ("fitted",), 3: ("extraction",), 2: ("promise",)}
"""Fields that a version brought, anywhere in the file."""
TWIN = Draft202012Validator(schema())
ALWAYS = ("sections", "control_group", "randomized")


def _without(node: Any, names: set[str]) -> Any:
    if isinstance(node, dict):
        return {key: _without(entry, names) for key, entry in node.items() if key not in names}
    return [_without(entry, names) for entry in node] if isinstance(node, list) else node


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_files_of_older_versions_are_read(sample: ModuleType, tmp_path: Path, version: int) -> None:
    results = replace(sample.extracted(), promise=sample.private().promise)
    gone = set(ALWAYS) | {name for number, names in ADDED.items() if number > version for name in names}
    gone |= {"alone", "p_value", "band"} if version < 6 else set()
    content = _without(to_json(results), gone)
    for unit, whole in zip(content["exposed"], to_json(results)["exposed"], strict=True):
        unit["p_value"] = whole["p_value"]  # a unit's own is as old as the file
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content | {"schema_version": version}), encoding="utf-8")
    old = read_results(path)
    assert old.findings == results.findings
    assert old.sections == ()
    assert (old.promise is None) == (version < 2)
    assert (old.extraction is None) == (version < 3)
    if old.extraction is not None:
        assert {row.group for row in old.extraction.rows if row.randomized} == {"planted once", "planted 16 times"}
    assert all((tier.fitted is None) == (version < 4) for tier in old.exposure)
    write_results(path, old)
    assert read_results(path) == old


def test_kinds_of_attack_of_version_7_are_those_that_its_lines_leave_out(sample: ModuleType, tmp_path: Path) -> None:
    results = sample.extracted()
    path = tmp_path / "results.json"
    content = to_json(replace(results, not_tested=(*untried(results), "user level: too few"))) | {"schema_version": 7}
    del content["kinds"]
    path.write_text(json.dumps(content), encoding="utf-8")
    old = read_results(path)
    assert {kind.name: kind for kind in old.kinds} == {kind.name: kind for kind in results.kinds}
    assert (set(tried(old)), set(untried(old))) == (set(tried(results)), set(untried(results)))
    assert statistics(old) == ["user level: too few"]
    path.write_text(json.dumps(content | {"not_tested": ["user level: too few"]}), encoding="utf-8")
    silent = read_results(path)
    assert silent.kinds == ()
    assert untried(silent) == [NOT_LISTED, ELSEWHERE]


@pytest.mark.parametrize("version", [0, -1, True, 6.5, "6"])
def test_a_version_that_never_was_is_refused(sample: ModuleType, tmp_path: Path, version: Any) -> None:
    with pytest.raises(BadInput, match="schema version"):
        read_results(_edited(tmp_path, sample, schema_version=version))


def test_a_newer_file_is_refused_with_the_way_out(sample: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="schema version 9, this reticent reads 1 to 8") as refused:
        read_results(_edited(tmp_path, sample, schema_version=9))
    assert "newer reticent" in refused.value.fix


@pytest.mark.parametrize("version", [5, 6])
def test_a_damaged_older_file_is_refused_as_todays_is(sample: ModuleType, tmp_path: Path, version: int) -> None:
    for changes in ({"findings": {}}, {"surprise": 1}, {"counts": {"records": -1}}, {"extraction": {"rows": [7]}}):
        with pytest.raises(BadInput):
            read_results(_edited(tmp_path, sample, schema_version=version, **changes))


def test_the_schemas_are_those_that_the_types_make() -> None:
    folder = Path(make_schemas.__file__).parent
    for name, made in schemas().items():
        fresh = (folder / name).read_text(encoding="utf-8") == dumped(made)
        assert fresh, f"{name} is stale: python -m reticent.report.make_schemas"


@pytest.fixture(scope="module")
def small(sample: ModuleType) -> str:
    """A file with something of everything, and little of each."""
    content = to_json(replace(sample.further(), promise=sample.private().promise))
    for name in ("findings", "attacks", "curves", "distributions", "exposure", "exposed"):
        content[name] = content[name][:1]
    return json.dumps(content)


def only_of_what_is_not_read(error: ValidationError) -> bool:
    """The complaint is about a field that is written for other tools; of alternatives, all complaints of one are."""
    if error.absolute_path and error.absolute_path[-1] in ("leaks", "broken", "schema_version", "format"):
        return True
    alternatives: dict[object, list[ValidationError]] = {}
    for part in error.context or ():
        alternatives.setdefault(part.relative_schema_path[0], []).append(part)
    return any(all(map(only_of_what_is_not_read, parts)) for parts in alternatives.values())


@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize("number", [None, True, 0, 1, 0.5, -0.1, 1.1, math.nan, math.inf, "x", [0.5]])
def test_long_arrays_are_checked_as_the_library_does(small: str, place: int, number: Any) -> None:
    content = json.loads(small)
    content["curves"][0]["tpr"][place] = number
    problems, slow = (sorted(error.message for error in way.iter_errors(content)) for way in (validator(), TWIN))
    assert problems == slow
    assert bool(slow) == ((number not in (0, 1, 0.5) and number is not math.nan) or number is True)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_what_the_reader_takes_the_schema_takes_too(small: str, data: st.DataObject) -> None:
    """The slow twin: jsonschema. Whatever is damaged, the reader takes no more than the schema (defaults apart)."""
    content = json.loads(small)
    node: Any = content
    while isinstance(node, dict | list) and node:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.integers(0, 5)) == 0:
            node[key] = data.draw(st.sampled_from([None, True, -1, 0.5, 7, 1e400, "x", [], {}, [1], {"a": 1}]))
            break
        node = node[key]
    try:
        from_json(content)
    except (ValueError, OverflowError):
        return
    problems = list(TWIN.iter_errors(content))
    assert all(map(only_of_what_is_not_read, problems)), problems


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
    assert json.loads(dumped(value)) == value


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
