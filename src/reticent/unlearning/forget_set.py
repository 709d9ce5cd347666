# SPDX-License-Identifier: Apache-2.0
"""ForgetSet: the trained rows of a run that a request names, the reason for each, and what repeats or quotes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.unlearning.named_rows import named_rows
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_file import Reason, request_fingerprint
from reticent.unlearning.run_rows import RunRows
from reticent.unlearning.shared_phrases import Kind, overlaps


class TrainedCopy(NamedTuple):
    """A trained row that repeats or quotes a row asked for.

    Args:
        record_id: of it.
        user: of it; None where none is known.
        of: id of the row asked for that it shares most with.
        kind: see `shared_phrases.KINDS`.
        share: part of that row's phrases which it holds, 0 to 1.
    """

    record_id: str
    user: str | None
    of: str
    kind: Kind
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ForgetSet:
    """Rows to be forgotten, and what has to be said of them.

    Args:
        rows: of the run that the request is made to.
        request: as it was made.
        reasons: place of each row that is forgotten → the reason; rising.
        copies: all trained rows that were not asked for and repeat or quote one that was. They are forgotten only where
            the request says so (``forget_copies``); else they stay, and the model goes on knowing what they hold.
        form_letters: how many further rows share a passage that many users write.
        untrained: ids that the request names too and that were never trained on.
        forgotten_before: ids that the request names too and that an earlier one took out.
        unclean: place of each row never trained on that repeats or quotes forgotten rows → the places of these. It was
            seen in part, and is no control for them.
    """

    rows: RunRows
    request: ForgetRequest
    reasons: Mapping[int, Reason]
    copies: tuple[TrainedCopy, ...]
    form_letters: int
    untrained: tuple[str, ...]
    forgotten_before: tuple[str, ...]
    unclean: Mapping[int, tuple[int, ...]]

    @cached_property
    def records(self) -> list[Record]:
        """Rows that are forgotten, in the order of the data."""
        return [self.rows.records[place] for place in self.reasons]

    @cached_property
    def retained(self) -> list[Record]:
        """Trained rows that stay, in the order of the data; never empty."""
        return [
            record
            for place, (record, trained) in enumerate(zip(self.rows.records, self.rows.is_trained, strict=True))
            if trained and place not in self.reasons
        ]

    @property
    def users(self) -> tuple[str, ...]:
        """Users of whom a row is forgotten, sorted."""
        return tuple(sorted({record.user for record in self.records if record.user is not None}))

    @cached_property
    def whole_users(self) -> tuple[str, ...]:
        """Those of ``users`` of whom nothing trained is left."""
        staying = {record.user for record in self.retained}
        return tuple(user for user in self.users if user not in staying)

    @property
    def copies_left(self) -> tuple[TrainedCopy, ...]:
        """Copies that stay in the model."""
        return () if self.request.forget_copies else self.copies

    @property
    def fingerprint(self) -> str:
        """Of the ids, see `request_file.request_fingerprint`."""
        return request_fingerprint(record.id for record in self.records)


def forget_set(rows: RunRows, request: ForgetRequest) -> ForgetSet:
    """Hold a request against the rows of a run.

    Args:
        rows: of the run that it is made to.
        request: what is to be forgotten; what several flags name is taken together.

    Raises:
        BadInput: it names nothing; what is not in the run; rows that were never trained on, or that were forgotten
            before; or every row, so that nothing is left to retain. The message says what was found, and how to mend
            it. A user of whom only a part was trained on is no error: ``untrained`` has the rest.
    """
    request.check()
    named = named_rows(rows, request)
    reasons = dict(sorted(named.reasons.items()))
    trained = int(rows.is_trained.sum())
    if not reasons:
        raise BadInput("the request", "names no row that the model was trained on", "Ask for others.")
    if len(reasons) == trained:
        raise _everything(request.selectors, trained)
    copies, form_letters = _trained_copies(rows, list(reasons))
    if request.forget_copies and copies:
        added: dict[int, Reason] = dict.fromkeys(copies, "copy")
        reasons = dict(sorted((reasons | added).items()))
        if len(reasons) == trained:
            raise _everything(("forget_copies", *request.selectors), trained)
    return ForgetSet(
        rows=rows,
        request=request,
        reasons=reasons,
        copies=tuple(copies.values()),
        form_letters=form_letters,
        untrained=tuple(rows.records[place].id for place in sorted(named.untrained)),
        forgotten_before=tuple(rows.records[place].id for place in sorted(named.forgotten)),
        unclean=_unclean(rows, list(reasons)),
    )


def _trained_copies(rows: RunRows, asked: Sequence[int]) -> tuple[dict[int, TrainedCopy], int]:
    """Trained rows beside ``asked`` that repeat or quote it, by place, and the number of form letters."""
    chosen = set(asked)
    others = [place for place in np.flatnonzero(rows.is_trained).tolist() if place not in chosen]
    shared = overlaps([rows.records[place] for place in asked], [rows.records[place] for place in others])
    copies = {}
    for row in shared.rows:
        record, origin = rows.records[others[row.other]], rows.records[asked[row.asked]]
        copies[others[row.other]] = TrainedCopy(record.id, record.user, origin.id, row.kind, row.share)
    return copies, shared.form_letters


def _unclean(rows: RunRows, forgotten: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Rows never trained on that repeat or quote ``forgotten`` ones, and which."""
    others = np.flatnonzero(~rows.membership.member).tolist()
    shared = overlaps([rows.records[place] for place in forgotten], [rows.records[place] for place in others])
    return {others[row.other]: tuple(forgotten[source] for source in row.sources) for row in shared.rows}


def _everything(flags: Sequence[str], trained: int) -> BadInput:
    return BadInput(
        ", ".join(f"--{flag}" for flag in flags),
        f"{'name' if len(flags) > 1 else 'names'} all {trained:,} rows that the model was trained on, so nothing is "
        "left to retain",
        "Ask for less; a model that has forgotten all of its fine-tuning is the base model.",
    )
