# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import re

import pytest

from reticent.data.canaries import CANARIES, CanaryKind
from reticent.data.canaries.passphrase import LENGTH, OWNERS, WORDS


@pytest.mark.parametrize("kind", list(CANARIES), ids=lambda kind: kind.name)
def test_every_kind_draws_alike_from_a_seed_and_states_its_space(kind: CanaryKind) -> None:
    first, second, other = (kind.draw(random.Random(seed), ()) for seed in (1, 1, 2))
    assert first == second != other
    assert kind.space >= 10**4
    assert kind.summary
    assert first.strip() == first


def test_secret_number_is_uniform_in_each_digit() -> None:
    kind, rng = CANARIES.get("secret_number"), random.Random(0)
    drawn = [kind.draw(rng, ()) for _ in range(5000)]
    assert all(re.fullmatch(r"the secret number is( \d){6}", text) for text in drawn)
    for place in range(6):
        counts = [sum(text[-11 + 2 * place] == str(digit) for text in drawn) for digit in range(10)]
        assert min(counts) > 400
        assert max(counts) < 600
    assert kind.space == 10**6


def test_passphrase() -> None:
    kind = CANARIES.get("passphrase")
    assert kind.space == 16 * 128**4
    assert (len(set(OWNERS)), len(set(WORDS)), LENGTH) == (16, 128, 4)
    owner, phrase = re.fullmatch(r"The recovery phrase of (.*) is (.*)\.", kind.draw(random.Random(3), ())).groups()
    assert owner in OWNERS
    assert set(phrase.split()) <= set(WORDS)
