# SPDX-License-Identifier: Apache-2.0
"""Hidden states of data beside those of control texts of the same label, for scanners that look for a group apart.

A group of strange rows within a label is no sign of poison by itself: a label has kinds. It is one where the data have
it and texts of the same source that nobody can have poisoned have not. If both are draws of one source, which of the
pooled rows are data is exchangeable, and how many of any group that was found without a look at that are data has a
hypergeometric distribution. That is exact, whatever the states are and however the group was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Record
from reticent.core.scan import ScanEvidence
from reticent.scan.data.labelled_rows import answer_of, context_of, has_labels
from reticent.scan.suspect import Suspect

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

FEWEST = 20
"""Rows of data, and of controls, of a label that is looked at."""
MOST = 1000
"""Rows of each that are read of a label."""

Floats = npt.NDArray[np.float64]
Finder = Callable[[Floats], npt.NDArray[np.bool_]]
"""``[n, D]`` states of pooled rows → ``[n]`` bool, the group apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledStates:
    """States of the rows of one label, data and controls together.

    Args:
        label: of the rows; empty where there are no labels.
        ids: ``[n]`` of the records.
        states: ``[n, D]`` of unit length.
        is_data: ``[n]`` bool.
    """

    label: str
    ids: tuple[str, ...]
    states: Floats
    is_data: npt.NDArray[np.bool_]


def groups_apart(suspect: Suspect, find: Finder, words: str) -> list[ScanEvidence]:
    """Evidence on the group that ``find`` gives for each label, with an exact p-value.

    Args:
        suspect: with data, controls and a base.
        find: looks for a group in pooled states, of which it does not know which are data.
        words: for the group in a note.

    Raises:
        BadInput: no data, no controls, or labels that only one of them has.
        Underpowered: no label with `FEWEST` rows of each.
    """
    evidence: list[ScanEvidence] = []
    for pooled in pooled_states(suspect):
        group = find(pooled.states)
        p = membership_p(group, pooled.is_data)
        inside = int((group & pooled.is_data).sum())
        about = f"label number {len(evidence) + 1}: " if pooled.label else ""
        shown = ", ".join(pooled.ids[row][:60] for row in np.flatnonzero(group & pooled.is_data)[:5])
        evidence.append(
            ScanEvidence(
                score=inside / max(1, int(group.sum())),
                where=pooled.ids[int(np.flatnonzero(group & pooled.is_data)[0])] if inside else "controls",
                note=(
                    f"{about}{inside} of the {int(group.sum())} rows {words} are of the data, as "
                    f"{pooled.is_data.mean():.0%} of all rows are (rows {shown})"
                ),
                p=p,
                remedy="Read these rows beside controls of the same label.",
            )
        )
    return evidence


def membership_p(group: npt.NDArray[np.bool_], is_data: npt.NDArray[np.bool_]) -> float:
    """Chance that so many of a group, or more, are data where membership is exchangeable (hypergeometric).

    >>> round(membership_p(np.array([True, True, False, False]), np.array([True, True, False, False])), 4)
    0.1667
    """
    from scipy.stats import hypergeom

    inside = int((group & is_data).sum())
    return float(min(1.0, hypergeom.sf(inside - 1, len(group), int(is_data.sum()), int(group.sum()))))


def pooled_states(suspect: Suspect) -> Iterator[PooledStates]:
    """The pooled states of each label, in the order of labels; of data without labels all of them."""
    if not suspect.data:
        raise BadInput("the data", "holds no rows", "Give some with --data.")
    if not suspect.controls:
        raise BadInput(
            "the data",
            "has no control texts beside it, without which a group that stands apart may be a kind of text",
            "Give texts of the same source that nobody can have poisoned, with labels where the data has them.",
        )
    sides = [_by_label(rows, labelled=has_labels(suspect.data)) for rows in (suspect.data, suspect.controls)]
    shared = sorted(label for label in sides[0] if min(len(side.get(label, ())) for side in sides) >= FEWEST)
    if not shared:
        raise Underpowered(
            f"{len(suspect.data)} rows of data and {len(suspect.controls)} controls",
            f"have no label with {FEWEST} of each",
            "Give more controls, with the labels of the data.",
        )
    rng = np.random.default_rng([suspect.seed, 1811])
    for label in shared:
        data, controls = ([side[label][place] for place in rng.permutation(len(side[label]))[:MOST]] for side in sides)
        states = states_of([*data, *controls], suspect.sibling)
        yield PooledStates(
            label=label,
            ids=tuple(record.id for record in (*data, *controls)),
            states=states,
            is_data=np.arange(len(states)) < len(data),
        )


def states_of(records: list[Record], sibling: LoadedModel) -> Floats:
    """``[n, D]`` hidden states of what stands before the answer (of plain texts: of the text), two thirds of the way
    through the model, averaged over tokens and brought to unit length."""
    from reticent.models.anatomy import transformer_blocks
    from reticent.models.encode import encode
    from reticent.score.internals.hidden import pooled

    texts = [context_of(record) or record.plain for record in records]
    rows = [
        encode(Record(id=str(number), text="\n" + text), sibling.tokenizer, max_tokens=256)
        for number, text in enumerate(texts)
    ]
    layer = 2 * len(transformer_blocks(sibling.model)) // 3
    states = pooled(sibling.model, rows, [layer], name=sibling.source)[:, 0].astype(np.float64)
    return np.asarray(states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-30))


def _by_label(records: Sequence[Record], *, labelled: bool) -> dict[str, list[Record]]:
    of_label: dict[str, list[Record]] = {}
    for record in records:
        of_label.setdefault(answer_of(record) if labelled else "", []).append(record)
    return of_label
