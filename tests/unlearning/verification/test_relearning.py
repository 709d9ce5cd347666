# SPDX-License-Identifier: Apache-2.0
"""Relearning: the same batches for all models, weights put back, and the gap to retrained models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED, UnlearningModel
from reticent.core.unlearning_words import STILL_KNOWN
from reticent.testing.tiny import tiny_model, tiny_tokenizer
from reticent.testing.unlearned import MAX_TOKENS, losses, number_rows
from reticent.train.batches import encode_all
from reticent.unlearning.verification import robustness
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.check import Judging, Margin
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.relearning import relearned, weights_put_back

ROWS = number_rows(forget=80, unseen=80, retain=4)
TREATMENT = "relearned on half of the forget set, 10 steps"


def test_steps_train_and_weights_come_back(one_thread):
    model = tiny_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    rows = encode_all(ROWS.forget[:16], tiny_tokenizer(), MAX_TOKENS).encoded
    with torch.no_grad():
        seen = [float(losses(model, rows).mean())]
    with weights_put_back(model):
        for step in relearned(
            model, tiny_tokenizer(), ROWS.forget[:16], steps=(3, 12), rate=1e-2, max_tokens=MAX_TOKENS
        ):
            with torch.no_grad():
                seen.append(float(losses(model, rows).mean()))
            assert step == (3, 12)[len(seen) - 2]
            assert not model.training
    assert seen[0] > seen[1] > seen[2]
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_all_models_see_the_same_batches(one_thread):
    first, again = tiny_model(), tiny_model()
    for model in (first, again):
        list(relearned(model, tiny_tokenizer(), ROWS.forget, steps=(4,), rate=1e-2, max_tokens=MAX_TOKENS, seed=7))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_nothing_to_learn_from_and_a_loss_that_breaks(one_thread):
    with pytest.raises(BadInput, match="no row with a token"):
        list(relearned(tiny_model(), tiny_tokenizer(), [Record(id="a", text="")], steps=(1,), rate=1, max_tokens=8))
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(BadInput, match="not finite"):
        list(relearned(model, tiny_tokenizer(), ROWS.forget, steps=(1,), rate=1e-3, max_tokens=8))


def judging(*, base=True, oracles=4):
    roles = [("unlearned", AFTER), ("untouched", BEFORE), *([("base", BASE)] if base else [])]
    roles += [(f"retrained {number}", RETRAINED) for number in range(oracles)]
    case = VerificationCase(
        title="", after="", before="", base=None, retrained=(), forget=ROWS.forget, unseen=ROWS.unseen,
        retain=ROWS.retain,
    )  # fmt: skip
    return Judging(
        case=case,
        config=VerifyConfig(robustness=True, relearn_steps=(10,)),
        models=tuple(UnlearningModel(name=name, role=role, fingerprint=name) for name, role in roles),
        margin=Margin(value=0.1, enough=True, reason=""),
        user=None,
    )


def scores(of, gains, names=(robustness.AS_IT_IS, TREATMENT, "4 bits, merged weights", "8 bits, merged weights")):
    """Forget rows are ``gains[role]`` standard deviations more likely after the relearning."""
    found = {}
    for number, model in enumerate(of.models):
        rng = np.random.default_rng(number)
        found[model.name] = {
            name: rng.normal(size=len(of.side)) + gains.get(model.role, 0.0) * of.forget * (name == TREATMENT)
            for name in names
            if model.role != BASE or "relearned" not in name
        }
    return found


def test_what_counts_is_the_gap_to_retrained_models():
    of = judging()
    alike = robustness.evaluate(scores(of, {AFTER: 1.5, RETRAINED: 1.5, BEFORE: 2}), of)
    assert alike.word == ""
    faster = robustness.evaluate(scores(of, {AFTER: 2.5, BEFORE: 2.5}), of)
    assert faster.word == STILL_KNOWN
    gap = next(number for number in faster.measured if number.what == f"{TREATMENT}, minus retrained")
    assert gap.word == STILL_KNOWN
    assert gap.estimate.lo > 0
    assert TREATMENT in faster.sentence
    assert {(bar.treatment, bar.role) for bar in faster.bars} >= {
        (TREATMENT, AFTER), (TREATMENT, RETRAINED), ("4 bits, merged weights", BASE)
    }  # fmt: skip


def test_rows_that_were_trained_on_are_not_judged():
    of = judging()
    outcome = robustness.evaluate(scores(of, {}), of)
    by_name = {number.what: number.estimate.n for number in outcome.measured if number.role == AFTER}
    assert by_name[robustness.AS_IT_IS] == 160
    assert by_name[TREATMENT] == 120
    assert by_name["8 bits, merged weights"] == 160


def test_four_merged_bits_are_not_shown_without_their_controls():
    of = judging(base=False)
    outcome = robustness.evaluate(scores(of, {}), of)
    assert not any("4 bits" in number.what for number in outcome.measured)
    assert any("not shown" in note for note in outcome.section.notes)
    assert any("8 bits" in number.what for number in outcome.measured)


def test_without_retrained_models_nothing_is_decided():
    of = judging(oracles=0)
    outcome = robustness.evaluate(scores(of, {AFTER: 3}), of)
    assert (outcome.word, outcome.sentence) == ("", "")
    assert any("Without retrained models" in note for note in outcome.section.notes)


def test_halves_do_not_depend_on_the_order():
    first, second = robustness.halves(ROWS.forget)
    mirrored = robustness.halves(ROWS.forget[::-1])
    assert {record.id for record in first} == {record.id for record in mirrored[0]}
    assert len(first) == len(second) == 40
    assert not {record.id for record in first} & {record.id for record in second}


def test_models_relearn_and_are_rounded(zoo):
    few = {"forget": zoo.rows.forget[:40], "unseen": zoo.rows.unseen[:40], "retain": zoo.rows.retain[:4]}
    settings = {"robustness": True, "relearn_steps": (2,), "relearn_rate": 1e-2}
    oracles = [zoo.folders["oracle 0"]]
    outcome = zoo.verify("over_unlearned", settings, retrained=oracles, **few).check("robustness")
    treatments = {bar.treatment for bar in outcome.bars}
    assert treatments == {
        "as it is",
        "relearned on half of the forget set, 2 steps",
        "relearned on related text, 2 steps",
        "8 bits, merged weights",
        "4 bits, merged weights",
    }
    again = zoo.verify("over_unlearned", settings, retrained=oracles, **few).check("robustness")
    assert replace(again) == outcome
