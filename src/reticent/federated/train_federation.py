# SPDX-License-Identifier: Apache-2.0
"""A federation from its base to the folder of its model, in one process. The same call again goes on at the round."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from reticent.core.atomic import replacing_folder
from reticent.core.errors import BadInput
from reticent.core.federation import FederationRound
from reticent.core.lock import locked
from reticent.core.manifest import environment, now
from reticent.core.promise_check import PromiseCheck
from reticent.core.record import Record
from reticent.core.run_folder import PROMISE_FILE
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.federated.client_engine import (
    ClientSide,
    Engine,
    in_one_process,
    local_training,
    settled_config,
    with_method,
)
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.client_promise import ClientPromise
from reticent.federated.clients import LEAST_CLIENTS, Client, clients_of
from reticent.federated.exchange import stacked
from reticent.federated.exchange.arrays import bytes_of, put_into, taken_from
from reticent.federated.exchange.lora_factors_mean import pairs_of
from reticent.federated.federation_promise import FederationPromise, open_promise, settled_mechanism
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Grid
from reticent.federated.private_grid import PrivateGrid
from reticent.federated.record_mechanism import settled_records
from reticent.federated.record_privacy import RecordPrivacy
from reticent.federated.round_rule import PlainRule, PrivateRule, RoundRule, StackedRule, refuse_rule
from reticent.federated.rounds import Rounds, run_rounds
from reticent.federated.secure import ciphers
from reticent.federated.secure.secure_collector import SecureCollector
from reticent.federated.secure.secure_mechanism import settled_secure
from reticent.federated.secure.secure_promise import SecurePromise, TurnsRule, open_secure, secured
from reticent.federated.secure.secure_spec import SecureAggregation
from reticent.federated.secure.who_sees_what import Observer
from reticent.federated.server_optimizer import ServerOptimizer
from reticent.federated.server_state import FILE, ServerState, read_state
from reticent.federated.update import Update
from reticent.federated.update_files import UpdateFiles
from reticent.models.encode import EncodedRecord
from reticent.models.load import LoadedModel, load
from reticent.models.tuned import TuningInfo
from reticent.models.tuning.method import TUNINGS, trained_parameters
from reticent.models.weights import full_disk_is_an_os_error
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.refuse import copies
from reticent.train import begun
from reticent.train.batches import NOTHING, Corpus, encode_all
from reticent.train.checkpoints import close_folder, folder_for, remember
from reticent.train.held_out import base_loss, held_out_loss, perplexity
from reticent.train.identity import is_finished
from reticent.train.outcome import KIND, LOG, disk_error, save_model
from reticent.train.private.step_log import open_key
from reticent.train.start import fresh, load_start
from reticent.train.task import Task, read_texts, settle_attention

_EVALUATED = 8
"""Held-out rows in a batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FederationJob:
    """All that a federation is made of.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        records: what is trained on; ``user`` is the client.
        held_out: a small sample of clients that take no part; its loss is measured after each round.
        out: folder of the model.
        spec: how.
        privacy: what each client is promised.
        name_of: a name for a client that tells nothing of it.
        updates: the files that each client's updates are recorded in; None: nowhere.
        data: fingerprint of the data set, for the record of what is spent.
        records_privacy: what each record is promised, against whoever sees its client's updates.
        secure: whether the server sees sums only.
        wrap: puts something between server and clients, such as faults of a test.
        engine: reaches the clients.
        elsewhere: names of clients whose texts do not lie here; ``records`` is empty then.
    """

    base: str
    records: Sequence[Record]
    held_out: Sequence[Record]
    out: Path
    spec: FederationSpec
    privacy: ClientPrivacy
    name_of: Callable[[str], str]
    updates: UpdateFiles | None = None
    data: str = ""
    records_privacy: RecordPrivacy = field(default_factory=RecordPrivacy)
    secure: SecureAggregation = field(default_factory=SecureAggregation)
    wrap: Callable[[Grid], Grid] = lambda grid: grid
    engine: Engine = in_one_process
    elsewhere: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """It as a training of its texts."""
        method = TUNINGS.get(self.spec.method)
        return Task(
            base=self.base,
            records=self.records,
            out=self.out,
            config=settled_config(self.spec),
            method=method,
            held_out=self.held_out,
            callbacks=(),
            spec=None,
            objectives=(),
            record_sets={},
            data=self.data,
        )

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all that decides the outcome, but for the secret key."""
        users = [(record.id, record.user) for record in self.records]
        parts = [self.task.key, self.spec.on_record, asdict(self.privacy), users, *sorted(self.elsewhere)]
        parts += [asdict(self.records_privacy)] if self.records_privacy.is_private else []
        parts += [self.secure.on_record] if self.secure.secure_aggregation else []
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class FederationOutcome:
    """The outcome of a federation, beside the model.

    Args:
        state: after the last round.
        clients: how many took part.
        base_loss: of the base on the held-out sample, nats a token; None without one.
        held_out: records of that sample.
        message_bytes: of the trained arrays.
        rows: of its rounds, without what a promise does not cover.
        promise: per client, in a sentence; empty without one.
        stated: the promise per client as a number, with what gives it a meaning; None without one.
        record_promise: per record, likewise.
        checks: of the self-check.
        observers: of a secure federation, each with the ε that holds against it.
    """

    state: ServerState
    clients: int
    base_loss: float | None
    held_out: int
    message_bytes: int
    rows: tuple[FederationRound, ...]
    promise: str = ""
    stated: StatedEpsilon | None = None
    record_promise: str = ""
    checks: tuple[PromiseCheck, ...] = ()
    observers: tuple[Observer, ...] = ()


def train_federation(job: FederationJob) -> FederationOutcome | None:
    """Run the rounds that are left and save the model; the state stays until its folder is closed.

    Returns:
        The outcome; None where the model was finished before, and no state is left.

    Raises:
        BadInput: too few clients, settings that contradict the promise, a base or method that cannot be used, another
            federation in the folder, or one that another process works on.
        GuaranteeViolated: the self-check failed; nothing is saved.
    """
    with locked(job.out):
        clients = [Client(name=name, records=()) for name in sorted(job.elsewhere)] or clients_of(job.records)
        refuse_few(clients, job.spec, job.privacy)
        key = job.key
        if is_finished(job.out, key, resume=True) and not (folder_for(job.out) / FILE).exists():
            return None
        try:
            return _trained(job, clients, key)
        except GuaranteeViolated:
            close_folder(job.out)
            raise


def refuse_few(clients: Sequence[Client], spec: FederationSpec, privacy: ClientPrivacy) -> None:
    """Refuse fewer clients than a round asks, or than can hide one.

    Raises:
        BadInput: there are.
    """
    refuse_rule(spec, private=privacy.is_private)
    if len(clients) < LEAST_CLIENTS:
        raise BadInput(f"{len(clients)} clients", "are no federation", f"Give at least {LEAST_CLIENTS}.")
    if spec.clients_per_round > len(clients):
        raise BadInput(
            f"clients_per_round={spec.clients_per_round}",
            f"there are {len(clients)} clients that train, by the coins of the split",
            f"Give {len(clients)} or less, or --probability nearer to 1.",
        )


def _trained(job: FederationJob, clients: Sequence[Client], key: str) -> FederationOutcome:
    spec, folder, task = job.spec, folder_for(job.out), job.task
    loaded = load_start(job.base, task.config.device, goes_on=False)
    corpus, sample = _texts(job, loaded)
    # By the limit, not by the longest text: kinds of attention round in other ways, and one client's text would decide
    # what the updates of all others are to the last bit.
    settle_attention(loaded, spec.local_batch_size, spec.max_tokens)
    how = local_training(loaded, spec)
    loss = partial(held_out_loss, rows=sample.encoded, size=_EVALUATED, pad=how.pad, bfloat16=how.bfloat16)
    before = base_loss(folder, lambda: loss(loaded.model)) if sample.encoded else None
    model, tuned = with_method(loaded, spec)
    names = [client.name for client in clients]
    side = ClientSide(base=job.base, spec=spec, model=model, names=names, rows=_rows_of(job, names, corpus), how=how)
    inside = _private_grid(job, side, folder) if job.records_privacy.is_private else None
    clip = job.privacy.clip_norm if job.privacy.is_private else None
    state = read_state(folder, key) or ServerState(round=0, arrays=taken_from(model), clip=clip)
    promise = _promise(job, names, state, folder)
    if spec.exchange == "stacked":
        for factors in stacked.by_round(state.stacks):
            stacked.merge(model, factors)
    name_of = partial(_name, job, names)
    rounds = partial(
        Rounds,
        rule=_rule(spec, names, [len(client.records) for client in clients], promise),
        server=ServerOptimizer.of(spec),
        rounds=spec.rounds,
        folder=folder,
        key=key,
        name_of=name_of,
        seed=spec.seed,
        held_out_loss=_held_out(model, loss) if sample.encoded else None,
        measure_products=promise is None and spec.exchange == "average" and bool(pairs_of(state.arrays)),
        merge=partial(stacked.merge, model) if spec.exchange == "stacked" else None,
        spending=promise,
        record=_recorder(job, clients),
    )
    recorded = promise if promise is not None else inside
    with nullcontext() if recorded is None else recorded.on_record(job.out, job.data, recorded.plan(key)):
        with job.engine(side) if inside is None else nullcontext(inside) as grid:
            asked = job.wrap(grid)
            state = _run(job, rounds(grid=asked, secure=_secured(job, asked, promise, name_of)), state)
        state = state if promise is None else replace(state, rows=promise.counted(state.rows))
        finished = _TrainedFederation(
            job=job,
            loaded=loaded,
            model=model,
            tuned=tuned,
            state=state,
            key=key,
            before=before,
            held_out=len(sample.encoded),
            inside=inside,
        )
        checks = _finish(finished, promise)
    return FederationOutcome(
        state=state,
        clients=len(clients),
        base_loss=before,
        held_out=len(sample.encoded),
        message_bytes=bytes_of(state.arrays),
        rows=state.rows if promise is None else promise.published(state.rows),
        promise="" if promise is None else promise.sentence(spec.rounds),
        stated=_stated(promise, state),
        record_promise="" if inside is None else inside.mechanism.statement(),
        checks=checks,
        observers=promise.observers(spec.rounds) if isinstance(promise, SecurePromise) else (),
    )


def _stated(promise: ClientPromise | None, state: ServerState) -> StatedEpsilon | None:
    epsilon = state.rows[-1].epsilon if state.rows else None
    return None if promise is None or epsilon is None else promise.stated(epsilon)


def _promise(job: FederationJob, names: Sequence[str], state: ServerState, folder: Path) -> ClientPromise | None:
    """The promise to clients, from a state on; None without one."""
    if not job.privacy.is_private:
        return None
    if not job.secure.secure_aggregation:
        return open_promise(settled_mechanism(job.privacy, job.spec, len(names), folder), state, folder)
    mechanism = settled_secure(
        job.secure,
        job.privacy,
        job.spec,
        clients=len(names),
        dimension=sum(array.numel() for array in state.arrays.values()),
        key=open_key(folder),
    )
    return open_secure(mechanism, names, state, folder)


def _secured(
    job: FederationJob, grid: Grid, promise: ClientPromise | None, name_of: Callable[[int], str]
) -> SecureCollector | None:
    if not isinstance(promise, SecurePromise):
        return None
    return secured(
        grid,
        promise,
        folder_for(job.out),
        ciphers=ciphers.LibraryCiphers(),
        most_unopened=job.secure.secure_unopened,
        name_of=name_of,
    )


def _name(job: FederationJob, names: Sequence[str], number: int) -> str:
    """A name for a client, by its number, that tells nothing of it."""
    return job.name_of(names[number]) if 0 <= number < len(names) else "unknown"


def _private_grid(job: FederationJob, side: ClientSide, folder: Path) -> PrivateGrid:
    """Clients under a promise to their records; a record that a client has twice is trained on once."""
    once = [_each_once(of_client) for of_client in side.rows]
    mechanism = settled_records(job.records_privacy, job.spec, [len(of_client) for of_client in once], open_key(folder))
    return PrivateGrid(side.model, side.names, once, side.how, mechanism=mechanism, folder=folder, name_of=job.name_of)


def _each_once(rows: Sequence[EncodedRecord]) -> list[EncodedRecord]:
    """Without those that repeat an earlier one token for token: twice in, a record would be protected at twice ε."""
    again = set(copies(row.token_id for row in rows))
    return [row for place, row in enumerate(rows) if place not in again]


def _texts(job: FederationJob, loaded: LoadedModel) -> tuple[Corpus, Corpus]:
    """The texts that lie here and are trained on, and the held-out sample."""
    if not job.elsewhere:
        material, sample = read_texts(job.task, loaded)
        return material.corpus, sample
    held_out, most = job.held_out, job.spec.max_tokens
    return NOTHING, encode_all(held_out, loaded.tokenizer, most) if held_out else NOTHING


def _rows_of(job: FederationJob, names: Sequence[str], corpus: Corpus) -> list[list[EncodedRecord]]:
    """Encoded records of each client; none where they lie elsewhere."""
    rows: dict[str, list[EncodedRecord]] = {name: [] for name in names}
    for encoded, place in zip(corpus.encoded, corpus.records, strict=True):
        record = job.records[place]
        rows[record.id if record.user is None else record.user].append(encoded)
    return [rows[name] for name in names]


def _rule(spec: FederationSpec, names: Sequence[str], sizes: Sequence[int], promise: ClientPromise | None) -> RoundRule:
    if isinstance(promise, SecurePromise):
        return TurnsRule(mechanism=promise.mechanism)
    if isinstance(promise, FederationPromise):
        return PrivateRule(mechanism=promise.mechanism)
    kind = StackedRule if spec.exchange == "stacked" else PlainRule
    return kind(spec=spec, names=names, sizes=sizes)


def _held_out(model: Any, loss: Callable[[Any], float]) -> Callable[[Update], float]:
    def measure(arrays: Update) -> float:
        put_into(model, arrays)
        return loss(model)

    return measure


def _recorder(job: FederationJob, clients: Sequence[Client]) -> UpdateFiles | None:
    if job.updates is not None:
        job.updates.begin([client.name for client in clients])
    return job.updates


def _run(job: FederationJob, rounds: Rounds, state: ServerState) -> ServerState:
    try:
        with full_disk_is_an_os_error():
            return run_rounds(rounds, state)
    except OSError as error:
        raise disk_error(job.out, error) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class _TrainedFederation:
    """All that the folder of the model is made of."""

    job: FederationJob
    loaded: LoadedModel
    model: Any
    tuned: TuningInfo
    state: ServerState
    key: str
    before: float | None
    held_out: int
    inside: PrivateGrid | None = None


def _finish(finished: _TrainedFederation, promise: ClientPromise | None) -> tuple[PromiseCheck, ...]:
    """Save the model, with its promise beside it; the outcome of the self-check."""
    job, state = finished.job, finished.state
    model, tuned = _final_model(finished)
    checks: tuple[PromiseCheck, ...] = ()
    inside = () if finished.inside is None else finished.inside.checked(state.round)
    log = _log(finished, model)
    try:
        with replacing_folder(job.out, kind=KIND) as folder:
            save_model(model, finished.loaded, tuned, folder, job.out)
            if promise is not None:
                checks = promise.checked(state, _reloaded(finished, folder))
                promised = promise.guarantee(state.round).to_json()
                (folder / PROMISE_FILE).write_text(promised + "\n", encoding="utf-8")
                log |= {"privacy": json.loads(promised), "self_check": [asdict(check) for check in checks]}
            else:
                log |= _signed_records(finished, inside, folder)
            if "privacy" in log:  # no promise covers a digest of all texts: not beside the weights
                remember(job.out, finished.key, {"records": len(job.records)})
            else:
                log = {"key": finished.key, **log, "records": len(job.records)}
            (folder / LOG).write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(job.out, error) from error
    recorded = promise if promise is not None else finished.inside
    if recorded is not None:
        begun.finished(job.out, plan=recorded.plan(finished.key))
    return (*checks, *inside)


def _signed_records(finished: _TrainedFederation, checks: tuple[PromiseCheck, ...], folder: Path) -> dict[str, Any]:
    """Put the promise to records beside the model, where it is the only one; its entries for the log."""
    if finished.inside is None:
        return {}
    promised = finished.inside.mechanism.guarantee().to_json()
    (folder / PROMISE_FILE).write_text(promised + "\n", encoding="utf-8")
    return {"privacy": json.loads(promised), "self_check": [asdict(check) for check in checks]}


def _reloaded(finished: _TrainedFederation, folder: Path) -> dict[str, torch.Tensor]:
    """The global arrays as whoever loads the saved model gets them."""
    job = finished.job
    model = load(str(folder), base=job.base, dtype="float32", device=job.spec.device).model
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach().cpu().float() for name in finished.state.arrays}


def _final_model(finished: _TrainedFederation) -> tuple[Any, TuningInfo]:
    """The model that is saved, with the global weights in it, and its description."""
    model, tuned, state = finished.model, finished.tuned, finished.state
    if not state.stacks:
        put_into(model, state.arrays)
        if finished.job.spec.exchange == "ffa":
            model.requires_grad_(True)
        return model, tuned
    factors = stacked.all_rounds(state.stacks)
    rank = next(factors[a].shape[0] for a, _ in pairs_of(factors).values())
    params = stacked.params_for(tuned.params, rank)
    loaded = load_start(finished.job.base, finished.job.task.config.device, goes_on=False)
    grown, info = fresh(loaded, replace(finished.job.task.config, method_params=params))
    put_into(grown, factors)
    return grown, info


def _log(finished: _TrainedFederation, model: Any) -> dict[str, Any]:
    """As a training's log, with rounds in place of epochs; nothing that tells of who took part in a round."""
    job, rows = finished.job, finished.state.rows
    history = [
        {"step": row.number, "eval_loss": row.held_out_loss, "eval_perplexity": perplexity(row.held_out_loss)}
        for row in rows
        if row.held_out_loss is not None
    ]
    log: dict[str, Any] = {
        "finished": now(),
        "config": asdict(job.spec.training),
        "federation": job.spec.on_record,
        "trained_parameters": trained_parameters(model),
        "history": history,
        "environment": environment(),
    }
    if finished.before is not None and history:
        after = float(history[-1]["eval_loss"])
        log["held_out"] = {
            "records": finished.held_out,
            "base": {"loss": finished.before, "perplexity": perplexity(finished.before)},
            "tuned": {"loss": after, "perplexity": perplexity(after)},
        }
    return log
