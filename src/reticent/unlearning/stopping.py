# SPDX-License-Identifier: Apache-2.0
"""Ends an unlearning by a panel of texts, and puts back the weights of the look that was nearest to the aim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.core.atomic import replacing, write_text
from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.table import TokenTable
from reticent.train.loop import TrainingEnded
from reticent.unlearning.looks import Look, LookPlan, PanelNumbers, look_at, nearest_in_budget
from reticent.unlearning.steering_panel import UnlearningPanel, attack_scores, table_of

WEIGHTS = "weights_at_{step}.safetensors"


class NothingKept(BadInput):
    """The first look after a step already showed that too much was lost."""


class PanelStopping(TrainerCallback):  # type: ignore[misc]
    """Looks at a panel before the first step and after every so many, and ends the training once that is enough.

    A look and the weights at it are on disk before training goes on, so a training that is killed and gone on with
    makes the same looks and keeps the same weights as one that was not.

    Args:
        panel: what is looked at.
        base: what the model before tuning says of the panel's texts.
        plan: fixed before the first look.
        folder: of the weights that are kept, such as that of the checkpoints.
        file: of the looks.
        every: steps between looks; 0 for one after each epoch.
        dtype: what looks compute in.
    """

    def __init__(
        self,
        panel: UnlearningPanel,
        base: TokenTable,
        plan: LookPlan,
        *,
        folder: Path,
        file: Path,
        every: int,
        dtype: str,
    ) -> None:
        self.panel, self.base, self.plan = panel, base, plan
        self.folder, self.file = folder, file
        self.every, self.dtype = every, dtype
        self.looks: list[Look] = []

    @property
    def kept(self) -> int:
        """The step whose weights are kept, 0 for none."""
        return nearest_in_budget(self.looks)

    @property
    def ended(self) -> bool:
        """True where the last look says that training ends: it is enough, the aim was passed, or too much was lost."""
        last = self.looks[-1]
        return len(self.looks) > 1 and (last.is_enough or last.is_past or not last.in_budget)

    # ---- when ------------------------------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.looks = self._looks_until(state.global_step) if state.global_step else []
        if not self.looks:
            self._look(0, kwargs["model"])
        if self.ended:
            self._put_back(kwargs["model"], state.global_step)
            raise TrainingEnded(f"after {state.global_step} steps")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.every and state.global_step % self.every == 0:
            self._step(state, control, kwargs["model"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.every:
            self._step(state, control, kwargs["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.looks[-1].step != state.global_step:
            self._look(state.global_step, kwargs["model"])
        self._put_back(kwargs["model"], state.global_step)

    # ---- what ------------------------------------------------------------------------------------------------------

    def _step(self, state: TrainerState, control: TrainerControl, model: Any) -> None:
        if self.looks[-1].step != state.global_step:
            self._look(state.global_step, model)
        if self.ended:
            control.should_training_stop = True

    def _look(self, step: int, model: Any) -> None:
        table = table_of(model, self.panel.rows, self.dtype)
        numbers = PanelNumbers(
            scores=attack_scores(table, self.base),
            nll=-table.sum(table["logp"]),
            tokens=table.lengths.astype(float),
            side=self.panel.side,
            user=self.panel.user,
        )
        look = look_at(numbers, self.plan, step=step, first=self.looks[0] if self.looks else None)
        self.looks.append(look)
        if step and self.kept == step:
            self._keep(step, model)
        write_text(self.file, json.dumps([encode(look) for look in self.looks], indent=2) + "\n")
        console.print(sentence_of(look, self.looks[0]), highlight=False, soft_wrap=True)

    def _looks_until(self, step: int) -> list[Look]:
        """The looks of the training that is gone on with at ``step``.

        Raises:
            BadInput: they, or the weights of the step to go back to, are not there any more.
        """
        looks = [look for look in read_looks(self.file) if look.step <= step]
        kept = nearest_in_budget(looks)
        needed = self.file if not looks or looks[0].step else self._weights(kept)
        if needed == self.file or (kept not in (0, step) and not needed.exists()):
            raise BadInput(
                str(needed),
                f"is missing or not whole, and the unlearning that goes on at step {step} needs it",
                "Start over (--resume false), or unlearn in a new folder.",
            )
        return looks

    def _keep(self, step: int, model: Any) -> None:
        """Write the trained weights, and take away those of earlier steps but for the step kept so far: a training
        that is killed before its next checkpoint goes on from there."""
        weights = {name: weight.detach().cpu().contiguous() for name, weight in _trained(model)}
        path = self._weights(step)
        with replacing(path) as temporary:
            save_file(weights, temporary)
        needed = {path, self._weights(nearest_in_budget(self.looks[:-1]))}
        for earlier in self.folder.glob(WEIGHTS.format(step="*")):
            if earlier not in needed:
                earlier.unlink(missing_ok=True)

    def _weights(self, step: int) -> Path:
        return self.folder / WEIGHTS.format(step=step)

    def _put_back(self, model: Any, step: int) -> None:
        """Give the model the weights of the step that is kept.

        Raises:
            NothingKept: there is none.
        """
        kept = self.kept
        if not kept:
            lost = risen(self.looks[-1], self.looks[0])
            raise NothingKept(
                f"retain_budget={self.plan.budget:g}",
                f"broke before any look: at step {self.looks[-1].step} the retain loss had risen by {lost:.1%} of what "
                "unseen texts cost, so nothing is kept",
                "Give a lower --learning_rate, look more often (--every), or allow more (--retain_budget).",
            )
        if kept == step:
            return
        stored = load_file(self._weights(kept))
        for name, weight in _trained(model):
            weight.data.copy_(stored[name])


def read_looks(path: Path) -> list[Look]:
    """The looks that were made so far; none where there is no file.

    Raises:
        BadInput: the file is broken.
    """
    if not path.exists():
        return []
    try:
        return [decode(Look, look) for look in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(str(path), "is broken", "Unlearn again in a new folder.") from error


def sentence_of(look: Look, first: Look) -> str:
    """A look in one line."""
    aucs = ", ".join(f"{name} {auc.value:.3f} [{auc.lo:.3f}, {auc.hi:.3f}]" for name, auc in look.aucs.items())
    holds = {"like unseen": look.like_unseen, "loss in the band": look.in_band, "retain budget kept": look.in_budget}
    marks = ", ".join(f"{name}: {'yes' if held else 'no'}" for name, held in holds.items())
    return (
        f"step {look.step}: AUC forget against unseen {aucs}; loss {look.forget_loss:.3f} against "
        f"{look.unseen_loss:.3f}, retain {look.retain_loss.value:.3f} ({risen(look, first):+.1%} of what unseen texts "
        f"cost); {marks}"
    )


def risen(look: Look, first: Look) -> float:
    """By how much the retain loss has risen, as a share of the loss of unseen texts before the first step."""
    return (look.retain_loss.value - first.retain_loss.value) / first.unseen_loss


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
