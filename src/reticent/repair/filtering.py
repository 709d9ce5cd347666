# SPDX-License-Identifier: Apache-2.0
"""Filtering: leave out the training rows that a scan of the data chose, and train again from the base.

The one repair that leaves nothing of what it removes in the weights, and only of what it removes: rows that no scanner
chose are learned again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.locate import locate
from reticent.models.tuned import read_tuned
from reticent.repair.repaired_model import refuse_place, write_repair
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

NAME = "filtering"


def without_rows(records: Sequence[Record], chosen: Collection[str]) -> list[Record]:
    """The records whose ids were not chosen, in their order.

    Args:
        records: of the training.
        chosen: ids to leave out.

    Raises:
        BadInput: nothing was chosen, an id is of no record, or no record is left.

    Examples:
        >>> rows = [Record(id=name, text=name) for name in "abc"]
        >>> [row.id for row in without_rows(rows, {"b"})]
        ['a', 'c']
    """
    if not chosen:
        raise BadInput("the chosen rows", "are none, so the same training would be done again", "Choose some.")
    strangers = sorted(set(chosen) - {record.id for record in records})
    if strangers:
        raise BadInput(
            f"{len(strangers)} of {len(set(chosen))} chosen ids (the first: {strangers[0][:60]!r})",
            "are of no record of this data",
            "Give the records that the scan looked at.",
        )
    rest = [record for record in records if record.id not in set(chosen)]
    if not rest:
        raise BadInput(f"{len(records)} records", "were all chosen, and none is left", "Choose fewer.")
    return rest


def train_without(
    suspect: str,
    records: Sequence[Record],
    chosen: Collection[str],
    out: str | Path,
    *,
    base: str | None = None,
    config: TuneConfig | None = None,
) -> Path:
    """Train again without the chosen rows. The same call again goes on where a killed one stopped.

    The outcome carries the mark of the suspect on: rows that nobody chose may be poisoned too.

    Args:
        suspect: the model that was trained on all records.
        records: all of them.
        chosen: ids of those that a scanner of data chose.
        out: the folder to make.
        base: what is trained; None for what the suspect says that it was made from.
        config: how; None for the suspect's method and its settings, else the defaults.

    Raises:
        BadInput: as `without_rows` and `train.trainer.tune`; nothing says what the suspect was made from.
    """
    place = refuse_place(out, suspect)
    rest = without_rows(records, chosen)
    tuned = read_tuned(locate(suspect))
    start = base or (tuned.base if tuned is not None else None)
    if start is None:
        raise BadInput(suspect, "does not say what it was made from", "Name its base (base=...).")
    if config is None:
        config = TuneConfig() if tuned is None else TuneConfig(method=tuned.method, method_params=dict(tuned.params))
    folder = tune(start, rest, place, config)
    changed = {"records": len(records), "left_out": len(records) - len(rest)}
    write_repair(folder, NAME, suspect, start, changed=changed)
    return folder
