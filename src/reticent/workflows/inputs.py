# SPDX-License-Identifier: Apache-2.0
"""Inputs of a person: files become records, and lists of who was in become a membership."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reticent.core import validate
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.bad_field import BadField
from reticent.data.dedup import drop_exact_duplicates
from reticent.data.labels import read_labels
from reticent.data.mapped_records import at_places, held
from reticent.data.read import read
from reticent.data.split import from_files, from_labels
from reticent.data.text_blocks import blocks


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Fields of the data. Left out, the usual Hugging Face names are looked for.

    Args:
        text_field: plain text; "subject,body" joins several fields by a line break.
        prompt_field: context that is not trained on.
        completion_field: what is trained on after the prompt.
        messages_field: a chat; the assistant's turns are trained on.
        user_field: who a record belongs to.
        id_field: unique id; made of user and text when not given.
        spans_field: sensitive stretches of the text, for --protect spans: [{"start": 3, "end": 8}], counted in
            characters of prompt and completion, or of all turns, joined by a line break.
        on_bad_row: "error" stops at the first bad row, "skip" counts them and writes them to a rejects file.
        min_user_records: leave out users with fewer distinct records than this.
        drop_users: leave out these users (separated by commas), for example automatic senders.
        block_words: join plain text and cut it into blocks of so many words, which are then the records.
        max_records: use only the first so many records.
    """

    text_field: str | None = None
    prompt_field: str | None = None
    completion_field: str | None = None
    messages_field: str | None = None
    user_field: str | None = None
    id_field: str | None = None
    spans_field: str | None = None
    on_bad_row: str = "error"
    min_user_records: int = 1
    drop_users: str = ""
    block_words: int | None = None
    max_records: int | None = None

    def __post_init__(self) -> None:
        validate.positive(min_user_records=self.min_user_records)
        if self.max_records is not None:
            validate.positive(max_records=self.max_records)
        if self.block_words is not None:
            validate.positive(block_words=self.block_words)


class InputRecords(NamedTuple):
    """Records, and a JSON line for the place and reason of every bad row that was skipped."""

    records: Sequence[Record]
    rejects: str = ""


def read_data(
    source: str,
    config: DataConfig,
    *,
    id_prefix: str = "r",
    each_alone: bool = False,
    hide_spans: bool = False,
    model: str | None = None,
) -> InputRecords:
    """Read records and leave out what ``config`` says.

    For private training refuse what `data.stability` declares unstable before.

    Args:
        each_alone, hide_spans: as in `data.read.read`.
        model: folder, hub id or catalogue name of the model that will read the records. A chat that its template
            refuses is then a bad row, found before any coin is thrown; None: nobody looks.
    """
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
            spans_field=config.spans_field,
            id_prefix=id_prefix,
            on_bad_row=config.on_bad_row,
            rejects=listed,
            each_alone=each_alone,
            hide_spans=hide_spans,
            check=None if model is None else Readable(model),
        )
        rejects = listed.read_text(encoding="utf-8")
    read_records: Sequence[Record] = held(dataset.records)
    if config.block_words is not None:
        read_records = blocks(read_records, config.block_words, id_prefix=f"{id_prefix}b")
    records = of_users(read_records, config)[: config.max_records]
    if not records:
        raise BadInput(source, "no record is left after --min_user_records and --drop_users", "Loosen them.")
    return InputRecords(records, rejects)


class Readable:
    """Tells if the model can read a record: a chat, if its template renders it so that what is trained on can be found.

    It looks at one record alone, so a row that goes or comes changes nothing for others.

    Args:
        model: folder, hub id or catalogue name. Its tokenizer is loaded when the first chat comes.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._tokenizer: Any = None

    def __call__(self, record: Record) -> None:
        """Refuse a record that cannot be read.

        Raises:
            BadField: the chat template refuses the record, or rewrites it.
            BadInput: there is no such model.
        """
        if record.messages is None:
            return
        from reticent.models.encode import encode  # plain texts need no model, and no torch
        from reticent.models.load import load_tokenizer

        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._model)
        try:
            encode(record, self._tokenizer)
        except BadInput as error:
            raise BadField(error.why, f"{error.fix} Or skip such rows (--on_bad_row skip).") from error


def without_copies(
    records: Sequence[Record], trained: Collection[str] = (), *, within_users: bool = False
) -> list[Record]:
    """Each content once; of several copies one that was trained on, if any was: then the others were learnt as well.

    Args:
        records: with unique ids.
        trained: ids that are known to have been trained on.
        within_users: each content once for each user; see `drop_exact_duplicates`.
    """
    first = sorted(records, key=lambda record: record.id not in trained)
    ids = {record.id for record in drop_exact_duplicates(first, within_users=within_users).records}
    if len(ids) < len(records):
        console.print(f"{len(records) - len(ids)} exact copies dropped", highlight=False)
    return [record for record in records if record.id in ids]


def write_rejects(run: RunFolder, rejects: str) -> None:
    """List the rows that were skipped beside the run, and say how many they are."""
    if rejects:
        write_text(run.rejects, rejects)
        n = rejects.count("\n")
        console.print(f"{n} bad rows skipped; see {run.rejects}", style="yellow", highlight=False, soft_wrap=True)


def tell_rejects(rejects: str) -> None:
    """Say how many rows were skipped, and where the first of them stands, where no folder keeps the list."""
    lines = [line for line in rejects.split("\n") if line]
    if lines:
        first = json.loads(lines[0])
        text = f"{len(lines)} bad rows skipped; the first: {first['place']} {first['reason']}"
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def unwanted_in(config: DataConfig) -> frozenset[str]:
    """The names in ``drop_users``."""
    return frozenset(name.strip() for name in config.drop_users.split(",") if name.strip())


def of_users(records: Sequence[Record], config: DataConfig) -> Sequence[Record]:
    """Records without those of users who are left out, by name or for having too few.

    Raises:
        BadInput: users are to have several records, and there are no users.
    """
    unwanted = unwanted_in(config)
    remaining = at_places(records, [place for place, record in enumerate(records) if record.user not in unwanted])
    if config.min_user_records <= 1:
        return remaining
    users = [record.user for record in remaining]
    if all(user is None for user in users):
        raise BadInput(f"min_user_records={config.min_user_records}", "the records have no users", "Give --user_field.")
    distinct = Counter(user for user, _ in {(record.user, record.content_hash) for record in remaining})
    enough = [place for place, user in enumerate(users) if user and distinct[user] >= config.min_user_records]
    return at_places(remaining, enough)


class GivenData(NamedTuple):
    """Records with the membership that a person gave, aligned, and the rows that were skipped as in `InputRecords`."""

    records: list[Record]
    membership: Membership
    rejects: str = ""


def given_data(
    config: DataConfig,
    *,
    members: str | None,
    held_out: str | None,
    data: str | None,
    membership: str | None,
    model: str | None = None,
) -> GivenData:
    """Records and membership as a person gives them: two files, or one with a list of labels.

    Args:
        model: as in `read_data`.

    Raises:
        BadInput: neither pair is given, or the files do not fit each other.
    """
    if members and held_out and not (data or membership):
        inside = read_data(members, config, id_prefix="m", model=model)
        outside = read_data(held_out, config, id_prefix="h", model=model)
        trained = {record.id for record in inside.records}
        if not trained.isdisjoint(record.id for record in outside.records):
            from_files(inside.records, outside.records)  # refuses an id on both sides, while the sides are still apart
        records = without_copies([*inside.records, *outside.records], trained)
        sides = ([record for record in records if (record.id in trained) == side] for side in (True, False))
        return GivenData(records, from_files(*sides), inside.rejects + outside.rejects)
    if data and membership and not (members or held_out):
        given, rejects = read_data(data, config, model=model)
        labels = read_labels(membership)
        if config.id_field is None and labels and not any(record.id in labels for record in given):
            raise BadInput(
                f"--membership {membership}",
                f"names records such as {next(iter(labels))!r}, and without --id_field their ids are made of user and "
                "text, not of row numbers",
                "Give the data a field with the ids of the list, and name it: --id_field.",
            )
        records = without_copies(given, {id_ for id_, member in labels.items() if member})
        ids = {record.id for record in records}
        return GivenData(records, from_labels(records, {id_: labels[id_] for id_ in labels if id_ in ids}), rejects)
    raise BadInput(
        "the records",
        "an audit needs those that were trained on and those that were not",
        "Give --members FILE --held_out FILE, or --data FILE --membership FILE.",
    )
