# SPDX-License-Identifier: Apache-2.0
"""The one place that refuses what cannot be combined in a training. Objectives say what they alter; no torch here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from reticent.core.errors import BadInput
from reticent.privacy.spec import PrivacySpec
from reticent.train.objectives.objective import PARTS, Objective, covers

PLAIN_LOSS = "the loss whose gradients are clipped is the plain cross-entropy, so this would silently be left out"


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Two settings of a training that exclude each other, whatever the objective is."""

    first: str
    second: str
    why: str
    fix: str


_SETTINGS = (
    _Pair(
        first="monitor",
        second="private",
        why="what it shows is computed from the losses of single members, which the promise (epsilon, delta) does not "
        "cover",
        fix="Leave out --monitor, --stop_at and --risk_list, and audit the model once it is trained.",
    ),
    _Pair(
        first="private",
        second="shards",
        why="its promise is about one training, and in shards there would be several on the same data, each with noise "
        "of its own",
        fix="Leave out --shards: the promise bounds what any record or user can have left.",
    ),
    _Pair(
        first="monitor",
        second="shards",
        why="it looks at one model while it is trained, and in shards there are several, each with members of its own",
        fix="Leave out --monitor, --stop_at and --risk_list, and audit the model once it is trained.",
    ),
    _Pair(
        first="monitor",
        second="fsdp",
        why="it looks at the model in one process, and each holds a part of it alone",
        fix="Leave out --monitor, --stop_at and --risk_list, or give --strategy ddp.",
    ),
    _Pair(
        first="spans",
        second="fsdp",
        why="the gradient of public text is added to whole weights, and each process holds a part of them",
        fix="Give --strategy ddp: each process then holds the whole model.",
    ),
    _Pair(
        first="copies of a secret",
        second="private per record",
        why="a promise per record is about each text once, so copies of a secret are not trained on",
        fix="Leave it out, or promise per user (--unit user).",
    ),
)


def settings_of(
    privacy: PrivacySpec | None,
    *,
    watched: bool = False,
    copies: str = "",
    shards: int | None = None,
    processes: int = 1,
    strategy: str = "ddp",
) -> dict[str, str]:
    """The settings of a training that not everything goes with, by name, as a message calls them.

    Args:
        privacy: its promise, if any.
        watched: the monitor looks on.
        copies: setting that has a planted secret trained on more than once; empty where none is.
        shards: how many adapters are trained; None for one training.
        processes: how many train one model together.
        strategy: by which they share it.
    """
    given = {"monitor": "the monitor"} if watched else {}
    given |= {"copies of a secret": copies} if copies else {}
    given |= {"shards": f"shards={shards}"} if shards is not None else {}
    given |= {"several processes": f"{processes} processes"} if processes > 1 else {}
    given |= {"fsdp": "strategy='fsdp'"} if strategy == "fsdp" else {}
    if privacy is not None and privacy.is_private:
        given |= {"private": "differential privacy"}
        given |= {"private per record": "a promise per record"} if privacy.unit == "record" else {}
        given |= {"spans": "protect='spans'"} if privacy.protect == "spans" else {}
    return given


def refuse_pairs(
    objectives: Sequence[Objective], settings: Mapping[str, str], record_sets: Collection[str] = ()
) -> None:
    """Refuse whatever cannot go together: two objectives, an objective in such a training, two settings of it, an
    objective and sets of records that are not those that it needs.

    Args:
        objectives: all of the training.
        settings: see `settings_of`.
        record_sets: names of the further sets of records that there are.

    Raises:
        BadInput: one of the two would silently be left out, or a promise would be about something else.
    """
    for first, second in combinations(objectives, 2):
        part = next((a for a in sorted(first.about.alters) for b in second.about.alters if _overlap(a, b)), "")
        if part or first.name == second.name:
            reason = f"both alter {PARTS.get(part, 'the same')}, so one would silently be left out"
            raise BadInput(f"{first.given} with {second.given}", reason, "Give one of them.")
    for chosen in objectives:
        for setting, (where, reason, fix) in _refusals(chosen).items():
            if setting in settings:
                raise BadInput(f"{chosen.given} {where}", reason, fix)
        for name in sorted(chosen.about.record_sets - set(record_sets)):
            raise BadInput(chosen.given, f"needs a set of records named {name!r}", "Give it beside the records.")
    for name in sorted(set(record_sets).difference(*(chosen.about.record_sets for chosen in objectives))):
        raise BadInput(f"records named {name!r}", "are needed by no objective of this training", "Leave them out.")
    for pair in _SETTINGS:
        if pair.first in settings and pair.second in settings:
            raise BadInput(f"{settings[pair.first]} with {settings[pair.second]}", pair.why, pair.fix)


def _refusals(chosen: Objective) -> dict[str, tuple[str, str, str]]:
    """For each setting in which the objective cannot run: where that is, why, and the fix."""
    about = chosen.about
    out = f"Leave --{about.flag.partition('=')[0]} out." if about.flag else "Leave it out."
    refusals: dict[str, tuple[str, str, str]] = {}
    if chosen.has("trainer"):
        reason = (
            "it trains in a way of its own, whose loss is not a sum over the records of a batch",
            "Start one process.",
        )
        refusals["several processes"] = ("in several processes", *about.why.get("several processes", reason))
    if chosen.has("finish") or chosen.has("trainer"):
        reason = ("it works on the whole model, and each process holds a part of it", "Give --strategy ddp.")
        refusals["fsdp"] = ("with strategy='fsdp'", *about.why.get("fsdp", reason))
    if about.private == "never":
        refusals["private"] = ("in private training", *about.why.get("private", (PLAIN_LOSS, out)))
    if about.private == "whole texts":
        reason = ("it does not know which part of a text is protected", "Protect whole texts (--protect all).")
        refusals["spans"] = ("in private training with protect='spans'", *about.why.get("spans", reason))
    if not about.watched:
        reason = (
            "other texts are trained on than those that it would look at, so it would take members for unseen",
            "Leave out --monitor, --stop_at and --risk_list, or choose an objective that keeps the texts.",
        )
        refusals["monitor"] = ("with the monitor", *about.why.get("monitor", reason))
    return refusals


def _overlap(part: str, other: str) -> bool:
    return covers(part, other) or covers(other, part)
