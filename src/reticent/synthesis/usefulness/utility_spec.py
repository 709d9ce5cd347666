# SPDX-License-Identifier: Apache-2.0
"""UtilitySpec: how the usefulness of synthetic text is measured. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput

FEWEST = 8
"""Texts that a model learns from, and real held-out ones that it is judged on, below which nothing is said."""


@dataclass(frozen=True, kw_only=True)
class UtilitySpec:
    """Settings of a measurement of usefulness.

    Args:
        texts: texts that each model learns from, the same number for all; left out, as many as the smallest of all
            sources has.
        judged_on: most real held-out texts that models are judged on, chosen by chance.
        utility_seed: of that choice, of the groups of texts and of the intervals.

    Raises:
        BadInput: out of range.

    Examples:
        >>> UtilitySpec(texts=200).judged_on
        1000
    """

    texts: int | None = None
    judged_on: int = 1000
    utility_seed: int = 0

    def __post_init__(self) -> None:
        validate.positive(judged_on=self.judged_on)
        validate.non_negative(utility_seed=self.utility_seed)
        validate.at_most(2**32 - 1, utility_seed=self.utility_seed)
        for name, value in (("texts", self.texts), ("judged_on", self.judged_on)):
            if value is not None and value < FEWEST:
                raise BadInput(f"{name}={value}", f"is too few to say anything ({FEWEST} at least)", "Give 200.")

    @property
    def on_record(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class RealFiles:
    """Files of real text, where no run folder says which was read.

    Args:
        members: real records that the texts were made from.
        held_out: real records that they were not made from.

    Examples:
        >>> RealFiles().given
        False
    """

    members: str | None = None
    held_out: str | None = None

    @property
    def given(self) -> bool:
        """True if a person named any."""
        return bool(self.members or self.held_out)
