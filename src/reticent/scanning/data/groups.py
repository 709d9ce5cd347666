# SPDX-License-Identifier: Apache-2.0
"""Hidden states of data beside those of control texts of the same label, for scanners that look for a group apart.

A group of strange rows within a label is no sign of poison by itself: a label has kinds. It is one where the data have
it and texts of the same source that nobody can have poisoned have not. If both are draws of one source, which of the
pooled rows are data is exchangeable, and how many of any group that was found without a look at that are data has a
hypergeometric distribution. That is exact, whatever the states are and however the group was found.

Rows of one user come together and look alike, so that users are what is exchangeable, where they are known: how many of
the users who have a row in the group are users of the data. A group too small for chance to be excluded, were all of it
data, says nothing, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Record
from reticent.core.scan_results import ScanEvidence
from reticent.scanning.data.labelled_rows import answer_of, context_of, has_labels
from reticent.scanning.suspect import Suspect

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

LEVEL = 0.05
"""A p-value that the largest group must be able to reach."""
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
        user: ``[n]`` of the rows, on either side; a row without one is its own.
    """

    label: str
    ids: tuple[str, ...]
    user: tuple[str, ...]
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
        Underpowered: no label with `FEWEST` rows of each, or groups so small that none could be told from chance.
    """
    evidence: list[ScanEvidence] = []
    smallest: list[float] = []
    for pooled in pooled_states(suspect):
        group = find(pooled.states)
        seen, side = by_user(group, pooled.is_data, pooled.user)
        p = membership_p(seen, side)
        smallest.append(membership_p(seen, np.ones_like(side), data=int(side.sum())))
        inside = int((group & pooled.is_data).sum())
        about = f"label number {len(evidence) + 1}: " if pooled.label else ""
        users = "" if len(seen) == len(group) else f"; {int((seen & side).sum())} of the {int(seen.sum())} users"
        shown = ", ".join(pooled.ids[row][:60] for row in np.flatnonzero(group & pooled.is_data)[:5])
        evidence.append(
            ScanEvidence(
                score=inside / max(1, int(group.sum())),
                where=pooled.ids[int(np.flatnonzero(group & pooled.is_data)[0])] if inside else "controls",
                note=(
                    f"{about}{inside} of the {int(group.sum())} rows {words} are of the data, as "
                    f"{pooled.is_data.mean():.0%} of all {len(group)} rows are{users} (rows {shown})"
                ),
                p=p,
                remedy="Read these rows beside controls of the same label.",
            )
        )
    if len(smallest) * min(smallest) > LEVEL:
        raise Underpowered(
            f"{len(suspect.data)} rows of data and {len(suspect.controls)} controls",
            f"give no group that could be told from chance: were all of one data, p were {min(smallest):.2g} for each "
            f"of {len(smallest)} labels",
            "Give more rows, of more users, and as many controls.",
        )
    return evidence


def by_user(
    group: npt.NDArray[np.bool_], is_data: npt.NDArray[np.bool_], user: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Of each user of data and of controls: has a row in the group, and is of the data.

    >>> group, is_data = np.array([True, True, False]), np.array([True, True, False])
    >>> [part.tolist() for part in by_user(group, is_data, ["ann", "ann", "bob"])]
    [[True, False], [True, False]]
    """
    seen: dict[tuple[bool, str], bool] = {}
    for inside, side, name in zip(group.tolist(), is_data.tolist(), user, strict=True):
        seen[side, name] = seen.get((side, name), False) or inside
    return np.array(list(seen.values())), np.array([side for side, _ in seen])


def membership_p(group: npt.NDArray[np.bool_], is_data: npt.NDArray[np.bool_], data: int | None = None) -> float:
    """Chance that so many of a group, or more, are data where membership is exchangeable (hypergeometric).

    Args:
        group: ``[n]`` bool.
        is_data: ``[n]`` bool.
        data: how many of all are data; None for as many as ``is_data`` says.

    >>> round(membership_p(np.array([True, True, False, False]), np.array([True, True, False, False])), 4)
    0.1667
    """
    from scipy.stats import hypergeom

    total = int(is_data.sum()) if data is None else data
    inside = min(int((group & is_data).sum()), total)
    return float(np.clip(hypergeom.sf(inside - 1, len(group), total, int(group.sum())), 1e-300, 1.0))


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
            user=tuple(record.user or f"row {place}" for place, record in enumerate((*data, *controls))),
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
