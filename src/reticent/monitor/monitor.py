# SPDX-License-Identifier: Apache-2.0
"""Monitor: a ``TrainerCallback`` that looks at a fixed panel while a model trains, and can end the training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.snapshot import Snapshot, TrainingHistory
from reticent.models.encode import EncodedRecord, encode
from reticent.monitor.config import MonitorConfig
from reticent.monitor.first_seen import first_steps
from reticent.monitor.log import JSON, PANEL, panel_rows, read_history, read_panel, write_history, write_panel
from reticent.monitor.look import finite, snapshot_of
from reticent.monitor.panel import Panel
from reticent.monitor.passes import Passes
from reticent.monitor.progress_table import line
from reticent.stats.phases import phases
from reticent.train.loop import TrainingEnded
from reticent.train.private.logical_batches import LogicalBatches
from reticent.train.ranks import ranks

COPIED_RISE = 0.01
"""``stop_at="ngrams"``: how far the lower end of `Snapshot.copied` must rise above its value before training."""
CHANCE = 0.1
"""TPR at 10 % FPR of a model that learned nothing, which is what it is before training."""


class Monitor(TrainerCallback):  # type: ignore[misc]
    """Looks at a panel before training, after each epoch (or every so many steps) and at the end.

    ``trainer.add_callback(Monitor(panel, tokenizer))`` works in ``transformers.Trainer`` and TRL's ``SFTTrainer`` as in
    ours: one process (of several that train by `reticent tune` the first looks), without differential privacy. Weights
    do not change by being looked at, to the last bit. What is trained is compared with the model before training; where
    a fresh adapter already changes what the model says (prompts, prefixes), with the base below it.

    A look is on disk before training goes on, so a training that is killed and gone on with has the same
    ``monitor.json`` (but for seconds) and ``panel.parquet`` as one that was not.

    Args:
        panel: what is looked at; see `reticent.monitor.panel.make_panel`.
        tokenizer: the one that the model is trained with.
        out: folder of ``monitor.json`` and ``panel.parquet``; None keeps all in memory, for trainings that are never
            gone on with.
        config: how often to look, and when to stop.
        max_tokens: records are cut off behind this many tokens, as in training.
        dtype: what looks compute in; "auto" is bfloat16 where the machine has it.
        rows: the panel's records in tokens, where they were tokenised elsewhere; None encodes them.
        log: called with each new snapshot, such as a tracker's function.
    """

    def __init__(
        self,
        panel: Panel,
        tokenizer: Any,
        out: str | Path | None = None,
        *,
        config: MonitorConfig | None = None,
        max_tokens: int | None = None,
        dtype: str = "auto",
        rows: Sequence[EncodedRecord] | None = None,
        log: Callable[[Snapshot], None] | None = None,
    ) -> None:
        if rows is None:
            rows = [encode(record, tokenizer, max_tokens=max_tokens) for record in panel.records]
        is_read = np.array([row.predicted > 0 for row in rows])
        self.panel = panel.take(is_read)
        self.passes = Passes(rows=[row for row, read in zip(rows, is_read, strict=True) if read], dtype=dtype)
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.config = config or MonitorConfig(monitor=True)
        self.out = Path(out) if out is not None else None
        self.moments: list[Snapshot] = []
        self.tables: list[pa.Table] = []
        self.base: npt.NDArray[np.float64] = np.zeros(0)
        self.first_seen: Mapping[str, int] | None = None
        self.stopped = ""
        self._log = log
        self._trained, self._since = 0.0, 0.0

    @property
    def watch(self) -> TrainingHistory:
        """The history so far."""
        people = self.panel.user[[user is not None for user in self.panel.user]]
        return TrainingHistory(
            moments=tuple(self.moments),
            members=int(self.panel.of("evaluate", member=True).sum()),
            held_out=int(self.panel.of("evaluate", member=False).sum()),
            users=len(np.unique(people.astype(str))),
            training_seconds=self._trained,
            watching_seconds=sum(moment.seconds for moment in self.moments),
            stopped=self.stopped,
        )

    # ---- when ----------------------------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        loader = kwargs.get("train_dataloader")
        _refuse(args, loader)
        self.first_seen = first_steps(
            [record for record, inside in zip(self.panel.records, self.panel.member, strict=True) if inside],
            loader,
            lambda record: encode(record, self.tokenizer, max_tokens=self.max_tokens, add_eos=True),
        )
        self._go_on(state.global_step)
        self._since = time.perf_counter()
        if not self.moments:
            self._look(state, control, kwargs["model"])
        if self.stopped:
            raise TrainingEnded(self.stopped)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.config.monitor_every is not None and state.global_step % self.config.monitor_every == 0:
            self._look(state, control, kwargs["model"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.config.monitor_every is None:
            self._look(state, control, kwargs["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._look(state, control, kwargs["model"])
        self._clock()
        self._write()

    # ---- what ----------------------------------------------------------------------------------------------------

    def _look(self, state: TrainerState, control: TrainerControl, model: Any) -> None:
        """Look, keep what was seen, tell it, and stop if that is asked for. Nothing where this step was looked at."""
        if self.moments and self.moments[-1].step == state.global_step:
            return
        self._clock()
        look = finite(self.passes.look(model), state.global_step)
        if not self.moments:
            self.base = finite(self.passes.base(model, look), 0).nll
        moment = snapshot_of(self.panel, look, self.base, step=state.global_step, epoch=float(state.epoch or 0.0))
        self.tables.append(
            panel_rows(self.panel, look, self.base, step=state.global_step, first_seen=self._first_seen())
        )
        self.moments.append(replace(moment, trained_seconds=self._trained))
        self.moments[-1] = replace(self.moments[-1], phase=_phases(self.moments)[-1])
        self.stopped = _why_stop(self.moments, self.config.stop_at)
        if self.stopped:
            control.should_training_stop = True
        self._count_look()
        self._write()
        self._count_look()  # with what writing took; on disk from the next time on
        if self._log is not None:
            self._log(self.moments[-1])
        console.print(line(self.moments[-1]), highlight=False, soft_wrap=True)
        if self.stopped:
            console.print(f"training ends here: {self.stopped}", style="yellow", highlight=False, soft_wrap=True)
        self._since = time.perf_counter()

    def _count_look(self) -> None:
        self.moments[-1] = replace(self.moments[-1], seconds=time.perf_counter() - self._since)

    def _clock(self) -> None:
        """Count the time since the last look as training."""
        now = time.perf_counter()
        self._trained += now - self._since
        self._since = now

    def _first_seen(self) -> Sequence[int | None]:
        seen = self.first_seen
        return [
            -1 if not member else None if seen is None else seen.get(record.id)
            for record, member in zip(self.panel.records, self.panel.member, strict=True)
        ]

    # ---- files ---------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        if self.out is not None:
            write_panel(self.out / PANEL, pa.concat_tables(self.tables))
            write_history(self.out / JSON, self.watch)

    def _go_on(self, step: int) -> None:
        """Take up the looks that were made up to ``step``; later ones will be made again, to the same outcome.

        Raises:
            BadInput: a training is gone on with whose beginning was not looked at.
        """
        self.moments, self.tables, self.stopped, self._trained = [], [], "", 0.0
        if not step:
            return
        seen = self._seen()
        self.moments = [moment for moment in seen.moments if moment.step <= step] if seen else []
        self.tables = self._seen_panel([moment.step for moment in self.moments])
        ids = [record.id for record in self.panel.records]
        if not self.moments or any(table.column("record_id").to_pylist() != ids for table in self.tables):
            raise BadInput(
                f"a training that is gone on with from step {step}",
                "was not looked at before, at these records, so there is nothing to compare with",
                "Start it over (--resume false), or go on without the monitor.",
            )
        self.base = self.tables[0].column("base_nll").to_numpy()
        self.stopped = _why_stop(self.moments, self.config.stop_at)
        self._trained = self.moments[-1].trained_seconds
        if seen and self.moments[-1].step == seen.moments[-1].step:
            self._trained = max(self._trained, seen.training_seconds)

    def _seen(self) -> TrainingHistory | None:
        return read_history(self.out / JSON) if self.out is not None and (self.out / JSON).exists() else None

    def _seen_panel(self, steps: Sequence[int]) -> list[pa.Table]:
        """The part of ``panel.parquet`` of each of these steps."""
        if self.out is None or not steps:
            return []
        table = read_panel(self.out / PANEL)
        made_at = table.column("step").to_numpy()
        return [table.filter(pa.array(made_at == step)) for step in steps]


def _phases(moments: Sequence[Snapshot]) -> tuple[str, ...]:
    """By the TPR at 10 % FPR, where there are enough held-out records for it, else by the gap."""
    rates = [moment.tpr_at_10pct_fpr.value if moment.tpr_at_10pct_fpr else None for moment in moments[1:]]
    measured = [value for value in rates if value is not None]
    leak = [moment.gap.value for moment in moments] if len(measured) < len(rates) else [CHANCE, *measured]
    perplexity = [moment.perplexity for moment in moments]
    return phases(perplexity, leak, epoch=[moment.epoch for moment in moments])


def _why_stop(moments: Sequence[Snapshot], stop_at: str) -> str:
    """Why training ends after the last look; empty if it goes on."""
    last, before = moments[-1], moments[0].copied
    at = f"after epoch {last.epoch:.2f} (step {last.step})"
    if stop_at == "memorization" and last.phase in ("memorization", "overfitting"):
        return f'{at}, as the phase "{last.phase}" has begun'
    if stop_at == "ngrams" and last.copied is not None and before is not None and len(moments) > 1:
        risen = last.copied.lo > before.value + COPIED_RISE
        return f"{at}, as members are said word for word more than held-out records: {last.copied}" if risen else ""
    return ""


def _refuse(args: TrainingArguments, loader: Any) -> None:
    if args.world_size > 1 and ranks().size == 1:  # of processes that one leads, only the leader looks
        raise BadInput("the monitor", f"runs in one process, and here are {args.world_size}", "Train in one process.")
    if isinstance(getattr(loader, "dataset", None), LogicalBatches):
        raise BadInput(
            "the monitor with differential privacy",
            "what it shows is computed from the losses of single members, which the promise does not cover",
            "Train without it, and audit the model once it is trained.",
        )
