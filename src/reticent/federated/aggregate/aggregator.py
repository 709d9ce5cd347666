# SPDX-License-Identifier: Apache-2.0
"""The registry of aggregation rules: how the updates of one round become one.

    @aggregator("median", paper="arXiv:1803.01498", streams=False, bounded=False, fewest=3)
    def median(updates: Iterable[Update], *, denominator: float) -> dict[str, Tensor]:
        ...

Client-level privacy rests on what one client can move the outcome by. Only a rule that is ``bounded`` may carry it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from reticent.core.paper import Paper
from reticent.core.registry import Registry
from reticent.federated.update import Update

Rule = Callable[..., dict[str, torch.Tensor]]


@dataclass(frozen=True, kw_only=True)
class Aggregator:
    """One aggregation rule.

    Args:
        name: as the field names it, and the name of its file.
        summary: one sentence.
        paper: where it was published.
        rule: ``(updates, denominator=…, **params) -> update``. The updates were checked; it sees each once, in the
            order in which clients were drawn.
        streams: it holds one update at a time, so that memory does not grow with the clients.
        bounded: one client whose update is no longer than C moves the outcome by at most C / denominator, whatever
            the others send: only then can the outcome be noised to a promise.
        fewest: with fewer updates it says nothing.
    """

    name: str
    summary: str
    paper: str
    rule: Rule
    streams: bool
    bounded: bool
    fewest: int = 1

    def __post_init__(self) -> None:
        Paper(self.paper)

    def __call__(self, updates: Iterable[Update], *, denominator: float, **params: Any) -> dict[str, torch.Tensor]:
        """The aggregate of one round."""
        return self.rule(updates, denominator=denominator, **params)


AGGREGATORS: Registry[Aggregator] = Registry("aggregation rule", "reticent.federated.aggregate")


def aggregator(name: str, *, paper: str, streams: bool, bounded: bool, fewest: int = 1) -> Callable[[Rule], Rule]:
    """Register a function as the aggregation rule of that name; arguments as in `Aggregator`."""

    def register(rule: Rule) -> Rule:
        summary = (inspect.getdoc(rule) or "").split("\n")[0]
        AGGREGATORS.add(
            name,
            Aggregator(
                name=name, summary=summary, paper=paper, rule=rule, streams=streams, bounded=bounded, fewest=fewest
            ),
        )
        return rule

    return register
