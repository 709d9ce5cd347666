# SPDX-License-Identifier: Apache-2.0
"""Open the target and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.auditing.subject import Subject
from reticent.core.errors import BadInput
from reticent.models.load import Loaded, load


@dataclass(frozen=True, kw_only=True, eq=False)
class Models:
    """The target, and the reference where there is one.

    ``reference`` is None also when the target is an adapter that is switched off to serve as its own reference: then
    ``compared_with`` still names the base.
    """

    target: Loaded
    reference: Loaded | None
    compared_with: str | None

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of the models."""
        said = {
            "target_fingerprint": self.target.fingerprint,
            "reference": None if self.compared_with is None else _name(self.compared_with),
            "reference_fingerprint": self.target.base_fingerprint,
            "dtype": self.target.dtype,
            "device": self.target.device,
        }
        if self.reference is not None:
            said["reference_fingerprint"] = self.reference.fingerprint
        return said


def _name(source: str) -> str:
    """What a report calls a model: the name of its folder, not the place; hub ids and catalogue names as they are."""
    place = Path(source).expanduser()
    return place.resolve().name if place.is_absolute() or place.is_dir() else source


def open_models(subject: Subject, *, dtype: str, device: str) -> Models:
    """Load the target and the reference; an adapter is its own reference (one copy in memory).

    The reference is the one named by the subject, else the base that the target says it was tuned from. A target that
    names no base, or whose base cannot be had, is audited without one.

    Raises:
        BadInput: a model cannot be loaded, or the two do not share a vocabulary.
    """
    target = load(subject.target, dtype=dtype, device=device)
    wanted = subject.reference or target.base_source
    if target.is_adapter and wanted in (None, target.base_source):
        return Models(target=target, reference=None, compared_with=target.base_source or "the adapter's base")
    if wanted is None:
        return Models(target=target, reference=None, compared_with=None)
    try:
        reference = load(wanted, dtype=dtype, device=device)
    except BadInput:
        if subject.reference is not None:
            raise
        return Models(target=target, reference=None, compared_with=None)
    _same_vocabulary(target, reference)
    return Models(target=target, reference=reference, compared_with=wanted)


def _same_vocabulary(target: Loaded, reference: Loaded) -> None:
    if target.tokenizer.get_vocab() != reference.tokenizer.get_vocab():
        raise BadInput(
            f"reference {reference.source}",
            "its tokenizer has another vocabulary than the target's, so tokens cannot be compared",
            "Give the model that the target was fine-tuned from (--reference).",
        )
