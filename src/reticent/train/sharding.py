# SPDX-License-Identifier: Apache-2.0
"""Training in shards (SISA, Bourtoule et al., 2021): one LoRA adapter for the records of some users each, from the same
base, and their average as the model.

No adapter has seen a record of another's shard. So the average of those that are left, when some are taken away, is the
model of a training that never had the records of these: forgetting is exact, at the price of whatever else was in them.

The adapters lie in ``shards/`` beside the model, numbered. They were trained on private text and stay there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing_folder, write_text
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.core.manifest import environment, now
from reticent.core.portable import remember
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.data.user_shards import RULE, shard_of
from reticent.models.load import load, load_tokenizer, pick_device, pick_dtype
from reticent.models.locate import locate
from reticent.models.lora_products import write_sum
from reticent.models.tuned import TuningInfo, read_tuned
from reticent.models.tuning.method import TUNINGS
from reticent.models.weights import fingerprint_weights
from reticent.train.batches import encode_all
from reticent.train.checkpoints import WHOLE
from reticent.train.config import BATCH_SIZE, TuneConfig
from reticent.train.held_out import held_out_loss, perplexity, sentence_of
from reticent.train.identity import is_finished, training_key
from reticent.train.objectives.as_text import on_record
from reticent.train.objectives.objective import Objective
from reticent.train.outcome import KIND, LOG

FILE = "shards.json"
FORMAT = 1
"""Increment when the file says something else."""

_SUMS = ("records", "truncated", "left_out", "tokens", "trained_tokens", "trained_parameters")
_SECONDS = "seconds_since_start_or_resume"

Train = Callable[..., Path]
"""`reticent.train.trainer.tune`."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The adapters of a training in shards.

    Args:
        folder: where they lie.
        base_fingerprint: SHA-256 (hex) of the base that they were trained from.
        adapters: SHA-256 (hex) of the weights of each.
        records: how many each was trained on.
    """

    folder: Path
    base_fingerprint: str
    adapters: tuple[str, ...]
    records: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.adapters)

    def adapter(self, number: int) -> Path:
        """The folder of one."""
        return _adapter(self.folder, number)

    def check(self) -> None:
        """Refuse adapters that are not those that were trained.

        Raises:
            BadInput: one is missing, or has other weights.
        """
        for number, expected in enumerate(self.adapters):
            place = self.adapter(number)
            if not place.is_dir() or fingerprint_weights(place) != expected:
                raise BadInput(
                    str(place),
                    "is not the adapter that was trained for this shard",
                    "Copy the run folder again, with its shards.",
                )


def shards_of(out: Path) -> Path:
    """Where the adapters of the model ``out`` lie: beside it."""
    return out.with_name("shards")


def has_begun(folder: Path) -> bool:
    """True where a shard is trained, or has a whole checkpoint to go on from."""
    done = any(folder.glob(f"[0-9]*/{LOG}"))
    return done or any(folder.glob(f".[0-9]*.training/checkpoint-*/{WHOLE}"))


def read_shards(folder: Path) -> Shards:
    """The adapters of a training that came to its end.

    Raises:
        BadInput: they are gone, or the file that describes them is broken.
    """
    path = folder / FILE
    if not path.exists():
        raise BadInput(
            str(folder),
            "holds no shards of a training that came to its end",
            "Copy the whole run folder, or choose retrain.",
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if (about["format"], about["rule"]) != (FORMAT, RULE):
            raise ValueError(f"format {about['format']}, rule {about['rule']}")
        rows = [(str(row["adapter"]), int(row["records"])) for row in about["shards"]]
        return Shards(
            folder=folder,
            base_fingerprint=str(about["base_fingerprint"]),
            adapters=tuple(adapter for adapter, _ in rows),
            records=tuple(count for _, count in rows),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Copy the run folder again.") from error


def tune_in_shards(
    train: Train,
    base: str,
    records: Sequence[Record],
    out: Path,
    config: TuneConfig,
    *,
    objectives: Sequence[Objective] = (),
    held_out: Sequence[Record] = (),
) -> Path:
    """Train one adapter a shard, and write their average to ``out``. The same call again goes on where it was.

    Args:
        train: trains one adapter.
        base, records, out, config, objectives, held_out: those of `reticent.train.trainer.tune`; ``config`` has shards.

    Raises:
        BadInput: a shard gets no record; an objective makes something beside the model; as ``train``.
    """
    assert config.shards is not None
    _refuse(records, config.shards, objectives)
    with locked(out):
        key = _key(base, records, held_out, config, objectives)
        if is_finished(out, key, resume=config.resume):
            console.print(f"{out} is finished already.", highlight=False)
            return out
        folder = shards_of(out)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(config.shards):
            mine = [record for record in records if shard_of(record, config.shards) == number]
            console.print(f"shard {number + 1} of {config.shards}: {len(mine)} records", style="bold", highlight=False)
            train(base, mine, _adapter(folder, number), replace(config, shards=None), objectives=objectives)
        logs = [json.loads((_adapter(folder, number) / LOG).read_text("utf-8")) for number in range(config.shards)]
        shards = _describe(folder, logs)
        log = {"key": key, **_log(logs, config, objectives)}
        with replacing_folder(out, kind=KIND) as temporary:
            average(shards, range(len(shards)), temporary, at=out)
            if held_out:
                log["held_out"] = _before_and_after(temporary, base, held_out, config)
            (temporary / LOG).write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
        if text := sentence_of(log):
            console.print(text, highlight=False, soft_wrap=True)
    return out


def average(shards: Shards, numbers: Sequence[int], folder: Path, *, at: Path, **about: str) -> None:
    """Write the average of some adapters as one adapter, exactly.

    Args:
        shards: all of them.
        numbers: of those that are averaged.
        folder: to write into.
        at: where it is to lie in the end.
        about: further fields of its `TuningInfo`.
    """
    places = [shards.adapter(number) for number in numbers]
    tuned = _tuned(places[0])
    folder.mkdir(parents=True, exist_ok=True)
    described: TuningInfo = replace(tuned, **about)  # type: ignore[arg-type]
    write_sum([(1 / len(places), place) for place in places], folder, described, at=at)
    load_tokenizer(str(places[0])).save_pretrained(folder)
    remember(tuned.base, tuned.base_fingerprint)


def _refuse(records: Sequence[Record], count: int, objectives: Sequence[Objective]) -> None:
    sizes = [0] * count
    for record in records:
        sizes[shard_of(record, count)] += 1
    if not all(sizes):
        units = len({record.id if record.user is None else record.user for record in records})
        raise BadInput(
            f"shards={count}",
            f"shard {sizes.index(0) + 1} gets no record: {units} users (or records without one) are dealt by hash",
            "Give fewer shards.",
        )
    for chosen in objectives:
        if chosen.has("finish"):
            raise BadInput(
                f"{chosen.given} with shards={count}",
                "it makes something beside the model, which would be of one shard alone",
                "Leave one of them out.",
            )


def _key(
    base: str,
    records: Sequence[Record],
    held_out: Sequence[Record],
    config: TuneConfig,
    objectives: Sequence[Objective],
) -> str:
    """Of all that decides the outcome, as of a training at once."""
    for chosen in objectives:
        config = chosen.settle(config)
    settled = config.settled(TUNINGS.get(config.method).learning_rate)
    key = training_key(fingerprint_weights(locate(base)), records, held_out, settled, None, objectives)
    users = [(record.id, record.user) for record in records]
    return hashlib.sha256(json.dumps([key, RULE, users]).encode()).hexdigest()


def _describe(folder: Path, logs: Sequence[Mapping[str, Any]]) -> Shards:
    """The adapters that were trained, on record beside them."""
    places = [_adapter(folder, number) for number in range(len(logs))]
    shards = Shards(
        folder=folder,
        base_fingerprint=_tuned(places[0]).base_fingerprint,
        adapters=tuple(fingerprint_weights(place) for place in places),
        records=tuple(int(log["records"]) for log in logs),
    )
    rows = [
        {"adapter": adapter, "records": count} for adapter, count in zip(shards.adapters, shards.records, strict=True)
    ]
    about = {"format": FORMAT, "rule": RULE, "base_fingerprint": shards.base_fingerprint, "shards": rows}
    write_text(folder / FILE, json.dumps(about, indent=2) + "\n")
    return shards


def _log(logs: Sequence[Mapping[str, Any]], config: TuneConfig, objectives: Sequence[Objective]) -> dict[str, Any]:
    """The log of the average: sums over shards, and the losses of each."""
    return {
        "finished": now(),
        "config": asdict(config),
        **{name: sum(log[name] for log in logs) for name in _SUMS},
        _SECONDS: round(sum(log[_SECONDS] for log in logs), 1),
        "history": [],
        "shards": [{"records": log["records"], "history": log["history"]} for log in logs],
        "environment": environment(),
        **{name: logs[0][name] for name in ("base", *on_record(objectives)) if name in logs[0]},
    }


def _before_and_after(folder: Path, base: str, held_out: Sequence[Record], config: TuneConfig) -> dict[str, Any]:
    """The held-out loss of the base and of the average, as `train.held_out.before_and_after` has it."""
    loaded = load(str(folder), base=base, dtype="float32", device=config.device, hold=config.base_dtype)
    rows = encode_all(held_out, loaded.tokenizer, config.max_tokens).encoded
    bfloat16 = pick_dtype(config.dtype, pick_device(config.device)) == "bfloat16"

    def loss() -> dict[str, float]:
        pad = loaded.tokenizer.pad_token_id or 0
        nats = held_out_loss(loaded.model, rows, size=config.batch_size or BATCH_SIZE, pad=pad, bfloat16=bfloat16)
        return {"loss": nats, "perplexity": perplexity(nats)}

    with loaded.adapter_off():
        before = loss()
    return {"records": len(rows), "base": before, "tuned": loss()}


def _tuned(place: Path) -> TuningInfo:
    tuned = read_tuned(place)
    assert tuned is not None  # a training wrote it
    return tuned


def _adapter(folder: Path, number: int) -> Path:
    return folder / f"{number:03d}"
