# SPDX-License-Identifier: Apache-2.0
"""An audit case made of objects: a model and rows that a notebook or a script holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reticent.auditing.case import AuditCase
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.read import read
from reticent.data.split import from_files
from reticent.workflows.inputs import without_copies

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel


def case_of_objects(
    *,
    model: Any,
    members: Any,
    held_out: Any,
    tokenizer: Any = None,
    reference: Any = None,
    title: str = "",
    max_tokens: int | None = None,
    **fields: Any,
) -> AuditCase:
    """The case of any model and two sets of rows.

    Args:
        model: a folder, hub id or catalogue name, or a model in memory; then ``tokenizer`` goes with it.
        members: rows that were trained on: records, texts, mappings, a DataFrame, a data set, or the path of a file.
        held_out: rows of the same source that were not trained on.
        tokenizer: of a model in memory.
        reference: the model that it was tuned from, likewise; it is read with the same tokenizer.
        title: shown on the report; by default the name of the model.
        max_tokens: tokens of each record that were trained on; None for all.
        fields: names of fields, as in `reticent.read`.

    Raises:
        BadInput: a model or rows cannot be used, or a record is on both sides.
    """
    if tokenizer is not None and not any(_in_memory(given) for given in (model, reference)):
        raise BadInput("tokenizer=", "is not used: a model that is named has its own", "Leave it out.")
    target = _model(model, tokenizer)
    inside, outside = _records(members, "m", fields), _records(held_out, "h", fields)
    trained = {record.id for record in inside}
    if not trained.isdisjoint(record.id for record in outside):
        from_files(inside, outside)  # refuses an id on both sides, while the sides are still apart
    records = without_copies([*inside, *outside], trained)
    halves = [[record for record in records if (record.id in trained) == is_member] for is_member in (True, False)]
    return AuditCase(
        title=title or _title(target),
        target=target,
        reference=None if reference is None else _model(reference, tokenizer),
        records=[*halves[0], *halves[1]],
        membership=from_files(halves[0], halves[1]),
        max_tokens=max_tokens,
    )


def _model(model: Any, tokenizer: Any) -> str | LoadedModel:
    if not _in_memory(model):
        return str(model)
    # Here: a case of names needs no torch.
    from reticent.models.in_memory import in_memory

    if tokenizer is None:
        raise BadInput(
            "a model in memory without a tokenizer",
            "its texts cannot be read",
            "Give tokenizer=, as it was tuned with.",
        )
    return in_memory(model, tokenizer)


def _in_memory(model: Any) -> bool:
    return model is not None and not isinstance(model, str) and not hasattr(model, "__fspath__")


def _title(target: str | LoadedModel) -> str:
    return (target if isinstance(target, str) else target.source).rstrip("/").rpartition("/")[2]


def _records(rows: Any, prefix: str, fields: dict[str, Any]) -> Sequence[Record]:
    if isinstance(rows, Sequence) and rows and all(isinstance(row, Record) for row in rows):
        return rows
    return read(rows, id_prefix=prefix, **fields).records
