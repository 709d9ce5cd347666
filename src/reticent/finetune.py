# SPDX-License-Identifier: Apache-2.0
"""From private text to a fine-tuned model with recorded coins: split, plant canaries, train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core import validate
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.membership import Membership
from reticent.core.record import Record, fingerprint, write_records
from reticent.data.canaries import Planting, plant, plant_users, write_canaries
from reticent.data.split import split
from reticent.intake import without_copies, write_rejects
from reticent.run_folder import RunFolder
from reticent.train.config import TuneConfig


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How coins decide who is trained on.

    Args:
        unit: "user" throws a coin for each user and then one for each record of the users that are in; "record" one for
            each record; "auto" means "user" where there are users.
        probability: chance that a unit is in.
        train_fraction: with unit "user", the chance that a record of a user who is in is trained on; the others are the
            fresh texts that user inference attacks with.
        known_fraction: share of records set aside as what an attacker knows; never evaluated.
        split_seed: seed of the coins.
    """

    unit: str = "auto"
    probability: float = 0.5
    train_fraction: float = 0.5
    known_fraction: float = 0.1
    split_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """Secrets to plant into the training data, to measure how well the model can be made to tell them.

    Args:
        canaries: how many secrets get a coin each (about half are planted); 0 plants none. Do not ship a model that was
            trained with canaries.
        canary_kind: which kind of secret.
        canary_controls: how many further secrets are never planted and only serve to rank the planted ones.
        canary_users: how many users get a phrase of their own into every text of theirs, whether they are in or out;
            they are then compared among themselves.
        canary_words: length of that phrase.
    """

    canaries: int = 0
    canary_kind: str = "secret_number"
    canary_controls: int = 500
    canary_users: int = 0
    canary_words: int = 10

    def __post_init__(self) -> None:
        validate.non_negative(
            canaries=self.canaries, canary_controls=self.canary_controls, canary_users=self.canary_users
        )


def tune(
    records: Sequence[Record],
    *,
    base: str,
    out: str | Path,
    title: str = "",
    split_config: SplitConfig | None = None,
    canary_config: CanaryConfig | None = None,
    tune_config: TuneConfig | None = None,
    rejects: str = "",
) -> RunFolder:
    """Throw coins, plant canaries, fine-tune ``base`` on the members and leave a run folder that can be audited.

    The same call again goes on from the last checkpoint, or returns at once when the run is done. A call that is
    refused before the first checkpoint leaves the folder as it was.

    Args:
        records: unique ids, private text.
        base: folder, hub id or catalogue name of a pre-trained model.
        out: the run folder.
        title: for the report.
        rejects: rows of the data that were skipped, as `Reading` has them; kept in the folder.

    Raises:
        BadInput: the folder holds another run; a side of the split is empty; the model cannot be loaded.
    """
    splitting, secrets, tuning = (
        split_config or SplitConfig(),
        canary_config or CanaryConfig(),
        tune_config or TuneConfig(),
    )
    run = RunFolder(root=Path(out))
    config: dict[str, Any] = {"base": base, "data": fingerprint(records), "title": title}
    config |= {"split": asdict(splitting), "canaries": asdict(secrets), "training": asdict(tuning)}
    run.refuse_other("tune", config)
    records = without_copies(records)
    membership = throw_coins(records, splitting)
    if secrets.canary_users:
        rewritten = plant_users(
            records,
            membership,
            users=secrets.canary_users,
            words=secrets.canary_words,
            seed=splitting.split_seed,
        )
        records, membership = rewritten.records, rewritten.membership
    planting = _plant(records, membership, secrets, splitting.split_seed)
    with run.kept_if(lambda: _begun(run.model)):
        run.claim("tune", config)
        write_rejects(run, rejects)
        write_records(run.records, records)
        membership.write(run.membership)
        if planting is not None:
            write_canaries(run.canaries, planting.canaries)
        _train(base, records, membership, planting, run.model, tuning)
    about = {
        "title": title or run.root.name,
        "base": base,
        "max_tokens": tuning.max_tokens,
        "training": asdict(tuning),
        "split": asdict(splitting),
        "canaries": asdict(secrets),
        "finished": now(),
    }
    write_manifest(run.manifest, tune=about, environment=environment())
    return run


def _train(
    base: str,
    records: Sequence[Record],
    membership: Membership,
    planting: Planting | None,
    out: Path,
    config: TuneConfig,
) -> None:
    from reticent.train.trainer import tune as train

    members = [record for record, member in zip(records, membership.member, strict=True) if member]
    held_out = [record for record, member in zip(records, membership.member, strict=True) if not member]
    extra = list(planting.to_train) if planting is not None else []
    train(base, [*members, *extra], out, config, held_out=held_out[:64])


def _begun(model: Path) -> bool:
    """Whether there is a model, or a checkpoint to go on from."""
    from reticent.train.checkpoints import folder_for

    return model.exists() or any(folder_for(model).glob("checkpoint-*"))


def throw_coins(records: Sequence[Record], config: SplitConfig) -> Membership:
    """The split that ``config`` asks for."""
    unit = config.unit
    if unit == "auto":
        unit = "user" if all(record.user is not None for record in records) else "record"
    return split(
        records,
        unit=unit,
        seed=config.split_seed,
        probability=config.probability,
        train_fraction=config.train_fraction,
        known_fraction=config.known_fraction,
    )


def _plant(records: Sequence[Record], membership: Membership, config: CanaryConfig, seed: int) -> Planting | None:
    if not config.canaries:
        return None
    return plant(
        records,
        membership,
        kind=config.canary_kind,
        secrets=config.canaries,
        controls=config.canary_controls,
        seed=seed,
    )
