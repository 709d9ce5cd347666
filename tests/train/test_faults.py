# SPDX-License-Identifier: Apache-2.0
"""Every fault that costs privacy is stopped by the self-check, or shows in what is stated; a right engine is not."""

from __future__ import annotations

import pytest

from reticent.testing.dp_faults import FAULTS, FaultSetting, run

pytestmark = pytest.mark.slow
"""Eighty trainings."""

NOT_SEEN = {"noise: under a key that somebody else knows"}
"""What nothing can measure."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_within_thirty_steps(name: str) -> None:
    found = run(FAULTS[name])
    assert found.caught == (name not in NOT_SEEN), found
    if found.step is not None:
        assert found.step <= FAULTS[name].setting.steps


def test_there_are_many_and_few_are_not_seen() -> None:
    of_privacy = [fault for fault in FAULTS.values() if fault.costs_privacy]
    assert len(FAULTS) >= 45
    assert sum(fault.name not in NOT_SEEN for fault in of_privacy) >= 0.95 * len(of_privacy)


@pytest.mark.parametrize(
    "setting",
    [
        FaultSetting(steps=12),
        FaultSetting(unit="user", steps=8, bfloat16=True),
        FaultSetting(family="gpt2", clipping="automatic", steps=8),
        FaultSetting(tuning="lora", clipping="per_layer", bfloat16=True, steps=8),
    ],
    ids=str,
)
def test_a_right_engine_is_let_through(setting: FaultSetting) -> None:
    assert not run(setting=setting).caught
