# SPDX-License-Identifier: Apache-2.0
"""Noise inside clients: ε beside dp_accounting called by hand, steps beside a naive loop, faults that are caught."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from peft import LoraConfig, get_peft_model

from reticent.core.errors import BadInput
from reticent.federated import private_steps
from reticent.federated.client_training import LocalTraining
from reticent.federated.exchange.arrays import put_into, taken_from, trained
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.private_grid import PrivateGrid
from reticent.federated.private_steps import PrivateClient, PrivateSteps, refuse_model
from reticent.federated.record_ledger import RecordLedger
from reticent.federated.record_mechanism import RecordMechanism, settled_records
from reticent.federated.record_privacy import RecordPrivacy
from reticent.models.encode import EncodedRecord
from reticent.privacy.accounting import spent
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.noise import add_noise
from reticent.privacy.sampling import PoissonSampler
from reticent.privacy.self_check import SelfCheck
from reticent.testing.tiny import tiny_model

KEY = hashlib.sha256(b"a key for records in clients").digest()
SGD = LocalTraining(steps=2, batch_size=4, learning_rate=0.5, optimizer="sgd")


def mechanism(**changes: Any) -> RecordMechanism:
    settings: dict[str, Any] = {"noise_multiplier": 1.0, "delta": 1e-3, "clip_norm": 0.1, "batch": 4, "rounds": 5}
    return RecordMechanism(**{**settings, "local_steps": 2, "sizes": (12, 3), "key": KEY, **changes})


def texts(count: int, seed: int = 0) -> list[EncodedRecord]:
    random = np.random.default_rng(seed)
    ids = [random.integers(3, 200, size=random.integers(4, 9)).astype(np.int32) for _ in range(count)]
    return [EncodedRecord(token_id=row, trained=np.ones(len(row), dtype=bool)) for row in ids]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.0))


def client(model: Any, plan_of: RecordMechanism, number: int = 0, name: str = "ana") -> PrivateClient:
    rows = texts(plan_of.sizes[number], number)
    plan = plan_of.plan(number, name, rows)
    return PrivateClient(rows=rows, plan=plan, check=SelfCheck(plan, model))


# ---- what is promised -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "sizes", "rounds", "local_steps", "batch", "delta"),
    [
        (1.0, (100, 400), 10, 4, 8, 1e-4),
        (0.7, (50,), 15, 1, 5, 1e-3),
        (2.0, (30, 31), 20, 8, 8, 1e-5),
        (1.3, (8, 900), 6, 2, 8, 1e-5),
        (5.0, (3,), 30, 4, 8, 1e-4),
        (0.9, (1000,), 40, 2, 16, 1e-6),
        (3.0, (20, 10, 40), 2, 16, 4, 1e-3),
    ],
)
def test_epsilon_is_that_of_the_accountant_called_by_hand(
    noise: float, sizes: tuple[int, ...], rounds: int, local_steps: int, batch: int, delta: float
) -> None:
    """All rounds count, at the rate of the smallest client."""
    settled = settled_records(
        RecordPrivacy(record_noise_multiplier=noise, record_delta=delta),
        FederationSpec(rounds=rounds, local_steps=local_steps, local_batch_size=batch),
        sizes,
        KEY,
    )
    rate = min(1.0, batch / min(sizes))
    gaussian = dp_event.GaussianDpEvent(noise)
    step = gaussian if rate == 1 else dp_event.PoissonSampledDpEvent(rate, gaussian)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_event.SelfComposedDpEvent(step, rounds * local_steps))
    stated = accountant.get_epsilon(delta)
    promise = settled.worst
    assert spent(promise, steps=settled.steps, delta=delta).epsilon == pytest.approx(stated, rel=0.01)


def test_noise_is_chosen_for_the_epsilon_that_is_asked_for() -> None:
    privacy, spec = RecordPrivacy(record_epsilon=4.0), FederationSpec(rounds=5, local_steps=2, local_batch_size=4)
    settled = settled_records(privacy, spec, (40, 60, 100), KEY)
    promise = settled.guarantee()
    assert 3.9 < promise.epsilon <= 4.0
    assert settled.delta == 1e-4
    sentence = settled.statement()
    for part in ("per record", "everyone who sees this client's updates", "10 steps in 5 rounds", "never added up"):
        assert part in sentence
    (two, of_two), (ten, of_ten) = promise.implied
    assert (two, ten) == (2, 10)
    assert promise.epsilon < of_two < of_ten


@pytest.mark.parametrize(
    ("privacy", "sizes", "why"),
    [
        ({"record_epsilon": 8.0, "record_delta": 0.2}, (9,), "publishing one of them whole"),
        ({"record_epsilon": 8.0}, (0, 0), "nothing to protect"),
        ({"record_epsilon": 1e6}, (9,), "promises nothing"),
    ],
)
def test_a_promise_that_cannot_be_had_is_refused(privacy: dict[str, float], sizes: tuple[int, ...], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        settled_records(RecordPrivacy(**privacy), FederationSpec(), sizes, KEY)


@pytest.mark.parametrize(
    "given",
    [
        {"record_epsilon": 1.0, "record_noise_multiplier": 1.0},
        {"record_clip_norm": 2.0},
        {"record_delta": 1e-5},
        {"record_epsilon": -1.0},
        {"record_epsilon": 1.0, "record_delta": 2.0},
        {"record_epsilon": 1.0, "record_clip_norm": 0.0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        RecordPrivacy(**given)


def test_stacked_factors_and_layers_that_mix_records_are_refused(model: Any) -> None:
    with pytest.raises(BadInput, match="base changes from round to round"):
        RecordPrivacy(record_epsilon=8.0).refuse_federation(FederationSpec(exchange="stacked"))
    refuse_model(model)
    with pytest.raises(BadInput, match="BatchNorm"):
        refuse_model(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)))


# ---- what is done ---------------------------------------------------------------------------------------------------


def naive(model: Any, own: PrivateClient, how: LocalTraining, first: int, clip: float) -> dict[str, torch.Tensor]:
    """Each record alone through autograd, scaled by hand, and the noise of its place."""
    parameters = trained(model)
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for step in range(first, first + how.steps):
        sums = [torch.zeros_like(parameter) for parameter in parameters.values()]
        for record in own.plan.sampler.sampled(step).tolist():
            ids = torch.from_numpy(own.rows[record].token_id.astype(np.int64))[None]
            gradients = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, list(parameters.values()))
            length = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient * min(1.0, clip / length)
        for index, (parameter, total) in enumerate(zip(parameters.values(), sums, strict=True)):
            add_noise(total, std=own.plan.noise_multiplier * clip, scale=1.0, key=own.plan.key, step=step, index=index)
            with torch.no_grad():
                parameter -= how.learning_rate * total / own.plan.expected_batch
    return {name: parameter.detach() - start[name] for name, parameter in parameters.items()}


def test_steps_are_those_of_a_naive_loop_with_the_clients_own_noise(model: Any, one_thread: None) -> None:
    plans = mechanism()
    start = taken_from(model)
    update = PrivateSteps(model, SGD, clip_norm=0.1).train(client(model, plans), plans.first_step(3))
    put_into(model, start)
    expected = naive(model, client(model, plans), SGD, 4, 0.1)
    for name, array in expected.items():
        torch.testing.assert_close(update[name], array, rtol=1e-4, atol=1e-6)
    put_into(model, start)
    other = PrivateSteps(model, SGD, clip_norm=0.1).train(client(model, plans, name="ben"), plans.first_step(3))
    assert all(not torch.equal(update[name], other[name]) for name in update)


def test_a_client_that_skips_rounds_passes_the_check_and_one_that_repeats_does_not(model: Any) -> None:
    plans, how = mechanism(), replace(SGD, optimizer="adamw", learning_rate=1e-2, proximal=0.1)
    steps, own = PrivateSteps(model, how, clip_norm=0.1), client(model, plans)
    start = taken_from(model)
    for round_ in (1, 2, 5):
        put_into(model, start)
        steps.train(own, plans.first_step(round_))
    items = {item.name: item.passed for item in own.check.finished(own.plan.spent())}
    assert items["batches"]
    assert items["noise drawn a second time"]
    with pytest.raises(GuaranteeViolated, match="step 2 is to be taken, and 10 were"):
        steps.train(own, plans.first_step(2))


FAULTS = {
    "no noise": ("add_noise", lambda real: lambda x, **given: real(x, **given | {"std": 0.0})),
    "half the noise": ("add_noise", lambda real: lambda x, **given: real(x, **given | {"std": given["std"] / 2})),
    "noise of another step": ("add_noise", lambda real: lambda x, **given: real(x, **given | {"step": 99})),
    "a clip a hundred times as long": (
        "make_clipper",
        lambda real: lambda model, clip_norm, **given: real(model, clip_norm=100 * clip_norm, **given),
    ),
    "no clip": ("make_clipper", lambda real: lambda model, **given: real(model, **given | {"clip_norm": math.inf})),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_stop_the_client(model: Any, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    name, broken = FAULTS[fault]
    monkeypatch.setattr(private_steps, name, broken(getattr(private_steps, name)))
    plans = mechanism(clip_norm=1e-3)
    with pytest.raises(GuaranteeViolated):
        PrivateSteps(model, SGD, clip_norm=1e-3).train(client(model, plans), 0)


def test_a_sampler_that_always_takes_the_first_records_stops_the_client(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoissonSampler, "sampled", lambda self, step: np.arange(4))
    plans = mechanism()
    with pytest.raises(GuaranteeViolated):
        PrivateSteps(model, SGD, clip_norm=0.1).train(client(model, plans), 0)


# ---- the ledger -----------------------------------------------------------------------------------------------------


def grid(model: Any, folder: Path, plans: RecordMechanism) -> PrivateGrid:
    rows = [texts(size, number) for number, size in enumerate(plans.sizes)]
    return PrivateGrid(
        model, ["ana", "ben"], rows, SGD, mechanism=plans, folder=folder, name_of=lambda name: f"h-{name}"
    )


def test_each_update_is_on_the_ledger_before_it_leaves_and_a_round_counts_once(model: Any, tmp_path: Path) -> None:
    plans, arrays = mechanism(), taken_from(model)
    one = grid(model, tmp_path, plans)
    first = next(iter(one.ask(1, [0], arrays)))
    assert set(one.ledger.spent) == {("h-ana", 1)}
    again = grid(model, tmp_path, plans)  # as after a kill
    (message,) = again.ask(1, [0], arrays)
    assert all(torch.equal(array, message.update[name]) for name, array in first.update.items())
    assert len(again.ledger.spent) == 1
    messages = list(again.ask(2, [0, 1], arrays))
    assert len(messages) == 2
    own = spent(replace(plans.worst, rate=1 / 3), steps=4, delta=1e-3)
    assert again.ledger.epsilon("h-ana") == pytest.approx(own.epsilon)
    assert again.ledger.epsilon("nobody") == 0.0
    names = {check.name for check in again.checked(2)}
    assert "inside clients: steps on the ledgers" in names
    assert KEY.hex() not in (tmp_path / "record_ledger.jsonl").read_text()


def test_another_outcome_under_the_same_noise_is_refused(model: Any, tmp_path: Path) -> None:
    plans, arrays = mechanism(), taken_from(model)
    list(grid(model, tmp_path, plans).ask(1, [0], arrays))
    moved = {name: array + 0.1 for name, array in arrays.items()}
    with pytest.raises(BadInput, match="the same noise"):
        list(grid(model, tmp_path, plans).ask(1, [0], moved))


def test_ledgers_of_others_and_broken_ones_are_refused_and_a_cut_line_is_not(tmp_path: Path, model: Any) -> None:
    plans = mechanism()
    path = tmp_path / "record_ledger.jsonl"
    ledger = RecordLedger(path, plans)
    ledger.spend(0, "h", 1, {"a": torch.zeros(2)})
    with path.open("ab") as file:
        file.write(b'{"client": "h", "rou')
    assert len(RecordLedger(path, plans).spent) == 1
    for other in (replace(plans, key=hashlib.sha256(KEY).digest()), replace(plans, noise_multiplier=2.0)):
        with pytest.raises(BadInput, match="of another federation"):
            RecordLedger(path, other)
    lines = path.read_text().splitlines()
    twice = json.loads(lines[1]) | {"round": 2}
    path.write_text("\n".join([*lines, json.dumps(twice)]) + "\n")
    with pytest.raises(GuaranteeViolated, match="each step of a client is taken once"):
        RecordLedger(path, plans).check(2)
    path.write_text("\n".join([*lines, lines[1].replace(json.loads(lines[1])["digest"], "other")]) + "\n")
    with pytest.raises(BadInput, match="a client's round twice"):
        RecordLedger(path, plans)
    path.write_text("[1\n")
    with pytest.raises(BadInput, match="no ledger"):
        RecordLedger(path, plans)


def test_a_ledger_of_many_clients_is_checked_in_one_pass(tmp_path: Path) -> None:
    plans = mechanism()
    ledger = RecordLedger(tmp_path / "ledger.jsonl", plans)
    ledger.spend(0, "h0", 1, {"a": torch.zeros(2)})
    (entry,) = ledger.spent.values()
    ledger.spent = {(f"h{n}", 1): replace(entry, client=f"h{n}") for n in range(20_000)}
    before = time.process_time()
    ledger.check(2)
    assert time.process_time() - before < 5  # a look at all entries for each of them takes minutes


# ---- clients without records ----------------------------------------------------------------------------------------


def test_a_client_without_records_sends_the_noise_that_one_with_a_single_record_would(
    model: Any, tmp_path: Path
) -> None:
    """With the same key, what the two send differs by no more than the clipped gradient of that record."""
    arrays, updates = taken_from(model), {}
    how = replace(SGD, steps=1)
    for size in (0, 1):
        folder = tmp_path / str(size)
        plans = mechanism(sizes=(12, size), local_steps=1)
        assert plans.rate(1) == plans.worst.rate == 1.0
        rows = [texts(12), texts(size)]
        private = PrivateGrid(
            model, ["ana", "ben"], rows, how, mechanism=plans, folder=folder, name_of=lambda name: f"h-{name}"
        )
        (message,) = private.ask(1, [1], arrays)
        updates[size] = message.update
        assert ("h-ben", 1) in private.ledger.spent
        assert all(check.passed for check in private.checked(1))
        assert [message.client for message in private.ask(2, [0, 1], arrays)] == [0, 1]
    squares = sum(float(array.double().square().sum()) for array in updates[0].values())
    noise = how.learning_rate * 0.1 * math.sqrt(sum(array.numel() for array in updates[0].values()))
    assert math.sqrt(squares) == pytest.approx(noise, rel=0.15)
    apart = sum(float((updates[0][name] - array).double().square().sum()) for name, array in updates[1].items())
    assert 0 < math.sqrt(apart) <= how.learning_rate * 0.1 * (1 + 1e-4)
