# SPDX-License-Identifier: Apache-2.0
"""The flags of hardening: what they ask for, and what of it cannot be."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from reticent.core.errors import BadInput
from reticent.privacy.spec import PrivacySpec
from reticent.train.config import TuneConfig
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.goldfish import CONTEXT
from reticent.workflows.recipe import TuneRecipe

LORA = TuneConfig(method="lora", method_params={"r": 8})


def recipe(config: HardenConfig, training: TuneConfig = LORA, privacy: PrivacySpec | None = None) -> TuneRecipe:
    made = TuneRecipe(training=training, objectives=config.objectives, privacy=privacy or PrivacySpec())
    made.check()
    return made


def test_nothing_is_on_by_default() -> None:
    assert not HardenConfig().is_on
    assert HardenConfig().objectives == ()
    assert HardenConfig().goldfish_context == CONTEXT
    assert recipe(HardenConfig()).settled == LORA
    assert HardenConfig(goldfish=4).changed == {"goldfish": 4}
    assert HardenConfig(clip_batch=0.0).changed == {"clip_batch": 0.0}


def test_dropout_goes_to_lora_only_and_once() -> None:
    settled = recipe(HardenConfig(dropout=0.1)).settled
    assert settled.method_params == {"r": 8, "dropout": 0.1}
    assert recipe(HardenConfig(dropout=0.1), settled).settled == settled
    for config in (TuneConfig(), TuneConfig(method="lora", method_params={"dropout": 0.2})):
        with pytest.raises(BadInput, match="dropout of LoRA"):
            recipe(HardenConfig(dropout=0.1), config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"goldfish": 1},
        {"goldfish": 0},
        {"goldfish_context": 5},
        {"goldfish": 4, "goldfish_context": 0},
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"loss_floor": 0.0},
        {"clip_examples": -1.0},
        {"clip_batch": -1.0},
        {"dropout": 1.0},
        {"clip_examples": 1.0, "label_smoothing": 0.1},
        {"clip_examples": 1.0, "loss_floor": 0.1},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        HardenConfig(**wrong)


RECORD, USER = PrivacySpec(epsilon=8), PrivacySpec(epsilon=8, unit="user")
SPANS = PrivacySpec(epsilon=8, protect="spans", detector_recall=1.0)


@pytest.mark.parametrize(
    ("setting", "privacy"),
    [
        ({"label_smoothing": 0.1}, USER),
        ({"loss_floor": 1.0}, RECORD),
        ({"clip_examples": 1.0}, RECORD),
        ({"clip_batch": 2.0}, RECORD),
        ({"goldfish": 4}, SPANS),
    ],
)
def test_what_would_void_a_promise_or_be_left_out_is_refused(setting: dict[str, Any], privacy: PrivacySpec) -> None:
    config = HardenConfig(**setting)
    with pytest.raises(BadInput, match=f"{next(iter(setting))}=.* in private training"):
        recipe(config, TuneConfig(), privacy)
    recipe(config, TuneConfig())


@pytest.mark.parametrize(
    ("setting", "privacy"),
    [({"goldfish": 4}, RECORD), ({"dedup_users": True}, USER), ({"dropout": 0.1}, RECORD), ({}, SPANS)],
)
def test_what_looks_at_one_unit_alone_goes_with_a_promise(setting: dict[str, Any], privacy: PrivacySpec) -> None:
    recipe(HardenConfig(**setting), LORA, privacy)


@pytest.mark.parametrize(
    "setting",
    [
        {"goldfish": 4},
        {"goldfish": 3, "goldfish_context": 5, "label_smoothing": 0.1, "loss_floor": 2, "dropout": 0.5},
        {"clip_batch": 0.0, "clip_examples": 1.0, "dedup_users": True},
    ],
)
def test_flags_and_objectives_say_the_same(setting: dict[str, Any]) -> None:
    config = HardenConfig(**setting)
    assert HardenConfig.of(config.objectives) == config
    assert HardenConfig.of(config.objectives[::-1]).changed == setting


def test_nothing_heavy_is_loaded_until_something_is_asked_for() -> None:
    code = (
        "import sys; from reticent.train.hardening import HardenConfig; from reticent.train.contextual import "
        "ContextualConfig; HardenConfig(); ContextualConfig(); from reticent.workflows.recipe import TuneRecipe; "
        "TuneRecipe().check(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
