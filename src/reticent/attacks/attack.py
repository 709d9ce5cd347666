# SPDX-License-Identifier: Apache-2.0
"""What an attack is: a pure function whose parameter names say which tables it reads, and how such functions are run.

    @attack("min_k", needs=("logp",), access="logprob", paper="arXiv:2310.16789")
    def min_k(table: TokenTable, *, k: float = 0.2) -> Scores:
        ...

Positional parameters are evidence:

===============  ======================================================================================
name             table
===============  ======================================================================================
``table``        the target (the fine-tuned model) on the plain text of the attacked records
``ref``          the reference (by default the base it was tuned from) on the same text
``known``        the target on texts that the attacker knows to be outside the training data
``known_ref``    the reference on those
``written``      `Continuations`: what the target writes after the beginning of each attacked record
``written_ref``  the same from the reference
*variant*        the target on that rendering of the attacked records, for a variant given in ``variants``
*variant* _ref   the reference on it
``shadow``       `ShadowScores`: target and shadow models on each attacked record
``known_shadow`` the same on texts that the attacker knows to be outside
===============  ======================================================================================

Keyword-only parameters are hyper-parameters, each with a default. Tables arrive narrowed to the tokens that are trained
on, and every row has at least one; a table of a variant with ``c`` copies has ``c`` adjacent rows for each record.
Given ``known`` and ``known_ref`` an attack is row-wise: the score of a record depends on its own rows only, so that the
runner may feed it row group by row group. An attack that reads what models write, or shadow models, reads no table.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from reticent.attacks.continuations import Continuations
from reticent.attacks.shadow_models import ShadowScores
from reticent.attacks.stream import aligned, population, record_count
from reticent.core.errors import BadInput
from reticent.core.finding import ACCESS
from reticent.core.progress import progress
from reticent.core.registry import Registry
from reticent.core.schema import TOKEN_COLUMNS
from reticent.core.table import TokenTable
from reticent.score.requests import PLAIN, Request, Variant

Scores: TypeAlias = npt.NDArray[np.float64]
Evidence: TypeAlias = TokenTable | Continuations | ShadowScores
EdgeCases: TypeAlias = Callable[..., Mapping[str, int]]
Function = TypeVar("Function", bound=Callable[..., Scores])

POPULATION = ("known", "known_ref", "known_shadow")
"""Evidence about texts that are not attacked themselves."""

SHADOWED = ("shadow", "known_shadow")
"""Evidence for which models are trained."""

WRITTEN = ("written", "written_ref")
"""Evidence for which models write."""

UNSCORED = {*POPULATION, *WRITTEN, *SHADOWED}
"""Evidence that is no table of the attacked records."""

_PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\S+|https://\S+")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A registered attack.

    Args:
        name: as the field names it.
        level: ``"record"``: one score says how likely a record was trained on. ``"user"``: the record's evidence about
            its user, to be aggregated over the user's records (``attacks.user.aggregate``).
        function: ``function(*tables, **params) -> [N]`` float64, higher = member.
        access: what the attacker sees of the target, one of ``core.finding.ACCESS``.
        paper: where it was published.
        needs: token columns that are read (``loss_mask`` always is).
        evidence: names of the tables, in the order of the function's parameters.
        requests: what has to be scored on the attacked records.
        summary: first line of the function's docstring.
        defaults: the hyper-parameters it is run with.
        edge_cases: counts the rows that hit a special case; same parameters as ``function``.
        by_name: why it only runs when it is asked for; empty: the standard choice has it if it needs no extra pass.
    """

    name: str
    level: Literal["record", "user"]
    function: Callable[..., Scores]
    access: str
    paper: str
    needs: tuple[str, ...]
    evidence: tuple[str, ...]
    requests: tuple[Request, ...]
    summary: str
    defaults: Mapping[str, Any]
    edge_cases: EdgeCases | None = None
    by_name: str = ""

    @property
    def paper_url(self) -> str:
        """Link to the paper."""
        kind, _, number = self.paper.partition(":")
        return {"arXiv": f"https://arxiv.org/abs/{number}", "doi": f"https://doi.org/{number}"}.get(kind, self.paper)

    @property
    def streamed(self) -> tuple[str, ...]:
        """Evidence about the attacked records themselves."""
        return tuple(name for name in self.evidence if name not in POPULATION)

    @property
    def writes(self) -> bool:
        """Whether models have to write for it."""
        return bool(set(WRITTEN) & set(self.evidence))

    @property
    def shadowed(self) -> bool:
        """Whether models have to be trained for it."""
        return bool(set(SHADOWED) & set(self.evidence))

    @property
    def requires(self) -> frozenset[str]:
        """What must be there beyond the target and the records: "reference", "population", "known_held_out",
        "known_members", "users", "shadows"."""
        needed: set[str] = {need for request in self.requests for need in request.variant.needs}
        found: set[str] = needed - {"propose"}
        of_reference = "written_ref" in self.evidence or "reference" in {request.model for request in self.requests}
        if "propose" in needed or of_reference:
            found.add("reference")
        if set(POPULATION) & set(self.evidence):
            found.add("population")
        if self.shadowed:
            found.add("shadows")
        if self.level == "user":
            found.add("users")
        return frozenset(found)

    def with_params(self, **params: Any) -> Attack:
        """The same attack with other hyper-parameters.

        Raises:
            BadInput: a hyper-parameter that the attack does not have.
        """
        unknown = sorted(set(params) - set(self.defaults))
        if unknown:
            known = ", ".join(self.defaults) or "none"
            raise BadInput(f"{self.name}: {unknown[0]!r}", "is no parameter of this attack", f"It has: {known}.")
        return replace(self, defaults={**self.defaults, **params})

    def score(self, tables: Mapping[str, Evidence]) -> Scores:
        """One score for each record, ``[N]``, from tables narrowed to trained tokens, each row with at least one, from
        what models wrote, or from shadow models.

        Raises:
            BadInput: the function gave something else than one number for each record.
        """
        scores = np.asarray(self.function(*(tables[name] for name in self.evidence), **self.defaults))
        count = len(tables[self.streamed[0]]) // self.copies.get(self.streamed[0], 1)
        if scores.shape != (count,) or np.isnan(scores).any():
            raise BadInput(
                f"attack {self.name!r}",
                f"gave {np.isnan(scores).sum()} NaN and shape {scores.shape} for {count} records",
                "An attack returns one number for each record.",
            )
        return scores.astype(np.float64, copy=False)

    @property
    def copies(self) -> dict[str, int]:
        """Rows for each record in each table that is scored on the attacked records."""
        return {request.name: request.variant.copies for request in self.requests}


ATTACKS: Registry[Attack] = Registry("attack", "reticent.attacks", ("membership", "shadow", "user"))

_variants: dict[str, Variant] = {}
"""Every variant that a registered attack uses, so that one name never means two renderings."""


def attack(
    name: str,
    *,
    needs: tuple[str, ...],
    access: str,
    paper: str,
    level: Literal["record", "user"] = "record",
    variants: Mapping[str, Variant] | None = None,
    edge_cases: EdgeCases | None = None,
    by_name: str = "",
) -> Callable[[Function], Function]:
    """Register an attack; the function itself stays what it is. See the module's docstring for its signature.

    Args:
        name: unique in the registry.
        needs: token columns that the function reads.
        access: what the attacker sees of the target.
        paper: ``"arXiv:NUMBER"``, ``"doi:NUMBER"`` or a link.
        level: ``"record"`` or ``"user"``.
        variants: renderings of the records that the function names among its parameters.
        edge_cases: ``(same parameters) -> {what happened: rows}``; becomes notes of the finding.
        by_name: why the standard choice leaves it out; empty where it does not.

    Raises:
        TypeError: the function's parameters say something that cannot be had.
        ValueError: a setting that cannot be.
    """

    def register(function: Function) -> Function:
        _check_settings(name, needs, access, paper, function)
        evidence, defaults = _signature(name, function)
        known = _check_variants(name, variants or {})
        if edge_cases is not None and _signature(name, edge_cases) != (evidence, defaults):
            raise TypeError(f"attack {name!r}: edge_cases must have the same parameters as the attack")
        ATTACKS.add(
            name,
            Attack(
                name=name,
                level=level,
                function=function,
                access=access,
                paper=paper,
                needs=needs,
                evidence=evidence,
                requests=tuple(_request(name, item, known) for item in evidence if item not in UNSCORED),
                summary=(inspect.getdoc(function) or "").split("\n")[0],
                defaults=defaults,
                edge_cases=edge_cases,
                by_name=by_name,
            ),
        )
        _variants.update(known)
        return function

    return register


def _check_settings(name: str, needs: tuple[str, ...], access: str, paper: str, function: Any) -> None:
    unknown = set(needs) - set(TOKEN_COLUMNS)
    if unknown:
        raise ValueError(f"attack {name!r} needs {sorted(unknown)}, tables have {sorted(TOKEN_COLUMNS)}")
    if access not in ACCESS:
        raise ValueError(f"attack {name!r}: access {access!r} is not one of {ACCESS}")
    if not _PAPER.fullmatch(paper):
        raise ValueError(f"attack {name!r}: paper {paper!r} is not arXiv:NUMBER, doi:NUMBER or https://…")
    if not inspect.getdoc(function):
        raise ValueError(f"attack {name!r} needs a docstring: one line of what it computes, then its direction")


def _signature(name: str, function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """``(evidence, defaults)`` of a function."""
    evidence: list[str] = []
    defaults: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            evidence.append(parameter.name)
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"attack {name!r}: {parameter} is neither evidence nor a keyword-only hyper-parameter")
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"attack {name!r}: the hyper-parameter {parameter.name!r} needs a default")
        else:
            defaults[parameter.name] = parameter.default
    if not set(evidence) - set(POPULATION):
        raise TypeError(f"attack {name!r} reads no table of the attacked records: its first parameter is `table`")
    for alone, what in ((WRITTEN, "what models write"), (SHADOWED, "shadow models")):
        if set(alone) & set(evidence) and set(evidence) - set(alone):
            raise TypeError(f"attack {name!r} reads {what} and other evidence: it has to do with one of them")
    return tuple(evidence), defaults


def _check_variants(name: str, variants: Mapping[str, Variant]) -> dict[str, Variant]:
    for key, variant in variants.items():
        if key != variant.name or key in {"table", "ref", PLAIN.name, *UNSCORED} or key.endswith("_ref"):
            raise TypeError(f"attack {name!r}: the variant {variant.name!r} cannot be called {key!r}; use its own name")
        if _variants.get(key, variant) != variant:
            raise TypeError(f"attack {name!r}: another attack uses the name {key!r} for another variant")
    return dict(variants)


def _request(name: str, evidence: str, variants: Mapping[str, Variant]) -> Request:
    """What has to be scored so that the parameter ``evidence`` can be given."""
    plain: dict[str, Literal["target", "reference"]] = {"table": "target", "ref": "reference"}
    if evidence in plain:
        return Request(name=evidence, model=plain[evidence])
    if evidence in variants:
        return Request(name=evidence, variant=variants[evidence])
    if evidence.removesuffix("_ref") in variants:
        return Request(name=evidence, model="reference", variant=variants[evidence.removesuffix("_ref")])
    known = ", ".join([*plain, *POPULATION, *variants, *(f"{key}_ref" for key in variants)])
    raise TypeError(
        f"attack {name!r} asks for evidence {evidence!r}, which is none of: {known}. "
        "Declare a variant of that name (variants={...}), or make it a keyword-only hyper-parameter."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackOutcome:
    """What attacks said about ``N`` records.

    Args:
        scores: for each attack ``[N]`` float64 in the order of the records, higher = member; NaN for records without
            a trained token, which nothing can be said about.
        notes: for each attack the special cases that it hit, with the number of rows.
    """

    scores: dict[str, Scores] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def run_attack(attack: Attack, sources: Mapping[str, Path]) -> Scores:
    """Scores of one attack, ``[N]``, as ``run_attacks`` gives them."""
    return run_attacks([attack], sources).scores[attack.name]


def run_attacks(attacks: Sequence[Attack], sources: Mapping[str, Path]) -> AttackOutcome:
    """Read every table once, a few thousand rows at a time, and feed them to all attacks.

    Args:
        attacks: what to run.
        sources: for every evidence name the Parquet file that was scored for it. Only the columns that are needed are
            read, and only ``known`` and ``known_ref`` are held in memory as a whole.

    Raises:
        BadInput: evidence is missing, the tables are of different records or tokens, or an attack gave no number.
    """
    needed = _columns(attacks, sources)
    copies = {name: count for attack in attacks for name, count in attack.copies.items()}
    if not copies:
        return AttackOutcome()
    paths = {name: sources[name] for name in copies}
    count = record_count(paths, copies)
    known = population({name: sources[name] for name in POPULATION if name in needed}, needed)
    scores = {attack.name: np.full(count, np.nan) for attack in attacks}
    cases: dict[str, dict[str, int]] = {attack.name: {} for attack in attacks}
    start = 0
    with progress("Running attacks", count, unit="records") as advance:
        for tables in aligned(paths, needed, copies):
            size = len(next(iter(tables.values()))) // next(iter(copies.values()))
            for attack in attacks:
                kept, evidence = _scorable(attack, tables)
                if kept.any():
                    evidence |= known
                    scores[attack.name][start : start + size][kept] = attack.score(evidence)
                    _count(cases[attack.name], attack, evidence)
            start += size
            advance(size)
    return AttackOutcome(scores=scores, notes={name: _notes(found, count) for name, found in cases.items()})


def run_whole(attacks: Sequence[Attack], evidence: Mapping[str, Continuations | ShadowScores]) -> AttackOutcome:
    """As `run_attacks`, for attacks that read what models wrote, or shadow models. Every record gets a number.

    Args:
        attacks: what to run.
        evidence: for every evidence name what was found, of the same records in the same order.
    """
    scores = {attack.name: attack.score(evidence) for attack in attacks}
    cases: dict[str, dict[str, int]] = {attack.name: {} for attack in attacks}
    for attack in attacks:
        _count(cases[attack.name], attack, evidence)
    return AttackOutcome(scores=scores, notes={name: _notes(found, len(scores[name])) for name, found in cases.items()})


def _notes(cases: Mapping[str, int], count: int) -> tuple[str, ...]:
    return tuple(f"{what}: {n:,} of {count:,} rows" for what, n in cases.items())


def _columns(attacks: Sequence[Attack], sources: Mapping[str, Path]) -> dict[str, set[str]]:
    """The token columns to read from each table."""
    needed: dict[str, set[str]] = {}
    for attack in attacks:
        for name in attack.evidence:
            if name not in sources:
                raise BadInput(
                    f"attack {attack.name!r}", f"needs the table {name!r}", "Score it or leave the attack out."
                )
            needed.setdefault(name, {"loss_mask"}).update(attack.needs)
    return needed


def _scorable(attack: Attack, tables: Mapping[str, TokenTable]) -> tuple[npt.NDArray[np.bool_], dict[str, TokenTable]]:
    """The records that have a trained token in every table that the attack reads, and the tables of those."""
    full = [(tables[name].lengths > 0).reshape(-1, attack.copies[name]).all(axis=1) for name in attack.streamed]
    kept = np.logical_and.reduce(full)
    chosen = {name: tables[name] for name in attack.streamed}
    if not kept.all():
        chosen = {name: table.take(np.repeat(kept, attack.copies[name])) for name, table in chosen.items()}
    return kept, chosen


def _count(cases: dict[str, int], attack: Attack, evidence: Mapping[str, Any]) -> None:
    if attack.edge_cases is not None:
        found = attack.edge_cases(*(evidence[name] for name in attack.evidence), **attack.defaults)
        for what, rows in found.items():
            if rows:
                cases[what] = cases.get(what, 0) + int(rows)
