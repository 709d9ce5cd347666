# SPDX-License-Identifier: Apache-2.0
"""One of the two models of an audit, as it is to answer, and the key that says which numbers it gives."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
import transformers

from reticent.core.schema import SCHEMA_VERSION
from reticent.models.load import LoadedModel
from reticent.score.cache import key_of
from reticent.score.engine import Choices, Engine, ScoreOptions, choose, open_engine

VERSION = 3
"""Version of tables in the cache. Increment when the same inputs give other tables."""


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """One of the two models of an audit, as it is to answer.

    Args:
        loaded: what is in memory.
        off: whether its adapter is switched off.
        options: how it scores.
    """

    loaded: LoadedModel
    off: bool
    options: ScoreOptions

    @property
    def name(self) -> str:
        return f"the base of {self.loaded.source}" if self.off else self.loaded.source

    @property
    def key(self) -> str:
        """Identifies weights, type, device and the libraries that do the arithmetic."""
        loaded = self.loaded
        weights = (loaded.base_fingerprint or f"{loaded.fingerprint}/off") if self.off else loaded.fingerprint
        place = torch.device(loaded.device).type
        return key_of(
            VERSION, SCHEMA_VERSION, weights, loaded.dtype, place, torch.__version__, transformers.__version__
        )

    def answering(self) -> AbstractContextManager[None]:
        """Within this context the model answers as this side."""
        return self.loaded.adapter_off() if self.off else nullcontext()

    @cached_property
    def choices(self) -> Choices:
        """Known without running the model, so that a table that is there already is found at once."""
        return choose(self.loaded.model, self.name, self.options)

    @cached_property
    def engine(self) -> Engine:
        with self.answering():
            return open_engine(self.loaded.model, self.name, self.options)
