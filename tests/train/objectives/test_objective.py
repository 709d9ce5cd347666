# SPDX-License-Identifier: Apache-2.0
"""Registry, declarations and the one function that refuses; and a whole unlearning objective, added as one file."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import reticent.train.objectives as folder
from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.models.load import load
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same
from reticent.testing.tiny import save_tiny
from reticent.train.batches import encode_all
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.train.objectives.as_text import on_record, parse_objectives, read_objectives
from reticent.train.objectives.objective import HOOKS, OBJECTIVES, Objective, make_objective, objective
from reticent.train.objectives.refusals import refuse_pairs, settings_of
from reticent.train.trainer import LOG, tune
from reticent.workflows.recipe import TuneRecipe
from reticent.workflows.tune import tune as tune_run

NAMES = [
    "classifier",
    "clip_batch",
    "clip_examples",
    "dedup_users",
    "dpo",
    "goldfish",
    "instruction_pairs",
    "label_smoothing",
    "lora_dropout",
    "loss_floor",
    "margin",
    "removal",
    "substitution",
    "unlikelihood",
]
EXCLUDE_EACH_OTHER = {
    frozenset(pair)
    for group in (
        ["dpo", "instruction_pairs", "removal", "substitution"],  # texts
        ["dpo", "unlikelihood", "clip_examples"],  # the loss of a batch
        ["dpo", "goldfish"],
        ["label_smoothing", "margin"],  # the loss of a token
        *(
            [whole, part]
            for whole in ("dpo", "unlikelihood", "clip_examples")
            for part in ("label_smoothing", "loss_floor", "margin")
        ),
    )
    for pair in itertools.combinations(group, 2)
}
"""Written by hand, from what each does."""


def test_the_objectives_are_those() -> None:
    assert set(NAMES) <= set(OBJECTIVES.names())
    for name in NAMES:
        assert make_objective(name).name == name


@pytest.mark.parametrize("pair", list(itertools.combinations(NAMES, 2)), ids="+".join)
def test_exactly_these_pairs_are_refused(pair: tuple[str, str]) -> None:
    for names in (pair, pair[::-1]):
        chosen = [make_objective(name) for name in names]
        if frozenset(pair) in EXCLUDE_EACH_OTHER:
            with pytest.raises(BadInput, match="silently be left out"):
                refuse_pairs(chosen, {})
        else:
            refuse_pairs(chosen, {})


def test_the_same_objective_twice_is_refused() -> None:
    for name in NAMES:
        with pytest.raises(BadInput, match="silently be left out"):
            refuse_pairs([make_objective(name), make_objective(name)], {})


RECORD, USER = PrivacySpec(epsilon=8), PrivacySpec(epsilon=8, unit="user")
SPANS = PrivacySpec(epsilon=8, protect="spans", detector_recall=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_who_goes_with_a_promise(name: str) -> None:
    always, whole = {"lora_dropout", "dedup_users"}, {"goldfish", "removal", "substitution"}
    chosen = [make_objective(name)]
    for privacy in (RECORD, USER, SPANS):
        if name in always or (name in whole and privacy is not SPANS):
            refuse_pairs(chosen, settings_of(privacy))
        else:
            with pytest.raises(BadInput, match="in private training"):
                refuse_pairs(chosen, settings_of(privacy))


@pytest.mark.parametrize("name", NAMES)
def test_who_goes_with_the_monitor(name: str) -> None:
    chosen = [make_objective(name)]
    if name in {"instruction_pairs", "removal", "substitution"}:
        with pytest.raises(BadInput, match="with the monitor"):
            refuse_pairs(chosen, settings_of(None, watched=True))
    else:
        refuse_pairs(chosen, settings_of(None, watched=True))


def test_settings_that_exclude_each_other_do_so_without_any_objective() -> None:
    with pytest.raises(BadInput, match="the monitor with differential privacy"):
        refuse_pairs([], settings_of(USER, watched=True))
    with pytest.raises(BadInput, match="about each text once"):
        refuse_pairs([], settings_of(RECORD, copies="canary_repetitions='1,4'"))
    refuse_pairs([], settings_of(USER, copies="canary_repetitions='1,4'"))
    refuse_pairs([], settings_of(PrivacySpec(), watched=True, copies="canary_repetitions='1,4'"))


def test_an_objective_says_no_more_and_no_less_than_it_does() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Loss(Objective):
        def token_loss(self, logits: object, gold: object) -> object:  # type: ignore[override]
            return gold

    wrong = [{"alters": {"loss.record"}}, {"alters": set()}, {"alters": {"losses"}}]
    for declared in (*wrong, {"alters": {"loss"}, "private": "always"}):
        with pytest.raises(ValueError, match="made up"):
            objective("made up", **declared)(Loss)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hooks"):
        objective("made up", alters={"loss"})(type("Nothing", (Objective,), {}))

    @dataclass(frozen=True, kw_only=True)
    class Drops(Objective):
        def before_coins(self, records: object) -> object:  # type: ignore[override]
            return records, ()

    with pytest.raises(ValueError, match=r"data\.stability"):
        objective("made up", alters={"corpus.records"}, private="always")(Drops)

    @dataclass(frozen=True, kw_only=True)
    class Beside(Objective):
        def finish(self, model: object, folder: Path, material: object) -> dict[str, object]:  # type: ignore[override]
            return {}

    with pytest.raises(ValueError, match="covered by no promise"):
        objective("made up", private="always")(Beside)
    assert "made up" not in OBJECTIVES


def test_each_hook_of_each_objective_is_covered_by_what_it_alters() -> None:
    for name in NAMES:
        chosen = make_objective(name)
        for hook, part in HOOKS.items():
            if chosen.has(hook) and part:
                assert any(part == own or part.startswith(f"{own}.") for own in chosen.about.alters), (name, hook)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "goldfish(",
        "goldfish(4)",
        "goldfish(**{})",
        "goldfish(k=open)",
        "a.b",
        "goldfish(k=__import__('os'))",
        "goldfish(k=1.5)",
        "goldfish(k=True)",
        "goldfish(k='4')",
        "goldfish(q=4)",
        "goldfsh",
        "label_smoothing(amount=2)",
        "(" * 500,
        "goldfish(k=" + "-" * 10_000 + "1)",
    ],
)
def test_garbage_is_no_list_of_objectives(text: str) -> None:
    with pytest.raises(BadInput):
        parse_objectives(text)


def test_what_is_on_record_is_read_again() -> None:
    texts = [
        "goldfish(k=3, context=5), label_smoothing(amount=0.2), loss_floor",
        "dpo(beta=0.2), lora_dropout",
        "clip_batch(norm=1.0)",  # as usual, yet asked for
        "instruction_pairs(order='np'), clip_examples(norm=2)",
    ]
    for text in texts:
        chosen = parse_objectives(text)
        about = json.loads(json.dumps(on_record(chosen)))
        assert sorted(one.given for one in read_objectives(about)) == sorted(one.given for one in chosen)
    assert on_record(parse_objectives("goldfish, dpo")) == {
        "harden": {"goldfish": 4},
        "contextual": {"contextual": "dpo"},
    }
    assert read_objectives({"harden": {"goldfish": 4}})[0].given == "goldfish=4"
    assert read_objectives({}) == ()
    with pytest.raises(BadInput, match="is not known"):
        read_objectives({"objectives": {"of a plug-in": {}}})


MADE_UP = '''
"""Negative preference of what is to be forgotten, with the plain loss on what is kept."""

from dataclasses import dataclass
from functools import partial

import torch

from reticent.train.batches import collate
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.composed_loss import composed_loss
from reticent.train.objectives.dpo import sequence_logp
from reticent.train.objectives.objective import Objective, objective


@objective("made_up_forgetting", alters={"loss"}, record_sets={"forget"})
@dataclass(frozen=True, kw_only=True)
class Forgetting(Objective):
    beta: float = 0.1

    def trainer(self, material):
        forget = material.record_sets["forget"].encoded
        return partial(ForgettingTrainer, forget=forget, reference=material.reference(), beta=self.beta)

    def finish(self, model, folder, material):
        return {"forgotten": len(material.record_sets["forget"].encoded)}


class ForgettingTrainer(TuneTrainer):
    def __init__(self, *, forget, reference, beta, **kwargs):
        super().__init__(**kwargs)
        self.forget, self.reference, self.beta = forget, reference, beta
        assert not any(parameter.requires_grad for parameter in reference.parameters())

    def batch_loss(self, model, inputs):
        labels = inputs.pop("labels")
        retain = composed_loss(model(**inputs).logits, labels)
        batch = {k: v.to(labels.device) for k, v in collate(self.forget, pad=self.pad).items()}
        gold = batch.pop("labels")
        with torch.no_grad():
            before = sequence_logp(self.reference(**batch).logits, gold)
        gain = sequence_logp(model(**batch).logits, gold) - before
        return retain - 2 / self.beta * torch.nn.functional.logsigmoid(-self.beta * gain).mean()
'''

RETAIN = [Record(id=str(i), text=f"order {i * 7919 % 1000} of the customer") for i in range(12)]
FORGET = [Record(id=f"f{i}", text=f"Ana {i} owes money") for i in range(4)]
SHORT = TuneConfig(learning_rate=1e-2, epochs=3, batch_size=6, dtype="float32")


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objective]:
    """The objective, in a further folder of the package in which nothing else was changed."""
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "made_up_forgetting.py").write_text(MADE_UP)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path / "plug")])
    monkeypatch.setattr(OBJECTIVES, "_discovered", False)
    importlib.invalidate_caches()
    yield make_objective("made_up_forgetting", {"beta": 0.5})
    del OBJECTIVES._things["made_up_forgetting"]
    del sys.modules["reticent.train.objectives.made_up_forgetting"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that knows both sets."""
    plain = save_tiny(tmp_path_factory.mktemp("tiny") / "base")
    return str(tune(str(plain), [*RETAIN, *FORGET], plain.with_name("tuned"), SHORT))


def loss(model: str, records: list[Record]) -> float:
    loaded = load(model, dtype="float32")
    rows = encode_all(records, loaded.tokenizer, 64).encoded
    return held_out_loss(loaded.model, rows, size=4, pad=0, bfloat16=False)


def test_unlearning_fits_in_as_one_file(made_up: Objective, base: str, tmp_path: Path) -> None:
    assert parse_objectives("made_up_forgetting(beta=0.5)") == (made_up,)
    out = tune(base, RETAIN, tmp_path / "out", SHORT, objectives=[made_up], record_sets={"forget": FORGET})
    assert loss(str(out), FORGET) > loss(base, FORGET) + 1
    assert loss(str(out), RETAIN) < loss(base, RETAIN) + 0.5
    log = json.loads((out / LOG).read_text())
    assert log["objectives"] == {"made_up_forgetting": {"beta": 0.5, "forgotten": 4}}
    again = tune(base, RETAIN, tmp_path / "again", SHORT, objectives=[made_up], record_sets={"forget": FORGET})
    assert same(out, again)
    for other in ({"forget": FORGET[1:]}, {"forget": RETAIN}):
        with pytest.raises(BadInput, match="outcome of another training"):
            tune(base, RETAIN, out, SHORT, objectives=[made_up], record_sets=other)


def test_unlearning_is_refused_where_it_cannot_be(made_up: Objective, base: str, tmp_path: Path) -> None:
    def refused(why: str, **given: object) -> None:
        with pytest.raises(BadInput, match=why):
            tune(base, RETAIN, tmp_path / "no", SHORT, **given)  # type: ignore[arg-type]
        assert not (tmp_path / "no").exists()

    sets = {"record_sets": {"forget": FORGET}}
    refused("needs a set of records named 'forget'", objectives=[made_up])
    refused("are needed by no objective", **sets)
    refused("are needed by no objective", objectives=[made_up], record_sets={"forget": FORGET, "retain": RETAIN})
    refused("in private training", objectives=[made_up], privacy=RECORD, **sets)
    for name in ("label_smoothing", "dpo", "clip_examples"):
        refused("silently be left out", objectives=[made_up, make_objective(name)], **sets)
    with pytest.raises(BadInput, match="needs a set of records"):
        tune_run(RETAIN, base=base, out=tmp_path / "run", recipe=TuneRecipe(objectives=(made_up,)))
    assert not (tmp_path / "run").exists()


def test_an_objective_without_a_flag_goes_through_a_run_and_stays_on_record(base: str, tmp_path: Path) -> None:
    """One whose setting is the usual one has no flag that would say so."""
    recipe = TuneRecipe(training=SHORT, objectives=parse_objectives("clip_batch(norm=1.0)"))
    run = tune_run(RETAIN, base=base, out=tmp_path / "run", recipe=recipe)
    about = json.loads(run.manifest.read_text())["tune"]
    assert about["objectives"] == {"clip_batch": {"norm": 1.0}}
    assert read_objectives(about) == recipe.objectives
    assert tune_run(RETAIN, base=base, out=tmp_path / "run", recipe=recipe) == run
    with pytest.raises(BadInput, match="other settings"):
        tune_run(RETAIN, base=base, out=tmp_path / "run", recipe=TuneRecipe(training=SHORT))
    with pytest.raises(BadInput, match="recipe with settings beside it"):
        tune_run(RETAIN, base=base, out=tmp_path / "run", recipe=recipe, tune_config=SHORT)


def test_spans_are_marked_for_those_that_need_them(base: str, tmp_path: Path) -> None:
    marked = [Record(id=r.id, text=r.text, spans=(Span(start=6, end=8, kind="CODE"),)) for r in RETAIN]
    chosen = parse_objectives("unlikelihood, goldfish(k=3, context=2)")
    out = tune(base, marked, tmp_path / "out", SHORT, objectives=chosen)
    log = json.loads((out / LOG).read_text())
    assert log["contextual"] == {"contextual": "unlikelihood"}
    assert log["harden"]["goldfish"] == 3


def test_the_example_of_the_documentation_trains(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "hardening.md").read_text(encoding="utf-8")
    code = next(block for block in page.split("```python\n")[1:] if "@objective" in block).split("```")[0]
    (tmp_path / "every_other_token_example.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("every_other_token_example")
    try:
        chosen = make_objective("every_other_token", {"offset": 1})
        records = [*RETAIN, Record(id="nothing left", text="b")]
        out = tune(base, records, tmp_path / "out", SHORT, objectives=[chosen])
    finally:
        del OBJECTIVES._things["every_other_token"], sys.modules["every_other_token_example"]
    log = json.loads((out / LOG).read_text())
    assert log["objectives"] == {"every_other_token": {"offset": 1}}
    assert 0.2 < log["trained_tokens"] / log["tokens"] < 0.8
