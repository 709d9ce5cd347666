# SPDX-License-Identifier: Apache-2.0
"""The attack that is named at each level before scores are seen: it has most of the error, and it guesses coins for ε.

Taking the best attack afterwards would break both. The order is that in which attacks did best on real models
(docs/results); of users few were ever compared, and there the paper's own statistic, a mean likelihood ratio, comes
first.
"""

from __future__ import annotations

from collections.abc import Collection

from reticent.attacks.attack import ATTACKS
from reticent.core.errors import BadInput

PRIMARY = {
    "record": ("rmia_shadow", "wbc", "ez_mia", "ref_ratio", "min_k_plus", "loss"),
    "user": ("ref_ratio:mean", "user_inference", "ez_mia:mean", "min_k_plus:mean", "loss:mean"),
    "canary": ("user_inference",),
}


def refuse_unknown(named: str) -> None:
    """Refuse a primary attack that there is not, or that gives no score of records or users.

    Raises:
        BadInput: an unknown name (the nearest is suggested), or an attack of another family.
    """
    if named and ATTACKS.get(named).family != "membership":
        raise BadInput(
            f"primary={named!r}",
            "gives no score that membership is judged by",
            "Name a membership attack, such as wbc (see reticent attacks).",
        )


def primary_of(level: str, names: Collection[str], named: str = "") -> str:
    """The primary attack among those that ran; empty where none of them is on the list.

    Args:
        level: ``"record"``, ``"user"`` or ``"canary"``.
        names: of the level's attacks that learn from no label.
        named: the attack that a person chose; it counts where it runs at this level.

    >>> primary_of("record", ["loss", "ez_mia"]), primary_of("user", ["loss:mean", "wbc:mean"], "wbc")
    ('ez_mia', 'wbc:mean')
    """
    wanted = (named, f"{named}:mean", *PRIMARY[level])
    return next((name for name in wanted if name in names), "")
