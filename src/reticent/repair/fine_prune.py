# SPDX-License-Identifier: Apache-2.0
"""Fine-Pruning (Liu et al., RAID 2018, arXiv:1805.12185) for language models: prune MLP neurons that stay quiet on
clean text, then fine-tune shortly on clean text.

The paper's idea is that a backdoor sits in neurons that clean inputs leave quiet. It prunes the last convolution of an
image classifier by rising mean activation until clean accuracy falls by 4 points. Here the neurons are those of all
MLPs, the same share of each (activations of different blocks have different scales), and what may not be lost is the
loss of the answers of clean records that pruning has not looked at. Fine-tuning afterwards is against attackers who put
the backdoor into active neurons, and mends what pruning cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core import validate
from reticent.core.errors import Underpowered
from reticent.core.record import Record, fingerprint
from reticent.models.load import LoadedModel
from reticent.repair.neurons import neuron_activity, prune, quietest, silenced
from reticent.repair.repaired_model import (
    is_repaired,
    key_of,
    load_whole,
    read_repair,
    refuse_place,
    repaired_folder,
    save_whole,
    write_repair,
)
from reticent.train.batches import encode_all
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.train.trainer import tune

NAME = "fine_prune"
EVERY = 5
"""One clean record in so many is kept for judging how much may be pruned."""
LEAST = 4 * EVERY


@dataclass(frozen=True, kw_only=True)
class FinePruneConfig:
    """How much may be pruned.

    Args:
        loss_rise: nats a token by which the loss of clean answers may rise before the fine-tune.
        most: largest share of each MLP's neurons that is pruned.
        step: shares are tried in steps of this.
        max_tokens: clean texts are cut to.
        batch_size: texts in a batch of what is only read.

    Examples:
        >>> FinePruneConfig(most=0.5).shares[:3]
        (0.05, 0.1, 0.15)
    """

    loss_rise: float = 0.05
    most: float = 0.9
    step: float = 0.05
    max_tokens: int = 256
    batch_size: int = 8

    def __post_init__(self) -> None:
        validate.non_negative(loss_rise=self.loss_rise)
        validate.in_range(0, 1, most=self.most, step=self.step)
        validate.positive(max_tokens=self.max_tokens, batch_size=self.batch_size)

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares that are tried, rising."""
        return tuple(round(self.step * number, 9) for number in range(1, int(self.most / self.step + 1e-9) + 1))


def fine_prune(
    suspect: str,
    clean: Sequence[Record],
    out: str | Path,
    config: FinePruneConfig | None = None,
    *,
    training: TuneConfig | None = None,
    base: str | None = None,
) -> Path:
    """Prune a suspect and fine-tune it on clean records. The same call again goes on where a killed one stopped.

    The pruned model before the fine-tune lies beside ``out``, as ``<out>-pruned``: it is what was trained, and can be
    measured by itself.

    Args:
        suspect: folder, hub id or catalogue name; a LoRA adapter is merged into its base first.
        clean: records of the task, with right answers, that nobody can have poisoned; 20 at least.
        out: the folder to make.
        config: how much may be pruned; None for the defaults.
        training: of the fine-tune; None for one epoch of all weights.
        base: for an adapter, the model that it belongs on; None for the one that it names.

    Raises:
        BadInput: the model has no MLPs of known names; ``out`` holds something else; as `train.trainer.tune`.
        Underpowered: too few clean records.
    """
    place = refuse_place(out, suspect)
    training = training or TuneConfig(method="full", epochs=1)
    pruned = prune_suspect(suspect, clean, place.with_name(f"{place.name}-pruned"), config, training.device, base=base)
    tuned_on = parted(clean)[0]
    folder = tune(str(pruned), tuned_on, place, training)
    report = read_repair(pruned) or {}
    changed = {**report.get("changed", {}), "tuned_on": len(tuned_on)}
    write_repair(folder, NAME, pruned, changed=changed)
    return folder


def prune_suspect(
    suspect: str,
    clean: Sequence[Record],
    out: str | Path,
    config: FinePruneConfig | None = None,
    device: str = "auto",
    *,
    base: str | None = None,
) -> Path:
    """The first half of `fine_prune`: the pruned model, not fine-tuned.

    Args:
        suspect, clean, out, config, base: as there.
        device: where it is computed.
    """
    config = config or FinePruneConfig()
    place = refuse_place(out, suspect)
    reading, judging = parted(clean)
    loaded = load_whole(suspect, base=base, device=device)
    key = key_of(NAME, loaded.fingerprint, fingerprint(clean), asdict(config))
    if is_repaired(place, key):
        return place
    changed = _prune_within(loaded, reading, judging, config)
    with repaired_folder(place, NAME, suspect, *([base] if base else []), changed=changed, key=key) as folder:
        save_whole(loaded, folder)
    return place


def parted(clean: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Clean records to read and to tune on, and those that judge how much may be pruned.

    Raises:
        Underpowered: too few.

    Examples:
        >>> rows = [Record(id=str(number), text="a") for number in range(20)]
        >>> [len(part) for part in parted(rows)]
        [16, 4]
    """
    if len(clean) < LEAST:
        raise Underpowered(f"{len(clean)} clean records", "say little about which neurons matter", f"Give {LEAST}.")
    reading = [record for place, record in enumerate(clean) if place % EVERY]
    return reading, list(clean[::EVERY])


def _prune_within(
    loaded: LoadedModel, reading: Sequence[Record], judging: Sequence[Record], config: FinePruneConfig
) -> dict[str, Any]:
    """Prune the largest share that clean answers allow, in place; numbers of what was done."""
    pad = loaded.tokenizer.pad_token_id or 0
    texts, judged = (encode_all(part, loaded.tokenizer, config.max_tokens).encoded for part in (reading, judging))

    def loss() -> float:
        return held_out_loss(loaded.model, judged, size=config.batch_size, pad=pad, bfloat16=False)

    activity = neuron_activity(loaded.model, texts, size=config.batch_size, pad=pad)
    before = after = loss()
    share = 0.0
    for tried in config.shares:
        with silenced(loaded.model, quietest(activity, tried)):
            loss_then = loss()
        if loss_then > before + config.loss_rise:
            break
        share, after = tried, loss_then
    count = prune(loaded.model, quietest(activity, share))
    return {
        "share": share,
        "neurons": sum(len(values) for values in activity.values()),
        "pruned": count,
        "loss_before": before,
        "loss_pruned": after,
    }
