# SPDX-License-Identifier: Apache-2.0
"""Attack: a pure function whose parameter names say which evidence it reads, and the registry of all of them.

    @attack("min_k", unit="record", returns="score", needs=("logp",), access="logprob", paper="arXiv:2310.16789")
    def min_k(table: TokenTable, *, k: Share = 0.2) -> Scores:
        ...

Positional parameters are evidence: names of `reticent.attacks.evidence.EVIDENCE`, or of the attack's own ``variants``
(the target on that rendering of the attacked records; with ``_ref`` behind the name, the reference on it). One with the
default None may be missing. All evidence of one attack comes from one source.

Keyword-only parameters are hyper-parameters, each with a default; ``--attacks "min_k(k=0.1)"`` sets them.

``unit`` says what one number is about, ``returns`` what kind of number it is. Attacks on secrets and generations run on
what the fine-tuned model gives and again on what the base gives, and cannot tell which.

Token tables arrive narrowed to the tokens that are trained on, and every row has at least one; a table of a variant
with ``c`` copies has ``c`` adjacent rows for each record. Given ``known`` and ``known_ref`` such an attack is row-wise:
the score of a record depends on its own rows only, so that the runner may feed it row group by row group.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from reticent.attacks.evidence import (
    FAMILY_OF,
    OF_BASE,
    POPULATION,
    RETURNS,
    SHADOWS,
    UNITS,
    UNSCORED,
    WRITES,
    Returns,
    Unit,
)
from reticent.attacks.parameter import Parameter, parameters_of, shown
from reticent.attacks.signature import (
    VARIANTS,
    EvidenceSet,
    check_evidence,
    check_settings,
    check_variants,
    request_of,
    rows_of,
    signature,
    source_of,
)
from reticent.core.errors import BadInput
from reticent.core.finding import ACCESS
from reticent.core.paper import Paper
from reticent.core.registry import Registry
from reticent.core.schema import TOKEN_COLUMNS
from reticent.score.requests import Request, Variant

Scores: TypeAlias = npt.NDArray[np.float64]
EdgeCases: TypeAlias = Callable[..., Mapping[str, int]]
Function = TypeVar("Function", bound=Callable[..., Scores])


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A registered attack.

    Args:
        name: as the field names it.
        unit: what one number is about, a key of ``evidence.UNITS``. Of attacks on users: the record's evidence about
            its user, to be aggregated over the user's records (``attacks.user.aggregate``).
        returns: what the numbers are, a key of ``evidence.RETURNS``.
        function: ``function(*evidence, **params) -> [N]`` float64.
        access: what the attacker sees of the target, one of ``core.finding.ACCESS``.
        paper: where it was published.
        needs: token columns that are read (``loss_mask`` always is).
        evidence: names, in the order of the function's parameters.
        optional: those of them that may be missing.
        requests: what has to be scored on the attacked records.
        summary: first line of the function's docstring.
        parameters: the hyper-parameters that it has, by name.
        params: the values that it is run with.
        edge_cases: counts the rows that hit a special case; same parameters as ``function``.
        by_name: why it only runs when it is asked for; empty: the standard choice has it if it needs no extra pass.
        partial: only a part of each unit is pulled out, by an attacker who has the rest.
    """

    name: str
    unit: Unit
    returns: Returns
    function: Callable[..., Scores]
    access: str
    paper: Paper
    needs: tuple[str, ...]
    evidence: tuple[str, ...]
    optional: tuple[str, ...]
    requests: tuple[Request, ...]
    summary: str
    parameters: Mapping[str, Parameter]
    params: Mapping[str, Any]
    edge_cases: EdgeCases | None = None
    by_name: str = ""
    partial: bool = False

    @property
    def source(self) -> str:
        """How its evidence comes about."""
        return source_of(self.evidence)

    @property
    def family(self) -> str:
        """The part of an audit that makes its evidence and runs it, a key of ``evidence.ATTACK_FAMILIES``."""
        return FAMILY_OF[self.source]

    @property
    def streamed(self) -> tuple[str, ...]:
        """Evidence about the attacked units themselves."""
        return tuple(name for name in self.evidence if name not in POPULATION)

    @property
    def writes(self) -> bool:
        """Models have to write about every record for it."""
        return self.source == WRITES

    @property
    def shadowed(self) -> bool:
        """Models have to be trained for it."""
        return self.source == SHADOWS

    @property
    def holds_base(self) -> bool:
        """The attacker reads the base too, so that it cannot be run on the base for comparison."""
        return bool(set(OF_BASE) & set(self.evidence))

    @property
    def requires(self) -> frozenset[str]:
        """Names of all that must be there beyond target and records: "reference", "population", "known_held_out",
        "known_members", "users", "shadows"."""
        of_variants = {need for request in self.requests for need in request.variant.needs}
        of_reference = "written_ref" in self.evidence or "reference" in {request.model for request in self.requests}
        needed = {
            "reference": "propose" in of_variants or of_reference,
            "population": bool(set(POPULATION) & set(self.evidence)),
            "shadows": self.shadowed,
            "users": self.unit == "user",
        }
        return frozenset({need for need, is_needed in needed.items() if is_needed} | (of_variants - {"propose"}))

    @property
    def copies(self) -> dict[str, int]:
        """Rows for each record in each table that is scored on the attacked records."""
        return {request.name: request.variant.copies for request in self.requests}

    @property
    def changed(self) -> dict[str, Any]:
        """Parameters that are not at their defaults."""
        return {name: value for name, value in self.params.items() if value != self.parameters[name].default}

    @property
    def lacks(self) -> tuple[Parameter, ...]:
        """Parameters whose file has to be given before the attack can run, and was not."""
        return tuple(item for name, item in self.parameters.items() if item.lacking(self.params.get(name)))

    @property
    def described(self) -> str:
        """The summary, and the parameters that are not at their defaults."""
        told = [
            f"{name} = {shown(value)} in place of {shown(self.parameters[name].default)}"
            for name, value in self.changed.items()
        ]
        return f"{self.summary} With {', '.join(told)}." if told else self.summary

    def with_params(self, **params: Any) -> Attack:
        """The same attack with other values of its parameters.

        Raises:
            BadInput: a parameter that the attack does not have, or a value that it cannot have.
        """
        for name in params:
            if name not in self.parameters:
                near = difflib.get_close_matches(name, self.parameters, n=1, cutoff=0.4)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                has = ", ".join(f"{key} ({item.words})" for key, item in self.parameters.items()) or "no parameters"
                raise BadInput(f"{self.name}: {name[:80]!r}", "is no parameter of this attack", f"{hint}It has: {has}.")
        read = {name: self.parameters[name].read(self.name, value) for name, value in params.items()}
        return replace(self, params={**self.params, **read})

    def can_run(self, evidence: EvidenceSet) -> bool:
        """All that it reads is there."""
        return all(rows_of(evidence.get(name)) for name in self.evidence if name not in self.optional)

    def score(self, evidence: EvidenceSet) -> Scores:
        """One number for each unit, ``[N]``; tables must be narrowed to trained tokens, each row with at least one.

        An attack on generations may leave out (NaN) those that the attacker would throw away, and one that learns from
        labels those that it learned from.

        Raises:
            BadInput: the function gave something else than one such number for each unit.
        """
        given = [evidence.get(name) for name in self.evidence]
        scores = np.asarray(self.function(*given, **self.params))
        count = rows_of(evidence.get(self.streamed[0])) // self.copies.get(self.streamed[0], 1)
        allowed = np.isnan(scores) & (self.unit == "generation" or self.family == "scores")
        wrong = ~(allowed | _GOOD[self.returns](scores))
        if scores.shape != (count,) or wrong.any():
            raise BadInput(
                f"attack {self.name!r}",
                f"gave {int(wrong.sum())} numbers that are no {self.returns} ({np.isnan(scores).sum()} NaN), "
                f"in shape {scores.shape} for {count} {self.unit}s",
                f"It has to return for each {self.unit}: {RETURNS[self.returns]}.",
            )
        return scores.astype(np.float64, copy=False)


_GOOD: Mapping[str, Callable[[Scores], npt.NDArray[np.bool_]]] = {
    "score": lambda scores: ~np.isnan(scores),
    "hit": lambda scores: np.isin(scores, (0, 1)),
    "share": lambda scores: (scores >= 0) & (scores <= 1),
    "rank": lambda scores: scores >= 1,
}


ATTACKS: Registry[Attack] = Registry("attack", "reticent.attacks")
"""All attacks. ``ATTACKS.select(unit="secret")`` gives those on secrets, ``select(family="membership")`` those that
``--attacks`` chooses from."""


def attack(
    name: str,
    *,
    unit: Unit,
    returns: Returns,
    access: str,
    paper: str,
    needs: tuple[str, ...] = (),
    variants: Mapping[str, Variant] | None = None,
    edge_cases: EdgeCases | None = None,
    by_name: str = "",
    partial: bool = False,
) -> Callable[[Function], Function]:
    """Register an attack; the function itself stays what it is. See the module's docstring for its signature.

    Args:
        name: unique in the registry.
        unit: ``"record"``, ``"user"``, ``"secret"`` or ``"generation"``: what one number is about.
        returns: ``"score"``, ``"hit"``, ``"share"`` or ``"rank"``.
        access: what the attacker sees of the target.
        paper: ``"arXiv:NUMBER"``, ``"doi:10.PREFIX/SUFFIX"`` or a link.
        needs: token columns that the function reads, where it reads tables.
        variants: renderings of the records that the function names among its parameters.
        edge_cases: ``(same parameters) -> {what happened: rows}``; becomes notes of the finding.
        by_name: why the standard choice leaves it out; empty where it does not.
        partial: only a part of each unit is pulled out, by an attacker who has the rest.

    Raises:
        TypeError: the function's parameters say something that cannot be had.
        ValueError: a setting that cannot be.
    """

    def register(function: Function) -> Function:
        text = inspect.getdoc(function)
        if not text:
            raise ValueError(f"attack {name!r} needs a docstring: one line of what it computes, then its direction")
        check_settings(name, unit=(unit, UNITS), returns=(returns, RETURNS), access=(access, ACCESS))
        published = Paper(paper)
        if set(needs) - set(TOKEN_COLUMNS):
            raise ValueError(f"attack {name!r} needs {sorted(needs)}, tables have {sorted(TOKEN_COLUMNS)}")
        evidence, defaults = signature(name, function)
        renderings = check_variants(name, variants or {})
        requests = tuple(request_of(name, item, renderings) for item in evidence if item not in UNSCORED)
        check_evidence(name, unit, tuple(evidence))
        if edge_cases is not None and signature(name, edge_cases) != (evidence, defaults):
            raise TypeError(f"attack {name!r}: edge_cases must have the same parameters as the attack")
        entry = Attack(
            name=name,
            unit=unit,
            returns=returns,
            function=function,
            access=access,
            paper=published,
            needs=needs,
            evidence=tuple(evidence),
            optional=tuple(item for item, may_be_missing in evidence.items() if may_be_missing),
            requests=requests,
            summary=text.split("\n")[0],
            parameters=parameters_of(function, defaults),
            params=defaults,
            edge_cases=edge_cases,
            by_name=by_name,
            partial=partial,
        )
        entry.with_params(**defaults)  # a default that its own type or range refuses is a slip of whoever wrote it
        ATTACKS.add(name, entry)
        VARIANTS.update(renderings)
        return function

    return register
