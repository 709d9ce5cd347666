# SPDX-License-Identifier: Apache-2.0
"""Training on marked spans with noise and on everything else without: what a step is, and what can be seen in it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.record import Message, Record, Span
from reticent.data.canaries import read_canaries
from reticent.models.encode import EncodedRecord
from reticent.privacy.clip.make import make_clipper
from reticent.privacy.guarantee import PrivacyGuarantee, covered_spans
from reticent.privacy.plan import PrivacyPlan, make_plan
from reticent.privacy.sampling import Population
from reticent.privacy.self_check import GuaranteeViolated, SelfCheckItem
from reticent.privacy.spec import PrivacySpec
from reticent.privacy.token_mask import SelectiveRecords, select
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train.batches import IGNORED
from reticent.train.config import TuneConfig
from reticent.train.private import private_trainer as private
from reticent.train.private import public_batch
from reticent.train.private.micro_batches import micro_batches
from reticent.train.private.private_trainer import PrivateSpeed, PrivateTrainerMixin
from reticent.train.private.public_batch import PublicBatches, public_batches
from reticent.train.private.step_log import open_key
from reticent.train.trainer import tune
from reticent.workflows.tune import CanaryConfig
from reticent.workflows.tune import tune as tune_run

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

TOKENIZER = tiny_tokenizer()
SPANS = {"protect": "spans", "detector_recall": 0.9}
SPEC = PrivacySpec(epsilon=8, **SPANS)
SECRET = hashlib.sha256(b"a key for tests").digest()


class PrivateTrainer(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    """What a user of transformers writes."""


def record(number: int, secret: str, *, shape: str = "text", user: str | None = None) -> Record:
    """``order 7 of SECRET the …``, the secret marked; a pair or a chat has all of it twice."""
    opening, rest = f"order {number * 7919 % 1000} of ", f" the {'order ' * (number % 3)}{number}"
    text = opening + secret + rest
    span = Span(start=len(opening), end=len(opening) + len(secret), kind="PERSON")
    again = Span(start=len(text) + 1 + span.start, end=len(text) + 1 + span.end, kind="PERSON")
    if shape == "text":
        return Record(id=str(number), text=text, spans=(span,), user=user)
    if shape == "pair":
        return Record(id=str(number), prompt=text, completion=text, spans=(span, again), user=user)
    turns = (Message(role="user", content=text), Message(role="assistant", content=text))
    return Record(id=str(number), messages=turns, spans=(span, again), user=user)


def secret(number: int) -> str:
    return f"{'AbCdEfGh'[: 2 + number % 6]}{number * 104729 % 997}"


def records(count: int, *, users: int = 0, shapes: Sequence[str] = ("text",), unmarked: int = 0) -> list[Record]:
    """``unmarked`` of them have no span."""
    found = [
        record(i, secret(i), shape=shapes[i % len(shapes)], user=f"u{i % users}" if users else None)
        for i in range(count)
    ]
    return [Record(id=one.id, text=one.plain, user=one.user) if i < unmarked else one for i, one in enumerate(found)]


def selected(found: Sequence[Record]) -> SelectiveRecords:
    return select(found, TOKENIZER, max_tokens=200)


def population(found: SelectiveRecords, source: Sequence[Record]) -> Population:
    return Population(
        users=tuple(source[i].user for i in found.records), lengths=tuple(map(len, found.private)), max_tokens=200
    )


def plan(people: Population, *, batch: int, steps: int, key: bytes = SECRET, **spec: Any) -> PrivacyPlan:
    wanted = PrivacySpec(**({"noise_multiplier": 1.0} | SPANS | spec))
    return make_plan(wanted, people, batch_size=batch, steps=steps, key=key)


def arguments(out: Path, **changes: Any) -> TrainingArguments:
    usual = {
        "output_dir": str(out),
        "max_grad_norm": 0.0,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    return TrainingArguments(**(usual | changes))


PLAIN_SGD = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "weight_decay": 0.0}


def trainer(source: Sequence[Record], out: Path, **more: Any) -> PrivateTrainer:
    found = selected(source)
    people = population(found, source)
    return PrivateTrainer(
        model=more.pop("model", None) or tiny_model(),
        args=more.pop("args", None) or arguments(out),
        train_dataset=list(found.private),
        population=people,
        public=found.public,
        callbacks=more.pop("callbacks", None),
        speed=more.pop("speed", None),
        plan=lambda population: plan(population, **more),
    )


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise, and no self-check, which would stop a training without noise."""

    class Unchecked:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            pass

        def finished(self, promise: PrivacyGuarantee) -> tuple[SelfCheckItem, ...]:
            return ()

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: 0

    monkeypatch.setattr(private, "add_noise", lambda x, *, scale, **given: x.mul_(scale))
    monkeypatch.setattr(private, "SelfCheck", Unchecked)


def public_gradient(found: SelectiveRecords, model: Any, *, steps: int = 2, **how: Any) -> torch.Tensor:
    batches = PublicBatches(dataset=found.public, private=len(found.private), rate=0.5, key=b"k" * 32)
    gradients = []
    for step in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        batches.add_gradient(model, step, **({"micro_tokens": 60, "pad": 0} | how))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return torch.stack(gradients)


# ---- what the secrets change ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_the_public_gradient_is_the_same_bit_for_bit_whatever_the_secrets_are(autocast: torch.dtype | None) -> None:
    """With dropout, and with random numbers used up in between, as the private part does."""
    shapes = ("text", "pair", "chat")
    ours = [record(i, secret(i), shape=shapes[i % 3]) for i in range(9)]
    others = [record(i, f"quite another {i}" * (1 + i % 3), shape=shapes[i % 3]) for i in range(9)]
    model = tiny_model("gpt2").train()
    found = []
    for seed, source in enumerate((ours, others)):
        torch.manual_seed(seed)
        found.append(public_gradient(selected(source), model, autocast=autocast))
    assert torch.equal(found[0], found[1])
    assert float(found[0].norm()) > 0
    assert not torch.equal(found[0][0], found[0][1])


@pytest.mark.parametrize("shape", ["text", "pair", "chat"])
def test_a_secret_that_is_never_drawn_changes_no_bit_of_the_weights(tmp_path: Path, shape: str) -> None:
    """The whole training, noise and all; the record is in public batches meanwhile."""
    source = [record(i, secret(i), shape=shape) for i in range(12)]
    found = selected(source)
    people = population(found, source)
    keys = (hashlib.sha256(bytes([i])).digest() for i in range(256))
    key, hidden = next(
        (key, i)
        for key in keys
        for i in range(12)
        if not any(i in plan(people, batch=2, steps=4, key=key).sampler.sampled(step).tolist() for step in range(4))
    )
    runs = []
    for said in (secret(hidden), "somebody else, with a much longer name"):
        changed = [*source[:hidden], record(hidden, said, shape=shape), *source[hidden + 1 :]]
        one = trainer(changed, tmp_path, model=tiny_model("gpt2"), batch=2, steps=4, key=key)
        one.train()
        assert hidden in [place for step in range(4) for place in one.public.places(step)]
        runs.append(weights(one.model))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
@pytest.mark.parametrize("clip", [0.01, 0.3])
def test_a_secret_changes_the_clipped_sum_by_at_most_its_bound(clipping: Any, clip: float) -> None:
    """At most C if it is left out, 2C if it is another; by the vectors themselves, over all parameters."""
    source = records(6)
    other = [record(0, "an altogether different person"), *source[1:]]
    sums = []
    for these, units in ((source, range(6)), (source, range(1, 6)), (other, range(6))):
        found = selected(these)
        batches = PublicBatches(dataset=found.public, private=6, rate=1.0, key=bytes(32))
        made = plan(population(found, these), batch=6, steps=1, clip_norm=clip, clipping=clipping)
        clipper = make_clipper(tiny_model(), clip_norm=clip, clipping=clipping)
        drawn = made.sampler.batch(0)
        for batch in micro_batches([drawn[i] for i in units], found.private, micro_tokens=100, pad=0):
            batch = batches.weighed(batch)
            with clipper.attached():
                clipper.accumulate(batch.inputs, batch.labels, weight=batch.weight, rows_per_unit=batch.rows_per_unit)
        sums.append(torch.cat([total.flatten() for total in clipper.take().values()]).double())
    whole, without, replaced = sums
    assert 0.3 * clip < float((whole - without).norm()) <= clip * (1 + 1e-5)
    assert 0 < float((whole - replaced).norm()) <= 2 * clip * (1 + 1e-5)


# ---- what a step is -------------------------------------------------------------------------------------------------


def loss_by_hand(model: Any, encoded: Sequence[EncodedRecord]) -> torch.Tensor:
    """Sum over trained tokens, one text at a time."""
    total = torch.zeros(())
    for one in encoded:
        ids = torch.from_numpy(one.token_id.astype(np.int64))
        targets = torch.from_numpy(np.where(one.trained, one.token_id, IGNORED).astype(np.int64))
        if (targets[1:] != IGNORED).any():
            total = total + F.cross_entropy(model(ids[None]).logits[0, :-1], targets[1:], reduction="sum")
    return total


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("impl", ["bookkeeping", "reference"])
@pytest.mark.parametrize("unmarked", [0, 5])
def test_without_noise_and_clipping_every_token_weighs_the_same(tmp_path: Path, impl: Any, unmarked: int) -> None:
    """All units in the step, against the gradient of the sum of all losses over the number of public tokens."""
    source = records(12, shapes=("text", "pair"), unmarked=unmarked)
    one = trainer(
        source,
        tmp_path,
        args=arguments(tmp_path, **PLAIN_SGD),
        batch=12 - unmarked,
        steps=1,
        clip_norm=1e6,
        speed=PrivateSpeed(impl=impl, micro_tokens=70),
    )
    start = weights(one.model)
    one.train()
    found, model = selected(source), tiny_model()
    tokens = sum(int(text.trained[1:].sum()) for text in found.public)
    loss = (loss_by_hand(model, found.public) + loss_by_hand(model, found.private)) / tokens
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    for (name, now), gradient in zip(weights(one.model).items(), wanted, strict=True):
        assert float((start[name] - now - gradient).norm()) <= 1e-4 * float(gradient.norm()), name


@pytest.mark.usefixtures("silent")
def test_a_user_is_the_mean_of_the_sums_of_their_records(tmp_path: Path) -> None:
    source = records(8, users=4)
    spec = {"unit": "user", "records_per_user": 2, "clip_norm": 1e6}
    one = trainer(source, tmp_path, args=arguments(tmp_path, **PLAIN_SGD), batch=4, steps=1, **spec)
    start = weights(one.model)
    one.train()
    found, model = selected(source), tiny_model()
    tokens = sum(int(text.trained[1:].sum()) for text in found.public)
    loss = (loss_by_hand(model, found.public) + loss_by_hand(model, found.private)) / tokens
    for (name, now), gradient in zip(
        weights(one.model).items(), torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        assert float((start[name] - now - gradient).norm()) <= 1e-4 * float(gradient.norm()), name


def test_a_pass_of_public_batches_adds_up_to_all_of_the_text() -> None:
    found, model = selected(records(10)), tiny_model()
    tokens = sum(int(text.trained[1:].sum()) for text in found.public)
    wanted = torch.autograd.grad(loss_by_hand(model, found.public) / tokens, list(model.parameters()))
    mean = public_gradient(found, model).mean(0)
    whole = torch.cat([gradient.flatten() for gradient in wanted])
    assert float((mean - whole).norm()) <= 1e-5 * float(whole.norm())


def test_two_processes_make_the_step_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_batch.dist, "all_reduce", lambda tensor, op: tensor)
    found, model = selected(records(10)), tiny_model()
    whole = public_gradient(found, model)
    halves = [public_gradient(found, model, process=rank, processes=2) for rank in range(2)]
    assert torch.allclose(halves[0] + halves[1], whole, atol=1e-6)
    assert float((halves[0] - halves[1]).norm()) > 0
    batches = PublicBatches(dataset=found.public, private=4, rate=0.5, key=bytes(32))
    private_part = [torch.ones_like(parameter) for parameter in model.parameters()]
    totals = []
    for processes in (1, 2):
        shares = []
        for rank in range(processes):
            for parameter, gradient in zip(model.parameters(), private_part, strict=True):
                parameter.grad = gradient.clone()
            batches.add_gradient(model, 0, micro_tokens=60, pad=0, process=rank, processes=processes)
            shares.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        totals.append(torch.stack(shares).sum(0))
    assert torch.allclose(totals[0], totals[1], atol=1e-6)
    assert torch.allclose(totals[0] - public_gradient_of(batches, model), torch.tensor(4 / 10), atol=1e-5)


def public_gradient_of(batches: PublicBatches, model: Any) -> torch.Tensor:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    batches.add_gradient(model, 0, micro_tokens=60, pad=0)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


# ---- the two batches ------------------------------------------------------------------------------------------------


def test_each_pass_shows_every_public_record_once() -> None:
    batches = PublicBatches(dataset=selected(records(10)).public, private=10, rate=0.3, key=bytes(32))
    assert batches.batch == 3
    places = [place for step in range(20) for place in batches.places(step)]
    passes = [places[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 6
    other = PublicBatches(dataset=batches.dataset, private=10, rate=0.3, key=b"1" * 32)
    assert [place for step in range(20) for place in other.places(step)] != places


def test_who_is_in_the_public_batch_tells_nothing_of_the_private_one() -> None:
    """Over 3,000 steps, for the same record and for any shift of records: coincidences are Binomial-like around their
    mean, since the private coins are fair given all public batches. 5 standard errors: a false alarm in 2 million a
    shift, 1 in 40,000 in all."""
    n, steps, batch = 50, 3000, 10
    people = Population(users=(None,) * n, lengths=(9,) * n)
    made = plan(people, batch=batch, steps=steps)
    batches = PublicBatches(dataset=selected(records(n)).public, private=n, rate=made.sampler.rate, key=made.key)
    drawn = np.zeros((steps, n))
    public = np.zeros((steps, n))
    for step in range(steps):
        drawn[step, made.sampler.sampled(step)] = 1
        public[step, batches.places(step)] = 1
    rate = batch / n
    spread = math.sqrt(rate * (1 - rate) * public.sum())
    for shift in range(n):
        together = float((drawn * np.roll(public, shift, axis=1)).sum())
        assert abs(together - rate * public.sum()) < 5 * spread, shift
    later = float((drawn[1:] * public[:-1]).sum())
    assert abs(later - rate * public[:-1].sum()) < 5 * spread


# ---- the trainer ----------------------------------------------------------------------------------------------------


def test_spans_without_public_text_and_the_other_way_round_are_refused() -> None:
    source = records(10)
    found = selected(source)
    made = plan(population(found, source), batch=5, steps=2)
    with pytest.raises(BadInput, match="without public text"):
        public_batches(None, found.private, made)
    everything = plan(population(found, source), batch=5, steps=2, protect="all", detector_recall=None)
    with pytest.raises(BadInput, match="with public text"):
        public_batches(found.public, found.private, everything)
    with pytest.raises(BadInput, match="10 of 10 private texts as they are"):
        public_batches(found.private, found.private, made)
    with pytest.raises(BadInput, match="no token to train on"):
        public_batches(found.public[:0], found.private, made)
    assert public_batches(None, found.private, everything) is None


def test_one_private_text_in_the_public_text_is_refused() -> None:
    """Thirty-nine of forty trained without noise used to do: one is too many, wherever it stands."""
    source = records(10)
    found = selected(source)
    made = plan(population(found, source), batch=5, steps=2)
    for place in (0, 7):
        public = [*found.public[:place], found.private[place], *found.public[place + 1 :]]
        everywhere = [replace(one, trained=np.ones_like(one.trained)) for one in public]
        with pytest.raises(BadInput, match="holds 1 of 10 private texts as they are"):
            public_batches(everywhere, found.private, made)


def test_a_copy_that_nobody_marked_is_refused(base: str, tmp_path: Path) -> None:
    """The same text twice, marked once: the unmarked one would be learned without noise."""
    source = records(10)
    bare = Record(id="bare", text=source[3].text)
    with pytest.raises(BadInput, match=r"holds 1 of 10 private texts.*mark every copy of a text alike"):
        tune(base, [*source, bare], tmp_path / "out", config(), privacy=SPEC)


def test_an_engine_without_noise_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = private.add_noise
    monkeypatch.setattr(private, "add_noise", lambda x, **given: add(x, **(given | {"std": 0.0})))
    with pytest.raises(GuaranteeViolated, match="noise"):
        trainer(records(30), tmp_path, batch=10, steps=3).train()


class Killed(BaseException):
    pass


class Kill(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise Killed


def test_a_resumed_training_ends_with_the_same_weights_and_with_other_public_text_is_refused(tmp_path: Path) -> None:
    source = [*records(30, users=10), Record(id="free", text="the order of the customer", user="u1")]

    def resumable(out: Path, these: Sequence[Record], **more: Any) -> PrivateTrainer:
        args = arguments(out, save_strategy="steps", save_steps=2)
        found = {"model": tiny_model("gpt2"), "args": args, "batch": 8, "steps": 5, "key": open_key(out)}
        return trainer(these, out, **(found | {"unit": "user"} | more))

    whole = resumable(tmp_path / "whole", source)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "_noise.key").write_bytes(open_key(tmp_path / "whole"))
    whole.train()
    with pytest.raises(Killed):
        resumable(tmp_path / "killed", source, callbacks=[Kill()]).train()
    free = replace(source[-1], text="the order of the other")
    marked = replace(source[-2], text=str(source[-2].text)[:-1] + "x")
    for reworded, what in (([*source[:-1], free], "settings"), ([*source[:-2], marked, source[-1]], "plan")):
        with pytest.raises(BadInput, match=rf"another privacy {what}.*would be used twice"):
            resumable(tmp_path / "killed", reworded).train(resume_from_checkpoint=True)
    again = resumable(tmp_path / "killed", source)
    again.train(resume_from_checkpoint=True)
    assert all(torch.equal(tensor, weights(again.model)[name]) for name, tensor in weights(whole.model).items())


# ---- tune -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_tiny(tmp_path / "base", arch="gpt2"))


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "max_tokens": 64} | changes))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_tune_learns_both_parts_and_says_what_is_promised(base: str, tmp_path: Path, method: str) -> None:
    source = [*records(24, users=8, shapes=("text", "pair", "chat")), Record(id="free", text="the order", user="u1")]
    out = tune(base, source, tmp_path / "out", config(method=method), privacy=SPEC)
    promise = PrivacyGuarantee.from_json((out / "privacy.json").read_text())
    assert promise.covers == covered_spans(0.9)
    assert promise.neighbouring == "add or remove what the marked spans of one record hold"
    assert (promise.units, [records for records, _ in promise.implied]) == (24, [2, 10])
    assert 7.9 < promise.epsilon <= 8
    assert "a share of 0.1 of the personal data has no guarantee" in promise.sentence()
    log = json.loads((out / "train_log.json").read_text())
    assert all(check["passed"] for check in log["self_check"])
    moved = [Record(id=one.id, text=one.text, prompt=one.prompt, completion=one.completion, messages=one.messages,
                    user=one.user, spans=one.spans[:1]) for one in source]  # fmt: skip
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, moved, out, config(method=method), privacy=SPEC)


def test_copies_are_left_out_of_the_private_part_only(base: str, tmp_path: Path) -> None:
    """Else the public part would tell which secrets are equal."""
    source = [*records(10), Record(id="copy", text=records(10)[3].text, spans=records(10)[3].spans)]
    out = tune(base, source, tmp_path / "out", config(), privacy=SPEC)
    assert PrivacyGuarantee.from_json((out / "privacy.json").read_text()).units == 10


def test_tune_refuses_texts_without_spans(base: str, tmp_path: Path) -> None:
    bare = [Record(id=one.id, text=one.text) for one in records(8)]
    with pytest.raises(BadInput, match="no marked spans"):
        tune(base, bare, tmp_path / "out", config(), privacy=SPEC)


def test_planted_secrets_are_marked_and_phrases_of_users_are_refused(base: str, tmp_path: Path) -> None:
    source = records(40, users=20)
    run = tune_run(
        source,
        base=base,
        out=tmp_path / "run",
        canary_config=CanaryConfig(canaries=12, canary_controls=5),
        tune_config=config(epochs=1),
        privacy=SPEC,
    )
    promise = PrivacyGuarantee.from_json(run.promise.read_text())
    coins = json.loads(run.manifest.read_text())["tune"]["promise"]
    assert coins["covers"] == promise.covers
    members = int(read_membership(run.membership).member.sum())
    planted = sum(canary.planted for canary in read_canaries(run.canaries))
    assert promise.units == members + planted
    with pytest.raises(BadInput, match="makes a canary of another"):
        tune_run(
            source,
            base=base,
            out=tmp_path / "other",
            canary_config=CanaryConfig(canary_users=2),
            privacy=PrivacySpec(epsilon=8, unit="user", **SPANS),
        )


def test_the_public_part_learns_much_where_the_noise_is_large(base: str, tmp_path: Path) -> None:
    """The same noise, with and without: only spans are hidden, so the rest of the text is learned all the same."""
    source = records(40)
    losses = {}
    for name, spec in {
        "spans": PrivacySpec(noise_multiplier=8.0, clip_norm=0.01, **SPANS),
        "all": PrivacySpec(noise_multiplier=8.0, clip_norm=0.01),
    }.items():
        out = tune(base, source, tmp_path / name, config(learning_rate=0.3, optimizer="sgd"), privacy=spec)
        model = tiny_model("gpt2")
        model.load_state_dict(load_file(out / "model.safetensors"), strict=False)
        with torch.no_grad():
            losses[name] = float(loss_by_hand(model.eval(), selected(source).public))
    start = float(loss_by_hand(tiny_model("gpt2"), selected(source).public).detach())
    assert losses["spans"] < 0.9 * start
    assert losses["all"] > losses["spans"]
