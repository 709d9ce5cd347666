# SPDX-License-Identifier: Apache-2.0
"""Synthetic text is audited by itself: from files, from a run, after a kill, refused; leaks are seen, null is not."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from reticent.auditing.config import AuditConfig
from reticent.auditing.synthetic.synthetic_file import read_promise
from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.finding import Severity
from reticent.core.record import Record
from reticent.core.results import Results
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.canaries.passphrase import WORDS
from reticent.report.results_file import read_results
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.synthesize import SynthesisRecipe, synthesize

BOTH = 60


def notes(seed: int, count: int, words: int = 10) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(count)]


def written(place: Path, texts: list[str]) -> str:
    place.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(place)


@pytest.fixture
def lists(tmp_path: Path) -> list[str]:
    members, held_out = written(tmp_path / "in.jsonl", notes(0, BOTH)), written(tmp_path / "out.jsonl", notes(1, BOTH))
    return ["--members", members, "--held_out", held_out, "--out", str(tmp_path / "run")]


def audited(tmp_path: Path, lists: list[str], texts: list[str]) -> Results:
    assert main(["audit", "--synthetic", written(tmp_path / "text.jsonl", texts), *lists]) == 0
    return read_results(RunFolder(root=tmp_path / "run").results)


def leaking(results: Results) -> set[str]:
    return {finding.attack for finding in results.all_findings if finding.severity is not Severity.NONE}


def test_text_that_copies_members_is_caught_and_no_text_is_shown(tmp_path: Path, lists: list[str]) -> None:
    members = notes(0, BOTH)
    results = audited(tmp_path, lists, [*members[:36], *notes(2, 50)])
    assert {"synthetic_pair_gain", "synthetic_pairs", "synthetic_likeness", "own_words"} <= leaking(results)
    assert results.verdict.headline.startswith("This synthetic text gives away what it was made from: ")
    (section,) = results.sections
    assert "word for word a text that was read, 0 one held out" in section.notes[0]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    told = page + (tmp_path / "run" / "results.json").read_text(encoding="utf-8")
    assert "Synthetic text" in page
    assert "and what coincidence gives" in page
    assert not any(text in told for text in members)
    assert str(tmp_path) not in told


def test_of_text_made_from_others_nothing_is_said(tmp_path: Path, lists: list[str]) -> None:
    results = audited(tmp_path, lists, notes(4, 80))
    assert leaking(results) == set()
    assert results.verdict.status == "not_detected"
    untried = {kind.name for kind in results.kinds if not kind.tried}
    assert "Synthetic text" not in untried
    assert "Extraction" in untried


@pytest.mark.parametrize(("seed", "whose"), [(0, "trained on"), (1, "held out")])
def test_private_data_is_refused_with_the_overlap(
    seed: int, whose: str, tmp_path: Path, lists: list[str], capsys: pytest.CaptureFixture
) -> None:
    private = written(tmp_path / "text.jsonl", [text.upper() for text in notes(seed, BOTH)])
    assert main(["audit", "--synthetic", private, *lists]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"60 of 60 texts are word for word records that were {whose}" in said
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize(
    ("text", "more", "complaint"),
    [
        (None, [], "is no file"),
        ("", [], "is empty"),
        ('{"body": 7}\n', [], "has no text in it"),
        ('{"text": "..."}\n', [], "no text with a word"),
        ("{nonsense\n", [], "text.jsonl"),
        ('{"text": "a b"}\n', ["--model", "tiny"], "no model is asked"),
    ],
)
def test_bad_texts_are_refused(
    text: str | None,
    more: list[str],
    complaint: str,
    tmp_path: Path,
    lists: list[str],
    capsys: pytest.CaptureFixture,
) -> None:
    place = tmp_path / "text.jsonl"
    if text is not None:
        place.write_text(text, encoding="utf-8")
    assert main(["audit", "--synthetic", str(place), *lists, *more]) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


def test_without_held_out_records_nothing_is_audited(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    place = written(tmp_path / "text.jsonl", notes(2, 5))
    assert main(["audit", "--synthetic", place, "--out", str(tmp_path / "run")]) == 2
    assert "--hold_out" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no synthetic text"):
        AuditConfig(auxiliary="smollm2-135m")


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


RECORDS = [Record(id=str(number), text=text) for number, text in enumerate(notes(5, 56, words=4))]
PAIRS = [Record(id=record.id, prompt="A note:", completion=f" {record.text}") for record in RECORDS]
KNOWS = TuneConfig(method="full", epochs=60, learning_rate=1e-2, batch_size=16, max_tokens=64)


@pytest.fixture(scope="module")
def memorized(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    spec = SynthesisSpec(mechanism="none", count=120, max_new_tokens=32, condition="prompt", topics="A note:")
    recipe = SynthesisRecipe(synthesis=spec, training=KNOWS)
    return synthesize(PAIRS, base=base, out=tmp_path_factory.mktemp("memorized") / "run", recipe=recipe)


def test_text_of_a_model_that_memorized_is_caught(memorized: RunFolder, tmp_path: Path) -> None:
    results = audit(config=AuditConfig(synthetic=str(memorized.synthetic)), out=tmp_path / "audit")
    assert "synthetic_pair_gain" in leaking(results)
    assert any("made by none" in note for note in results.sections[0].notes)
    assert read_promise(str(memorized.synthetic)) == (None, "none")


def test_a_promise_is_of_the_file_that_was_made_and_of_no_other(memorized: RunFolder, tmp_path: Path) -> None:
    """Private data beside the page of a promise, and texts that were chosen from those that carry it."""
    place = tmp_path / "run"
    shutil.copytree(memorized.root, place)
    run = RunFolder(root=place)
    about = json.loads(run.synthesis.read_text(encoding="utf-8"))
    about |= {"epsilon": 2.0011, "delta": 1e-3, "unit": "record", "relation": "add_or_remove", "mechanism": "dp_tune"}
    run.synthesis.write_text(json.dumps(about), encoding="utf-8")
    promise, _ = read_promise(str(run.synthetic))
    assert promise is not None
    assert promise.sentence.startswith("ε = 2.01 per record at δ = 0.001"), "never below what is promised"
    other = written(place / "other.jsonl", [str(record.text) for record in RECORDS])
    assert read_promise(other) == (None, "")
    with pytest.raises(BadInput, match="is the private data"):
        audit(config=AuditConfig(synthetic=other), out=tmp_path / "audit")
    lines = run.synthetic.read_text(encoding="utf-8").splitlines(keepends=True)
    run.synthetic.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(BadInput, match=r"was changed since synthesis\.json"):
        audit(config=AuditConfig(synthetic=str(run.synthetic)), out=tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


def test_an_auxiliary_model_goes_on_and_says_that_it_is_one_channel(
    memorized: RunFolder, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AuditConfig(synthetic=str(memorized.synthetic), auxiliary=base, attacks="loss,ref_ratio")
    monkeypatch.setattr("reticent.workflows.synthetic_case.training_of", lambda case, config: TRAINING)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("reticent.workflows.audit.open_models", killed)
        with pytest.raises(Killed):
            audit(config=config, out=tmp_path / "audit")
    model = tmp_path / "audit" / "auxiliary" / "model" / "train_log.json"
    before = model.stat().st_mtime_ns
    results = audit(config=config, out=tmp_path / "audit")
    assert model.stat().st_mtime_ns == before
    assert "ref_ratio" in {finding.attack for finding in results.findings}
    assert "synthetic_pair_gain" in leaking(results)
    assert "lower bound through one channel" in " ".join(results.sections[0].notes)


TRAINING = TuneConfig(method="full", epochs=2, learning_rate=1e-3, max_tokens=32)


def test_a_private_mechanism_holds_out_and_its_bound_stays_below_the_promise(base: str, tmp_path: Path) -> None:
    spec = SynthesisSpec(
        epsilon=6.0, count=6, references=3, max_new_tokens=4, reference_tokens=160, hold_out=True, long_texts="cut"
    )
    canaries = CanaryConfig(canaries=40, canary_kind="surprising_end", canary_controls=60)
    recipe = SynthesisRecipe(synthesis=spec, canaries=canaries, training=TRAINING)
    run = synthesize(RECORDS, base=base, out=tmp_path / "run", recipe=recipe)
    assert all(path.exists() for path in (run.records, run.membership, run.canaries))
    results = audit(config=AuditConfig(synthetic=str(run.synthetic)), out=tmp_path / "audit")
    table = next(table for section in results.sections for table in section.tables if table.name == "synthetic-epsilon")
    assert {row[1] for row in table.rows} == {"record"}
    promised = [row[3] for row in table.rows]
    assert promised == [pytest.approx(6.0)] * len(table.rows) != []
    assert all(row[2].lo <= 6.0 and "added or removed" in row[2].unit for row in table.rows)
    assert all("add or remove" in row[4] for row in table.rows)
    assert not [finding for finding in results.all_findings if finding.metric == "promise_broken"]
    assert any(finding.attack == "synthetic_canary" for finding in results.findings)


def test_a_bound_above_the_promise_breaks_it(tmp_path: Path) -> None:
    """A planted fault: a promise of ε = 0.1 beside text that repeats every planted secret."""
    from reticent.auditing.case import AuditCase
    from reticent.auditing.synthetic import collect as collecting
    from reticent.auditing.synthetic.synthetic_file import SyntheticFile, TextPromise
    from reticent.auditing.synthetic.text_epsilon import broken, secret_units, text_bounds
    from reticent.data.canaries import plant
    from reticent.data.split import split

    membership = split(RECORDS, unit="record", seed=0)
    planting = plant(RECORDS, membership, kind="surprising_end", secrets=80, controls=20, repetitions=(1,))
    told = tuple(canary.text for canary in planting.canaries if canary.planted)
    promise = TextPromise(epsilon=0.1, delta=1e-5, unit="record", relation="add_or_remove", where="synthesis.json")
    file = SyntheticFile(texts=told, promise=promise, mechanism="x", copies_of_members=0, copies_of_held_out=0)
    case = AuditCase(
        title="t", target="t", reference=None, records=RECORDS, membership=membership, canaries=planting.canaries
    )
    evidence = collecting.collect(case, file)
    units = secret_units(planting.canaries, evidence.secrets, unit="record")
    assert units is not None
    bounds, _ = text_bounds([units], delta=1e-5, confidence=0.95, joint=0.95)
    (finding,) = broken(bounds, promise)
    assert finding.severity is Severity.CRITICAL
    assert "ε = 0.10 per record at δ = 1e-05 (add or remove" in finding.statement
    assert (
        broken(bounds, TextPromise(epsilon=60.0, delta=1e-5, unit="record", relation="add_or_remove", where="x")) == ()
    )
    assert broken(bounds, TextPromise(epsilon=0.1, delta=1e-5, unit="user", relation="add_or_remove", where="x")) == ()
