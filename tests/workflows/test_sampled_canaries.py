# SPDX-License-Identifier: Apache-2.0
"""Canaries that the public model writes: the same again, drawn from no record, of use in audits of synthetic text."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reticent.auditing.config import AuditConfig
from reticent.auditing.synthetic.collect import scores_of_secrets
from reticent.auditing.synthetic.synthetic_file import TextPromise
from reticent.auditing.synthetic.text_pairs import cut
from reticent.core.errors import BadInput
from reticent.core.finding import Severity
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.canaries import Planting, plant, read_canaries
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.canaries.passphrase import WORDS
from reticent.data.split import split
from reticent.data.split_config import SplitConfig
from reticent.models.load import load, load_tokenizer
from reticent.models.trainable import check_trainable
from reticent.privacy.spec import PrivacySpec
from reticent.stats.rank_test import lower_p
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.workflows import sampled_canaries
from reticent.workflows.audit import audit
from reticent.workflows.sampled_canaries import (
    DRAWN_AS,
    KIND,
    SampledText,
    dressed,
    openings_of,
    sampled_texts,
)
from reticent.workflows.synthesize import SynthesisRecipe, synthesize
from reticent.workflows.training_rows import training_rows

RNG = random.Random(3)
RECORDS = [
    Record(id=f"r{number}", text=" ".join(RNG.choices(WORDS, k=6)), user=f"u{number // 2}") for number in range(60)
]
PAIRS = [
    Record(id=f"p{number}", prompt="A note:", completion=f" {record.text}") for number, record in enumerate(RECORDS)
]
SEED = SplitConfig().split_seed


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


def planted(base: str, records: list[Record], kind: str = KIND, *, private: bool = False, count: int = 12) -> Planting:
    rows = training_rows(
        records,
        base=base,
        split_config=SplitConfig(split_unit="record"),
        canary_config=CanaryConfig(canaries=count, canary_kind=kind, canary_controls=6, canary_repetitions="1,3"),
        privacy=PrivacySpec(noise_multiplier=1.0, unit="user") if private else PrivacySpec(),
        max_tokens=80,
    )
    assert rows.planting is not None
    return rows.planting


def test_texts_are_written_once_with_coins_of_their_own_and_fit(base: str) -> None:
    planting = planted(base, RECORDS)
    assert planted(base, RECORDS) == planting
    assert len({canary.text for canary in planting.canaries}) == 18
    assert {canary.id for canary in planting.canaries} == {f"canary/{KIND}/{number:05d}" for number in range(18)}
    assert {canary.kind for canary in planting.canaries} == {KIND}
    assert all(canary.secret == canary.text == canary.record.text for canary in planting.canaries)
    copies = [copy for canary in planting.canaries if canary.planted for copy in [canary] * canary.repetitions]
    assert [copy.text for copy in planting.to_train] == [canary.text for canary in copies]
    assert {copy.user for copy in planting.to_train} == {canary.id for canary in copies}
    check_trainable(planting.canaries, load_tokenizer(base), 80)
    assert 2.0**60 < planting.canaries[0].space < 2.0**300  # 32 tokens of about 300 that are all as likely


def test_coins_are_those_of_any_kind_and_no_record_moves_a_text(base: str) -> None:
    lent = plant(
        RECORDS,
        split(RECORDS, unit="record", seed=SEED),
        kind=DRAWN_AS,
        secrets=12,
        controls=6,
        repetitions=(1, 3),
        seed=SEED,
    )
    ours, fewer = planted(base, RECORDS), planted(base, RECORDS[:30], private=True)
    assert [canary.planted for canary in ours.canaries] == [canary.planted for canary in lent.canaries]
    assert [canary.text for canary in ours.canaries] == [canary.text for canary in fewer.canaries]


def test_public_words_lead_to_a_completion_and_are_no_part_of_a_text(base: str) -> None:
    asked = planted(base, PAIRS, f"{KIND}(A note:|A list:)")
    prompts = [canary.record.prompt for canary in asked.canaries]
    assert set(prompts) == {"A note:", "A list:"}
    assert all(canary.record.completion == f" {canary.secret}" for canary in asked.canaries)
    assert {canary.record.prompt for canary in planted(base, PAIRS).canaries} == {"A text:"}
    told = planted(base, RECORDS, f"{KIND}(A note:)")
    assert not any("A note:" in canary.text for canary in told.canaries)
    assert told.canaries[0].text != planted(base, RECORDS).canaries[0].text


@pytest.mark.parametrize("kind", [f"{KIND}()", f"{KIND}(a||b)", f"{KIND}(a", f"{KIND}-a"])
def test_words_that_are_none_are_refused(kind: str) -> None:
    with pytest.raises(BadInput, match="has no words in its brackets"):
        openings_of(kind)


def test_a_model_that_writes_one_thing_and_a_taken_id_are_refused(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="begins as those of canaries do"):
        planted(base, [*RECORDS, Record(id=f"canary/{KIND}/00001", text="a b c", user="u")])
    with pytest.raises(BadInput, match="wrote only 0 texts that differ"):
        sampled_texts(load(base), count=3, openings=(), max_tokens=2, seed=0, shape="text")


# ---- by the text -----------------------------------------------------------------------------------------------------


def made_up(seed: int) -> Planting:
    """Secrets of common words and of rare ones, as a model writes them."""
    rng = random.Random(seed)
    lent = plant(
        RECORDS,
        split(RECORDS, unit="record", seed=SEED),
        kind=DRAWN_AS,
        secrets=60,
        controls=0,
        repetitions=(1,),
        seed=1,
    )
    often = [WORDS[rng.randrange(60)] for _ in range(4)]
    texts = [
        SampledText(opening="", text=" ".join(rng.choices([*WORDS, *often * 20], k=8)), bits=40.0) for _ in range(60)
    ]
    return dressed(lent, texts)


def p_of(planting: Planting, synthetic: list[str]) -> float:
    words = cut([record.plain for record in RECORDS])
    scores = scores_of_secrets(planting.canaries, words, [record.id for record in RECORDS], cut(synthetic))
    coin = np.array([canary.planted for canary in planting.canaries])
    return lower_p(-scores[coin], -scores[~coin])


def test_text_that_tells_half_of_each_planted_one_is_seen_and_other_text_is_not() -> None:
    planting = made_up(0)
    told = [" ".join(canary.text.split()[:4]) for canary in planting.canaries if canary.planted]
    assert p_of(planting, [*told, *(record.plain for record in RECORDS)]) < 1e-4
    nothing = [p_of(made_up(seed), [record.plain for record in RECORDS]) for seed in range(12)]
    assert min(nothing) > 0.01
    assert 0.25 < float(np.mean(nothing)) < 0.75


# ---- from a run to a bound beside the promise ------------------------------------------------------------------------

KNOWS = TuneConfig(method="full", epochs=60, learning_rate=1e-2, batch_size=16, max_tokens=64)


@pytest.fixture(scope="module")
def repeated(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Texts of a model that learned by heart, canaries and all: a leak on purpose."""
    notes = [replace(record, completion=" ".join(record.plain.split()[2:5])) for record in PAIRS[:16]]
    spec = SynthesisSpec(mechanism="none", count=160, max_new_tokens=22, condition="prompt", topics="A note:")
    canaries = CanaryConfig(canaries=44, canary_kind=KIND, canary_controls=10, canary_repetitions="1")
    recipe = SynthesisRecipe(synthesis=spec, training=KNOWS, canaries=canaries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_canaries, "TOKENS", 12)  # a tiny model learns no more by heart
        patch.setattr(sampled_canaries, "FEWEST_WORDS", 2)
        return synthesize(notes, base=base, out=tmp_path_factory.mktemp("repeated") / "run", recipe=recipe)


def test_a_leak_is_caught_by_the_text_and_by_the_auxiliary_model_and_breaks_a_promise(
    repeated: RunFolder, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault: text of a model that promised nothing, with a promise of ε = 0.01 written beside it."""
    planting = read_canaries(RunFolder(root=repeated.synthesis_training).canaries)
    assert {(canary.kind, canary.shape) for canary in planting} == {(KIND, "pair")}
    promise = TextPromise(epsilon=0.01, delta=1e-5, unit="record", relation="add_or_remove", where="synthesis.json")
    monkeypatch.setattr("reticent.auditing.synthetic.synthetic_file.read_promise", lambda place: (promise, "x"))
    monkeypatch.setattr("reticent.workflows.synthetic_case.training_of", lambda case, config: replace(KNOWS, epochs=15))
    config = AuditConfig(synthetic=str(repeated.synthetic), auxiliary=base, attacks="loss,ref_diff")
    results = audit(config=config, out=tmp_path / "audit")
    leaks = {finding.attack for finding in results.all_findings if finding.severity is not Severity.NONE}
    assert {"canary_exposure", "synthetic_canary"} <= leaks
    table = next(table for part in results.sections for table in part.tables if table.name == "synthetic-epsilon")
    by_way = {row[0]: (row[2].lo, row[3]) for row in table.rows if str(row[0]).startswith("planted secrets")}
    assert set(by_way) == {"planted secrets, by the synthetic text", "planted secrets, by the auxiliary model"}
    assert {promised for _, promised in by_way.values()} == {0.01}
    assert by_way["planted secrets, by the auxiliary model"][0] > 0.01
    broken = [finding for finding in results.all_findings if finding.metric == "promise_broken"]
    assert any("by the auxiliary model" in finding.statement for finding in broken)
    assert all(finding.severity is Severity.CRITICAL for finding in broken)


def test_text_without_any_record_raises_no_alarm(
    repeated: RunFolder, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(12)
    other = tmp_path / "other.jsonl"
    rows = ({"text": " ".join(rng.choices(WORDS, k=6))} for _ in range(60))
    other.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setattr("reticent.workflows.synthetic_case.training_of", lambda case, config: replace(KNOWS, epochs=2))
    config = AuditConfig(synthetic=str(other), auxiliary=base, attacks="loss,ref_diff")
    results = audit(repeated.synthesis_training, config=config, out=tmp_path / "audit")
    assert not [finding for finding in results.all_findings if finding.severity is not Severity.NONE]
