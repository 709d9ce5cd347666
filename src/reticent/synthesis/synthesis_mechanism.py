# SPDX-License-Identifier: Apache-2.0
"""The registry of mechanisms that make synthetic text, and what they are given and give.

    @mechanism("private_prediction", private="…", paper="arXiv:2507.02974", units=("record", "user"))
    def private_prediction(material: SynthesisMaterial) -> SynthesisPlan:
        ...

A plan is settled, and refused, before any model is loaded; all that is spent goes through `StepStore`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.core.promise_check import PromiseCheck
from reticent.core.record import Record
from reticent.core.registry import Registry
from reticent.core.synthesis import SynthesisRelease
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.spec import UNITS, PrivacySpec
from reticent.synthesis.step_store import StepStore
from reticent.synthesis.synthesis_promise import SynthesisPromise
from reticent.synthesis.synthesis_spec import SynthesisSpec

if TYPE_CHECKING:
    from reticent.models.load import LoadedModel


@dataclass(frozen=True, kw_only=True)
class SynthesisMaterial:
    """Private records, and what shall be made of them.

    Args:
        records: with unique ids.
        spec: all settings.
        key: 32 secret bytes that batches, noise and coins follow from.
    """

    records: Sequence[Record]
    spec: SynthesisSpec
    key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthesisTools:
    """The means by which a plan is carried out.

    Args:
        load: the public model.
        store: of the steps that are spent.
        tune: trains the public model on records, under a promise or, where none is given, without; gives the folder of
            the model and the promise that it carries.
        load_tuned: a model out of its folder.
        advance: told how many texts are done, as they are.
    """

    load: Callable[[], LoadedModel]
    store: StepStore
    tune: Callable[[PrivacySpec, Sequence[Record]], tuple[Path, PrivacyGuarantee | None]]
    load_tuned: Callable[[Path], LoadedModel]
    advance: Callable[[int], None] = lambda texts: None


@dataclass(frozen=True, kw_only=True)
class SynthesisOutcome:
    """Texts, and what holds of them.

    Args:
        texts: as many as were asked for.
        promise: None where nothing is promised.
        releases: what left the private data, and how it is covered.
        checks: of the self-check.
        topics: that the texts are about, one for each; none where none were given.
    """

    texts: tuple[str, ...]
    promise: SynthesisPromise | None
    releases: tuple[SynthesisRelease, ...]
    checks: tuple[PromiseCheck, ...] = ()
    topics: tuple[str, ...] = ()


class SynthesisPlan(Protocol):
    """A settled mechanism."""

    @property
    def steps(self) -> int:
        """Number of steps that are accounted for."""
        ...

    @property
    def about(self) -> Mapping[str, Any]:
        """All numbers that its cost depends on, for the ledger."""
        ...

    @property
    def units(self) -> int:
        """Number of units that are protected."""
        ...

    def write(self, tools: SynthesisTools) -> SynthesisOutcome:
        """Make the texts."""
        ...


@dataclass(frozen=True, kw_only=True)
class SynthesisMechanism:
    """One mechanism.

    Args:
        name: as the setting names it, and the name of its file.
        summary: one sentence.
        private: where chance or noise protects.
        paper: where it was published.
        units: whose traces it can hide; none where it promises nothing.
        settle: ``(material) -> plan``; refuses what it cannot keep.
        tunes: whether its texts come from a model that is tuned, in a run folder with coins of its own.
    """

    name: str
    summary: str
    private: str
    paper: str
    units: tuple[str, ...]
    settle: Callable[[SynthesisMaterial], SynthesisPlan]
    tunes: bool = False

    def __post_init__(self) -> None:
        Paper(self.paper)
        if not set(self.units) <= set(UNITS):
            raise ValueError(f"{self.name}: units {self.units} are not of {UNITS}")

    @property
    def promises(self) -> bool:
        """True if its texts carry differential privacy."""
        return bool(self.units)

    def check(self, spec: SynthesisSpec) -> None:
        """Refuse a promise that it cannot make, or none where it makes one, and counts that it does not make.

        Raises:
            BadInput: it is so.
        """
        if not self.promises and (spec.epsilon is not None or spec.delta is not None):
            raise BadInput(
                f"epsilon={spec.epsilon}, delta={spec.delta} with mechanism={self.name!r}",
                "promises nothing, so no ε holds for its texts",
                "Leave both out, or choose a mechanism that promises: private_prediction, private_evolution, dp_tune.",
            )
        if self.promises and spec.epsilon is None:
            raise BadInput(
                f"mechanism={self.name!r}",
                "keeps a promise, and none was given",
                "Give --epsilon 8 or less. Texts without any promise are made by --mechanism none alone.",
            )
        if spec.condition != "none" and not self.tunes:
            raise BadInput(
                f"condition={spec.condition!r} with mechanism={self.name!r}",
                "counts the prompts or lengths of what a model is tuned on, and this mechanism tunes none",
                "Give --mechanism dp_tune, or leave --condition out.",
            )
        if self.promises and spec.unit not in self.units:
            raise BadInput(
                f"unit={spec.unit!r} with mechanism={self.name!r}",
                "is no unit that it hides",
                f"Give --unit {' or '.join(self.units)}.",
            )


MECHANISMS: Registry[SynthesisMechanism] = Registry("synthesis mechanism", "reticent.synthesis.mechanisms")


def mechanism(
    name: str, *, private: str, paper: str, units: tuple[str, ...], tunes: bool = False
) -> Callable[[Callable[[SynthesisMaterial], SynthesisPlan]], Callable[[SynthesisMaterial], SynthesisPlan]]:
    """Register a mechanism; the first sentence of its docstring is its summary.

    Args:
        name, private, paper, units, tunes: as in `SynthesisMechanism`.
    """

    def register(settle: Callable[[SynthesisMaterial], SynthesisPlan]) -> Callable[[SynthesisMaterial], SynthesisPlan]:
        summary = (inspect.getdoc(settle) or "").split("\n\n")[0].replace("\n", " ")
        MECHANISMS.add(
            name,
            SynthesisMechanism(
                name=name, summary=summary, private=private, paper=paper, units=units, settle=settle, tunes=tunes
            ),
        )
        return settle

    return register
