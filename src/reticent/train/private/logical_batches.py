# SPDX-License-Identifier: Apache-2.0
"""The batches of a plan as the Trainer reads them: one item is one step, the same in all processes."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, Dataset

from reticent.privacy.sampling import PoissonSampler


class LogicalBatches(Dataset[dict[str, Any]]):
    """The batches of a plan: item t is ``{"step": t, "units": the units of step t}``."""

    def __init__(self, sampler: PoissonSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return self.sampler.steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        if not 0 <= step < len(self):
            raise IndexError(step)
        return {"step": step, "units": self.sampler.batch(step)}


def logical_batches(sampler: PoissonSampler) -> DataLoader[Any]:
    """A loader of the batches of a plan, in their order."""
    return DataLoader(LogicalBatches(sampler), batch_size=1, shuffle=False, collate_fn=_only)


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    (single,) = batch
    return single
