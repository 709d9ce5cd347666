# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from reticent.data.coin import uniform


def test_golden_values_hold_on_every_machine() -> None:
    # made by this function; a change of any of them would change the members of every recorded split
    assert uniform(0, "record", "r000001") == GOLDEN[0]
    assert uniform(7, "user", "müller") == GOLDEN[1]


def test_uniform_and_independent_between_purposes() -> None:
    numbers = np.array([[uniform(3, purpose, f"r{i}") for i in range(20_000)] for purpose in ("user", "train")])
    assert np.abs(numbers.mean(axis=1) - 0.5).max() < 0.01
    deciles = np.histogram(numbers[0], bins=10, range=(0, 1))[0]
    assert np.abs(deciles - 2000).max() < 200
    assert abs(np.corrcoef(numbers)[0, 1]) < 0.03
    assert numbers.min() >= 0
    assert numbers.max() < 1


def test_no_purpose_and_thing_run_into_each_other() -> None:
    assert uniform(0, "a", "b/c") != uniform(0, "a/b", "c")
    assert uniform(0, "x", "y") != uniform(1, "x", "y")


GOLDEN = (0.3219426835236491, 0.40507804367953304)
