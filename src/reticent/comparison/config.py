# SPDX-License-Identifier: Apache-2.0
"""The settings of a comparison. No torch, so that command lines can show their help at once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.train.config import DTYPES

JOIN = "join"
"""In place of a number of jobs: all hands that start the same comparison share its trainings."""
RAY = "ray"
"""In place of a number of jobs: a Ray cluster trains; with a number behind it, as in ``ray:4``, so many at once."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Methods, defences, scale and pace of a comparison.

    Args:
        preset: a whole study (memorization-study, user-inference, privacy-utility, stand-ins); flags beside it win.
        methods: tuning methods, with hyper-parameters behind colons: full,head,adapter:reduction_factor=2,lora:r=8.
        learning_rates: for all methods, 1e-4,3e-4; left out, a third of each method's own, its own, and three times it.
        lr_scheduler_types: how the learning rate goes on from its peak, for all methods, linear,constant; names as in
            reticent tune. Left out, linear, which falls to zero.
        seeds: of the trainings; two at least, or no ranking is made.
        defences: none, goldfish, label_smoothing, loss_floor, margin, dropout, dedup_users, clip_examples, clip_batch,
            no_clip_batch, stop_early, stop_at_ngrams, cap1, cap2, cap5, cap10, epsilon1, epsilon3, epsilon8 (and
            user_epsilon8 …), canary_words5, canary_words10, scrub, synthetic_none, synthetic_dp_tune8,
            synthetic_evolution8, synthetic_prediction8 (and user_synthetic_dp_tune1 …), emulate0.3, emulate1, emulate2;
            or a training objective with its settings, goldfish(k=3).
        epochs: how often each record is seen.
        max_tokens: records are cut off behind this many tokens.
        batch_size: records in an optimizer step; left out, 8, and in private training an eighth of the units.
        every: look at the panel every so many steps; left out, after each epoch.
        panel: records a side that are looked at, the same for all trainings.
        jobs: trainings at the same time, each with its share of the cores; left out, a quarter of the cores. join
            shares them with all who start this same command on one file system, ray or ray:4 with a Ray cluster.
        keep_models: keep each training's weights instead of deleting them when it is done.
        small_base: for emulate1 and its like: a smaller model of the same tokenizer, which is tuned in place of the
            model and steers it.
        dtype: what is computed in, as in reticent tune.
        device: as in reticent tune.
    """

    preset: str | None = None
    methods: str | None = None
    learning_rates: str | None = None
    lr_scheduler_types: str | None = None
    seeds: str | None = None
    defences: str | None = None
    epochs: int | None = None
    max_tokens: int = 128
    batch_size: int | None = None
    every: int | None = None
    panel: int = 256
    jobs: int | str | None = None
    keep_models: bool = False
    small_base: str = ""
    dtype: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        validate.positive(max_tokens=self.max_tokens, panel=self.panel)
        validate.device(device=self.device)
        validate.one_of(DTYPES, dtype=self.dtype)
        for name in ("epochs", "batch_size", "every"):
            if getattr(self, name) is not None:
                validate.positive(**{name: getattr(self, name)})
        check_jobs(self.jobs)


def check_jobs(jobs: int | str | None) -> None:
    """Refuse what says neither how many trainings go on at once nor who does them.

    Raises:
        BadInput: it does not.

    Examples:
        >>> for jobs in (None, 2, "join", "ray", "ray:4"):
        ...     check_jobs(jobs)
    """
    if jobs is None or jobs == JOIN:
        return
    if not isinstance(jobs, str):
        validate.positive(jobs=jobs)
    elif not re.fullmatch(rf"{RAY}(:[1-9][0-9]{{0,3}})?", jobs):
        raise BadInput(
            f"jobs={jobs[:40]!r}", "is no number, and neither join nor ray", "Give --jobs 2, --jobs join or --jobs ray."
        )


def numbers(text: str, name: str) -> tuple[float, ...]:
    """Distinct numbers of a list such as ``1e-4,3e-4``.

    Raises:
        BadInput: it is no such list.
    """
    try:
        values = tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        values = ()
    if not values or len(set(values)) < len(values):
        raise BadInput(f"{name}={text!r}", "is no list of distinct numbers", "Separate them by commas.")
    return values
