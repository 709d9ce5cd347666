# SPDX-License-Identifier: Apache-2.0
"""The flags of contextual training: what they ask for, and what of it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from reticent.core.errors import BadInput
from reticent.privacy.spec import PrivacySpec
from reticent.train.contextual import METHODS, ContextualConfig
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.refusals import refuse_pairs, settings_of


def check(config: ContextualConfig, harden: HardenConfig | None = None, privacy: PrivacySpec | None = None) -> None:
    refuse_pairs((*config.objectives, *(harden or HardenConfig()).objectives), settings_of(privacy))


def test_nothing_is_on_by_default() -> None:
    assert not ContextualConfig().is_on
    assert ContextualConfig().changed == {}
    assert ContextualConfig().objectives == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"contextual": "forget"},
        {"contextual": "dpo", "dpo_beta": 0.0},
        {"contextual_weight": 2.0},
        {"contextual": "removal", "contextual_weight": 2.0},
        {"contextual": "unlikelihood", "dpo_beta": 0.2},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        ContextualConfig(**wrong)


@pytest.mark.parametrize("method", METHODS)
def test_only_what_rewrites_a_text_goes_with_a_promise(method: str) -> None:
    config = ContextualConfig(contextual=method)
    if method in ("removal", "substitution"):
        check(config, None, PrivacySpec(epsilon=8))
        with pytest.raises(BadInput, match="very spans"):
            check(config, None, PrivacySpec(epsilon=8, protect="spans", detector_recall=1.0))
    else:
        with pytest.raises(BadInput, match="private training"):
            check(config, None, PrivacySpec(epsilon=8))


@pytest.mark.parametrize("method", METHODS)
def test_two_losses_are_refused(method: str) -> None:
    config = ContextualConfig(contextual=method)
    for setting in ({"label_smoothing": 0.1}, {"loss_floor": 1.0}, {"clip_examples": 1.0}, {"goldfish": 4}):
        harden = HardenConfig(**setting)  # type: ignore[arg-type]
        if method == "dpo" or (method == "unlikelihood" and "goldfish" not in setting):
            with pytest.raises(BadInput, match="silently be left out"):
                check(config, harden)
        else:
            check(config, harden)


@pytest.mark.parametrize("method", METHODS)
def test_flags_and_objectives_say_the_same(method: str) -> None:
    settings = {"contextual_weight": 2.0} if method in ("unlikelihood", "dpo") else {}
    config = ContextualConfig(contextual=method, **settings)
    assert ContextualConfig.of(config.objectives) == config
    assert ContextualConfig.of(HardenConfig(goldfish=4).objectives) == ContextualConfig()
