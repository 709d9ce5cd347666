# SPDX-License-Identifier: Apache-2.0
"""verify: visit one model after the other, let every check read it, then judge all of them side by side."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.membership.loss import nll
from reticent.core.errors import BadInput, Underpowered
from reticent.core.manifest import environment, now
from reticent.core.record import Record
from reticent.core.table import TokenTable
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED, UnlearningCheck, UnlearningModel, UnlearningResults
from reticent.core.user_cache import user_cache
from reticent.models.encode import encode
from reticent.models.load import LoadedModel, load
from reticent.stats.equivalence import LARGEST_MARGIN, MIN_UNITS
from reticent.stats.equivalence_margin import EquivalenceDesign, intraclass, plan_equivalence
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.check import Check, Judging, Margin, Visit, checks
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.verdict import verdict_of

LARGE = 10_000_000
"""Parameters of a model that is worth being freed at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelToVisit:
    """A model before it is loaded."""

    name: str
    role: str
    source: str


def verify(
    case: VerificationCase, config: VerifyConfig | None = None, *, cache: str | Path | None = None
) -> UnlearningResults:
    """Look into an unlearning: is the forget set like text that was never trained on, and like what retrained models
    make of it?

    One model is in memory at a time (two for ``whitebox`` on whole models). Killed and called again it goes on: token
    tables, texts and relearned scores are kept in the cache.

    Args:
        case: models and texts.
        config: how far to look; None for the defaults.
        cache: content-addressed store; None for the user's. It holds token ids of private text.

    Raises:
        BadInput: a model cannot be loaded, reads other tokens than the unlearned one, or is there twice; no row of a
            side has a token to predict.
    """
    config = config or VerifyConfig()
    return judge(read_models(case, config, Path(cache) if cache is not None else user_cache()), config)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelReadings:
    """All that models gave, and what it was read for.

    Args:
        case: without rows of which nothing is predicted.
        left_out: how many those were, by side.
        models: that were visited.
        evidence: by check and by model's name.
        reference: the base's table of the judged rows; None without a base.
    """

    case: VerificationCase
    left_out: Mapping[str, int]
    models: tuple[UnlearningModel, ...]
    evidence: Mapping[str, Mapping[str, Any]]
    reference: TokenTable | None


def read_models(case: VerificationCase, config: VerifyConfig, cache: Path) -> ModelReadings:
    """Visit one model after the other and let every check that is asked for read it; errors as in `verify`."""
    asked = asked_for(config)
    for check in asked:
        check.refuse(config)
    evidence: dict[str, dict[str, Any]] = {check.name: {} for check in asked}
    first: LoadedModel | None = load(case.after, dtype=config.dtype, device=config.device)
    assert first is not None
    tokenizer, base = first.tokenizer, case.base or first.base_source
    rows, left_out = scorable(case, tokenizer)
    models: list[UnlearningModel] = []
    reference: TokenTable | None = None
    for model in _models(case, base):
        loaded = first or _loaded(model, case, config)
        first = None
        if loaded is None:
            continue
        _refuse_other_words(model, loaded, tokenizer, case)
        about = UnlearningModel(name=model.name, role=model.role, fingerprint=loaded.fingerprint)
        _refuse_twin(about, models)
        models.append(about)
        loaded = replace(loaded, tokenizer=tokenizer)
        visit = Visit(about=about, loaded=loaded, base=base, case=rows, config=config, cache=cache)
        for check in asked:
            if check.wants(model.role, config):
                evidence[check.name][model.name] = check.read(visit)
        reference = visit.table if model.role == BASE else reference
        _let_go(loaded)
        del visit, loaded
    return ModelReadings(case=rows, left_out=left_out, models=tuple(models), evidence=evidence, reference=reference)


def judge(readings: ModelReadings, config: VerifyConfig) -> UnlearningResults:
    """Hold the models against each other. Pure but for the time of day.

    Args:
        readings: with the evidence of every check that ``config`` asks for.
        config: of the verification.
    """
    judging = Judging(
        case=readings.case,
        config=config,
        models=readings.models,
        margin=_margin(readings.case, config, readings.reference),
        user=owners_of(list(readings.case.judged)),
    )
    asked = asked_for(config)
    outcomes = tuple(
        check.evaluate(readings.evidence[check.name], judging)
        if check in asked
        else check.not_run(f"it was not asked for (--{check.switch})")
        for check in checks()
    )
    return _results(judging, readings.left_out, outcomes)


def asked_for(config: VerifyConfig) -> list[Check]:
    """Checks that the settings ask for, by rising order."""
    return [check for check in checks() if check.is_asked_for(config)]


def _models(case: VerificationCase, base: str | None) -> Iterator[ModelToVisit]:
    yield ModelToVisit(name="unlearned", role=AFTER, source=case.after)
    yield ModelToVisit(name="untouched", role=BEFORE, source=case.before)
    if base is not None:
        yield ModelToVisit(name="base", role=BASE, source=base)
    for number, source in enumerate(case.retrained, start=1):
        yield ModelToVisit(name=f"retrained {number}", role=RETRAINED, source=source)


def _loaded(model: ModelToVisit, case: VerificationCase, config: VerifyConfig) -> LoadedModel | None:
    """The model; None for a base that the tuned model only names and that cannot be had."""
    try:
        return load(model.source, dtype=config.dtype, device=config.device)
    except BadInput:
        if model.role != BASE or case.base is not None:
            raise
        return None


def _let_go(loaded: LoadedModel) -> None:
    """Free what reference cycles would hold on to. Looking for them takes most of a second: small models may wait."""
    if sum(parameter.numel() for parameter in loaded.model.parameters()) > LARGE:
        gc.collect()


def _refuse_other_words(model: ModelToVisit, loaded: LoadedModel, tokenizer: Any, case: VerificationCase) -> None:
    """Refuse a model that cuts the texts into other tokens than the unlearned one does."""
    if loaded.tokenizer.get_vocab() == tokenizer.get_vocab():
        return
    for record in case.judged:
        tokens = [entry(record.plain, add_special_tokens=False)["input_ids"] for entry in (loaded.tokenizer, tokenizer)]
        if tokens[0] != tokens[1]:
            raise BadInput(
                f"the {model.name} model",
                f"reads record {record.id!r} in other tokens than the unlearned one, so they cannot be compared",
                "Give models that were tuned from one base.",
            )


def scorable(case: VerificationCase, tokenizer: Any) -> tuple[VerificationCase, Counter[str]]:
    """The case without rows of which nothing is predicted, and how many were left out by side."""
    left_out: Counter[str] = Counter()
    sides: dict[str, list[Record]] = {}
    for name in ("forget", "unseen", "retain", "held_out"):
        records: Sequence[Record] = getattr(case, name)
        rows = [record for record in records if encode(record, tokenizer, max_tokens=case.max_tokens).predicted]
        left_out[name] = len(records) - len(rows)
        sides[name] = rows
    for name in ("forget", "unseen"):
        if not sides[name]:
            raise BadInput(f"the {name} rows", "have no token to predict", "Give texts of at least two tokens.")
    left = {record.id for record in sides["forget"]}
    requests = {name: [identity for identity in ids if identity in left] for name, ids in case.requests.items()}
    requests = {name: ids for name, ids in requests.items() if ids}
    rest = replace(
        case,
        forget=sides["forget"],
        unseen=sides["unseen"],
        retain=sides["retain"],
        held_out=sides["held_out"],
        requests=requests,
    )
    return rest, left_out


def owners_of(records: Sequence[Record]) -> npt.NDArray[np.object_] | None:
    """``[N]`` owners; rows of nobody are their own. None where no row has an owner."""
    if not any(record.user is not None for record in records):
        return None
    return np.array([record.user if record.user is not None else f"\0{record.id}" for record in records], dtype=object)


def _refuse_twin(model: UnlearningModel, before: Sequence[UnlearningModel]) -> None:
    """Refuse a retrained model that is another one of these: the spread of retrained models would lie."""
    twin = next((other for other in before if other.fingerprint == model.fingerprint), None)
    if twin is not None and model.role == RETRAINED:
        raise BadInput(
            f"the model {model.name}",
            f"has the weights of the {twin.name} one, so it is no retrained model of its own",
            "Give models that were each trained without the forget set, with seeds of their own.",
        )


def _margin(case: VerificationCase, config: VerifyConfig, reference: TokenTable | None) -> Margin:
    """The margin, from sizes and from how alike the base finds rows of one person; no other score is looked at."""
    sides = (list(case.forget), list(case.unseen))
    owners = [owners_of(records) for records in sides]
    grouped = any(side is not None for side in owners)
    counts = [
        len(records) if side is None else len(np.unique(side.astype(str)))
        for records, side in zip(sides, owners, strict=True)
    ]
    alike = _alike(case, reference) if grouped else 1.0
    plan = plan_equivalence(
        EquivalenceDesign(
            forget=len(sides[0]),
            unseen=len(sides[1]),
            forget_users=counts[0] if grouped else None,
            unseen_users=counts[1] if grouped else None,
            alike=alike,
            confidence=config.confidence,
        )
    )
    units = f"{len(sides[0])} forget and {len(sides[1])} unseen rows"
    units += f" of {counts[0]} and {counts[1]} people or single rows" if grouped else ""
    if config.margin is not None:
        few = min(counts) < MIN_UNITS
        reason = f"{config.margin:g}, as it was asked for; {units} show {plan.shown:.2f}"
        return Margin(value=config.margin, enough=not few, reason=reason)
    value = min(plan.margin, 0.49)
    if plan.enough:
        return Margin(value=value, enough=True, reason=f"{value:.2f}, with {units}")
    needed = f"{plan.needed.forget} and {plan.needed.unseen} would show 0.1"
    reason = f"{units} show no margin of {LARGEST_MARGIN:g} or less; {needed}"
    return Margin(value=value, enough=False, reason=reason)


def _alike(case: VerificationCase, reference: TokenTable | None) -> float:
    """How alike rows of one person are to the base; 1 without one, so that a person is one unit."""
    users = owners_of([*case.forget, *case.unseen])
    if reference is None or users is None:
        return 1.0
    try:
        return intraclass(nll(reference.take(np.arange(len(users)))), users)
    except Underpowered:
        return 1.0


def _results(judging: Judging, left_out: Mapping[str, int], outcomes: tuple[UnlearningCheck, ...]) -> UnlearningResults:
    case, k = judging.case, len(judging.retrained)
    return UnlearningResults(
        title=case.title,
        created=now(),
        verdict=verdict_of(outcomes),
        margin=judging.margin.value,
        confidence=judging.config.confidence,
        models=judging.models,
        checks=outcomes,
        looks=tuple(case.looks),
        stopped_at=case.stopped_at,
        tried=tuple(case.tried),
        counts=_counts(judging, left_out),
        method=dict(case.method),
        request=dict(case.request),
        earlier=tuple(dict(request) for request in case.earlier),
        promise=case.promise,
        oracle=f"{k} model{'s' if k > 1 else ''} retrained without the forget set" if k else "none",
        provenance={
            **case.provenance,
            "environment": environment(),
            "max_tokens": case.max_tokens,
            "margin": judging.margin.reason,
            "seed": judging.config.seed,
        },
        holds_text=judging.config.show_text,
    )


def _counts(judging: Judging, left_out: Mapping[str, int]) -> dict[str, int]:
    case = judging.case
    counts = {
        "forget_rows": len(case.forget),
        "unseen_rows": len(case.unseen),
        "retain_rows": len(case.retain),
        "held_out_rows": len(case.held_out),
        "requests": len(judging.requests),
        "retrained_models": len(judging.retrained),
        "rows_without_a_token_to_predict": sum(left_out.values()),
    }
    if judging.user is not None:
        counts["forget_people"] = len({record.user for record in case.forget if record.user is not None})
        counts["unseen_people"] = len({record.user for record in case.unseen if record.user is not None})
    return counts
