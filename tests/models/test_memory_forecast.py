# SPDX-License-Identifier: Apache-2.0
"""What a model needs in memory is told from its configuration, and is what is measured."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from reticent.cli import env
from reticent.core.errors import BadInput
from reticent.models.memory_count import count_model
from reticent.models.memory_forecast import (
    ForecastConfig,
    private_memory,
    shared_out_memory,
    shared_out_private_memory,
    tune_memory,
)
from reticent.models.tuning.method import TUNINGS
from reticent.testing.tiny import save_tiny, tiny_tuned

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "base")


@pytest.mark.parametrize("method", ["full", "lora", "ia3", "adapter", "prompt", "head"])
def test_numbers_are_those_of_the_model(base: Path, method: str) -> None:
    params = {"lora": {"r": 4}, "adapter": {"reduction_factor": 4}, "prompt": {"virtual_tokens": 3}}.get(method, {})
    counts = count_model(str(base / "config.json"), method=method, params=params, tokens=16)
    model = tiny_tuned("llama", method)
    assert counts.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counts.is_adapter == (TUNINGS.get(method).storage != "weights")
    assert counts.kept > 0
    assert tune_memory(counts, rows=2).peak > counts.weights
    assert private_memory(counts, micro_tokens=64).peak > private_memory(counts, micro_tokens=16).peak


def test_what_is_held_takes_half_and_checkpointing_takes_less(tmp_path: Path) -> None:
    """Of a model as wide as one of 7 billion numbers, of which no weight is made."""
    config = LlamaConfig(vocab_size=32000, num_hidden_layers=3, dtype="bfloat16")
    config.save_pretrained(tmp_path)
    held, plain = (
        count_model(str(tmp_path / "config.json"), method="lora", tokens=512, base_dtype=dtype)
        for dtype in ("auto", "float32")
    )
    assert 0.8e9 < held.numbers < 0.9e9
    assert held.weights < 0.52 * plain.weights
    assert held.kept == plain.kept
    assert held.activations(8, checkpointed=True) < 0.6 * held.activations(8)


def test_4_bits_take_a_quarter_of_16(tmp_path: Path) -> None:
    """Of the linear layers; embeddings and the output layer stay."""
    config = LlamaConfig(vocab_size=32000, num_hidden_layers=3, dtype="bfloat16")
    config.save_pretrained(tmp_path)
    file = str(tmp_path / "config.json")
    held, eight, four = (count_model(file, method="lora", tokens=64, load_in=bits) for bits in ("", "8bit", "4bit"))
    linear = 3 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert held.weights - eight.weights == linear
    assert held.weights - four.weights == pytest.approx(linear * (2 - 0.5 - 1 / 64 - 1 / 4096), rel=1e-6)
    assert (four.kept, four.largest, four.trained) == (held.kept, held.largest, held.trained)
    with pytest.raises(BadInput, match="load_in='4bit' with method='full'"):
        env.command(model=file, forecast_config=ForecastConfig(method="full", load_in="4bit"))


def test_the_command(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ForecastConfig(method="full", max_tokens=32, memory="1GB", gpus=2)
    assert env.command(model=str(base), json=True, forecast_config=asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["devices"] == 2
    assert [row["stage"] for row in told["stages"]][-1] == "audit"
    assert all(row["fits"] for row in told["stages"])
    assert (
        env.command(model=str(base / "config.json"), forecast_config=ForecastConfig(max_tokens=32, memory="1KB")) == 0
    )
    assert capsys.readouterr().out.count("NO") == 5


def test_a_model_that_is_shared_out(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ForecastConfig(method="full", max_tokens=32, memory="1GB", gpus=4, strategy="fsdp")
    assert env.command(model=str(base), json=True, forecast_config=asked) == 0
    told = json.loads(capsys.readouterr().out)["stages"]
    env.command(model=str(base), json=True, forecast_config=replace(asked, strategy="ddp"))
    whole = json.loads(capsys.readouterr().out)["stages"]
    assert [row["stage"] for row in told] == [row["stage"] for row in whole]
    for mine, other in zip(told[:-1], whole[:-1], strict=True):
        for part in ("weights", "gradients", "optimizer"):
            assert mine[part] == -(-other[part] // 4), part
        assert mine["activations"] == other["activations"]
        assert (mine["host"], other["host"]) == (4 * other["weights"], None)
    assert told[-1] == whole[-1], "an audit shares no model out"
    assert env.command(model=str(base), forecast_config=asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-3:] == ["peak", "host", "fits"]
    assert lines[-1].split()[-2:] == ["-", "yes"]


def test_the_more_share_a_model_the_less_each_has(base: Path) -> None:
    """But for what is whole while it runs."""
    for method in ("full", "lora"):
        counts = count_model(str(base / "config.json"), method=method, tokens=16)
        assert 0 < counts.blocks * counts.block_trained + counts.outside_trained <= counts.trained + 1
        assert counts.blocks * counts.block + counts.outside == counts.weights
        peaks = [shared_out_memory(counts, rows=1, processes=n).peak for n in (2, 4, 1000)]
        assert peaks[0] > peaks[1] > peaks[2] > counts.outside + counts.block
        private = [shared_out_private_memory(counts, micro_tokens=16, processes=n).peak for n in (2, 4, 1000)]
        assert private[0] > private[1] > private[2] > counts.outside + counts.block


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gpus": 1}, "--strategy fsdp with --gpus 1"),
        ({"gpus": 0}, "--strategy fsdp with --gpus 0"),
        ({"strategy": "zero"}, "strategy"),
        ({"method": "prompt"}, "strategy='fsdp' with method='prompt'"),
        ({"load_in": "4bit", "method": "lora"}, "load_in='4bit'"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(base: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        env.command(
            model=str(base),
            forecast_config=ForecastConfig(**({"method": "full", "gpus": 2, "strategy": "fsdp"} | changes)),
        )


@pytest.mark.parametrize("memory", ["much", "0GB", "-3GB", "8 pounds"])
def test_garbage(base: Path, tmp_path: Path, memory: str) -> None:
    with pytest.raises(BadInput, match="no amount of memory"):
        env.command(model=str(base), forecast_config=ForecastConfig(memory=memory))
    for text in ("", "[]", '{"model_type": "no such"}', '{"model_type": "llama", "hidden_size": "x"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadInput):
            count_model(str(tmp_path / "config.json"), method="lora", tokens=8)
    with pytest.raises(BadInput):
        count_model(str(tmp_path / "none.json"), method="lora", tokens=8)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lora on float32", "lora on bfloat16", "full"])
def test_the_forecast_is_what_is_measured(case: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("tune_memory")
    base = benchmark.save_base(tmp_path / "base")
    told, seen = benchmark.forecast(base, benchmark.CASES[case]), benchmark.measured(base, benchmark.CASES[case])
    assert abs(told / seen - 1) <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lora on float32", "lora on bfloat16", "full"])
def test_of_a_rank_too(case: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("tune_memory")
    base, asked = benchmark.save_base(tmp_path / "base"), benchmark.CASES[case]
    told, seen = benchmark.forecast(base, asked, processes=2), benchmark.measured(base, asked, processes=2)
    assert abs(told / seen - 1) <= 0.15
