# SPDX-License-Identifier: Apache-2.0
"""From private text to a fine-tuned model with recorded coins: read, split, plant canaries, train."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reticent.core import validate
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.membership import Membership
from reticent.core.progress import console
from reticent.core.record import Record, fingerprint, write_records
from reticent.data.canaries import Planting, plant, plant_users, write_canaries
from reticent.data.dedup import drop_exact_duplicates
from reticent.data.labels import read_labels
from reticent.data.read import read
from reticent.data.split import from_files, from_labels, split
from reticent.run_folder import RunFolder
from reticent.train.config import TuneConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which fields hold what. Left out, the usual Hugging Face names are looked for.

    Args:
        text_field: plain text; "subject,body" joins several fields by a line break.
        prompt_field: context that is not trained on.
        completion_field: what is trained on after the prompt.
        messages_field: a chat; the assistant's turns are trained on.
        user_field: who a record belongs to.
        id_field: unique id; records are numbered when not given.
        on_bad_row: "error" stops at the first bad row, "skip" counts them and writes them to a rejects file.
        min_user_records: leave out users with fewer distinct records than this.
        drop_users: leave out these users (separated by commas), for example automatic senders.
        max_records: use only the first so many records.
    """

    text_field: str | None = None
    prompt_field: str | None = None
    completion_field: str | None = None
    messages_field: str | None = None
    user_field: str | None = None
    id_field: str | None = None
    on_bad_row: str = "error"
    min_user_records: int = 1
    drop_users: str = ""
    max_records: int | None = None

    def __post_init__(self) -> None:
        validate.positive(min_user_records=self.min_user_records)
        if self.max_records is not None:
            validate.positive(max_records=self.max_records)


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


class Reading(NamedTuple):
    """Records, and a JSON line for the place and reason of every bad row that was skipped."""

    records: list[Record]
    rejects: str = ""


def read_data(source: str, config: DataConfig, *, id_prefix: str = "r") -> Reading:
    """Read records and leave out what ``config`` says."""
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "rejects.jsonl"
        dataset = read(
            source,
            text_field=config.text_field,
            prompt_field=config.prompt_field,
            completion_field=config.completion_field,
            messages_field=config.messages_field,
            user_field=config.user_field,
            id_field=config.id_field,
            id_prefix=id_prefix,
            on_bad_row=config.on_bad_row,
            rejects=listed,
        )
        rejects = listed.read_text(encoding="utf-8")
    records = _of_users(list(dataset.records), config)[: config.max_records]
    if not records:
        raise BadInput(source, "no record is left after --min_user_records and --drop_users", "Loosen them.")
    return Reading(records, rejects)


def without_copies(records: Sequence[Record], trained: Collection[str] = ()) -> list[Record]:
    """Each content once; of several copies one that was trained on, if any was: then the others were learnt as well.

    Args:
        records: with unique ids.
        trained: ids that are known to have been trained on.
    """
    first = sorted(records, key=lambda record: record.id not in trained)
    kept = {record.id for record in drop_exact_duplicates(first).records}
    if len(kept) < len(records):
        console.print(f"{len(records) - len(kept)} exact copies dropped", highlight=False)
    return [record for record in records if record.id in kept]


def write_rejects(run: RunFolder, rejects: str) -> None:
    """List the rows that were skipped beside the run, and say how many they are."""
    if rejects:
        write_text(run.rejects, rejects)
        n = rejects.count("\n")
        console.print(f"{n} bad rows skipped; see {run.rejects}", style="yellow", highlight=False, soft_wrap=True)


def _of_users(records: list[Record], config: DataConfig) -> list[Record]:
    unwanted = {user.strip() for user in config.drop_users.split(",") if user.strip()}
    kept = [record for record in records if record.user not in unwanted]
    if config.min_user_records <= 1:
        return kept
    if all(record.user is None for record in kept):
        raise BadInput(f"min_user_records={config.min_user_records}", "the records have no users", "Give --user_field.")
    distinct = Counter(user for user, _ in {(record.user, record.content_hash) for record in kept})
    return [record for record in kept if record.user and distinct[record.user] >= config.min_user_records]


class GivenData(NamedTuple):
    """Records with the membership that a person gave, aligned, and the rows that were skipped as in `Reading`."""

    records: list[Record]
    membership: Membership
    rejects: str = ""


def given_data(
    config: DataConfig, *, members: str | None, held_out: str | None, data: str | None, membership: str | None
) -> GivenData:
    """Records and membership as a person gives them: two files, or one with a list of labels.

    Raises:
        BadInput: neither pair is given, or the files do not fit each other.
    """
    if members and held_out and not (data or membership):
        inside = read_data(members, config, id_prefix="m")
        outside = read_data(held_out, config, id_prefix="h")
        trained = {record.id for record in inside.records}
        if not trained.isdisjoint(record.id for record in outside.records):
            from_files(inside.records, outside.records)  # refuses an id on both sides, while the sides are still apart
        records = without_copies([*inside.records, *outside.records], trained)
        sides = ([record for record in records if (record.id in trained) == side] for side in (True, False))
        return GivenData(records, from_files(*sides), inside.rejects + outside.rejects)
    if data and membership and not (members or held_out):
        records, rejects = read_data(data, config)
        labels = read_labels(membership)
        records = without_copies(records, {id_ for id_, member in labels.items() if member})
        kept = {record.id for record in records}
        coins = from_labels(records, {id_: member for id_, member in labels.items() if id_ in kept})
        return GivenData(records, coins, rejects)
    raise BadInput(
        "the records",
        "an audit needs those that were trained on and those that were not",
        "Give --members FILE --held-out FILE, or --data FILE --membership FILE.",
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
