# SPDX-License-Identifier: Apache-2.0
"""RiskList: early in training, say which records the model is about to memorize, so that they can be protected.

After "Predicting memorization within Large Language Models fine-tuned for classification" (Dentan et al., ECAI 2025,
arXiv:2409.18858), which finds early loss nearly as good as its own PSMI. There each record has one answer, an option
letter, which is PSMI's label. A text has an answer at each of its tokens. So here PSMI is taken for tokens, of the
state that a token is predicted from and the token itself, and a record has the mean over its own: this project's
adaptation, not the paper's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import ArrayLike
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.core import validate
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.models.encode import EncodedRecord, encode
from reticent.models.load import pick_dtype
from reticent.monitor.passes import as_it_was, rounded
from reticent.score.engine import Engine, ScoreOptions, batches, open_engine, padded, plan_pieces
from reticent.score.forward import device_of
from reticent.score.token_stats import token_stats
from reticent.stats.psmi import frequent, psmi
from reticent.stats.risk import RiskQuality, places, quality, rank_average, top
from reticent.train.private.logical_batches import LogicalBatches
from reticent.train.ranks import ranks

Floats = npt.NDArray[np.float64]

RISKS = "risk.jsonl"
CLASSES = 32
"""Labels of PSMI: the 31 tokens that are trained on most often, and all others together."""
TOKENS, TOKENS_IN_ALL = 16, 50_000
"""Tokens of a record, spread over it, that PSMI is taken for; fewer where there would be more in all."""
PROJECTIONS = 200
"""A tenth of the paper's, as a record's value is a mean over several tokens."""
LEAST = 20
"""Records that a list takes: below, a top tenth is of one record."""


@dataclass(frozen=True, kw_only=True)
class RecordRisk:
    """One line of ``risk.jsonl``, about one record that is trained on.

    Args:
        id: of the record. The list says which private records stand out: keep it where the data may be kept.
        user: None where unknown.
        tokens: trained tokens.
        loss_before: mean negative log-likelihood of these before training, nats a token.
        loss: the same when the list was made.
        psmi: see `reticent.stats.psmi`, nats, mean over tokens; low is risky.
        risk: mean rank of ``loss`` and ``-psmi``, in (0, 1]; high is risky.
        rank: by ``risk``; 1 = protect first.
        flagged: among the riskiest tenth.
        step, epoch: when the list was made.
    """

    id: str
    user: str | None
    tokens: int
    loss_before: float
    loss: float
    psmi: float
    risk: float
    rank: int
    flagged: bool
    step: int
    epoch: float


class RiskList(TrainerCallback):  # type: ignore[misc]
    """Scores all training records once, early, and writes the list of who should be protected.

    ``trainer.add_callback(RiskList(records=…, tokenizer=…, path="risk.jsonl"))`` works in ``transformers.Trainer`` and
    what derives from it, in one process, without differential privacy. It reads each record twice, before training and
    at the fraction; weights do not change by it, to the last bit.

    Args:
        records: all that is trained on, at least 20.
        tokenizer: the one that the model is trained with.
        path: of ``risk.jsonl``, a line of JSON a record (`RecordRisk`), riskiest first. Records of which nothing is
            predicted are left out.
        at: fraction of the first epoch at which the list is made. The paper measures just before the median loss falls
            below 5 % of its first value, which was at 0.2 to 0.4.
        max_tokens: records are cut off behind this many tokens, as in training.
        base: ``[len(records)]`` losses before training, nats a token, if they are known; None: measured.
        dtype: what is computed in; "auto" is bfloat16 where the machine has it.

    Raises:
        BadInput: too few records, or ``at`` is not in (0, 1].
    """

    def __init__(
        self,
        *,
        records: Sequence[Record],
        tokenizer: Any,
        path: str | Path,
        at: float = 0.3,
        max_tokens: int | None = None,
        base: ArrayLike | None = None,
        dtype: str = "auto",
    ) -> None:
        validate.in_range(0, 1, at=at)
        encoded = [encode(record, tokenizer, max_tokens=max_tokens) for record in records]
        readable = [place for place, row in enumerate(encoded) if row.predicted]
        if len(readable) < LEAST:
            raise BadInput(f"{len(readable)} records", "are too few for a list of risks", f"Give at least {LEAST}.")
        self.records, self.rows = [records[place] for place in readable], [encoded[place] for place in readable]
        self.base: Floats | None = None
        if base is not None:
            base_loss = np.asarray(base, dtype=np.float64)
            validate.same_length(records=records, base=base_loss.tolist())
            self.base = base_loss[readable]
        self.path, self.at, self.dtype = Path(path), at, dtype
        self.done = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        _refuse(args, kwargs.get("train_dataloader"))
        self.done = bool(state.global_step) and self.path.exists()
        if self.done:
            return
        if state.global_step:
            raise BadInput(
                f"a training that is gone on with from step {state.global_step}",
                "had no list of risks made while it was early",
                "Start it over (--resume false), or go on without the list.",
            )
        if self.base is None:
            self.base = read(kwargs["model"], self.rows, dtype=self.dtype).loss

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.done or (state.epoch or 0.0) < self.at - 1e-9:
            return
        assert self.base is not None
        seen = read(kwargs["model"], self.rows, dtype=self.dtype, states=states_of(len(self.rows)))
        rows = list_of(self.records, seen, self.base, step=state.global_step, epoch=float(state.epoch or 0.0))
        write_risks(self.path, rows)
        self.done = True
        flagged = sum(row.flagged for row in rows)
        console.print(f"epoch {state.epoch:.2f}: {flagged} of {len(rows)} records flagged in {self.path.name}")


# ---- one pass -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenLosses:
    """Results of one pass, for ``N`` records and ``K`` of their tokens.

    Args:
        loss: ``[N]`` mean negative log-likelihood of the trained tokens, nats a token.
        tokens: ``[N]`` how many these are.
        hidden: ``[K, D]`` last hidden states from which the chosen tokens are predicted, as the output layer is given
            them.
        token_id: ``[K]`` the chosen tokens.
        owner: ``[K]`` which record each belongs to.
    """

    loss: Floats
    tokens: npt.NDArray[np.int64]
    hidden: npt.NDArray[np.float32]
    token_id: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]


def states_of(records: int) -> int:
    """Tokens of a record whose states are kept, so that memory and time stay bounded."""
    return max(1, min(TOKENS, TOKENS_IN_ALL // records))


def read(model: Any, rows: Sequence[EncodedRecord], *, dtype: str = "auto", states: int = 0) -> TokenLosses:
    """Losses of texts, and states of some of their tokens, in one pass; the model is left exactly as it was.

    Args:
        model: a causal language model, in training or not.
        rows: ``N`` encoded records, each with a token to predict.
        dtype: what is computed in: "float32", "bfloat16", or "auto" for bfloat16 where the device computes in it.
        states: tokens of a record, evenly spread, whose states are kept.

    Raises:
        BadInput: a loss is not a finite number.
    """
    with as_it_was(model), ExitStack() as within:
        if pick_dtype(dtype, device_of(model).type) == "bfloat16":
            within.enter_context(rounded(model))
        engine = open_engine(model, "the model in training", ScoreOptions())
        seen = _read(engine, model.get_output_embeddings(), rows, states)
    if not np.isfinite(seen.loss).all():
        raise BadInput("the list of risks", "the model gives losses that are no numbers", "Lower the learning rate.")
    return seen


def _read(engine: Engine, head: torch.nn.Module, rows: Sequence[EncodedRecord], states: int) -> TokenLosses:
    offsets, pieces = plan_pieces(rows, engine.choices.window)
    tokens = np.diff(offsets)
    chosen, owner = _spread(offsets, states)
    slot = np.full(int(offsets[-1]), -1)
    slot[chosen] = np.arange(len(chosen))
    logp, token_id = np.zeros(len(slot)), np.zeros(len(slot), dtype=np.int64)
    hidden = np.zeros((0, 0), dtype=np.float32)
    caught: list[torch.Tensor] = []

    def catch(_: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if not caught:  # the first call of a batch: later ones are chunks of it
            caught.append(args[0])

    handle = head.register_forward_pre_hook(catch)
    try:
        with torch.inference_mode():
            for batch in batches(pieces, engine.choices.tokens_per_batch, engine.forward.positions):
                ids, where, gold = padded(rows, batch)
                out = np.concatenate([np.arange(piece.out.start, piece.out.stop) for piece in batch])
                token_id[out] = gold
                caught.clear()
                for some, logits in engine.forward.logits_at(ids, where):
                    logp[out[some]] = token_stats(logits, gold[some], impl=engine.choices.impl).logp
                with_slot = np.flatnonzero(slot[out] >= 0)
                places = where[torch.from_numpy(with_slot)].to(caught[0].device)
                given = caught[0][:, -ids.shape[1] :].flatten(0, 1)[places].float().cpu().numpy()
                if not hidden.size:
                    hidden = np.zeros((len(chosen), given.shape[1]), dtype=np.float32)
                hidden[slot[out[with_slot]]] = given
    finally:
        handle.remove()
    loss = -np.add.reduceat(logp, offsets[:-1]) / tokens
    return TokenLosses(loss=loss, tokens=tokens, hidden=hidden, token_id=token_id[chosen], owner=owner)


def _spread(offsets: npt.NDArray[np.int64], most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places of at most ``most`` tokens of each record, evenly spread over it, and whose they are."""
    places = [a + np.unique(np.linspace(0, b - a - 1, most).astype(np.int64)) for a, b in pairwise(offsets.tolist())]
    return np.concatenate(places), np.repeat(np.arange(len(places)), [len(of_record) for of_record in places])


def list_of(records: Sequence[Record], seen: TokenLosses, base: Floats, *, step: int, epoch: float) -> list[RecordRisk]:
    """The list, riskiest first.

    Args:
        records: ``N``.
        seen: what one early pass gave, with states.
        base: ``[N]`` losses before training, nats a token.
        step, epoch: when that pass was made.
    """
    information = psmi(seen.hidden, frequent(seen.token_id, CLASSES), projections=PROJECTIONS)
    told = np.bincount(seen.owner, weights=information) / np.bincount(seen.owner)
    risk = rank_average(seen.loss, -told)
    rank, flagged = places(risk), top(risk)
    return [
        RecordRisk(
            id=records[i].id,
            user=records[i].user,
            tokens=int(seen.tokens[i]),
            loss_before=float(base[i]),
            loss=float(seen.loss[i]),
            psmi=float(told[i]),
            risk=float(risk[i]),
            rank=int(rank[i]),
            flagged=bool(flagged[i]),
            step=step,
            epoch=round(epoch, 6),
        )
        for i in np.argsort(rank)
    ]


# ---- the file -------------------------------------------------------------------------------------------------------


def write_risks(path: str | Path, rows: Sequence[RecordRisk]) -> None:
    """Write ``risk.jsonl``, atomically."""
    write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def read_risks(path: str | Path) -> list[RecordRisk]:
    """Read what `write_risks` wrote.

    Raises:
        BadInput: it is missing or broken.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # ids may hold other line breaks
        return [RecordRisk(**json.loads(line)) for line in lines if line]
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Train with --risk_list true.") from error
    except (ValueError, TypeError) as error:
        raise BadInput(str(path), f"is no list of risks ({error})", "Train again.") from error


def losses(model: Any, tokenizer: Any, records: Sequence[Record], *, max_tokens: int | None = None) -> dict[str, float]:
    """Loss of each record under a model, nats a token, by record id.

    Records of which nothing is predicted are left out, as in the list.
    """
    rows = [encode(record, tokenizer, max_tokens=max_tokens) for record in records]
    readable = [place for place, row in enumerate(rows) if row.predicted]
    seen = read(model, [rows[place] for place in readable])
    return {records[place].id: float(loss) for place, loss in zip(readable, seen.loss, strict=True)}


def falls(rows: Sequence[RecordRisk], final_loss: Mapping[str, float]) -> dict[str, float]:
    """How far each record's loss fell from before training to the end, nats a token: a proxy for its memorization.

    It holds what any other text of the kind would have fallen too, and what is hard at first has far to fall, which
    flatters every score that is a loss. The paper's ground truth takes several trainings
    (`reticent.stats.memorization`).

    Args:
        rows: the list.
        final_loss: by record id, under the trained model: `losses`.

    Raises:
        BadInput: a record of the list has no final loss.
    """
    return {row.id: row.loss_before - loss for row, loss in zip(rows, _values(rows, final_loss), strict=True)}


def foresight(rows: Sequence[RecordRisk], memorized: Mapping[str, float], **how: Any) -> dict[str, RiskQuality]:
    """How well the list, and each score in it, foresaw which tenth of the records was memorized most.

    ``loss_before`` is in the table to show how much was known before training; a score that does not beat it has
    foreseen nothing.

    Args:
        rows: the list.
        memorized: how much, by record id: `falls`, or better, what several trainings say.
        how: as in `reticent.stats.risk.quality`. Where all records have users, these are the units of the intervals.

    Returns:
        By score, all turned so that high is risky: "risk", "loss", "psmi" (negated), "loss_before", and "fallen"
        (what the loss had fallen by when the list was made).

    Raises:
        BadInput: it is not told how much a record of the list was memorized.
        Underpowered: fewer than 100 records.
    """
    outcome = _values(rows, memorized)
    users = [row.user for row in rows]
    if "cluster" not in how and all(user is not None for user in users):
        how["cluster"] = users
    scores = {
        "risk": [row.risk for row in rows],
        "loss": [row.loss for row in rows],
        "psmi": [-row.psmi for row in rows],
        "loss_before": [row.loss_before for row in rows],
        "fallen": [row.loss_before - row.loss for row in rows],
    }
    return {name: quality(score, outcome, **how) for name, score in scores.items()}


def _values(rows: Sequence[RecordRisk], told: Mapping[str, float]) -> list[float]:
    missing = [row.id for row in rows if row.id not in told]
    if missing:
        raise BadInput(f"{len(missing)} records of the list", "have no value", "Give one for each record of the list.")
    return [told[row.id] for row in rows]


def _refuse(args: TrainingArguments, loader: Any) -> None:
    if args.world_size > 1 and ranks().size == 1:  # of processes that one leads, only the leader looks
        raise BadInput("risk_list", f"runs in one process, and here are {args.world_size}", "Train in one process.")
    if isinstance(getattr(loader, "dataset", None), LogicalBatches):
        raise BadInput(
            "risk_list with differential privacy",
            "the list is computed from the losses of single records, which the promise does not cover",
            "Train without it: a private training protects all records alike.",
        )
