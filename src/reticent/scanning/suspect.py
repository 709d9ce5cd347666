# SPDX-License-Identifier: Apache-2.0
"""The suspect: a folder that is about to be trusted, and its controls. Models are loaded only when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from reticent.core.errors import BadInput
from reticent.core.record import Record

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel

ADAPTER_FILE = "adapter_config.json"
NEEDS = ("base", "data", "adapter", "whole", "prompts")
"""Parts that a scanner may need: a trusted sibling, private texts, that the suspect is an adapter, that it is a whole
model, clean prompts with answers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspect:
    """A model or adapter to be looked at.

    Args:
        folder: of the suspect, resolved.
        base: folder of a trusted sibling: for an adapter the base that it belongs to, for a whole model an earlier
            revision or what it claims to be made from; None without one.
        data: private texts that are to be trained on; empty without any.
        controls: texts that the publisher cannot have had; empty without any.
        prompts: clean prompts with answers, of the task that the suspect is for; empty without any.
        cache: content-addressed folder for token tables; it holds token ids of private text.
        dtype, device: of models, as in `reticent.models.load.load`.
        seed: of all that is drawn.
        beside: a suspect that this one is compared with, whose loaded sibling serves both; None without one.
    """

    folder: Path
    base: Path | None = None
    data: Sequence[Record] = ()
    controls: Sequence[Record] = ()
    prompts: Sequence[Record] = ()
    cache: Path
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0
    beside: Suspect | None = None

    def alike(self, folder: Path) -> Suspect:
        """Another model that is asked about the same texts, with the same seed and the same sibling, loaded once."""
        return replace(self, folder=folder, beside=self)

    def release(self) -> None:
        """Let go of the loaded model; it is loaded again where it is asked for again. The sibling stays."""
        self.__dict__.pop("loaded", None)

    @property
    def is_adapter(self) -> bool:
        """True for a folder of an adapter, which has no weights of a base."""
        return (self.folder / ADAPTER_FILE).is_file()

    def missing(self, needs: Sequence[str]) -> str:
        """The first of ``needs`` that this suspect lacks, in words; empty where it has them all."""
        words = {
            "base": (self.base is not None, "no trusted sibling was given (--base)"),
            "data": (bool(self.data), "no private texts were given (--data)"),
            "prompts": (bool(self.prompts), "no clean prompts with answers were given (--prompts)"),
            "adapter": (self.is_adapter, "the suspect is a whole model, no adapter"),
            "whole": (not self.is_adapter, "the suspect is an adapter, no whole model"),
        }
        return next((words[need][1] for need in needs if not words[need][0]), "")

    @cached_property
    def loaded(self) -> LoadedModel:
        """The suspect, loaded once: only safetensors, no code of its own.

        Raises:
            BadInput: it cannot be loaded.
        """
        from reticent.models.load import load

        return load(str(self.folder), dtype=self.dtype, device=self.device)

    @cached_property
    def sibling(self) -> LoadedModel:
        """The trusted sibling, loaded once.

        Raises:
            BadInput: there is none, or it cannot be loaded.
        """
        from reticent.models.load import load

        if self.base is None:
            raise BadInput("the scan", "has no trusted sibling to compare with", "Give one with --base.")
        if self.beside is not None and self._same_sibling(self.beside):
            return self.beside.sibling
        return load(str(self.base), dtype=self.dtype, device=self.device)

    def _same_sibling(self, other: Suspect) -> bool:
        return (self.base, self.dtype, self.device) == (other.base, other.dtype, other.device)
