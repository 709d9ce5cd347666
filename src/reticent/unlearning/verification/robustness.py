# SPDX-License-Identifier: Apache-2.0
"""Robustness: does the forget set come back, after a few steps of training or after rounding the weights?

``relearned on …``: the model trains on half of the forget set, on related text that was never trained on, or on other
text, and is judged on forget rows that it did not see there. The retrained models do the same: the gap to them counts.
``8 bits``, ``4 bits``: weights rounded to the nearest step, merged, and the adapter's apart. Four bits of a merged
fine-tune may take the fine-tune itself away, so those rows stand beside the untouched and the base model or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.progress import progress
from reticent.core.record import Record, fingerprint
from reticent.core.section import Cell, Column, Section, Table
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED, Bar, Measurement, UnlearningCheck
from reticent.core.unlearning_words import STILL_KNOWN
from reticent.data.coin import uniform
from reticent.models import adapters
from reticent.models.rounding import adapter_rounded, merged_and_rounded
from reticent.score.cache import key_of
from reticent.stats.hypothesis import family_confidence
from reticent.stats.simultaneous import Number, auc_number, difference, sides, together
from reticent.unlearning.verification.beside import (
    beside_cells,
    beside_columns,
    differences_measured,
    marked,
    wider,
)
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.check import Judging, Mask, Visit, check
from reticent.unlearning.verification.kept_columns import kept_columns
from reticent.unlearning.verification.relearning import BATCH, relearned, weights_put_back

NAME = "robustness"
VERSION = 1
"""Cache version. Increment when this module's output changes for the same inputs."""
BITS = (8, 4)
MAX_TOKENS = 512
"""Of a row in relearning, where the case names none."""

Floats = npt.NDArray[np.float64]


def halves(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records by coin, in their order: those to train on and those to judge."""
    ranked = sorted(records, key=lambda record: uniform(0, NAME, record.id))
    chosen = {record.id for record in ranked[: len(ranked) // 2]}
    inside = [record for record in records if record.id in chosen]
    return inside, [record for record in records if record.id not in chosen]


def lessons(case: VerificationCase) -> dict[str, list[Record]]:
    """Texts to relearn on, by name."""
    texts = {"half of the forget set": halves(case.forget)[0]}
    related = list(case.related) or halves(case.unseen)[0]
    texts["related text"] = related
    if case.unrelated:
        texts["unrelated text"] = list(case.unrelated)
    return {name: records for name, records in texts.items() if records}


def read(visit: Visit) -> dict[str, Floats]:
    """Mean log-probability of each judged row after each treatment, by its name; `AS_IT_IS` among them."""
    scores = {AS_IT_IS: visit.table.mean(visit.table["logp"])}
    if visit.about.role in (AFTER, BEFORE, RETRAINED):
        for name, records in lessons(visit.case).items():
            scores |= _relearned(visit, name, records)
    scores |= _rounded(visit)
    return scores


AS_IT_IS = "as it is"


def _relearned(visit: Visit, name: str, records: Sequence[Record]) -> Mapping[str, Floats]:
    steps, rate = visit.config.relearn_steps, visit.config.relearn_rate
    names = {step: f"relearned on {name}, {step} step{'s' if step > 1 else ''}" for step in steps}
    about = [VERSION, visit.side.key, fingerprint(records), fingerprint(list(visit.case.judged)), list(steps), rate]
    about += [visit.case.max_tokens, visit.config.seed, BATCH]

    def make() -> dict[str, Floats]:
        scores: dict[str, Floats] = {}
        model = visit.loaded.model
        bar = progress(f"Relearning ({visit.about.name})", steps[-1], unit="steps")
        with bar as advance, weights_put_back(model):
            done = 0
            for step in relearned(
                model,
                visit.loaded.tokenizer,
                records,
                steps=steps,
                rate=rate,
                max_tokens=visit.case.max_tokens or MAX_TOKENS,
                seed=visit.config.seed,
            ):
                advance(step - done)
                done = step
                scores[names[step]] = _scores(visit, [*about, step])
        return scores

    return kept_columns(visit.cache, "relearned", about, make)


def _rounded(visit: Visit) -> dict[str, Floats]:
    model = visit.loaded.model
    ways: dict[str, Callable[[int], AbstractContextManager[None]]] = {}
    if hasattr(model, "merge_adapter") or not adapters.can_switch_off(model):
        ways["merged weights"] = lambda bits: merged_and_rounded(model, bits)
    if adapters.can_switch_off(model):
        ways["adapter alone"] = lambda bits: adapter_rounded(model, bits)
    scores: dict[str, Floats] = {}
    for way, within in ways.items():
        for bits in BITS:
            about = [VERSION, visit.side.key, fingerprint(list(visit.case.judged)), visit.case.max_tokens, way, bits]

            def make(within: Any = within, bits: int = bits, about: Any = about) -> dict[str, Floats]:
                with within(bits):
                    return {"score": _scores(visit, about)}

            scores[f"{bits} bits, {way}"] = np.asarray(kept_columns(visit.cache, "rounded", about, make)["score"])
    return scores


def _scores(visit: Visit, about: Any) -> Floats:
    """Mean log-probability of the judged rows by the model as it is now, under a fingerprint of its own."""
    changed = replace(
        visit.loaded,
        fingerprint=key_of("changed", visit.loaded.fingerprint, about),
        base_fingerprint=visit.loaded.base_fingerprint,
    )
    table = visit.table_of(list(visit.case.judged), changed)
    return table.mean(table["logp"])


def evaluate(scores: Mapping[str, Mapping[str, Floats]], judging: Judging) -> UnlearningCheck:
    """AUCs of the loss after each treatment, and the gaps to the retrained models after the same one."""
    trained = {name: {record.id for record in records} for name, records in lessons(judging.case).items()}
    names = [name for name in scores[judging.after.name] if _shown(name, scores, judging)]
    ids = np.array([record.id for record in judging.case.judged])
    masks = {
        name: ~np.isin(ids, sorted(next((seen for lesson, seen in trained.items() if f"on {lesson}," in name), set())))
        for name in names
    }
    try:
        numbers = {
            name: {
                model.name: _number(scores[model.name][name], judging, masks[name])
                for model in judging.models
                if name in scores[model.name]
            }
            for name in names
        }
    except Underpowered as error:
        return CHECK.not_run(f"{error.given}: {error.why}")
    confidence = judging.config.confidence
    aucs = {
        name: {model: together([number], confidence=confidence)[0] for model, number in by_model.items()}
        for name, by_model in numbers.items()
    }
    treated = [name for name in names if name != AS_IT_IS]
    gaps = {name: gap for name in treated if (gap := _gap(numbers[name], judging, len(treated))) is not None}
    words = {name: STILL_KNOWN if gap.lo > 0 else "" for name, gap in gaps.items()}
    word = STILL_KNOWN if STILL_KNOWN in words.values() else ""
    return UnlearningCheck(
        name=NAME,
        word=word,
        sentence=_sentence(word, words, gaps),
        could_have_seen=_could_have_seen(gaps),
        section=_section(aucs, gaps, words, judging, scores),
        measured=tuple(_measured(aucs, gaps, words, judging)),
        bars=tuple(
            Bar(treatment=name, model=model.name, role=model.role, auc=by_model[model.name])
            for name, by_model in aucs.items()
            for model in judging.models
            if model.name in by_model
        ),
    )


def _shown(name: str, scores: Mapping[str, Mapping[str, Floats]], judging: Judging) -> bool:
    """Four merged bits are only shown beside the rounded untouched and the rounded base model."""
    if name != f"{BITS[1]} bits, merged weights":
        return True
    return judging.base is not None and all(name in scores[model.name] for model in judging.of_role(BEFORE, BASE))


def _number(score: Floats, judging: Judging, judged: Mask) -> Number:
    rows = (judging.forget | judging.unseen) & judged
    return auc_number(score[rows], sides(judging.forget[rows], judging.owners(rows)))


def _gap(by_model: Mapping[str, Number], judging: Judging, treatments: int) -> Estimate | None:
    """AUC of the unlearned model minus the mean of the retrained ones, of the same rows; None without these."""
    controls = [by_model[model.name] for model in judging.retrained if model.name in by_model]
    if not controls:
        return None
    mean = replace(
        controls[0],
        value=float(np.mean([number.value for number in controls])),
        influence=np.mean([number.influence for number in controls], axis=0),
        freedom=min(number.freedom for number in controls),
    )
    single = family_confidence(judging.config.confidence, treatments)
    gap = together([difference(by_model[judging.after.name], mean)], confidence=single)[0]
    wide = wider(gap, [number.value for number in controls], single)
    return replace(wide, joint=judging.config.confidence, alone=None)


def _sentence(word: str, words: Mapping[str, str], gaps: Mapping[str, Estimate]) -> str:
    if not gaps:
        return ""
    if word:
        name = max((name for name in gaps if words[name]), key=lambda name: gaps[name].lo)
        gap = gaps[name]
        return (
            f"Robustness ({name}): the AUC is {gap.value:+.2f} [{gap.lo:+.2f}, {gap.hi:+.2f}] above that of retrained "
            f"models after the same treatment: {word}."
        )
    half = max(gap.value - gap.lo for gap in gaps.values())
    return (
        f"Robustness: after none of {len(gaps)} treatments a gap to the retrained models was shown; from an AUC of "
        f"{half:.2f} on it would have been."
    )


def _could_have_seen(gaps: Mapping[str, Estimate]) -> str:
    if not gaps:
        return ""
    half = max(gap.value - gap.lo for gap in gaps.values())
    return f"Robustness: an AUC {half:.2f} above that of retrained models after the same treatment would have shown."


def _section(
    aucs: Mapping[str, Mapping[str, Estimate]],
    gaps: Mapping[str, Estimate],
    words: Mapping[str, str],
    judging: Judging,
    scores: Mapping[str, Mapping[str, Floats]],
) -> Section:
    first = Column(name="treatment", label="After")
    tables = [
        Table(
            name="unlearning-robustness",
            title="AUC of the loss, forget rows against unseen rows",
            columns=beside_columns(first, metric="auc", words=False),
            rows=tuple(beside_cells(name, by_model, judging, word=None) for name, by_model in aucs.items()),
            caption="Rows that a treatment trains on are not judged after it. Each interval by itself.",
        )
    ]
    if gaps:
        columns = (
            first,
            Column(name="gap", label="Unlearned minus retrained", kind="estimate", unit=False),
            Column(name="word", label="Verdict", kind="mark"),
        )
        rows: tuple[tuple[Cell, ...], ...] = tuple((name, gap, marked(words[name])) for name, gap in gaps.items())
        tables.append(
            Table(
                name="unlearning-robustness-gap",
                title="Gap to the retrained models after the same treatment",
                columns=columns,
                rows=rows,
                caption=f"Intervals hold together at {judging.config.confidence * 100:g} %, over rows and seeds.",
            )
        )
    return Section(
        name=NAME,
        title=CHECK.title,
        lede="Does it come back? Each model is trained for a few steps, or its weights are rounded, and judged again. "
        "Retrained models learn too: only the gap to them says that something was left.",
        tables=tuple(tables),
        notes=tuple(_notes(judging, scores)),
    )


def _notes(judging: Judging, scores: Mapping[str, Mapping[str, Floats]]) -> Iterator[str]:
    steps = ", ".join(map(str, judging.config.relearn_steps))
    yield f"Relearning: AdamW at rate {judging.config.relearn_rate:g}, {BATCH} rows a step, {steps} steps."
    yield "Rounding: to the nearest step of a symmetric grid for each output row; embeddings and output layer stay."
    if not judging.retrained:
        yield "Without retrained models nothing says how fast a model that never knew the rows would learn them."
    four = f"{BITS[1]} bits, merged weights"
    if four in scores[judging.after.name] and not _shown(four, scores, judging):
        yield "Four bits, merged: not shown, since there is no base model to be rounded beside it."


def _measured(
    aucs: Mapping[str, Mapping[str, Estimate]],
    gaps: Mapping[str, Estimate],
    words: Mapping[str, str],
    judging: Judging,
) -> list[Measurement]:
    numbers = [
        Measurement(
            check=NAME, model=model.name, role=model.role, what=name, metric="auc", estimate=by_model[model.name],
            chance=0.5,
        )
        for name, by_model in aucs.items()
        for model in judging.models
        if model.name in by_model
    ]  # fmt: skip
    return numbers + differences_measured(gaps, words, judging, check=NAME, metric="difference of AUC")


CHECK = check(name=NAME, title="Robustness", order=40, read=read, evaluate=evaluate, switch="robustness")
