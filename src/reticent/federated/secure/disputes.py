# SPDX-License-Identifier: Apache-2.0
"""Disputes: what becomes of a secure round in which clients say that envelopes of others do not open.

Whether the sender or the receiver is at fault cannot be seen: both know the key of the envelope. So the sender is asked
to show what was in it, which is checked by the digests that it gave before, and handed on. One of the two is broken, so
no honest client's secret is told that its neighbour could not tell. A client shows no more pieces than it has to spare;
where that is not enough, those go who are in most of the quarrels that are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

BROKEN_ENVELOPE = "an envelope that did not open, by the word of {by}; what was in it was shown in the open"
IN_QUARRELS = "in quarrels over envelopes that do not open, which could not be settled"
WRONG_PIECES = "pieces that are not those which it gave digests of"


@dataclass(kw_only=True)
class Disputes:
    """Quarrels of one round.

    Args:
        spare: for each client, how many pieces it may show in the open.
        complaints: for each client that answered, whose envelopes it could not open.
        shown: by sender and receiver, pieces that were shown and fit to the digests.
    """

    spare: Mapping[int, int]
    complaints: dict[int, tuple[int, ...]] = field(default_factory=dict)
    shown: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def accused(self) -> dict[int, tuple[int, ...]]:
        """Clients that are to show pieces, and for whom: as many as they have to spare.

        Examples:
            >>> disputes = Disputes(spare={1: 1, 2: 1, 3: 1}, complaints={1: (2,), 2: (), 3: (2,)})
            >>> disputes.accused()
            {2: (1,)}
        """
        asked = {
            client: tuple(by for by in sorted(self.complaints) if client in self.complaints[by])[: self.spare[client]]
            for client in sorted(self.complaints)
        }
        return {client: by for client, by in asked.items() if by}

    def removed(self, guilty: Mapping[int, str]) -> tuple[int, ...]:
        """Clients that go, so that of those who stay none is in a quarrel with another.

        Args:
            guilty: clients that are known to be at fault, who go in any case.

        Examples:
            >>> disputes = Disputes(spare=dict.fromkeys(range(4), 0), complaints={0: (3,), 1: (3,), 2: (3,), 3: (0,)})
            >>> disputes.removed({})
            (3,)
        """
        gone = set(guilty) & set(self.complaints)
        left = {
            (by, client)
            for by, against in self.complaints.items()
            for client in against
            if client in self.complaints and (client, by) not in self.shown and not {by, client} & gone
        }
        while left:
            against, by_it = Counter(client for _, client in left), Counter(by for by, _ in left)
            # Of two that are in as many, the one whose envelopes do not open: it did not show what was in them.
            worst = max(
                set(against) | set(by_it), key=lambda client: (against[client] + by_it[client], against[client], client)
            )
            gone.add(worst)
            left = {pair for pair in left if worst not in pair}
        return tuple(sorted(gone))
