# SPDX-License-Identifier: Apache-2.0
"""What an attack on personal data is: a pure function from evidence to a rank or a hit for each true value.

    @pii_attack("pii_inference", gives="rank", access="logprob", paper="arXiv:2302.00539")
    def inference(ranked: Ranked) -> Scores:
        ...

Positional parameters are evidence. The function is run on what the fine-tuned model gives and again on what the base
gives, and cannot tell which; an attacker who holds both reads ``ranked_base`` beside ``ranked``.

===============  =========================================================================
name             evidence
===============  =========================================================================
``ranked``       `Ranked`: candidates in the place of a value, in its own text
``ranked_base``  `Ranked`: the same from the base
``associated``   `Ranked`: candidates at the end of a sentence that asks for them
``proposed``     `Proposed`: what the model proposes for the place, in its own text
``answered``     `Answered`: what it says when it is asked
``listed``       `Listed`: what it writes without being asked
===============  =========================================================================
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.finding import ACCESS
from reticent.core.registry import Registry

Scores: TypeAlias = npt.NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Scores])

EVIDENCE = ("ranked", "ranked_base", "associated", "proposed", "answered", "listed")

_PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\S+|https://\S+")


@dataclass(frozen=True, kw_only=True)
class PiiAttack:
    """A registered attack on personal data.

    Args:
        name: of the attack.
        function: ``function(*evidence) -> [N]`` float64.
        gives: ``"rank"``: of each true value, 1 = best, infinite where it was not among the candidates. ``"hit"``: 1
            where it came out, else 0.
        access: what the attacker sees of the model, one of ``core.finding.ACCESS``.
        paper: where it was published.
        evidence: names of the parameters.
        summary: first line of the function's docstring.
    """

    name: str
    function: Callable[..., Scores]
    gives: str
    access: str
    paper: str
    evidence: tuple[str, ...]
    summary: str

    @property
    def holds_base(self) -> bool:
        """Whether the attacker reads the base too, so that it cannot be run on the base for comparison."""
        return "ranked_base" in self.evidence

    def score(self, evidence: Mapping[str, Any]) -> Scores:
        """``[N]`` ranks or hits.

        Raises:
            BadInput: the function gave something else.
        """
        scores = np.asarray(self.function(*(evidence[name] for name in self.evidence)), dtype=np.float64)
        good = scores >= 1 if self.gives == "rank" else np.isin(scores, (0, 1))
        if scores.shape != (len(evidence[self.evidence[0]]),) or not good.all():
            raise BadInput(
                f"attack {self.name!r}",
                f"gave {int((~good).sum())} numbers that are no {self.gives}",
                "An attack on personal data gives one rank or hit for each true value.",
            )
        return scores


PII_ATTACKS: Registry[PiiAttack] = Registry("attack on personal data", "reticent.attacks.pii")


def pii_attack(name: str, *, gives: str, access: str, paper: str) -> Callable[[Function], Function]:
    """Register an attack; the function itself stays what it is. See the module's docstring.

    Args:
        name: unique in the registry.
        gives: ``"rank"`` or ``"hit"``.
        access: what the attacker sees of the model.
        paper: ``"arXiv:NUMBER"``, ``"doi:NUMBER"`` or a link.

    Raises:
        TypeError: the function's parameters say something that cannot be had.
        ValueError: a setting that cannot be.
    """

    def register(function: Function) -> Function:
        if gives not in ("rank", "hit") or access not in ACCESS or not _PAPER.fullmatch(paper):
            raise ValueError(f"attack {name!r}: gives {gives!r}, access {access!r} or paper {paper!r} cannot be")
        text = inspect.getdoc(function)
        if not text:
            raise ValueError(f"attack {name!r} needs a docstring: one line of what it computes")
        evidence = tuple(inspect.signature(function).parameters)
        if not evidence or set(evidence) - set(EVIDENCE):
            raise TypeError(f"attack {name!r} reads {evidence}: its parameters are some of {', '.join(EVIDENCE)}")
        PII_ATTACKS.add(
            name,
            PiiAttack(
                name=name,
                function=function,
                gives=gives,
                access=access,
                paper=paper,
                evidence=evidence,
                summary=text.split("\n")[0],
            ),
        )
        return function

    return register
