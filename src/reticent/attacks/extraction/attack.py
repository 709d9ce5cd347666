# SPDX-License-Identifier: Apache-2.0
"""What an extraction attack is: a pure function from evidence to how much of each unit was pulled out.

    @extraction("discoverable", access="text", paper="arXiv:2012.07805")
    def discoverable(forced: Forced) -> Scores:
        ...

Positional parameters are evidence, fields of `reticent.attacks.extraction.evidence.ExtractionInputs`:

=============  =======================================================================================  ============
name           evidence                                                                                 unit
=============  =======================================================================================  ============
``forced``     `Forced`: every secret after its whole prefix                                            target
``short``      ``{tokens: Forced}``: after the last few tokens of the prefix only                       target
``prompted``   ``{prompt: Forced}``: with a text before the prefix                                      target
``greedy``     `Written`: what greedy decoding writes in place of the secret                            target
``sampled``    `Written`: what sampling writes there                                                    target
``whole``      `Forced`: whole records                                                                  record
``drawn``      `Drawn`: different texts written from next to nothing                                    generation
=============  =======================================================================================  ============

Keyword-only parameters are hyper-parameters, each with a default. The function is run on what the fine-tuned model
gives and again on what the base gives; it cannot tell which. All evidence of one attack is about the same unit.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction.evidence import EVIDENCE, ExtractionInputs
from reticent.core.errors import BadInput
from reticent.core.finding import ACCESS
from reticent.core.registry import Registry

Scores: TypeAlias = npt.NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Scores])

_PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\S+|https://\S+")


@dataclass(frozen=True, kw_only=True)
class ExtractionAttack:
    """A registered extraction attack.

    Args:
        name: as the field names it.
        function: ``function(*evidence, **params) -> [N]`` float64 in [0, 1]: how much of each unit was pulled out. An
            attack on generations may leave out (NaN) those that the attacker would throw away.
        unit: ``"target"``, ``"record"`` or ``"generation"``.
        metric: ``"share"``: every score is 0 or 1, and their mean is a share of units. ``"mean"``: scores are degrees.
        partial: only a part of each unit is pulled out, by an attacker who has the rest.
        access: what the attacker sees of the model, one of ``core.finding.ACCESS``.
        paper: where it was published.
        evidence: names of the parameters.
        summary: first line of the function's docstring.
        defaults: the hyper-parameters it is run with.
    """

    name: str
    function: Callable[..., Scores]
    unit: str
    metric: str
    partial: bool
    access: str
    paper: str
    evidence: tuple[str, ...]
    summary: str
    defaults: Mapping[str, Any]

    @property
    def paper_url(self) -> str:
        """Link to the paper."""
        kind, _, number = self.paper.partition(":")
        return {"arXiv": f"https://arxiv.org/abs/{number}", "doi": f"https://doi.org/{number}"}.get(kind, self.paper)

    def can_run(self, evidence: ExtractionInputs) -> bool:
        """Whether all that it reads was made."""
        return all(evidence.has(name) for name in self.evidence)

    def score(self, evidence: ExtractionInputs) -> Scores:
        """``[N]`` in [0, 1], or NaN for generations that are thrown away.

        Raises:
            BadInput: the function gave something else.
        """
        scores = np.asarray(self.function(*(evidence.of(name) for name in self.evidence), **self.defaults))
        allowed = np.isnan(scores) if self.unit == "generation" else np.zeros(scores.shape, dtype=bool)
        good = allowed | ((scores >= 0) & (scores <= 1))
        if self.metric == "share":
            good &= allowed | np.isin(scores, (0, 1))
        if scores.ndim != 1 or not good.all():
            raise BadInput(
                f"attack {self.name!r}",
                f"gave {int((~good).sum())} numbers that say no {self.metric}",
                "An extraction attack returns one number from 0 to 1 for each unit.",
            )
        return scores.astype(np.float64, copy=False)


EXTRACTIONS: Registry[ExtractionAttack] = Registry("extraction attack", "reticent.attacks.extraction")


def extraction(
    name: str, *, access: str, paper: str, metric: str = "share", partial: bool = False
) -> Callable[[Function], Function]:
    """Register an extraction attack; the function itself stays what it is. See the module's docstring.

    Args:
        name: unique in the registry.
        access: what the attacker sees of the model.
        paper: ``"arXiv:NUMBER"``, ``"doi:NUMBER"`` or a link.
        metric: ``"share"`` or ``"mean"``.
        partial: only a part of each unit is pulled out, by an attacker who has the rest.

    Raises:
        TypeError: the function's parameters say something that cannot be had.
        ValueError: a setting that cannot be.
    """

    def register(function: Function) -> Function:
        if access not in ACCESS or metric not in ("share", "mean") or not _PAPER.fullmatch(paper):
            raise ValueError(f"attack {name!r}: access {access!r}, metric {metric!r} or paper {paper!r} cannot be")
        text = inspect.getdoc(function)
        if not text:
            raise ValueError(f"attack {name!r} needs a docstring: one line of what it computes")
        evidence, defaults = _signature(name, function)
        EXTRACTIONS.add(
            name,
            ExtractionAttack(
                name=name,
                function=function,
                unit=EVIDENCE[evidence[0]],
                metric=metric,
                partial=partial,
                access=access,
                paper=paper,
                evidence=evidence,
                summary=text.split("\n")[0],
                defaults=defaults,
            ),
        )
        return function

    return register


def _signature(name: str, function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """``(evidence, defaults)`` of a function."""
    evidence: list[str] = []
    defaults: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            evidence.append(parameter.name)
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.default is inspect.Parameter.empty:
            raise TypeError(f"attack {name!r}: {parameter} is neither evidence nor a hyper-parameter with a default")
        else:
            defaults[parameter.name] = parameter.default
    if not evidence or set(evidence) - set(EVIDENCE) or len({EVIDENCE[one] for one in evidence}) != 1:
        raise TypeError(
            f"attack {name!r} reads {evidence}: at least one of {', '.join(EVIDENCE)}, all about the same unit"
        )
    return tuple(evidence), defaults
