# SPDX-License-Identifier: Apache-2.0
"""The benchmark of what an ensemble costs measures what it says, on a tiny model."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.testing.tiny import tiny_model, tiny_tokenizer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("synthesize_cost")


def test_it_gives_the_keys_and_the_bound(benchmark: Any) -> None:
    sizes = benchmark.Sizes(batch=2, prefix=4, new=2, rounds=1)
    result = benchmark.emulated(benchmark.Bench(model=tiny_model(), tokenizer=tiny_tokenizer(), sizes=sizes))
    small, large = (result["emulated_parameters"][name] for name in ("small", "large"))
    assert small < large
    assert result["emulated_bound"] == pytest.approx(1 + 2 * small / large + 0.1)
    assert result["emulated_over_large"] > 0
    assert set(benchmark.PARTS) == {"emulated"}


def test_a_smaller_model_is_every_fifth_block_and_goes_on_from_what_it_read(benchmark: Any) -> None:
    large = tiny_model("gpt2")
    small = benchmark.smaller(large)
    token_id = torch.tensor([[5, 70, 33, 200]])
    with torch.inference_mode():
        whole = small(input_ids=token_id).logits[0, -1]
        past = small(input_ids=token_id[:, :3], use_cache=True).past_key_values
        later = small(input_ids=token_id[:, 3:], past_key_values=past).logits[0, -1]
    assert len(small.transformer.h) == 1
    assert len(large.transformer.h) == 2
    assert torch.allclose(whole, later, atol=1e-5)


def test_sides_take_turns_and_a_slow_machine_slows_both(benchmark: Any) -> None:
    calls: list[str] = []

    def side(name: str, seconds: float) -> Any:
        def call() -> None:
            calls.append(name)
            time.sleep(seconds)

        return call

    times = benchmark.in_turns({"a": side("a", 0.004), "b": side("b", 0.001)}, 3)
    assert calls == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert benchmark.ratio({"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 2.0]}, "a", "b") == 2.0
    assert [len(each) for each in times.values()] == [3, 3]
