# SPDX-License-Identifier: Apache-2.0
"""Plots and wording of the page of a federation, on made-up rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reticent.core.federation import FederationResults, FederationRound, WhoSees
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.report.federation_page import render_federation, who_table
from reticent.report.federation_plots import by_round

ROUNDS = tuple(
    FederationRound(number=n, held_out_loss=3.0 - n / 10, median_norm=0.5, largest_norm=1.5, clip=1.0, epsilon=n / 2)
    for n in (1, 2, 3)
)
RESULTS = FederationResults(
    title="made up", created="2026-01-01", headline="none", method="lora", exchange="x", aggregation="y", clients=4,
    expected=2.0, bytes_per_message=8, base_loss=3.5, held_out=2, rounds=ROUNDS,
)  # fmt: skip


def test_the_loss_begins_with_that_of_the_base_and_all_plots_are_there() -> None:
    page = render_federation(RESULTS)
    for title in ("ε by round", "Held-out loss by round", "Norms of updates by round"):
        assert f"<strong>{title}</strong>" in page
    assert "held out loss: 3.5 to 2.7." in page
    assert "epsilon: 0 to 1.5." in page
    assert "clip: 1 to 1." in page


def test_no_epsilon_is_drawn_without_delta_unit_and_relation() -> None:
    stated = StatedEpsilon(epsilon=1.5, delta=1e-3, unit="client", relation="zero_out")
    page = render_federation(replace(RESULTS, stated=stated))
    words = "per client at δ = 0.001 (zero out one client)"
    drawing = page[page.index('id="epsilon') :]
    assert f"ε spent, {words}" in drawing[: drawing.index("</svg>")]
    assert f"spent up to here, {words}" in page
    assert "ε spent, per client<" in render_federation(RESULTS)  # of a file that has no more


def test_points_are_those_of_the_rounds_and_of_before() -> None:
    drawing = by_round("loss", ROUNDS, ["held_out_loss"], title="t", before=3.5)
    assert drawing is not None
    assert drawing.count("<circle") == 4
    alone = by_round("loss", ROUNDS[:1], ["held_out_loss"], title="t")
    assert alone is not None
    assert alone.count("<circle") == 1


def test_what_was_not_measured_has_no_plot() -> None:
    bare = tuple(FederationRound(number=n) for n in (1, 2))
    assert by_round("loss", bare, ["held_out_loss"], title="t", before=3.5) is None
    page = render_federation(replace(RESULTS, rounds=bare, base_loss=None))
    assert "By round" not in page


@pytest.mark.parametrize("rests_on", ["", "clients that add their noise"])
def test_the_table_says_what_a_promise_rests_on_where_that_is_known(rests_on: str) -> None:
    table = who_table(replace(RESULTS, who_sees=(WhoSees(who="a", sees="b", promise="c", rests_on=rests_on),)))
    assert len(table.columns) == len(table.rows[0]) == (4 if rests_on else 3)
