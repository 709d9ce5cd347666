# SPDX-License-Identifier: Apache-2.0
"""The graph of a secure round: the clients with whom each client shares masks and secrets.

With everybody (Bonawitz et al. 2017, doi:10.1145/3133956.3133982), or with ``degree`` others on a ring in random order
(Bell et al. 2020, doi:10.1145/3372297.3417885), which costs each client the logarithm of their number.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy.stats import hypergeom

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.secure.keyed_hash import keyed_hash


def neighbours(clients: Collection[int], *, degree: int | None, key: bytes) -> dict[int, tuple[int, ...]]:
    """A regular graph: each client's neighbours, rising. Neighbourhood is mutual.

    Args:
        clients: their numbers.
        degree: neighbours of each, even; None for all others, as is also taken where there are no more than that.
        key: 32 secret bytes of the server, for this session only: whoever knows the order beforehand can place
            colluders next to a victim.

    Examples:
        >>> graph = neighbours(range(5), degree=2, key=b"k" * 32)
        >>> all(len(others) == 2 and i not in others for i, others in graph.items())
        True
    """
    everybody = sorted(set(clients))
    if degree is None or degree >= len(everybody) - 1:
        return {i: tuple(j for j in everybody if j != i) for i in everybody}
    if degree < 2 or degree % 2:
        raise BadInput(f"degree={degree}", "must be even and at least 2", "Give an even number, such as 2·log2(n).")
    ring = sorted(everybody, key=lambda i: keyed_hash(key, "ring", i))
    reach = [step for step in range(-degree // 2, degree // 2 + 1) if step]
    return {
        client: tuple(sorted(ring[(place + step) % len(ring)] for step in reach)) for place, client in enumerate(ring)
    }


def neighbourhood_risks(clients: int, *, degree: int, needed: int, colluders: int, silent: int) -> tuple[float, float]:
    """Chances that the random graph lets some client down: that ``needed`` of some client's neighbours collude, and
    that fewer than ``needed`` of them are still there at the end. By the union bound over clients.

    Args:
        clients: in the round.
        degree: neighbours of each.
        needed: pieces that open a client's secret.
        colluders: clients that tell the server all that they hold, chosen before the graph is drawn.
        silent: clients that drop out, independently of the graph.

    Returns:
        ``(opened, stuck)``, each at most 1.

    Examples:
        >>> opened, stuck = neighbourhood_risks(1000, degree=100, needed=60, colluders=50, silent=50)
        >>> opened < 1e-30, stuck < 1e-10
        (True, True)
    """
    validate.in_range(0, clients - 1, degree=degree)
    validate.in_range(0, degree, needed=needed)
    validate.non_negative(colluders=colluders, silent=silent)
    opened = clients * hypergeom.sf(needed - 1, clients - 1, colluders, degree)
    stuck = clients * hypergeom.sf(degree - needed, clients - 1, silent, degree)
    return float(np.minimum(opened, 1.0)), float(np.minimum(stuck, 1.0))
