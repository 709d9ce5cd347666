# SPDX-License-Identifier: Apache-2.0
"""Dropping a shard (SISA, Bourtoule et al., "Machine Unlearning", S&P 2021): where adapters were trained on disjoint
shards and merged by averaging, those of shards without a forget row stay as they are."""

from __future__ import annotations

from reticent.train.unlearning.method import UNLEARNERS, Unlearner

UNLEARNERS.add(
    "shards",
    Unlearner(
        name="shards",
        kind="exact",
        summary="Leaves out the shards that hold a forget row, of a run made in shards.",
        direction="none",
        paper="arXiv:1912.03817",
    ),
)
