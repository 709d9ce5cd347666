# SPDX-License-Identifier: Apache-2.0
"""The retain budget is the model's: requests in a row cannot spend it twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.run_folder import RunFolder
from reticent.unlearning.looks import Look
from reticent.unlearning.parents import chain
from reticent.unlearning.retain_budget import budget_left, spent

Unlearned = Callable[..., RunFolder]


def looks_at(
    run: RunFolder, retain_losses: Sequence[float], *, method: str = "npo", broken_from: int = 9, stop: str = "epochs"
) -> RunFolder:
    """Looks of a run by their retain loss, where unseen texts cost 2 nats; AUCs come nearer to 0.5 with each."""
    looks = [
        Look(
            step=step,
            aucs={"loss": Estimate(value=0.9 - 0.1 * step, lo=0.0, hi=1.0, n=9, method="")},
            forget_loss=1.0,
            unseen_loss=2.0,
            retain_loss=Estimate(value=loss, lo=0.0, hi=9.0, n=9, method=""),
            like_unseen=False,
            in_band=False,
            in_budget=step < broken_from,
        )
        for step, loss in enumerate(retain_losses)
    ]
    write_text(run.looks, json.dumps([encode(look) for look in looks]))
    settings = run.settings("unlearn") or {}
    (run.root / "unlearn.yaml").unlink()
    run.record("unlearn", settings | {"unlearning": {"method": method, "stop": stop}})
    return run


def test_requests_in_a_row_add_up(shop: RunFolder, unlearned: Unlearned) -> None:
    first = looks_at(unlearned(shop, shop, ["a1"], name="first"), [1.0, 1.02])
    second = looks_at(unlearned(first, shop, ["b2"], name="second"), [1.3, 1.31, 1.4], broken_from=2)
    assert spent(chain(shop).links) == 0
    assert spent(chain(first).links) == pytest.approx(0.01)
    assert spent(chain(second).links) == pytest.approx(0.015)  # the look behind the break was not kept
    assert budget_left(0.02, chain(second).links) == pytest.approx(0.005)
    with pytest.raises(BadInput, match=r"is used up: the requests before this one \(2\) .* by 1\.5% of what unseen"):
        budget_left(0.015, chain(second).links)


def test_a_loss_that_fell_is_no_credit(shop: RunFolder, unlearned: Unlearned) -> None:
    first = looks_at(unlearned(shop, shop, ["a1"], name="first"), [1.0, 0.8])
    assert budget_left(0.02, chain(first).links) == 0.02


def test_a_loss_that_fell_pays_for_no_later_request(shop: RunFolder, unlearned: Unlearned) -> None:
    first = looks_at(unlearned(shop, shop, ["a1"], name="first"), [1.0, 0.8])
    second = looks_at(unlearned(first, shop, ["b2"], name="second"), [0.8, 0.84])
    assert spent(chain(second).links) == pytest.approx(0.02)
    with pytest.raises(BadInput, match="is used up"):
        budget_left(0.0199, chain(second).links)
    third = looks_at(unlearned(second, shop, ["c1"], name="third"), [0.84, 0.82])
    assert spent(chain(third).links) == pytest.approx(0.01)


def test_looks_that_are_gone_are_no_budget_that_is_left(shop: RunFolder, unlearned: Unlearned) -> None:
    first = looks_at(unlearned(shop, shop, ["a1"], name="first"), [1.0, 1.03], stop="panel")
    assert spent(chain(first).links) == pytest.approx(0.015)
    first.looks.unlink()
    with pytest.raises(BadInput, match="nobody knows what that request used up"):
        budget_left(0.02, chain(first).links)


def test_training_again_starts_anew(shop: RunFolder, unlearned: Unlearned) -> None:
    first = looks_at(unlearned(shop, shop, ["a1"], name="first"), [1.0, 1.5])
    again = looks_at(unlearned(first, shop, ["b2"], name="again"), [], method="retrain")
    third = looks_at(unlearned(again, shop, ["c1"], name="third"), [1.0, 1.01])
    assert spent(chain(again).links) == 0
    assert spent(chain(third).links) == pytest.approx(0.005)


def test_runs_that_were_not_looked_at(shop: RunFolder, unlearned: Unlearned) -> None:
    assert spent(chain(unlearned(shop, shop, ["a1"], name="first")).links) == 0
