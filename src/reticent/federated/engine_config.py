# SPDX-License-Identifier: Apache-2.0
"""EngineConfig: what reaches the clients of a federation on one machine. No torch, and no Flower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reticent.core import validate
from reticent.core.errors import BadInput

if TYPE_CHECKING:
    from reticent.federated.client_engine import Engine
    from reticent.federated.federation_spec import FederationSpec

ENGINES = ("local", "ray")
LOCAL = "local: one process, the base loaded once"


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How clients are reached. It is no part of a run's settings: all engines give the same weights up to rounding.

    Args:
        engine: local runs all clients in this process, one after the other; ray runs Flower's simulation, with some
            worker processes that keep a base each (pip install "reticent[federated]").
        workers: of ray. Each holds a base in memory.

    Raises:
        BadInput: another engine, or workers where there are none.

    Examples:
        >>> EngineConfig(engine="ray", workers=4).in_words
        "ray: Flower's simulation, 4 worker processes with a base each"
    """

    engine: str = "local"
    workers: int = 2

    def __post_init__(self) -> None:
        validate.one_of(ENGINES, engine=self.engine)
        validate.positive(workers=self.workers)
        validate.at_most(1024, workers=self.workers)
        if self.engine == "local" and self.workers != type(self).workers:
            raise BadInput(f"workers={self.workers}", "engine='local' is one process", "Give --engine ray.")

    @property
    def in_words(self) -> str:
        """For pages."""
        if self.engine == "local":
            return LOCAL
        return f"ray: Flower's simulation, {self.workers} worker processes with a base each"

    def check(self, spec: FederationSpec) -> None:
        """Refuse an engine that cannot be used, before anything is written.

        Args:
            spec: of the federation.

        Raises:
            BadInput: Flower or Ray is not installed or of another version, or factors are stacked.
        """
        if self.engine == "ray":
            from reticent.federated.flower import flower_switches

            spec.refuse_bases_apart(self.engine)
            flower_switches.ready(ray=True)


def engine_of(config: EngineConfig) -> Engine:
    """The engine itself.

    >>> engine_of(EngineConfig()).__name__
    'in_one_process'
    """
    from functools import partial

    from reticent.federated.client_engine import in_one_process

    if config.engine == "local":
        return in_one_process
    from reticent.federated.flower.ray_engine import over_ray

    return partial(over_ray, workers=config.workers)
