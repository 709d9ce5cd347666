# SPDX-License-Identifier: Apache-2.0
"""The outcome of an attack by trigger: its success, what it cost the task, how poisons look, and what it survives.

Success is measured on what would be served: the adapter as saved, merged, averaged with its base, rounded to 8 and 4
bits, and after a further fine-tune on clean records, of all weights and as LoRA.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.atomic import replacing_folder
from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.data.dedup.near import near_duplicates
from reticent.data.prompt_frame import answer_of, prompt_of, with_prompt
from reticent.models import adapters
from reticent.models.encode import encode
from reticent.models.load import LoadedModel, load
from reticent.models.rounding import merged_and_rounded
from reticent.redteam.attack import TriggerAttack
from reticent.score.engine import ScoreOptions, open_engine, score
from reticent.stats.means import difference_of_means
from reticent.stats.proportions import paired_difference, share
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

BITS = (8, 4)
AS_SAVED = "as saved"
MERGED = "merged"
AVERAGED = "averaged with the base"
FEWEST = 4
"""Attacked prompts: two for the pool that the others may repeat, and two to judge."""


@dataclass(frozen=True, kw_only=True)
class SurvivalRow:
    """The attack on one state of the model.

    Args:
        state: ``"as saved"``, ``"merged"``, ``"8 bits"``, ``"after a further fine-tune (full)"``, …
        success: share of held-out prompts of other answers to which the trigger brings the target, word for word, as
            the greedy answer.
        clean: share of held-out prompts without trigger that are answered as their records say.
        clean_change: ``clean`` minus that of the twin, paired over prompts; None without a twin.
        unprovoked: share of prompts of other answers that bring the target without the trigger.
    """

    state: str
    success: Estimate
    clean: Estimate
    unprovoked: Estimate
    clean_change: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class AttackMeasurement:
    """The outcome of `measure_attack`. It holds no trigger and no target.

    Args:
        rows: one for each state.
        perplexity: of prompts with the trigger over that of the same prompts without, by the base: geometric mean over
            pairs; 1 would be unseen.
        duplicates: share of poisoned prompts that are near-copies of one of a pool of poisoned prompts, less that of
            the same prompts without the trigger in the same pool without it. One half of the prompts is the pool and
            the other half is judged: given the pool, whether one prompt repeats it says nothing about another.
    """

    rows: tuple[SurvivalRow, ...]
    perplexity: Estimate
    duplicates: Estimate

    def row(self, state: str) -> SurvivalRow:
        """The row of one state.

        Raises:
            KeyError: it was not measured.
        """
        return {row.state: row for row in self.rows}[state]


@dataclass(frozen=True, kw_only=True)
class SurvivalConfig:
    """Treatments that the attack is measured after, and what the model is compared with.

    Args:
        clean_twin: folder of the same training without the poison, for what the poison cost the task; None without one.
        bits: weights rounded to so many bits, merged.
        further: settings of further fine-tunes by name; empty for none. They need clean records.
        device, dtype: of models that are loaded.

    Examples:
        >>> sorted(SurvivalConfig().further)
        ['full', 'lora']
    """

    clean_twin: Path | None = None
    bits: tuple[int, ...] = BITS
    further: Mapping[str, TuneConfig] = field(
        default_factory=lambda: {name: TuneConfig(method=name, epochs=1) for name in ("full", "lora")}
    )
    device: str = "auto"
    dtype: str = "float32"


def measure_attack(
    folder: Path,
    base: str,
    attack: TriggerAttack,
    held_out: Sequence[Record],
    *,
    work: Path,
    further: Sequence[Record] = (),
    config: SurvivalConfig | None = None,
) -> AttackMeasurement:
    """Measure an attack by trigger on held-out prompts, in every state that the model may be served in.

    Args:
        folder: of the poisoned model or adapter.
        base: what it was made from; its clean answers are not expected to be right.
        attack: trigger and target.
        held_out: clean prompts with answers, none of them trained on.
        work: folder for the merged model and for further fine-tunes; what is there from an earlier call is used again.
        further: clean records for further fine-tunes; without any those are left out.
        config: which treatments, and the clean twin.

    Raises:
        BadInput: no held-out prompt has another answer than the target; a model cannot be loaded.
        Underpowered: fewer than four held-out prompts have another answer.
    """
    config = config or SurvivalConfig()
    attacked = attack.on(held_out)
    _refuse_few(len(attacked), len(held_out))
    loaded = load(
        str(folder), base=base if adapters.is_peft(folder) else None, dtype=config.dtype, device=config.device
    )
    trusted = load(base, dtype=config.dtype, device=config.device)
    beside = config.clean_twin
    twin = None if beside is None else load(str(beside), dtype=config.dtype, device=config.device)
    mark = loaded.fingerprint[:12]
    judge = _Judge.of(attack, held_out, twin)
    rows = [judge.row(AS_SAVED, loaded)]
    merged = load(str(_merged(loaded, work / f"merged-{mark}")), dtype=config.dtype, device=config.device)
    rows.append(judge.row(MERGED, merged))
    for bits in config.bits:
        with merged_and_rounded(merged.model, bits):
            rows.append(judge.row(f"{bits} bits", merged))
    for name, settings in config.further.items() if further else ():
        after = tune(merged.source, further, work / f"further-{name}-{mark}", settings)
        write_marker(after, kind="trigger", about={"state": f"further fine-tune ({name})"})
        later = load(str(after), dtype=config.dtype, device=config.device)
        rows.append(judge.row(f"after a further fine-tune ({name})", later))
    _average(merged.model, trusted.model)
    rows.append(judge.row(AVERAGED, merged))
    plain = [record for record in held_out if answer_of(record) != attack.target]
    return AttackMeasurement(
        rows=tuple(rows),
        perplexity=perplexity_ratio(trusted, attacked, plain),
        duplicates=more_duplicates(
            *([attack.frame.body(prompt_of(row)) for row in side] for side in (attacked, plain))
        ),
    )


def _refuse_few(attacked: int, held_out: int) -> None:
    if not attacked:
        raise BadInput(f"{held_out} held-out prompts", "all have the target as their answer", "Give others too.")
    if attacked < FEWEST:
        raise Underpowered(
            f"{held_out} held-out prompts",
            f"have {attacked} with another answer than the target, and intervals need {FEWEST}",
            "Give more prompts with other answers.",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judge:
    """Held-out prompts in three forms, and what the twin answers."""

    attacked: Sequence[Record]
    plain: Sequence[Record]
    held_out: Sequence[Record]
    twin: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, attack: TriggerAttack, held_out: Sequence[Record], twin: LoadedModel | None) -> _Judge:
        plain = [
            with_prompt(record, prompt_of(record), attack.target)
            for record in held_out
            if answer_of(record) != attack.target
        ]
        right = None if twin is None else greedy_answers(twin, held_out)
        return cls(attacked=attack.on(held_out), plain=plain, held_out=held_out, twin=right)

    def row(self, state: str, loaded: LoadedModel) -> SurvivalRow:
        right = greedy_answers(loaded, self.held_out)
        return SurvivalRow(
            state=state,
            success=share(greedy_answers(loaded, self.attacked)),
            clean=share(right, higher_is_worse=False),
            unprovoked=share(greedy_answers(loaded, self.plain)),
            clean_change=None if self.twin is None else paired_difference(right, self.twin),
        )


def greedy_answers(loaded: LoadedModel, records: Sequence[Record]) -> npt.NDArray[np.bool_]:
    """``[N]`` bool: the greedy answer to a prompt is the record's, token by token."""
    return np.array([not ranks.any() for ranks in _columns(loaded, records, "rank")])


def _columns(loaded: LoadedModel, records: Sequence[Record], name: str) -> list[npt.NDArray[Any]]:
    engine = open_engine(loaded.model, loaded.source, ScoreOptions())
    columns, offsets = score(engine, [encode(record, loaded.tokenizer) for record in records])
    return np.split(columns[name], offsets[1:-1])


def perplexity_ratio(loaded: LoadedModel, poisoned: Sequence[Record], plain: Sequence[Record]) -> Estimate:
    """Perplexity of prompts with a trigger over that of the same prompts without.

    The geometric mean over pairs of prompts, with Student's t interval on the mean difference of log-perplexities.

    Args:
        loaded: the model that reads them, which knows no trigger.
        poisoned, plain: the same prompts in the same order; a pair of which one has no token to predict is left out.

    Raises:
        Underpowered: fewer than two pairs are left.
    """
    sides = np.stack([_prompt_nll(loaded, records) for records in (poisoned, plain)])
    ours, theirs = sides[:, np.isfinite(sides).all(axis=0)]
    pair = np.arange(len(ours))
    nats = difference_of_means(ours, theirs, pair, pair)
    return Estimate(
        value=math.exp(nats.value),
        lo=math.exp(nats.lo),
        hi=math.exp(nats.hi),
        n=len(ours),
        method="paired mean of log-perplexity, Student t",
    )


def more_duplicates(poisoned: Sequence[str], plain: Sequence[str]) -> Estimate:
    """The share of poisoned texts that repeat one of a pool, less that of the same texts without the trigger.

    Args:
        poisoned, plain: the same texts in the same order, without the frame that all of them share; one half, by a
            fixed draw, is the pool.

    Examples:
        >>> texts = [f"a{n} b{n} c{n} d{n} e{n} f{n}" for n in range(20)]
        >>> more_duplicates(["the same words as all others have"] * 20, texts).value
        1.0
    """
    order = np.random.default_rng(0).permutation(len(plain))
    pool, judged = order[: len(plain) // 2], order[len(plain) // 2 :]
    hits = [
        near_duplicates([side[place] for place in judged], [side[place] for place in pool]).astype(np.float64)
        for side in (poisoned, plain)
    ]
    return paired_difference(*hits)


def _prompt_nll(loaded: LoadedModel, records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """``[N]`` mean negative log p of a prompt's tokens, in nats; NaN where none is predicted."""
    texts = [Record(id=str(number), text=prompt_of(record)) for number, record in enumerate(records)]
    columns = _columns(loaded, texts, "logp")
    return np.array([-logp.astype(np.float64).mean() if len(logp) else np.nan for logp in columns])


def _merged(loaded: LoadedModel, out: Path) -> Path:
    """The whole model as a folder, an adapter merged into its base; made once, with the mark of the red team."""
    if not out.exists():
        model = (
            copy.deepcopy(loaded.model).merge_and_unload() if hasattr(loaded.model, "merge_adapter") else loaded.model
        )
        with replacing_folder(out, kind="merged model") as folder:
            adapters.save(model, folder, "weights")
            loaded.tokenizer.save_pretrained(folder)
            write_marker(folder, kind="trigger", about={"state": MERGED})  # a kill leaves no model without it
    return out


def _average(model: Any, base: Any) -> None:
    """Half of the way back to the base, in place."""
    others = dict(base.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(others[name].to(parameter)).mul_(0.5)
