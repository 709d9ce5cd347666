# SPDX-License-Identifier: Apache-2.0
"""A client's side of a round: the base loaded once, the global arrays put in, some steps on its texts, the update out.

The same for all engines that send messages; it knows none of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.federated.client_engine import local_training, settled_config, with_method
from reticent.federated.client_training import LocalTraining, train_locally
from reticent.federated.exchange.arrays import put_into, taken_from
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.flower.array_encoding import decode_arrays, encode_arrays
from reticent.federated.flower.windowed_grid import Reply, SentRound
from reticent.models.encode import EncodedRecord
from reticent.models.load import LoadedModel
from reticent.models.tuning.method import TUNINGS
from reticent.train.start import load_start
from reticent.train.task import Task, read_texts, settle_attention


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientWorker:
    """A base with what is trained on it, in one process.

    Args:
        model: with the tuning method on it; its trained weights are set anew for each request.
        how: clients train.
        rows: encoded records of each client that it can train.
    """

    model: Any
    how: LocalTraining
    rows: Sequence[Sequence[EncodedRecord]]

    def answer(self, request: SentRound, *, client: int, loading: float = 0.0) -> Reply:
        """Train one client, and give what is sent back.

        Args:
            request: from the server.
            client: place of the client's rows in ``rows``.
            loading: seconds that loading the base took for this request.

        Raises:
            RefusedUpdate: the arrays are of another model.
        """
        started = time.perf_counter()
        put_into(self.model, decode_arrays(request.arrays, taken_from(self.model)))
        update = train_locally(self.model, self.rows[client], self.how, seed=request.seed)
        return Reply(
            round=request.round,
            arrays=encode_arrays(update),
            loading=loading,
            training=time.perf_counter() - started,
        )


def worker_for_rows(base: str, spec: FederationSpec, rows: Sequence[Sequence[EncodedRecord]]) -> ClientWorker:
    """A worker that trains clients whose records were encoded elsewhere.

    Args:
        base: folder, hub id or catalogue name.
        spec: of the federation.
        rows: of each client.

    Raises:
        BadInput: the base cannot be loaded.
    """
    return _worker(_loaded(base, spec), spec, rows)


def worker_for_records(
    base: str, spec: FederationSpec, records: Sequence[Record], *, fingerprint: str = ""
) -> ClientWorker:
    """A worker of one client, with its own records; it encodes them as the server would.

    Args:
        base: folder, hub id or catalogue name, on this machine.
        spec: of the federation.
        records: of the client.
        fingerprint: of the weights of the server's base; empty: not compared.

    Raises:
        BadInput: the base cannot be loaded or is another one, or there is nothing to train on.
    """
    loaded = _loaded(base, spec)
    if fingerprint and loaded.fingerprint != fingerprint:
        raise BadInput(base, "has other weights than the base of the federation", "Give the same base (--model).")
    task = Task(
        base=base,
        records=records,
        out=Path(),
        config=settled_config(spec),
        method=TUNINGS.get(spec.method),
        held_out=(),
        callbacks=(),
        spec=None,
        objectives=(),
        record_sets={},
        data="",
    )
    material, _ = read_texts(task, loaded)
    return _worker(loaded, spec, [material.corpus.encoded])


def setting_of(spec: FederationSpec, fingerprint: str) -> str:
    """How clients train, as it travels: the settings, and the fingerprint of the base that all must have."""
    return json.dumps({"federation": spec.on_record, "base": fingerprint}, sort_keys=True)


def setting_from(text: str, *, device: str) -> tuple[FederationSpec, str]:
    """The settings of `setting_of`, for a client's own device, and the fingerprint.

    Raises:
        BadInput: it is no such text, or of another version.
    """
    try:
        setting = json.loads(text)
        return FederationSpec(**{**setting["federation"], "device": device}), str(setting["base"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "the server's settings", "cannot be read", "Server and clients need one version of reticent."
        ) from error


def _loaded(base: str, spec: FederationSpec) -> LoadedModel:
    loaded = load_start(base, spec.device, goes_on=False)
    settle_attention(loaded, spec.local_batch_size, spec.max_tokens)
    return loaded


def _worker(loaded: LoadedModel, spec: FederationSpec, rows: Sequence[Sequence[EncodedRecord]]) -> ClientWorker:
    how = local_training(loaded, spec)
    model, _ = with_method(loaded, spec)
    return ClientWorker(model=model, how=how, rows=rows)


_held: dict[Hashable, ClientWorker] = {}


def resident(key: Hashable, make: Callable[[], ClientWorker]) -> tuple[ClientWorker, float]:
    """The worker of this process, made when it is first asked for, and the seconds that it took; 0 where it was there.

    One is held: with another key the one before it is let go first.

    Args:
        key: of the federation.
        make: loads it.
    """
    if key in _held:
        return _held[key], 0.0
    started = time.perf_counter()
    _held.clear()
    _held[key] = make()
    return _held[key], time.perf_counter() - started
