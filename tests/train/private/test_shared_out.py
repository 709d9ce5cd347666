# SPDX-License-Identifier: Apache-2.0
"""Private training of a model that two processes share out, over gloo, against one process."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from reticent.core.errors import BadInput, ReticentError
from reticent.core.processes import EndedElsewhere
from reticent.core.record import Record
from reticent.privacy import noise
from reticent.privacy.clip import choose as choose_clipper
from reticent.privacy.noise import Stretch, add_noise, add_noise_to_part
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny
from reticent.train import gathered, leading
from reticent.train.config import TuneConfig
from reticent.train.gathered import rows_of
from reticent.train.leading import led
from reticent.train.outcome import LOG
from reticent.train.private import shared_out
from reticent.train.private.private_trainer import PrivateTrainerMixin
from reticent.train.private.shared_out import SharedPrivateTrainer
from reticent.train.private.step_log import KEY
from reticent.train.trainer import tune

SECRET = hashlib.sha256(b"a key for tests").digest()
RECORDS = [
    Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer", user=f"u{i % 9}")
    for i in range(27)
]
PARTS = ((0, 3000), (0, 1), (1, 2), (255, 257), (256, 512), (300, 301), (300, 2999), (2999, 3000), (7, 7))
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of the customer", user=f"h{i}") for i in range(3)]
Start = Callable[..., list[int]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


def config(**changes: Any) -> TuneConfig:
    given = {"learning_rate": 1e-2, "epochs": 2, "batch_size": 4, "dtype": "float32", "optimizer": "sgd"}
    return TuneConfig(**(given | changes))


def keyed(out: Path) -> Path:
    """The key of the training lies there already, so that trainings can be compared."""
    folder = out.with_name(f".{out.name}.training")
    folder.mkdir(parents=True)
    (folder / KEY).write_bytes(SECRET)
    return out


def trained(base: str, out: Path, settings: TuneConfig, spec: PrivacySpec) -> Callable[[int], int]:
    def work(rank: int) -> int:
        leading.FAREWELL = leading.LINGER = 5.0
        led("test", lambda: settings, lambda: tune(base, RECORDS, out, settings, held_out=HELD_OUT, privacy=spec))
        return 0

    return work


def differ(one: Path, two: Path) -> float:
    name = "adapter_model.safetensors" if (one / "adapter_model.safetensors").exists() else "model.safetensors"
    mine, theirs = load_file(one / name), load_file(two / name)
    assert mine.keys() == theirs.keys()
    return max(float((mine[key] - theirs[key]).abs().max()) for key in mine)


@pytest.mark.parametrize(
    ("method", "unit", "clipping"), [("full", "user", "flat"), ("lora", "record", "automatic")], ids=["full", "lora"]
)
def test_two_processes_with_a_part_each_draw_the_noise_of_one(
    base: str, tmp_path: Path, in_ranks: Start, method: str, unit: Any, clipping: Any
) -> None:
    spec = PrivacySpec(noise_multiplier=0.5, unit=unit, clipping=clipping)
    one = tune(base, RECORDS, keyed(tmp_path / "one"), config(method=method), held_out=HELD_OUT, privacy=spec)
    two = keyed(tmp_path / "two")
    assert in_ranks(trained(base, two, config(method=method, strategy="fsdp"), spec)) == [0, 0]
    assert differ(one, two) <= 1e-6
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    mine, theirs = (json.loads((out / LOG).read_text()) for out in (one, two))
    assert mine["privacy"] == theirs["privacy"]
    assert [check["passed"] for check in theirs["self_check"]] == [check["passed"] for check in mine["self_check"]]
    assert theirs["processes"] == {"world_size": 2, "strategy": "fsdp"}
    losses = [[row["eval_loss"] for row in log["history"] if "eval_loss" in row] for log in (mine, theirs)]
    assert losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_three_processes_share_rows_that_they_cannot_share_evenly(base: str, tmp_path: Path, in_ranks: Start) -> None:
    spec = PrivacySpec(noise_multiplier=0.5, unit="record", clipping="per_layer")
    settings = config(epochs=1, batch_size=9)
    one = tune(base, RECORDS, keyed(tmp_path / "one"), settings, held_out=HELD_OUT, privacy=spec)
    work = trained(base, keyed(tmp_path / "two"), replace(settings, strategy="fsdp"), spec)
    assert in_ranks(work, size=3) == [0, 0, 0]
    assert differ(one, tmp_path / "two") <= 1e-6


@pytest.mark.slow
def test_killed_and_started_again_it_gives_the_same_bits(base: str, tmp_path: Path, in_ranks: Start) -> None:
    spec, settings = PrivacySpec(noise_multiplier=0.5, unit="user"), config(strategy="fsdp", optimizer="adamw")

    def dying(rank: int) -> int:
        whole = PrivateTrainerMixin.training_step

        def training_step(self: Any, *args: Any) -> Any:
            if self.state.global_step == 4 and rank == 1:
                os.kill(os.getpid(), 9)
            return whole(self, *args)

        PrivateTrainerMixin.training_step = training_step  # type: ignore[method-assign]
        return trained(base, tmp_path / "two", settings, spec)(rank)

    assert in_ranks(trained(base, keyed(tmp_path / "whole"), settings, spec)) == [0, 0]
    keyed(tmp_path / "two")
    codes = in_ranks(dying)
    assert codes[1] == -9
    assert codes[0] not in (0, -9)
    assert list((tmp_path / ".two.training").glob("checkpoint-*/privacy.json"))
    assert in_ranks(trained(base, tmp_path / "two", settings, spec)) == [0, 0]
    name = "model.safetensors"
    assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_a_process_would_not_hold_is_refused(
    base: str, tmp_path: Path, in_ranks: Start, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose gradients are taken by the loop; nothing is left."""
    monkeypatch.setattr(choose_clipper, "_why_not", lambda clipper: "records are mixed")

    def work(rank: int) -> int:
        try:
            return trained(base, tmp_path / "out", config(strategy="fsdp"), PrivacySpec(noise_multiplier=1.0))(rank)
        except (BadInput, EndedElsewhere) as error:
            print(error)
            return 2

    assert in_ranks(work) == [2, 2]
    assert "strategy='fsdp' with per-record gradients by the exact loop" in capfd.readouterr().out
    assert not list(tmp_path.iterdir())


def other_noise(self: SharedPrivateTrainer, sums: Any, step: int) -> Any:
    """A planted fault: each process draws the noise of the first rows."""
    std, scale = self.plan.noise_multiplier * self.plan.clip_norm, 1 / self.plan.expected_batch
    numbers = self.weights.numbers
    return [
        add_noise(total, std=std, scale=scale, key=self.plan.key, step=step, index=numbers[p])
        for p, total in sums.items()
    ]


def own_sums(tensor: torch.Tensor, here: Any) -> torch.Tensor:
    """A planted fault: sums are not added up over processes."""
    start, stop = rows_of(len(tensor), here.rank, here.size)
    return tensor[start:stop].clone()


def not_summed(self: SharedPrivateTrainer, *_: Any) -> None:
    """A planted fault: what the optimizer is given is not what was noised."""
    for whole in self.weights.whole:
        whole.grad = torch.zeros_like(whole)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("other noise", "standard deviation"),
        ("own sums", "some units were run together and each alone"),
        pytest.param(
            "other gradient", "the optimizer is given the noised sum and nothing else", marks=pytest.mark.slow
        ),
        ("not gathered", "trained parameters, model.embed_tokens.weight first, are not in"),
    ],
)
def test_a_broken_promise_in_parts_is_seen(
    base: str, tmp_path: Path, in_ranks: Start, capfd: pytest.CaptureFixture[str], fault: str, said: str
) -> None:
    recv = torch.distributed.recv

    def work(rank: int) -> int:
        if fault == "other noise":
            SharedPrivateTrainer._add_noise = other_noise  # type: ignore[method-assign]
        elif fault == "own sums":
            shared_out.scattered = own_sums  # type: ignore[attr-defined]
        elif fault == "not gathered":
            gathered.dist.recv = lambda *_, **how: recv(torch.zeros_like(_[0]), **how)  # type: ignore[attr-defined]
        else:
            SharedPrivateTrainer._give = not_summed  # type: ignore[method-assign]
        spec = PrivacySpec(noise_multiplier=0.5, unit="user")
        try:
            return trained(base, tmp_path / "out", config(strategy="fsdp"), spec)(rank)
        except (ReticentError, EndedElsewhere) as error:
            print(error)
            return 3

    assert in_ranks(work) == [3, 3]
    assert said in capfd.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_part_gets_the_noise_of_its_place() -> None:
    key = bytes(range(32))
    rng = torch.Generator().manual_seed(0)
    whole = torch.randn(3000, generator=rng)
    noised, slow = whole.clone(), whole.clone()
    given = {"std": 0.7, "scale": 0.25, "key": key, "step": 5, "index": 9}
    add_noise(noised, **given)  # type: ignore[arg-type]
    add_noise(slow, **given, impl="reference")  # type: ignore[arg-type]
    at = noise._Noise(**given)  # type: ignore[arg-type]
    for start, stop in PARTS:
        part, again = whole[start:stop].clone(), whole[start:stop].clone()
        sums = add_noise_to_part(part, Stretch(start=start, whole=3000), **given)  # type: ignore[arg-type]
        assert torch.equal(part, noised[start:stop])
        drawn = (noised[start:stop].double() / 0.25 - whole[start:stop].double()).numpy()
        assert (sums.n, sums.noise) == (stop - start, pytest.approx(drawn.sum(), abs=1e-3))
        assert sums.noise_squared == pytest.approx((drawn**2).sum(), abs=1e-3)
        assert sums.x_squared == pytest.approx(float(whole[start:stop].double().square().sum()), rel=1e-5)
        noise._by_reference(again, start, at)
        assert torch.equal(again, slow[start:stop])
    for start in (-1, 2990):
        with pytest.raises(BadInput, match="must be a part of a tensor"):
            add_noise_to_part(torch.zeros(20), Stretch(start=start, whole=3000), **given)  # type: ignore[arg-type]


def test_the_generator_of_a_gpu_is_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU's generator, in blocks of a few numbers."""
    monkeypatch.setattr(noise, "_BLOCK", 64)
    whole = torch.zeros(300)
    noise._by_torch(whole, Stretch(start=0, whole=300), 1.0, 1.0, torch.Generator().manual_seed(3))
    for start, stop in ((0, 300), (63, 65), (64, 128), (130, 300), (299, 300)):
        part = torch.zeros(stop - start)
        noise._by_torch(part, Stretch(start=start, whole=300), 1.0, 1.0, torch.Generator().manual_seed(3))
        assert torch.equal(part, whole[start:stop])
