# SPDX-License-Identifier: Apache-2.0
"""The benchmark of what private text costs measures what it says, on a tiny model, and goes on after a kill."""

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
    part = benchmark.emulated(benchmark.Bench(model=tiny_model(), tokenizer=tiny_tokenizer(), sizes=sizes))
    result = part.figures(benchmark.in_turns(part.sides, 1))
    small, large = (result["emulated_parameters"][name] for name in ("small", "large"))
    assert small < large
    assert result["emulated_bound"] == pytest.approx(1 + 2 * small / large + 0.1)
    assert result["emulated_over_large"] > 0
    assert set(benchmark.PARTS) == {"emulated", "evolution", "prediction"}


def test_synthetic_text_is_timed_against_sampling_and_the_published_way(benchmark: Any) -> None:
    sizes = benchmark.Sizes(batch=2, new=2, rounds=1, references=2, read=6)
    bench = benchmark.Bench(model=tiny_model(), tokenizer=tiny_tokenizer(), sizes=sizes)
    result: dict[str, Any] = {}
    for part in (benchmark.prediction(bench), benchmark.evolution(bench)):
        result |= part.figures(benchmark.in_turns(part.sides, 1))
    ratios = {"private_prediction_over_sampling", "invink_over_ours", "evolution_over_sampling"}
    assert ratios <= set(result)
    assert all(result[name] > 0 for name in ratios)
    assert result["invink_is"].startswith(("invink", "rebuilt after its description"))


def test_the_stand_in_draws_what_the_published_way_would(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for each row gives the logits that each prompt has by itself."""
    sides = importlib.import_module("synthesize_cost_sides")
    model, tokenizer = tiny_model(), tiny_tokenizer()
    seen: list[torch.Tensor] = []
    right = model.forward

    def forward(**given: Any) -> Any:
        out = right(**given)
        seen.append(out.logits[:, -1])
        return out

    monkeypatch.setattr(model, "forward", forward)
    sides.rebuilt(model, tokenizer, ["tea", "a late parcel"], new=1)()
    for row, prompt in enumerate((f"{sides.INSTRUCTION}\ntea\n{sides.INSTRUCTION}\n", None, f"{sides.INSTRUCTION}\n")):
        if prompt is not None:
            alone = right(input_ids=torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1]
            assert torch.allclose(seen[0][row], alone, atol=1e-4)


def test_rounds_that_are_done_are_kept_and_those_of_another_run_refused(benchmark: Any, tmp_path: Path) -> None:
    calls: list[str] = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    work, about = tmp_path / "rounds.jsonl", {"model": "x"}
    before = benchmark.in_turns(sides, 2, work=work, about=about)
    work.write_text(work.read_text() + '{"a": 1')  # killed while it wrote
    calls.clear()
    after = benchmark.in_turns(sides, 3, work=work, about=about)
    assert [after[name][:2] for name in "ab"] == [before[name] for name in "ab"]
    assert len(calls) == 4
    calls.clear()
    assert benchmark.in_turns(sides, 3, work=work, about=about) == after
    assert not calls
    with pytest.raises(SystemExit, match="another run"):
        benchmark.in_turns(sides, 3, work=work, about={"model": "y"})


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
