# SPDX-License-Identifier: Apache-2.0
"""RequestPlan: a request before anything is unlearned: its rows and halves, and lines that describe it to a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reticent.core.run_folder import RunFolder
from reticent.unlearning.forget_set import ForgetSet, forget_set
from reticent.unlearning.halves import Halves, halves
from reticent.unlearning.listed_ids import shown
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_file import REASONS, RequestRow
from reticent.unlearning.run_rows import run_rows
from reticent.unlearning.unseen import Unseen, unseen_rows

Margin = Callable[[int, int], float]
"""From numbers of forgotten and unseen rows (or users) to the smallest margin around an AUC of 0.5 that is shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RequestPlan:
    """A request with all that follows from it before training.

    Args:
        forget: the rows.
        unseen: the rows that they are compared with.
        halves: of both.

    """

    forget: ForgetSet
    unseen: Unseen
    halves: Halves

    @property
    def rows(self) -> tuple[RequestRow, ...]:
        """The rows as ``request.parquet`` has them, in the order of the data."""
        pairs = zip(self.forget.records, self.forget.reasons.values(), self.halves.forget, strict=True)
        return tuple(RequestRow(record.id, record.user, reason, part) for record, reason, part in pairs)

    @property
    def on_record(self) -> dict[str, Any]:
        """The request as ``unlearn.yaml`` and a certificate have it: numbers and flags, no id, text or pattern."""
        forget = self.forget
        return {
            "fingerprint": forget.fingerprint,
            "by": list(forget.request.selectors),
            "rows": len(forget.reasons),
            "users": len(forget.users),
            "copies": len(forget.copies),
            "copies_forgotten": forget.request.forget_copies,
            "form_letters": forget.form_letters,
            "unseen": len(self.unseen.records),
            "unseen_basis": self.unseen.basis,
            "aside": self.halves.forget.count("aside"),
            "steers": self.halves.steers,
        }

    def describe(
        self,
        *,
        margin: Margin | None = None,
        tokens: Callable[[str], int] | None = None,
        training_seconds: float | None = None,
    ) -> list[str]:
        """Lines for a person: no text, and no ids but those of copies and of rows that are not in the model.

        Args:
            margin: the power that there is; see ``Margin``. Users are counted where all rows have one.
            tokens: of a text; without it words are counted.
            training_seconds: that the fine-tuning took.
        """
        return [
            *self._rows(tokens),
            *self._copies(),
            *self._comparison(margin),
            *self._cost(training_seconds),
        ]

    def _rows(self, tokens: Callable[[str], int] | None) -> list[str]:
        forget = self.forget
        records, retained = forget.records, forget.retained
        count, unit = tokens or (lambda text: len(text.split())), "tokens" if tokens else "words"
        length = sum(count(record.trained_text) for record in records)
        reasons = Counter(forget.reasons.values())
        by_reason = ", ".join(f"{reasons[reason]:,} by {reason}" for reason in REASONS if reasons[reason])
        total = len(records) + len(retained)
        lines = [
            f"to be forgotten: {len(records):,} of {total:,} trained rows ({by_reason}), {length:,} {unit}",
            f"retained: {len(retained):,} rows",
        ]
        if forget.users:
            lines.insert(
                1, f"users: {len(forget.users):,}, of them {len(forget.whole_users):,} with all that is trained"
            )
        if forget.untrained:
            lines.append(f"never trained on, so not forgotten: {len(forget.untrained):,} ({shown(forget.untrained)})")
        if forget.forgotten_before:
            ids = forget.forgotten_before
            lines.append(f"forgotten by earlier requests: {len(ids):,} ({shown(ids)})")
        if forget.rows.chain.links:
            lines.append(f"earlier requests: {len(forget.rows.chain.links)}")
        return lines

    def _copies(self) -> list[str]:
        forget, copies = self.forget, self.forget.copies
        if not copies:
            lines = ["copies: no other trained row repeats or quotes them"]
        else:
            kinds = Counter(copy.kind for copy in copies)
            listed = ", ".join(f"{count:,} {_WORDS[kind]}" for kind, count in kinds.items())
            outcome = "forgotten too" if forget.request.forget_copies else "they stay (--forget_copies true takes them)"
            ids = [copy.record_id for copy in copies]
            lines = [f"copies: {len(copies):,} other trained rows ({listed}): {outcome}", f"  {shown(ids)}"]
        if forget.form_letters:
            lines.append(
                f"form letters: {forget.form_letters:,} rows share passages that many users write; not counted"
            )
        return lines

    def _comparison(self, margin: Margin | None) -> list[str]:
        unseen, sides = self.unseen, self.halves
        if refusal := self.forget.rows.no_verification:
            return [f"verification: none; {refusal}"]
        lines = [f"never-trained rows to compare with: {len(unseen.records):,} ({unseen.basis})"]
        if unseen.note:
            lines.append(f"  {unseen.note}")
        if aside := sides.forget.count("aside"):
            lines.append(f"  so {aside:,} forgotten rows are not compared; they are unlearned like all others")
        if sides.steers:
            steering, judging = sides.forget.count("steer"), sides.forget.count("judge")
            lines.append(f"halves: {steering:,} rows steer the stopping, {judging:,} judge")
        else:
            lines.append(f"halves: all rows judge; {sides.reason}")
        judged = [row for row, part in zip(self.forget.records, sides.forget, strict=True) if part == "judge"]
        others = [row for row, part in zip(unseen.records, sides.unseen, strict=True) if part == "judge"]
        with_users = all(row.user is not None for row in (*judged, *others))
        n, m = (len({row.user for row in rows}) if with_users else len(rows) for rows in (judged, others))
        units = "users" if with_users else "rows"
        if margin is not None and n and m:
            lines.append(f"margin that {n:,} against {m:,} {units} can show: AUC 0.5 ± {margin(n, m):.2f}")
        return lines

    def _cost(self, training_seconds: float | None) -> list[str]:
        retained = len(self.forget.retained) + len(self.forget.rows.planted)
        share = retained / (retained + len(self.forget.records))
        line = f"training again without them: {share:.0%} of the steps of the first training"
        if training_seconds is not None:
            line += f", about {_duration(share * training_seconds)}"
        return [line]


def plan_request(run: RunFolder, request: ForgetRequest, *, seed: int = 0) -> RequestPlan:
    """All that follows from a request before a model is opened; the same arguments give the same plan.

    Args:
        run: of `reticent tune` or of an earlier unlearning, whose model is to forget.
        request: what.
        seed: of the coins that deal rows to halves.

    Raises:
        BadInput: as `run_rows.run_rows` and `forget_set.forget_set`.
    """
    forget = forget_set(run_rows(run), request)
    unseen = unseen_rows(forget)
    return RequestPlan(
        forget=forget, unseen=unseen, halves=halves(forget.records, unseen.records, aside=unseen.aside, seed=seed)
    )


_WORDS = {"repeats": "repeat most of one", "quotes": "quote one", "passage": "share a passage of 35 words or more"}


def _duration(seconds: float) -> str:
    for length, name in ((3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {name}"
    return f"{seconds:.0f} s"
