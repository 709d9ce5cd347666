# SPDX-License-Identifier: Apache-2.0
"""VerificationCase: the models and the texts of one verification. Nothing of how the unlearning was done is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.unlearning import PlanePoint, UnlearningLook, UserPromise


@dataclass(frozen=True, kw_only=True, eq=False)
class VerificationCase:
    """An unlearned model, its controls, and the texts that it is judged on.

    Args:
        title: shown on the page.
        after: folder of the unlearned model.
        before: folder of the tuned model, before unlearning: the untouched control.
        base: the model before tuning; None: the one that the tuned model names, where it names one.
        retrained: folders of models trained like ``before`` without the forget set, with different seeds; 5 or more
            for a prediction interval worth having; empty where there are none (``--oracles 0``).
        forget: rows that were to be forgotten, those that judge: none of them may have steered the stopping.
        unseen: rows of the same people or source that were never trained on, those that judge.
        retain: rows that were trained on and are still wanted.
        held_out: never trained on, for utility; empty: ``unseen`` serves.
        related: texts on the same subject that were never trained on, for relearning; empty: half of ``unseen``.
        unrelated: texts on another subject, for a fresh fine-tune; empty: none is done.
        paraphrases: other words for the prompts of forget rows, by the row's id; rows may have none.
        requests: ids of forget rows by the name of the request they belong to; empty: all are one request.
        max_tokens: tokens of each record that were trained on.
        method: of the unlearning and its settings, for the page.
        request: who was to be forgotten, for the page.
        earlier: requests that the model had been through before, the first one first.
        looks: made while unlearning, for the plot.
        stopped_at: the step whose weights were kept.
        tried: other methods' places in the forget-retain plane.
        promise: user-level differential privacy of the tuned model.
        provenance: further facts for the page.

    Raises:
        BadInput: no forget or unseen rows, ids that are on two sides, or a request that names other rows.
    """

    title: str
    after: str
    before: str
    base: str | None
    retrained: Sequence[str]
    forget: Sequence[Record]
    unseen: Sequence[Record]
    retain: Sequence[Record]
    held_out: Sequence[Record] = ()
    related: Sequence[Record] = ()
    unrelated: Sequence[Record] = ()
    paraphrases: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    max_tokens: int | None = None
    method: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    earlier: Sequence[Mapping[str, Any]] = ()
    looks: Sequence[UnlearningLook] = ()
    stopped_at: int | None = None
    tried: Sequence[PlanePoint] = ()
    promise: UserPromise | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sides = (("forget", self.forget), ("unseen", self.unseen))
        for name, records in sides:
            if not records:
                raise BadInput(f"the {name} rows", "are none", "Give the rows that are to judge.")
        place: dict[str, str] = {}
        for name, records in (*sides, ("retain", self.retain)):
            for record in records:
                if record.id in place:
                    raise BadInput(
                        f"record {record.id!r}",
                        f"is among the {place[record.id]} rows and the {name} rows"
                        if place[record.id] != name
                        else f"is twice among the {name} rows",
                        "Each record belongs to one side, once.",
                    )
                place[record.id] = name
        for request, ids in self.requests.items():
            lost = [identity for identity in ids if place.get(identity) != "forget"]
            if lost or not ids:
                raise BadInput(
                    f"request {request!r}",
                    f"names {lost[0]!r}, which is no forget row" if lost else "names no rows",
                    "Name ids of forget rows.",
                )

    @property
    def judged(self) -> Iterator[Record]:
        """Forget, unseen and retain rows, in this order: the rows of every token table."""
        yield from self.forget
        yield from self.unseen
        yield from self.retain
