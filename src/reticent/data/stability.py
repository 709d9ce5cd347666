# SPDX-License-Identifier: Apache-2.0
"""How many units' training rows one unit more or less can change, for each step between the file and the sampler.

A promise (ε, δ) of private training compares two sets of *training rows* that differ by one protected unit: a record,
or a user. What makes rows out of a file is part of what is promised about. If one record that goes changes the rows of
ten, the promise holds with ten times ε only. So each step has a declared stability, and what is above 1 is refused.

=========  ============================================================================================================
stability  means: over all data sets, and all units that one could add or take away
=========  ============================================================================================================
1          only the unit's own rows change (a text that several hold counts once where records are protected)
k          rows of up to k units change, the unit's own included
infinity   no bound that does not grow with the data
=========  ============================================================================================================

A step that can only *refuse* the whole data (too few records, a bad row with ``on_bad_row="error"``) changes no rows:
there is then no model, and who runs it sees why. Numbers of units, settings, names of fields and types of columns are
taken as public.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput

UNBOUNDED = math.inf


@dataclass(frozen=True, kw_only=True)
class PreparationStep:
    """One step of preparation, named after the setting that asks for it.

    Args:
        flag: field of a configuration.
        record, user: stability where records, or users, are protected.
        why: for the stability.
        fix: what to do instead, where it is above 1.
        when: whether all settings that were given make the step do anything; it is stable where they do not.
    """

    flag: str
    record: float = 1
    user: float = 1
    why: str
    fix: str = ""
    when: Callable[[Mapping[str, Any]], bool] = lambda given: True

    def of(self, unit: str) -> float:
        """Its stability for ``"record"`` or ``"user"``."""
        return self.record if unit == "record" else self.user


_OWN_ROW = "looks at one row alone"
_OWN_COIN = "each unit's coin follows from the seed and its own id"
_EACH_STEP = "changes how a step learns from a row, not which rows there are"
DRAWN_FROM_DATA = ("unigram", "bigram", "new_token")

STEPS: tuple[PreparationStep, ...] = (
    # DataConfig: from the file to records
    *(
        PreparationStep(flag=f"{name}_field", why=_OWN_ROW)
        for name in ("text", "prompt", "completion", "messages", "user", "spans")
    ),
    PreparationStep(flag="id_field", why="an id stands in the row itself; rows that count themselves are left to you"),
    PreparationStep(
        flag="on_bad_row",
        record=2,
        user=UNBOUNDED,
        why="a row whose id was used before is skipped, so a row that goes lets in another one, of anybody",
        fix="Leave --id_field out (ids are then made of user and text), or stop at bad rows (--on_bad_row error).",
        when=lambda given: given["on_bad_row"] == "skip" and given.get("id_field") is not None,
    ),
    PreparationStep(
        flag="min_user_records",
        record=UNBOUNDED,
        why="a user who falls below it is left out, so one record that goes takes all others of its user along",
        fix="Leave it out, or promise per user (--unit user).",
        when=lambda given: given["min_user_records"] > 1,
    ),
    PreparationStep(flag="drop_users", why="the list is fixed"),
    PreparationStep(
        flag="block_words",
        record=UNBOUNDED,
        user=UNBOUNDED,
        why="all texts are joined before they are cut, so a word more or less moves the borders of all blocks behind",
        fix="Leave it out; --max_tokens cuts each text by itself.",
        when=lambda given: given["block_words"] is not None,
    ),
    PreparationStep(
        flag="max_records",
        record=2,
        user=UNBOUNDED,
        why="a row that goes lets in the next one behind the cut",
        fix="Leave it out, or cut the file before, without looking at what is in it.",
        when=lambda given: given["max_records"] is not None,
    ),
    # SplitConfig: who is trained on
    PreparationStep(flag="split_unit", why=_OWN_COIN),
    PreparationStep(flag="probability", why=_OWN_COIN),
    PreparationStep(flag="train_fraction", why=_OWN_COIN),
    PreparationStep(flag="known_fraction", why="says what is evaluated, not what is trained on"),
    PreparationStep(flag="split_seed", why=_OWN_COIN),
    PreparationStep(
        flag="max_records_per_user",
        record=2,
        why="with a cap one more record of a user can push out another",
        fix="Leave it out, or promise per user (--unit user).",
        when=lambda given: given["max_records_per_user"] is not None,
    ),
    PreparationStep(
        flag="copies",
        user=UNBOUNDED,
        why="of a text that several users have only the first user's is kept, so one user can hold back texts of any "
        "number of others",
        fix="Leave it out, or drop copies within each user (--copies user).",
        when=lambda given: given["copies"] == "all",
    ),
    # CanaryConfig: what is planted
    PreparationStep(
        flag="canaries", why="each secret is a unit of its own, with its own coin, drawn without a look at the data"
    ),
    PreparationStep(
        flag="canary_kind",
        record=UNBOUNDED,
        user=UNBOUNDED,
        why="its secrets are made of the data's words, so one text changes all of them",
        fix="Choose a kind that needs no data, such as secret_number.",
        when=lambda given: bool(given["canaries"]) and given["canary_kind"] in DRAWN_FROM_DATA,
    ),
    PreparationStep(flag="canary_controls", why="they are never trained on, and planted secrets are drawn before them"),
    PreparationStep(
        flag="canary_repetitions", why="a secret with its copies is one user; per record, copies are refused"
    ),
    PreparationStep(
        flag="canary_users",
        record=UNBOUNDED,
        user=2,
        why="so many users are chosen among all, so one who goes makes a canary of another, and each record says which "
        "phrase all others of its user get",
        fix="Leave it out, and plant secrets (--canaries).",
        when=lambda given: bool(given["canary_users"]),
    ),
    PreparationStep(flag="canary_words", why="length of the phrases of canary_users"),
    # HardenConfig
    PreparationStep(
        flag="dedup_users",
        record=UNBOUNDED,
        why="one more record of a user can push out others",
        fix="Leave it out (exact copies are dropped anyway), or promise per user (--unit user).",
        when=lambda given: bool(given["dedup_users"]),
    ),
    PreparationStep(
        flag="goldfish", why="which tokens are left out follows from the tokens before them in the same row"
    ),
    PreparationStep(flag="goldfish_context", why="as goldfish"),
    *(
        PreparationStep(flag=name, why=_EACH_STEP)
        for name in ("label_smoothing", "loss_floor", "clip_examples", "clip_batch", "dropout")
    ),
    # ContextualConfig
    PreparationStep(flag="contextual", why="spans are taken out, or replaced by their kind, row by row"),
    PreparationStep(flag="contextual_weight", why=_EACH_STEP),
    PreparationStep(flag="dpo_beta", why=_EACH_STEP),
    # TuneConfig
    PreparationStep(flag="max_tokens", why="cuts each row by itself"),
)
"""All that makes training rows out of a file."""

OF = {step.flag: step for step in STEPS}

_ANOTHERS = "a record is left out for what another one holds"
_AGAIN = "Prepare the data without it; exact copies are dropped by the training itself."
PREPARED = {
    "exact": PreparationStep(flag="exact", user=UNBOUNDED, why=OF["copies"].why, fix=_AGAIN),
    "user": PreparationStep(flag="user", record=UNBOUNDED, why=OF["dedup_users"].why, fix=_AGAIN),
    **{
        name: PreparationStep(flag=name, record=UNBOUNDED, user=UNBOUNDED, why=_ANOTHERS, fix=_AGAIN)
        for name in ("near", "substring")
    },
}
"""Rules of `reticent prepare --dedup`; one that is not known counts as the worst."""


def refuse_unstable(unit: str | None, *configs: Any) -> None:
    """Refuse all steps by which one protected unit more or less would change the training rows of others.

    Args:
        unit: ``"record"`` or ``"user"``, what is protected; None where nothing is promised, and all goes.
        configs: dataclasses of settings. Only what makes training rows is looked at, so give `DataConfig`,
            `SplitConfig`, `CanaryConfig`, `HardenConfig` and `ContextualConfig`, all that there are.

    Raises:
        BadInput: at least one step has a stability above 1; ``given``, ``why`` and ``fix`` name each.
        KeyError: a field is not declared in ``STEPS``.
    """
    if unit is None:
        return
    given = {field.name: getattr(config, field.name) for config in configs for field in fields(config)}
    steps = ((f"{name}={given[name]!r}", OF[name]) for name in given if OF[name].when(given))
    _refuse(unit, steps)


def refuse_prepared(unit: str | None, source: str) -> None:
    """Refuse a file whose data card says that `reticent prepare` left records out because of others.

    Args:
        unit: as in `refuse_unstable`.
        source: as it is read; the card lies beside it, or there is none and nothing is known.

    Raises:
        BadInput: a rule against copies was applied whose stability is above 1, or the card cannot be read.
    """
    card = Path(source).with_suffix(".card.json") if Path(source).is_file() else None
    if unit is None or card is None or not card.is_file():
        return
    try:
        rules = json.loads(card.read_text(encoding="utf-8"))["copies"]["rules"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(str(card), "is no readable data card", "Run `reticent prepare` again, or delete it.") from error
    _refuse(unit, ((f"{source}, prepared with --dedup {name}", PREPARED.get(name, PREPARED["near"])) for name in rules))


def _refuse(unit: str, steps: Iterable[tuple[str, PreparationStep]]) -> None:
    refusals = [
        (given, f"{step.why}, which a promise per {unit} does not cover", step.fix)
        for given, step in steps
        if step.of(unit) > 1
    ]
    if len(refusals) == 1:
        raise BadInput(*refusals[0])
    if refusals:
        reasons = "\n".join(f"- {what}: {reason}. {fix}" for what, reason, fix in refusals)
        raise BadInput(
            ", ".join(what for what, _, _ in refusals),
            f"a promise per {unit} would not hold as stated, for {len(refusals)} reasons in how the data is prepared",
            f"All of them are to be mended:\n{reasons}",
        )
