# SPDX-License-Identifier: Apache-2.0
"""Scanner: the smaller of two clusters of a label's hidden states (arXiv:1811.03728)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reticent.core.paper import Paper
from reticent.core.scan import ScanEvidence
from reticent.scan.data.groups import Floats, groups_apart
from reticent.scan.data.spectral_signatures import BLIND_TO
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect

COMPONENTS = 10
"""Dimensions that clusters are looked for in."""


@scanner(
    name="activation_clusters",
    title="Activation clusters",
    kind="data",
    null="made",
    needs=("data", "base"),
    blind_to=BLIND_TO,
    paper=Paper("arXiv:1811.03728"),
    order=35,
)
def activation_clusters(suspect: Suspect) -> Sequence[ScanEvidence]:
    """How many rows of the smaller cluster are of the data and not of the controls, for each label."""
    return groups_apart(suspect, smaller_cluster, "in the smaller of two clusters")


def smaller_cluster(states: Floats) -> npt.NDArray[np.bool_]:
    """``[n]``: the smaller of two clusters (k-means, from ten starts) of the main components of the states.

    >>> states = np.r_[np.zeros((9, 2)), np.full((4, 2), 5.0)] + 0.01 * np.eye(13, 2)
    >>> np.flatnonzero(smaller_cluster(states)).tolist()
    [9, 10, 11, 12]
    """
    from sklearn.cluster import KMeans

    centred = states - states.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    components = (left * singular)[:, :COMPONENTS]
    cluster = KMeans(2, n_init=10, random_state=0).fit_predict(components)
    smaller = int(np.bincount(cluster, minlength=2).argmin())
    return np.asarray(cluster == smaller, dtype=np.bool_)
