# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from reticent.core.comparison import Comparison, SettingPair
from reticent.report.comparison_page import render_comparison
from reticent.report.setting_to_take import which_to_take


def load() -> Comparison:
    spec = importlib.util.spec_from_file_location("sample", Path(__file__).with_name("comparison_sample.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Comparison = module.comparison()
    return found


COMPARISON = load()
PAIR: SettingPair = COMPARISON.pairs[0]


def ranked(*order: tuple[int, int, int | None], settings: int = 3) -> Comparison:
    """A comparison of the first few settings with pairs ``(a, b, which leaks less)``."""
    pairs = tuple(replace(PAIR, a=a, b=b, less=less) for a, b, less in order)
    return replace(COMPARISON, settings=COMPARISON.settings[:settings], pairs=pairs)


def test_what_leaks_less_than_every_other_is_to_be_taken() -> None:
    said = which_to_take(ranked((0, 1, 1), (0, 2, 0), (1, 2, 1)))
    assert said.startswith("Take head: at the same held-out loss it leaks less than every other one. ")
    assert "Its best held-out perplexity is 24.78; the lowest, of full, is 19.45." in said
    assert "less than full." in which_to_take(ranked((0, 1, 1), settings=2))
    assert which_to_take(ranked((0, 1, 0), settings=2)).endswith("is 19.45, the lowest of all.")


def test_what_is_beaten_is_to_be_left_where_none_is_ahead_of_all() -> None:
    assert which_to_take(ranked((0, 1, 0), (0, 2, None), (1, 2, None))) == (
        "Do not take head, which leaks more than another at the same held-out loss; among full and adapter(16) "
        "leakage does not decide, so choose by perplexity and cost."
    )
    assert which_to_take(ranked((0, 1, 0), (1, 2, 1), (0, 2, None))).endswith("full was beaten by none.")
    circle = which_to_take(ranked((0, 1, 0), (1, 2, 1), (0, 2, 2)))
    assert circle == ("Do not take full, head or adapter(16), which leak more than another at the same held-out loss.")


def test_a_pair_that_is_missing_lets_none_be_taken() -> None:
    assert not which_to_take(ranked((0, 1, 0))).startswith("Take")


def test_nothing_is_said_where_nothing_is_ranked() -> None:
    assert which_to_take(ranked((0, 1, None), (0, 2, None), (1, 2, None))) == ""
    assert which_to_take(replace(COMPARISON, pairs=())) == ""
    assert 'class="take"' not in render_comparison(ranked((0, 1, None), settings=2))
    assert "Do not take head" in render_comparison(COMPARISON)
