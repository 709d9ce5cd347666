# SPDX-License-Identifier: Apache-2.0
"""Evidence from recorded updates, round by round: what was read of texts under each model, and what inversion gave.

The cache holds numbers and hashes only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reticent.attacks.federated.inversion_measures import exact_sentences, token_auc, token_recall
from reticent.attacks.federated.recorded_updates import RecordedUpdates
from reticent.auditing.family import Collection
from reticent.auditing.updates.looked_at import ClientTexts, LookedAt, look_at
from reticent.auditing.updates.replayed_rounds import Arrays, ReplayedRounds, open_replay
from reticent.auditing.updates.text_readings import TextReadings, read_texts_of
from reticent.auditing.updates.token_attack import OPENING, TokenAttack
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.progress import progress
from reticent.core.run_folder import RunFolder
from reticent.core.sealed import intact, seal
from reticent.federated.federation_spec import FederationSpec
from reticent.models.encode import EncodedRecord
from reticent.score.cache import content_key, key_of, open_cache, taking_turns
from reticent.score.internals.gradients import gradient_properties

VERSION = 1
"""Of what the cache holds."""
OPENED = 2
"""Clients of a round whose tokens are put in order too, which takes many passes of the model."""
TRAINED, OUTSIDE, OWN = "trained", "outside", "own"
"""Kinds of texts that are held against a client: it trained on them; of its held-out counterpart; its own held-out."""


@dataclass(frozen=True, kw_only=True)
class TextReading:
    """One text held against one client in one round.

    Args:
        client: hash of the suspect.
        owner: hash of whose the text is.
        kind: `TRAINED`, `OUTSIDE` or `OWN`.
        text: number among those of its kind and client.
        start, after: loss in nats a token under the round's global model and under the client's.
        cosine: of the update with the descent on the text; None where a layer allows no gradient.
        greedy, greedy_start: 1 where the client's, or the global, model writes its second half word for word.
        sampled, sampled_start: likewise by sampling, see `TextReadings`.
        others: of trained texts the loss under each client's model, in the order of the round's clients.
    """

    client: str
    owner: str
    kind: str
    text: int
    start: float
    after: float
    cosine: float | None
    greedy: float
    greedy_start: float
    sampled: float
    sampled_start: float
    others: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TokenReading:
    """The yield of inversion of one update, beside the same measures for the texts of the held-out client.

    Args:
        client: hash.
        outsider: hash of the held-out client.
        auc, outside_auc: chance that a token of the texts scores above another one.
        recall, outside_recall: share of the texts' different tokens among as many best-scored ones.
        exact, outside_exact: share of texts whose opening is among the guesses; None where none was long enough.
    """

    client: str
    outsider: str
    auc: float
    outside_auc: float
    recall: float
    outside_recall: float
    exact: float | None = None
    outside_exact: float | None = None


@dataclass(frozen=True, kw_only=True)
class RoundReadings:
    """All that was read of one round; ``could_not`` says what could not be looked at, and why."""

    number: int
    clients: tuple[str, ...]
    texts: tuple[TextReading, ...]
    tokens: tuple[TokenReading, ...]
    could_not: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class UpdateEvidence:
    """Evidence from a recorded federation.

    Args:
        rounds: that were looked at.
        recorded_rounds, recorded_updates: how many there are.
        spec: of the federation.
        promised: whether clients were promised privacy of what leaves the server.
        inside: whether records were promised privacy of what leaves their client.
        could_not: why something could not be looked at, one line each.
    """

    rounds: tuple[RoundReadings, ...]
    recorded_rounds: int
    recorded_updates: int
    spec: FederationSpec
    promised: bool = False
    inside: bool = False
    could_not: tuple[str, ...] = ()


def collect(audit: Collection) -> UpdateEvidence | None:
    """Look at the updates that a federation recorded; None for any other run, and where none were recorded."""
    run = audit.tuned
    spec = None if run is None else recorded_spec(run)
    if run is None or spec is None or not spec.record_updates:
        return None
    recorded = RecordedUpdates(run.updates)
    looked = look_at(audit.case, recorded, audit.models.target.tokenizer, key=run.hash_key(), seed=audit.config.seed)
    about: dict[str, Any] = {"recorded_rounds": looked.recorded_rounds, "recorded_updates": looked.recorded_updates}
    settings = run.settings("federate") or {}
    about |= {"spec": spec, "promised": "privacy" in settings, "inside": "record_privacy" in settings}
    rounds = [number for number, clients in sorted(looked.clients.items()) if clients]
    if not rounds:
        reason = "single updates: could not look, since "
        reason += (
            "no file of them is in the run folder"
            if not looked.recorded_updates
            else ("none is of a client whose texts are in it (they are named by hash.key)")
        )
        return UpdateEvidence(rounds=(), could_not=(reason,), **about)
    replayed = open_replay(
        recorded, spec, target=audit.case.target_name, base=audit.models.compared_with, device=audit.config.device
    )
    reader = _RoundReader(audit=audit, replayed=replayed, looked=looked)
    with progress("Single updates", len(rounds), unit="rounds") as advance:
        read = []
        for number in rounds:
            read.append(reader.read(number))
            advance(1)
    could_not = sorted({line for readings in read for line in readings.could_not})
    return UpdateEvidence(rounds=tuple(read), could_not=tuple(could_not), **about)


def recorded_spec(run: RunFolder) -> FederationSpec | None:
    """How the federation of a run folder trained; None where it holds none."""
    settings = run.settings("federate")
    if settings is None:
        return None
    try:
        return FederationSpec(**settings["federation"])
    except TypeError as error:
        raise BadInput(str(run.root), f"has settings of another version ({error})", "Federate again.") from error


class _RoundReader:
    """Reads one round after the other."""

    def __init__(self, *, audit: Collection, replayed: ReplayedRounds, looked: LookedAt) -> None:
        self.audit, self.replayed, self.looked = audit, replayed, looked
        tokenizer = audit.models.target.tokenizer
        self.pad, self.bos = tokenizer.pad_token_id or 0, tokenizer.bos_token_id
        self.could_not: set[str] = set()
        self.attack: TokenAttack | None = None

    def read(self, number: int) -> RoundReadings:
        """One round; what an earlier audit read of the same files and texts is taken from the cache."""
        path = open_cache(self.audit.cache) / f"round-{self._key(number)}.json"
        with taking_turns(path):
            if intact(path):
                return _decoded(path)
            readings = self._made(number)
            write_text(path, json.dumps(asdict(readings)))
            seal(path)
        return readings

    def _key(self, number: int) -> str:
        recorded, spec, target = self.replayed.recorded, self.replayed.spec, self.audit.models.target
        names = self.looked.clients[number]
        upto = [n for n in recorded.rounds() if n < number] if spec.exchange == "stacked" else []
        files = [path for n in (*upto, number) for path in sorted((recorded.root / f"round-{n:04d}").iterdir())]
        texts = [
            [content_key(rows, {}) for rows in (t.trained, t.own, t.outside)]
            + [t.outsider, sorted(t.tokens), sorted(t.outside_tokens)]
            for t in (self.looked.texts[name] for name in names)
        ]
        about = (VERSION, target.fingerprint, target.base_fingerprint, torch.__version__, target.device)
        digests = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files if path.is_file()]
        return key_of(*about, number, digests, texts)

    def _made(self, number: int) -> RoundReadings:
        self.could_not = set()
        start = self.replayed.begin(number)
        names = self.looked.clients[number]
        updates = {name: self.replayed.recorded.update(number, name) for name in names}
        texts = [_SuspectTexts(name, self.looked.texts[name]) for name in names]
        begun = [read_texts_of(self.replayed.model, held.rows, pad=self.pad) for held in texts]
        cosines = [self._cosines(start, updates[held.client], held.rows) for held in texts]
        tokens = [
            reading
            for place, held in enumerate(texts)
            for reading in self._tokens(start, updates[held.client], held, ordered=place < OPENED)
        ]
        all_trained = [row for held in texts for row in held.texts.trained]
        under: list[TextReadings] = []
        after: list[TextReadings] = []
        for held in texts:
            self.replayed.put({name: array + updates[held.client][name] for name, array in start.items()})
            after.append(read_texts_of(self.replayed.model, held.rows, pad=self.pad))
            under.append(read_texts_of(self.replayed.model, all_trained, pad=self.pad))
        self.replayed.put(start)
        others = np.array([reading.loss for reading in under])
        rows: list[TextReading] = []
        first = 0
        for place, held in enumerate(texts):
            last = first + len(held.texts.trained)
            rows += held.readings(begun[place], after[place], cosines[place], others[:, first:last])
            first = last
        could_not = tuple(sorted(self.could_not))
        return RoundReadings(number=number, clients=names, texts=tuple(rows), tokens=tuple(tokens), could_not=could_not)

    def _cosines(self, start: Arrays, update: Arrays, rows: Sequence[EncodedRecord]) -> list[float | None]:
        """Of the update with the descent on each text, at the round's global arrays."""
        origin: dict[str, torch.Tensor | float] = {
            name: torch.from_numpy(start[name] - array) for name, array in update.items()
        }
        try:
            inner = gradient_properties(self.replayed.model, rows, parameters=sorted(update), origin=origin)
        except BadInput as error:
            self.could_not.add(f"gradients of texts beside updates: could not look, since {error.given} {error.why}")
            return [None] * len(rows)
        lengths = inner.total * float(np.sqrt(inner.update.sum()))
        product = -inner.inner.sum(axis=1)
        return [float(p / n) if n > 0 else 0.0 for p, n in zip(product, lengths, strict=True)]

    def _tokens(self, start: Arrays, update: Arrays, held: _SuspectTexts, *, ordered: bool) -> list[TokenReading]:
        """The yield of inversion of one update; nothing where there is no other client's text to hold it against."""
        spec = self.replayed.spec
        if self.attack is None:
            exact = spec.local_optimizer == "sgd" and spec.local_steps == 1
            self.attack = TokenAttack(self.replayed.model, sorted(start), exact=exact)
        if not self.attack.can:
            self.could_not.add(
                f"update inversion: could not look, since with {spec.method} neither embeddings nor a matrix that "
                "reads single tokens is trained"
            )
            return []
        inside, outside = held.texts.tokens, held.texts.outside_tokens
        if not inside or not outside or len(inside | outside) >= self.attack.vocabulary:
            return []
        scores = self.attack.scores(start, update)
        if scores is None:
            scores = np.zeros(self.attack.vocabulary)  # the update says nothing, so every token may be it
        return [
            TokenReading(
                client=held.client,
                outsider=held.texts.outsider,
                auc=token_auc(scores, inside),
                outside_auc=token_auc(scores, outside),
                recall=token_recall(scores, inside),
                outside_recall=token_recall(scores, outside),
                **(self._openings(scores, update, held) if ordered else {}),
            )
        ]

    def _openings(self, scores: Any, update: Arrays, held: _SuspectTexts) -> dict[str, float | None]:
        assert self.attack is not None
        sides = [_openings(held.texts.trained), _openings(held.texts.outside)]
        if not sides[0] or not sides[1]:
            return {}
        first = {opening[0] for opening in (*sides[0], *sides[1])}
        begin = tuple(first) if first == {self.bos} else ()
        guesses = [s.tokens for s in self.attack.openings(scores, len(held.texts.tokens), begin, update)]
        return {"exact": exact_sentences(guesses, sides[0]), "outside_exact": exact_sentences(guesses, sides[1])}


@dataclass(frozen=True)
class _SuspectTexts:
    """The texts that are held against one client, one kind behind the other."""

    client: str
    texts: ClientTexts

    @property
    def rows(self) -> list[EncodedRecord]:
        return [*self.texts.trained, *self.texts.outside, *self.texts.own]

    def readings(
        self, start: TextReadings, after: TextReadings, cosines: Sequence[float | None], others: np.ndarray
    ) -> list[TextReading]:
        texts = self.texts
        kinds = [(TRAINED, i) for i in range(len(texts.trained))] + [(OUTSIDE, i) for i in range(len(texts.outside))]
        kinds += [(OWN, i) for i in range(len(texts.own))]
        return [
            TextReading(
                client=self.client,
                owner=texts.outsider if kind == OUTSIDE else self.client,
                kind=kind,
                text=text,
                start=float(start.loss[place]),
                after=float(after.loss[place]),
                cosine=cosines[place],
                greedy=float(after.greedy[place]),
                greedy_start=float(start.greedy[place]),
                sampled=float(after.sampled[place]),
                sampled_start=float(start.sampled[place]),
                others=tuple(others[:, text].tolist()) if kind == TRAINED else (),
            )
            for place, (kind, text) in enumerate(kinds)
        ]


def _openings(rows: Sequence[EncodedRecord]) -> list[tuple[int, ...]]:
    return [tuple(row.token_id[:OPENING].tolist()) for row in rows if len(row) >= OPENING]


def _decoded(path: Path) -> RoundReadings:
    told = json.loads(path.read_text(encoding="utf-8"))
    texts = (TextReading(**{**row, "others": tuple(row["others"])}) for row in told["texts"])
    return RoundReadings(
        number=told["number"],
        clients=tuple(told["clients"]),
        texts=tuple(texts),
        tokens=tuple(TokenReading(**row) for row in told["tokens"]),
        could_not=tuple(told["could_not"]),
    )
