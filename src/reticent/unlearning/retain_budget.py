# SPDX-License-Identifier: Apache-2.0
"""The retain budget of a model, not of a request: what earlier requests used up is gone.

Ten requests of 2 % each would else cost 20 %, and none of them would say so.
"""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core.errors import BadInput
from reticent.train.unlearning.method import UNLEARNERS
from reticent.unlearning.looks import nearest_in_budget
from reticent.unlearning.parents import UnlearnedRun
from reticent.unlearning.stopping import read_looks, risen


def spent(links: Sequence[UnlearnedRun]) -> float:
    """By how much the requests so far have raised the loss of the texts to be kept.

    Each is read from the looks of its own run, at the step that was kept. A request that was served by training again
    starts anew. Runs that make no looks (fixed epochs, a task vector) count as nothing, as nothing was measured. A
    request that lowered the loss gives back what those before it used up, and is no credit to those after it.

    Args:
        links: unlearned runs, the first request first.

    Returns:
        a share of what unseen texts cost, summed over requests; 0 where the loss has fallen.

    Raises:
        BadInput: a run made looks, and they are not there.
    """
    total = 0.0
    for link in links:
        config = (link.run.settings("unlearn") or {}).get("unlearning", {})
        method = config.get("method")
        kind = UNLEARNERS.get(method).kind if method in UNLEARNERS else ""
        if kind == "exact":
            total = 0.0
            continue
        looks = read_looks(link.run.looks)
        if not looks and kind == "loss" and config.get("stop") == "panel":
            raise BadInput(
                str(link.run.looks),
                "is not there, so nobody knows what that request used up of the retain budget",
                "Copy the folder again, or train again without all of them (--method retrain).",
            )
        step = nearest_in_budget(looks)
        total += next((risen(look, looks[0]) for look in looks if step and look.step == step), 0.0)
        total = max(total, 0.0)
    return total


def budget_left(budget: float, links: Sequence[UnlearnedRun]) -> float:
    """The budget that is left to a request.

    Args:
        budget: of all requests together, since the model was trained.
        links: requests so far.

    Raises:
        BadInput: nothing is left.

    >>> budget_left(0.02, [])
    0.02
    """
    used = spent(links)
    if used >= budget:
        raise BadInput(
            f"retain_budget={budget:g}",
            f"is used up: the requests before this one ({len(links)}) have raised the loss of the other texts by "
            f"{used:.1%} of what unseen texts cost, and the budget is for all of them together",
            "Train again without all of them (--method retrain), or allow more (--retain_budget).",
        )
    return budget - used
