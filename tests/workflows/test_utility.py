# SPDX-License-Identifier: Apache-2.0
"""Usefulness from run folders to a page: with audits beside, again, after a kill, by lists, and refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.outputs import hash_of
from reticent.core.record import Record
from reticent.core.text_utility import UtilityResults
from reticent.data.canaries.passphrase import WORDS
from reticent.report.synthesis_file import DIGEST
from reticent.report.utility_file import read_utility, utility_schema
from reticent.report.utility_page import render_utility, utility_table
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.synthesis.usefulness import teach
from reticent.synthesis.usefulness.utility_spec import UtilitySpec
from reticent.testing.tiny import save_tiny
from reticent.train import trainer
from reticent.train.config import TuneConfig
from reticent.workflows.synthesis_utility import STATE, text_utility
from reticent.workflows.synthesize import SynthesisRecipe, synthesize

TRAINING = TuneConfig(epochs=6, learning_rate=1e-2, max_tokens=16, batch_size=8)
PER_LABEL = {"bad": WORDS[:6], "good": WORDS[6:12]}
SPEC = UtilitySpec(texts=24)


def reviews() -> list[Record]:
    """Two labels with words of their own, so that learning from real text shows in loss and accuracy."""
    rng = random.Random(0)
    return [
        Record(id=f"r{n}", prompt=label, completion=" ".join(rng.choices(PER_LABEL[label], k=6)), user=f"u{n // 2}")
        for n in range(200)
        for label in [("bad", "good")[n // 2 % 2]]
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def written(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two run folders of the same coins: one of a mechanism without a promise; a copy of it that promises one, whose
    texts have the labels of the others."""
    root = tmp_path_factory.mktemp("written")
    spec = SynthesisSpec(mechanism="none", count=30, max_new_tokens=8, condition="prompt", topics="bad,good")
    recipe = SynthesisRecipe(synthesis=spec, training=TuneConfig(epochs=1, max_tokens=16))
    run = synthesize(reviews(), base=base, out=root / "plain", recipe=recipe)
    rng = random.Random(5)
    rows = [{"id": f"s{n}", "text": " ".join(rng.choices(PER_LABEL[label], k=6)), "topic": label}
            for n in range(30) for label in [("bad", "good")[n % 2]]]  # fmt: skip
    run.synthetic.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    about = json.loads(run.synthesis.read_text(encoding="utf-8"))
    about["provenance"][DIGEST] = hash_of(run.synthetic)  # as if the mechanism had written them
    run.synthesis.write_text(json.dumps(about), encoding="utf-8")
    other = root / "swapped"
    (other / "training").mkdir(parents=True)
    for name in ("records.parquet", "membership.parquet"):
        (other / "training" / name).write_bytes((run.synthesis_training / name).read_bytes())
    for row in rows:
        row["topic"] = {"bad": "good", "good": "bad"}[row["topic"]]
    (other / "synthetic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    promised = json.loads(run.synthesis.read_text(encoding="utf-8"))
    promised["provenance"][DIGEST] = hash_of(other / "synthetic.jsonl")
    promised |= {"mechanism": "dp_tune", "epsilon": 8.0, "delta": 1e-3, "unit": "user", "relation": "add_or_remove"}
    (other / "synthesis.json").write_text(json.dumps(promised), encoding="utf-8")
    assert main(["audit", "--synthetic", str(run.synthetic)]) == 0
    return root


@pytest.fixture(scope="module")
def judged(base: str, written: Path) -> UtilityResults:
    return text_utility(
        [written / "plain", written / "swapped"], base=base, out=written / "utility", spec=SPEC, training=TRAINING
    )


def test_real_text_and_texts_like_it_teach_and_wrong_labels_show(judged: UtilityResults, written: Path) -> None:
    assert [(row.name, row.source) for row in judged.rows] == [
        ("untrained", "untrained"), ("real", "real"), ("plain", "synthetic"), ("plain", "half"),
        ("swapped", "synthetic"), ("swapped", "half"),
    ]  # fmt: skip
    untrained, real, plain, _, swapped, half = judged.rows
    assert real.loss.hi < untrained.loss.lo
    assert plain.kept is not None
    assert plain.kept.lo > 0.6
    assert swapped.accuracy is not None
    assert plain.accuracy is not None
    assert plain.accuracy.lo > 0.5
    assert swapped.accuracy.value < plain.accuracy.value - 0.3
    assert half.kept is not None
    assert half.kept.value > (swapped.kept.value if swapped.kept else 9)
    assert plain.labels is not None
    assert plain.labels.value > 0.8
    assert {row.texts for row in judged.rows[1:]} == {24}
    assert (plain.promise, swapped.audit) == (None, None)
    assert swapped.promise.sentence == "ε = 8.00 per user at δ = 0.001 (add or remove one user)"
    assert plain.audit is not None
    assert plain.audit.auc is not None
    assert "plain (none, no promise) teaches" in judged.headline
    assert any("What an audit found of swapped" in sentence for sentence in judged.refused)
    content = json.loads((written / "utility" / "utility.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, utility_schema())
    assert read_utility(written / "utility" / "utility.json") == judged


def test_the_page_has_one_picture_and_no_text(judged: UtilityResults, written: Path) -> None:
    page = (written / "utility" / "utility.html").read_text(encoding="utf-8")
    assert page == render_utility(judged)
    assert page.count("<figure>") == 1
    assert "found ε ≥" in page
    assert "ε = 8" in page
    assert "not audited" in page
    assert "no promise of privacy covers them" in page
    told = page + (written / "utility" / "utility.json").read_text(encoding="utf-8")
    assert not any(record.completion in told for record in reviews())
    assert str(written) not in told
    assert (written / "utility" / "utility.json").stat().st_mode & 0o077 == 0
    names = [column.name for column in utility_table(judged).columns]
    assert {"accuracy", "labels", "audit_auc"} <= set(names)


def test_again_nothing_is_trained_and_further_texts_train_only_theirs(
    judged: UtilityResults, base: str, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    monkeypatch.setattr(trainer, "tune", lambda *given, **more: trained.append(1))
    again = text_utility(
        [written / "plain", written / "swapped"], base=base, out=written / "utility", spec=SPEC, training=TRAINING
    )
    assert (again.rows, trained) == (judged.rows, [])
    left = sorted(path.suffix for path in (written / "utility" / STATE).iterdir())
    assert left == [".json"] * 5  # losses; no model is left


def test_a_killed_call_goes_on_and_a_refused_one_leaves_nothing(
    judged: UtilityResults, base: str, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"base": base, "spec": SPEC, "training": TRAINING}
    seen: list[str] = []
    taught = teach.Teacher.taught

    def killed(self: teach.Teacher, lesson: object) -> object:
        if seen:
            raise KeyboardInterrupt
        seen.append("one")
        return taught(self, lesson)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(teach.Teacher, "taught", killed)
        with pytest.raises(KeyboardInterrupt):
            text_utility([written / "plain"], out=tmp_path / "out", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "out" / "utility.json").exists()
    for broken in (tmp_path / "out" / STATE).glob("*.json"):
        broken.write_text('{"nats": [1]}', encoding="utf-8")  # as a disk may leave it: made again
    results = text_utility([written / "plain"], out=tmp_path / "out", **given)  # type: ignore[arg-type]
    assert results.rows[1].loss == judged.rows[1].loss
    monkeypatch.setattr(trainer, "tune", lambda *given, **more: (_ for _ in ()).throw(BadInput("a", "b", "c")))
    with pytest.raises(BadInput):
        text_utility([written / "plain"], out=tmp_path / "new", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


@pytest.fixture
def lists(tmp_path: Path) -> list[str]:
    rng = random.Random(9)
    texts = [" ".join(rng.choices(WORDS, k=6)) for _ in range(60)]
    flags = []
    for name, some in (("members", texts[:30]), ("held_out", texts[30:])):
        place = tmp_path / f"{name}.jsonl"
        place.write_text("".join(json.dumps({"text": text}) + "\n" for text in some), encoding="utf-8")
        flags += [f"--{name}", str(place)]
    return [*flags, "--epochs", "1", "--max_tokens", "16", "--texts", "8", "--out", str(tmp_path / "out")]


def made_up(place: Path, count: int = 12) -> str:
    rng = random.Random(4)
    rows = [{"text": " ".join(rng.choices(WORDS, k=6))} for _ in range(count)]
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(place)


def test_text_of_any_maker_is_judged_by_lists(base: str, lists: list[str], tmp_path: Path) -> None:
    assert main(["utility", made_up(tmp_path / "theirs.jsonl"), "--model", base, *lists]) == 0
    results = read_utility(tmp_path / "out" / "utility.json")
    assert [row.texts for row in results.rows] == [0, 8, 8, 8]
    assert all(row.accuracy is None for row in results.rows)
    assert any("no labels" in sentence for sentence in results.refused)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"runs": ""}, "is empty"),
        ({"runs": "{tmp}/nowhere"}, "holds no synthetic text"),
        ({"runs": "{tmp}/a.jsonl,{tmp}/a.jsonl"}, "is there twice"),
        ({"runs": "{tmp}/few.jsonl"}, "has 5 texts"),
        ({"runs": "{tmp}/a.jsonl", "texts": "13"}, "has 12 texts"),
        ({"runs": "{tmp}/members.jsonl"}, "is the private data: 30 of 30"),
        ({"runs": "{tmp}/a.jsonl", "out": "{tmp}/a.jsonl"}, "a.jsonl"),
        ({"runs": "{tmp}/a.jsonl", "lists": ""}, "no record of who was held out"),
        ({"runs": "{tmp}/a.jsonl", "held_out": "{tmp}/tiny.jsonl"}, "held out from all of them (8 at least"),
    ],
)
def test_bad_input_is_refused(
    change: dict[str, str], complaint: str, base: str, lists: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    made_up(tmp_path / "a.jsonl"), made_up(tmp_path / "few.jsonl", 5), made_up(tmp_path / "tiny.jsonl", 3)
    change = {name: value.replace("{tmp}", str(tmp_path)) for name, value in change.items()}
    argv = [
        "utility",
        change.pop("runs"),
        "--model",
        base,
        *(lists if change.pop("lists", None) is None else lists[4:]),
    ]
    for name, value in change.items():
        argv += [f"--{name}", value]
    assert main(argv) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "utility.json").exists()


def test_texts_of_other_data_are_refused_together(base: str, written: Path, tmp_path: Path) -> None:
    others = [Record(id=f"o{n}", text=" ".join(random.Random(n).choices(WORDS, k=6))) for n in range(40)]
    spec = SynthesisSpec(mechanism="none", count=10, max_new_tokens=4)
    recipe = SynthesisRecipe(synthesis=spec, training=TuneConfig(epochs=1, max_tokens=16))
    run = synthesize(others, base=base, out=tmp_path / "other", recipe=recipe)
    with pytest.raises(BadInput, match="0 real records that were read by all of them"):
        text_utility([written / "plain", run.root], base=base, out=tmp_path / "out", training=TRAINING)
    assert not (tmp_path / "out").exists()
