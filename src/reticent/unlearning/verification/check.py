# SPDX-License-Identifier: Apache-2.0
"""One check of an unlearning, and the registry of all of them.

A check is a file of this package that registers itself (`CHECKS`); other distributions register theirs under the
entry-point group ``reticent.unlearning.verification``. `reticent.unlearning.verification.look_into` visits one model
after the other, so that one is in memory at a time, and lets every check read what it needs of it:

``refuse``    says no to settings that cannot be, before any model is loaded.
``wants``     says no to a model that need not be read.
``read``      is the only step with a model. Killed and called again it goes on where it was: what it makes is kept in
              ``visit.cache``, by content.
``evaluate``  turns what was read of all models into an `UnlearningCheck`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.record import Record
from reticent.core.registry import Registry
from reticent.core.section import Section
from reticent.core.table import TokenTable, read_table
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED, UnlearningCheck, UnlearningModel
from reticent.models.load import LoadedModel
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import ScoredModel, make_tables
from reticent.score.requests import Request
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.config import VerifyConfig

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Visit:
    """One model in memory, with all that a check may need to read it.

    Args:
        about: name, role and fingerprint.
        loaded: the model, with the unlearned model's tokenizer.
        base: where the base lies, for checks that read both; None without one.
        case: its rows have a token to predict each.
        config: of the verification.
        cache: content-addressed store.
    """

    about: UnlearningModel
    loaded: LoadedModel
    base: str | None
    case: VerificationCase
    config: VerifyConfig
    cache: Path

    @property
    def options(self) -> ScoreOptions:
        """How texts are scored: as much of each as was trained on."""
        return ScoreOptions(max_tokens=self.case.max_tokens)

    @cached_property
    def side(self) -> ScoredModel:
        """The model as it answers."""
        return ScoredModel(loaded=self.loaded, off=False, options=self.options)

    @cached_property
    def table(self) -> TokenTable:
        """Statistics of the trained tokens of `VerificationCase.judged`, in this order."""
        return self.table_of(list(self.case.judged))

    def table_of(self, records: Sequence[Record], loaded: LoadedModel | None = None) -> TokenTable:
        """Statistics of the trained tokens of other records, or by a changed model with a fingerprint of its own."""
        request = Request(name="table")
        paths = make_tables([request], records, target=loaded or self.loaded, cache=self.cache, options=self.options)
        return read_table(paths[request]).trained()


@dataclass(frozen=True, kw_only=True)
class Margin:
    """The margin of equivalence, fixed before any score was looked at.

    Args:
        value: AUCs within 0.5 ± value are like unseen.
        enough: there are rows enough for it to be shown.
        reason: why it is what it is, or what is missing.
    """

    value: float
    enough: bool
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Judging:
    """All that evidence is judged by.

    Args:
        case: as visited.
        config: of the verification.
        models: that were visited, in the order of tables.
        margin: of equivalence.
        user: ``[N]`` owners of the judged rows; each row its own where nobody has an owner. None where all are alone.
    """

    case: VerificationCase
    config: VerifyConfig
    models: tuple[UnlearningModel, ...]
    margin: Margin
    user: npt.NDArray[np.object_] | None

    @cached_property
    def side(self) -> npt.NDArray[np.intp]:
        """``[N]``: 0 for forget, 1 for unseen, 2 for retain rows."""
        sizes = (len(self.case.forget), len(self.case.unseen), len(self.case.retain))
        return np.repeat(np.arange(3), sizes)

    @property
    def forget(self) -> Mask:
        """``[N]``."""
        return self.side == 0

    @property
    def unseen(self) -> Mask:
        """``[N]``."""
        return self.side == 1

    @property
    def retain(self) -> Mask:
        """``[N]``."""
        return self.side == 2

    def owners(self, rows: Mask) -> npt.NDArray[np.object_] | None:
        """Owners of some of the rows; None where all rows are alone."""
        return None if self.user is None else self.user[rows]

    def units(self, rows: Mask) -> int:
        """Independent units among some of the rows: owners, or rows where all are alone."""
        return int(rows.sum()) if self.user is None else len(np.unique(self.user[rows].astype(str)))

    def of_role(self, *roles: str) -> tuple[UnlearningModel, ...]:
        """Models of these roles."""
        return tuple(model for model in self.models if model.role in roles)

    @property
    def after(self) -> UnlearningModel:
        """The unlearned model."""
        return self.of_role(AFTER)[0]

    @property
    def before(self) -> UnlearningModel:
        """The tuned model, untouched."""
        return self.of_role(BEFORE)[0]

    @property
    def base(self) -> UnlearningModel | None:
        """The model before tuning; None without one."""
        return next(iter(self.of_role(BASE)), None)

    @property
    def retrained(self) -> tuple[UnlearningModel, ...]:
        """Models that were made without the forget set."""
        return self.of_role(RETRAINED)

    @cached_property
    def requests(self) -> dict[str, Mask]:
        """Forget rows of each request, ``[N]``; one request where none are named."""
        ids = [record.id for record in self.case.judged]
        named = self.case.requests or {"the request": [record.id for record in self.case.forget]}
        chosen = {name: set(wanted) for name, wanted in named.items()}
        masks = {
            name: np.array([identity in wanted for identity in ids]) & self.forget for name, wanted in chosen.items()
        }
        return {name: mask for name, mask in masks.items() if mask.any()}

    @cached_property
    def people(self) -> dict[str, Mask]:
        """Forget rows of each person, ``[N]``, as "person 1", …: names are private. Empty where there are no people."""
        if self.user is None:
            return {}
        names = list(dict.fromkeys(record.user for record in self.case.forget if record.user is not None))
        masks = (np.array([record.user == name for record in self.case.judged]) & self.forget for name in names)
        return {f"person {number}": mask for number, mask in enumerate(masks, start=1)}


def _always(role: str, config: VerifyConfig) -> bool:
    return True


def _nothing(config: VerifyConfig) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Check:
    """One kind of evidence.

    Args:
        name: unique in the registry.
        title: heading of its section.
        order: checks run and are shown by rising order.
        read: ``(visit) -> evidence`` of one model.
        evaluate: ``({model's name: evidence}, judging) -> UnlearningCheck``.
        wants: ``(role of a model, config)``: False where the model need not be read for it.
        refuse: ``(config)``; raises `BadInput`.
        switch: a field of `VerifyConfig` that asks for it; empty: it always runs.
    """

    name: str
    title: str
    order: int
    read: Callable[[Visit], Any]
    evaluate: Callable[[Mapping[str, Any], Judging], UnlearningCheck]
    wants: Callable[[str, VerifyConfig], bool] = _always
    refuse: Callable[[VerifyConfig], None] = _nothing
    switch: str = ""

    def is_asked_for(self, config: VerifyConfig) -> bool:
        """True where the settings ask for it."""
        return not self.switch or bool(getattr(config, self.switch))

    def not_run(self, reason: str) -> UnlearningCheck:
        """The outcome where nothing was measured."""
        section = Section(name=self.name.replace("_", "-"), title=self.title, lede=f"Not run: {reason}")
        return UnlearningCheck(name=self.name, ran=False, why_not=reason, section=section)


CHECKS: Registry[Check] = Registry("check of unlearning", "reticent.unlearning.verification")


def check(**about: Any) -> Check:
    """Register a check: ``check(name=…, title=…, order=…, read=…, evaluate=…)``."""
    return CHECKS.add(about["name"], Check(**about))


def checks() -> tuple[Check, ...]:
    """All checks by rising order."""
    return tuple(sorted(CHECKS, key=lambda entry: (entry.order, entry.name)))
