# SPDX-License-Identifier: Apache-2.0
"""Two processes of which each holds a part of the model, over gloo, against one process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.load import load
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny, tiny_model, tiny_of_family, tiny_tokenizer
from reticent.train import leading
from reticent.train.config import check_strategy
from reticent.train.fully_sharded import ShardedTrainerMixin, parts_of
from reticent.train.gathered import rows_of
from reticent.train.leading import led
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.objective import OBJECTIVES, Objective
from reticent.train.objectives.refusals import refuse_pairs, settings_of
from reticent.train.private.step_log import KEY
from reticent.train.trainer import LOG, TuneConfig, tune

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer") for i in range(17)]
"""The last batch of eight has one row, so the second process has none of it."""
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of the customer") for i in range(5)]
Start = Callable[..., list[int]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "dtype": "float32"} | changes))


def trained(base: str, out: Path, settings: TuneConfig, **more: Any) -> Callable[[int], int]:
    """Work of a process: train together."""

    def work(rank: int) -> int:
        led("test", lambda: settings, lambda: tune(base, RECORDS, out, settings, held_out=HELD_OUT, **more))
        return 0

    return work


def same_weights(one: Path, two: Path) -> None:
    for name in ("model.safetensors", "adapter_model.safetensors"):
        if (one / name).exists():
            mine, theirs = load_file(one / name), load_file(two / name)
            assert mine.keys() == theirs.keys()
            assert max(float((mine[key] - theirs[key]).abs().max()) for key in mine) <= 1e-6


@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_with_a_part_each_do_what_one_does(
    base: str, tmp_path: Path, in_ranks: Start, method: str
) -> None:
    one = tune(base, RECORDS, tmp_path / "one", config(method=method), held_out=HELD_OUT)
    two = tmp_path / "two"
    assert in_ranks(trained(base, two, config(method=method, strategy="fsdp"))) == [0, 0]
    same_weights(one, two)
    files = [sorted(path.name for path in out.iterdir()) for out in (one, two)]
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    mine, theirs = (json.loads((out / LOG).read_text()) for out in (one, two))
    assert theirs["processes"] == {"world_size": 2, "strategy": "fsdp", "rows": mine["processes"]["rows"]}
    assert mine["key"] == theirs["key"]
    for row, other in zip(mine["history"], theirs["history"], strict=True):
        timed = {name for name in row if name.endswith(("_seconds", "_runtime", "_per_second"))}
        assert row.keys() == other.keys()
        assert {k: v for k, v in row.items() if k not in timed} == pytest.approx(
            {k: v for k, v in other.items() if k not in timed}, rel=1e-5
        )
    assert load(str(two)).tuned is not None


def test_each_process_holds_its_part_alone(base: str, tmp_path: Path, in_ranks: Start) -> None:
    """Of weights, gradients and moments alike, between steps."""

    def work(rank: int) -> int:
        held = []

        def on_step(self: Any, *args: Any, **kwargs: Any) -> Any:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            moments = [state["exp_avg"] for state in self.optimizer.state.values()]
            gradients = [p.grad for p in trained]
            for tensors in (trained, gradients, moments or trained):
                held.append(sum(t.to_local().numel() for t in tensors) / sum(t.numel() for t in tensors))
            return clipped(self, *args, **kwargs)

        clipped = ShardedTrainerMixin._clip_grad_norm
        ShardedTrainerMixin._clip_grad_norm = on_step  # type: ignore[method-assign]
        code = trained(base, tmp_path / "out", config(epochs=1, strategy="fsdp"))(rank)
        return code or int(not (len(held) == 9 and max(held) < 0.51))

    assert in_ranks(work) == [0, 0]


def test_a_base_in_16_bits_lies_so_in_each_process(base: str, tmp_path: Path, in_ranks: Start) -> None:
    """FSDP asks for its parameters once more when it first runs, and a held layer answers in float32."""

    def work(rank: int) -> int:
        kinds: set[torch.dtype] = set()

        def on_step(self: Any, *args: Any, **kwargs: Any) -> Any:
            kinds.update(p.dtype for p in self.model.parameters() if p.dim() == 2 and not p.requires_grad)
            return clipped(self, *args, **kwargs)

        clipped = ShardedTrainerMixin._clip_grad_norm
        ShardedTrainerMixin._clip_grad_norm = on_step  # type: ignore[method-assign]
        settings = config(epochs=1, strategy="fsdp", method="lora", base_dtype="bfloat16")
        code = trained(base, tmp_path / "out", settings)(rank)
        return code or int(kinds != {torch.bfloat16})

    assert in_ranks(work) == [0, 0]


def killed_at(step: int, which: int, work: Callable[[int], int]) -> Callable[[int], int]:
    """``work``, of which process ``which`` is killed in a step."""

    def dying(rank: int) -> int:
        leading.FAREWELL = leading.LINGER = 0.5  # this process is a fork
        whole = TuneTrainer.training_step

        def training_step(self: Any, *args: Any) -> Any:
            if self.state.global_step == step and rank == which:
                os.kill(os.getpid(), 9)
            return whole(self, *args)

        TuneTrainer.training_step = training_step  # type: ignore[method-assign]
        return work(rank)

    return dying


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_killed_and_started_again_it_gives_the_same_bits(
    base: str, tmp_path: Path, in_ranks: Start, method: str
) -> None:
    settings = config(method=method, strategy="fsdp")
    assert in_ranks(trained(base, tmp_path / "whole", settings)) == [0, 0]
    codes = in_ranks(killed_at(4, 1, trained(base, tmp_path / "two", settings)))
    assert codes[1] == -9
    assert codes[0] not in (0, -9)
    assert not list((tmp_path / ".two.training").glob(".gathered-*"))
    assert in_ranks(trained(base, tmp_path / "two", settings)) == [0, 0]
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_checkpoint_goes_on_by_another_strategy(base: str, tmp_path: Path, in_ranks: Start) -> None:
    """Begun by parts it goes on in one process, and begun by whole models it goes on by parts."""
    one = tune(base, RECORDS, tmp_path / "one", config(), held_out=HELD_OUT)
    begun = {"parts": ("fsdp", None), "whole": ("ddp", "fsdp")}
    for name, (first, then) in begun.items():
        assert -9 in in_ranks(killed_at(4, 1, trained(base, tmp_path / name, config(strategy=first))))
        if then is None:
            tune(base, RECORDS, tmp_path / name, config(), held_out=HELD_OUT)
        else:
            assert in_ranks(trained(base, tmp_path / name, config(strategy=then))) == [0, 0]
        same_weights(one, tmp_path / name)


def test_what_cannot_be_shared_out_is_refused(
    base: str, tmp_path: Path, in_ranks: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=r"strategy='fsdp' in one process: there is no other.*Start several"):
        tune(base, RECORDS, tmp_path / "out", config(strategy="fsdp"))
    with pytest.raises(BadInput, match="strategy='zero': is not a known choice"):
        config(strategy="zero")
    with pytest.raises(BadInput, match="shards=2 with strategy='fsdp'"):
        config(strategy="fsdp", method="lora", shards=2)
    for method in ("prompt", "prefix"):
        with pytest.raises(BadInput, match=f"strategy='fsdp' with method='{method}': puts virtual tokens"):
            check_strategy(config(strategy="fsdp", method=method), 2)
    with pytest.raises(BadInput, match="callbacks with strategy='fsdp'"):
        check_strategy(config(strategy="fsdp"), 2, callbacks=True)
    classifier = next(chosen for chosen in OBJECTIVES if chosen.finish is not Objective.finish)
    given = settings_of(None, watched=True, strategy="fsdp")
    with pytest.raises(BadInput, match="the monitor with strategy='fsdp': it looks at the model in one process"):
        refuse_pairs((), given)
    with pytest.raises(BadInput, match="protect='spans' with strategy='fsdp'"):
        refuse_pairs((), settings_of(PrivacySpec(epsilon=8.0, protect="spans", detector_recall=1.0), strategy="fsdp"))
    with pytest.raises(BadInput, match="with strategy='fsdp': it works on the whole model"):
        refuse_pairs((classifier(),), settings_of(None, strategy="fsdp"), classifier.about.record_sets)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")

    def work(rank: int) -> int:
        try:
            return trained(base, tmp_path / "out", config())(rank)
        except BadInput as error:
            print(error)
            return error.exit_code

    assert in_ranks(work) == [2, 2]
    assert capfd.readouterr().out.count("ACCELERATE_USE_FSDP=true: the model is shared out here without") == 2
    assert not list(tmp_path.iterdir())


def test_weights_that_parts_share_are_refused() -> None:
    model = tiny_model()
    blocks = parts_of(model)
    assert len(blocks) == 2
    blocks[1].mlp = blocks[0].mlp
    with pytest.raises(BadInput, match="blocks of this model share weights"):
        parts_of(model)
    model = tiny_model()
    model.config.num_local_experts = 4
    with pytest.raises(BadInput, match="strategy='fsdp' with 4 experts"):
        parts_of(model)
    model = tiny_model()
    model.config.layerdrop = 0.1
    with pytest.raises(BadInput, match=r"strategy='fsdp' with layerdrop=0\.1: each process would leave out"):
        parts_of(model)
    model = tiny_model()
    model.config.num_hidden_layers = 7
    with pytest.raises(BadInput, match="strategy='fsdp': needs the blocks of a model"):
        parts_of(model)


def test_rows_of_all_are_the_rows_of_the_whole() -> None:
    for count in range(12):
        for size in range(1, 6):
            parts = [torch.arange(count)[slice(*rows_of(count, rank, size))] for rank in range(size)]
            assert torch.equal(torch.cat(parts), torch.arange(count))
            cut = torch.chunk(torch.zeros(count, 2), size) if count else []
            assert [len(part) for part in parts if len(part)] == [len(part) for part in cut if len(part)]


# By SGD where gradients are zero but for rounding (biases of keys): Adam makes steps of a whole learning rate of these.
def save_family(folder: Path, family: str) -> str:
    tiny_of_family(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


MIXTURE: list[tuple[str, dict[str, Any], PrivacySpec | None]] = [
    ("gpt2", {"method": "bitfit", "optimizer": "sgd"}, None),
    ("qwen3", {"method": "ia3", "gradient_checkpointing": True}, None),
    ("gemma3", {"method": "adapter"}, None),
    ("llama_untied", {"method": "head"}, None),
    ("mistral", {"method": "blocks", "optimizer": "sgd", "gradient_checkpointing": True}, None),
    ("llama_untied", {"method": "lora", "base_dtype": "bfloat16"}, None),
    ("gpt2", {"method": "full", "optimizer": "sgd"}, PrivacySpec(noise_multiplier=0.5)),
    ("gemma2", {"method": "adapter", "optimizer": "sgd"}, PrivacySpec(noise_multiplier=0.5)),
    (
        "llama_untied",
        {"method": "lora", "base_dtype": "bfloat16", "optimizer": "sgd"},
        PrivacySpec(noise_multiplier=0.5),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes", "spec"), MIXTURE, ids=[f"{f}-{c['method']}{'-private' if s else ''}" for f, c, s in MIXTURE]
)
def test_models_of_other_families_can_be_shared_out(
    tmp_path: Path, in_ranks: Start, family: str, changes: dict[str, Any], spec: PrivacySpec | None
) -> None:
    base, settings = save_family(tmp_path / "base", family), config(**changes, epochs=1)
    outs = [tmp_path / name for name in ("one", "two")]
    if spec is not None:
        for out in outs:
            folder = out.with_name(f".{out.name}.training")
            folder.mkdir()
            (folder / KEY).write_bytes(bytes(range(32)))
    one = tune(base, RECORDS, outs[0], settings, held_out=HELD_OUT, privacy=spec)
    assert in_ranks(trained(base, outs[1], replace(settings, strategy="fsdp"), privacy=spec)) == [0, 0]
    same_weights(one, outs[1])
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in outs[1].iterdir())
