# SPDX-License-Identifier: Apache-2.0
"""Texts out of clients' updates: tokens and whole sentences, by how the client trained and by what is done against it.

Clients hold a few short texts (ends of made-up mails) and train on them from the arrays of a round: the first (B =
0), or a later one (after ``warm`` steps on other people's texts). From what the attacker sees of the update, every
token of the vocabulary gets a score:

- ``distance``: how near its normalised embedding is to the row span of A (or of the weights) of layer 0's q, k and v;
- ``energy``: the same with strong directions counted for more;
- ``through_b``: the rows of B, through A, which is all that moves in a first SGD step;
- ``rows``: full tuning only, how far the row of the embedding moved.

``exact`` is the share of texts that beam search puts in order, token by token. The attacker is told how many different
tokens there are, how long the texts are and which score is best, so the figures are upper bounds. Views: ``update``
as sent; ``bounded``: cut to half its length; ``sum``: the mean of the cell's clients, as secure aggregation shows it;
``noised``: that with the noise of a client-level promise, the clients of a cell being the round. In ``sum`` and
``noised`` all clients share what is attacked, so their intervals are too narrow.

Each cell is a file in the work folder, and is not made again.

    OMP_NUM_THREADS=2 python benchmarks/update_inversion.py --json benchmarks/results/update_inversion.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backdoor_runs import short_texts, stage
from peft import LoraConfig, get_peft_model

from reticent.attacks.federated.inversion_measures import (
    best_tokens,
    exact_sentences,
    over_updates,
    token_auc,
    token_recall,
)
from reticent.attacks.federated.moved_rows import moved_rows
from reticent.attacks.federated.token_order import BeamSettings, PrefixReader, ordered_sentences
from reticent.attacks.federated.update_span import (
    RowSpan,
    normalised,
    row_span,
    seen_through,
    span_distances,
    span_energy,
)
from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.models.load import load
from reticent.models.locate import locate
from reticent.testing.tiny import save_tiny

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
RATES = {("lora", "sgd"): 0.1, ("lora", "adamw"): 1e-3, ("full", "sgd"): 0.05, ("full", "adamw"): 5e-5}
TOLERANCE = 1e-3
VIEWS = ("update", "bounded", "sum", "noised")
MOST_ORDERED = 4
"""Texts of a client above which sentences are not looked for."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One setting; ``rank`` 0 stands for full tuning."""

    rank: int
    optimizer: str
    steps: int
    batch: int
    round: str
    view: str = "update"

    @property
    def name(self) -> str:
        """Of its file."""
        method = f"lora{self.rank}" if self.rank else "full"
        return f"{method}-{self.optimizer}-s{self.steps}-b{self.batch}-{self.round}-{self.view}"


class Federation:
    """Clients' texts, and models to train on them.

    Args:
        base: folder of a Llama-like model.
        texts: ``[clients]`` lists of token ids each, and those that earlier rounds saw.
        warm: AdamW steps before a later round.
    """

    def __init__(self, base: str, texts: Sequence[list[int]], earlier: Sequence[list[int]], warm: int) -> None:
        self.base, self.texts, self.earlier, self.warm = base, texts, earlier, warm
        self.starts: dict[tuple[int, str], dict[str, torch.Tensor]] = {}

    def model(self, rank: int) -> Any:
        """The base in float32, with an adapter where there is a rank."""
        model = load(self.base, dtype="float32", device="cpu").model
        if not rank:
            return model.requires_grad_(True)
        torch.manual_seed(0)
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(PROJECTIONS), lora_dropout=0.0)
        return get_peft_model(model, config).eval()

    def start(self, model: Any, cell: Cell) -> dict[str, torch.Tensor]:
        """The arrays that the cell's round begins with, which ``model`` then holds."""
        key = (cell.rank, cell.round)
        if key not in self.starts:
            if cell.round == "later":
                method = "lora" if cell.rank else "full"
                optimizer = torch.optim.AdamW(trained(model).values(), lr=RATES[method, "adamw"])
                for number in range(self.warm):
                    take_step(model, optimizer, self.earlier[4 * number % len(self.earlier) :][:4])
            self.starts[key] = {name: weight.detach().clone() for name, weight in trained(model).items()}
        put_back(model, self.starts[key])
        return self.starts[key]


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    """Weights that training changes, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def put_back(model: Any, arrays: dict[str, torch.Tensor]) -> None:
    """Set the trained weights."""
    with torch.no_grad():
        for name, weight in trained(model).items():
            weight.copy_(arrays[name])


def take_step(model: Any, optimizer: torch.optim.Optimizer, texts: Sequence[list[int]]) -> None:
    """One step on the mean loss of some texts and the end behind each, each text weighing the same."""
    optimizer.zero_grad(set_to_none=True)
    end = model.config.eos_token_id
    rows = [torch.tensor([*text, end]) for text in texts]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=end)
    predicted = torch.arange(1, tokens.shape[1]) < torch.tensor([[len(row)] for row in rows])
    logits = model(input_ids=tokens).logits[:, :-1]  # what is padded stands behind, so no token sees it
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    ((losses.view_as(predicted) * predicted).sum(1) / predicted.sum(1)).mean().backward()
    optimizer.step()


def looked_at(name: str) -> bool:
    """Arrays that the attacks read: the projections of layers 0 and 1, and the embedding."""
    layers = any(f"layers.{number}.self_attn.{which}" in name for number in (0, 1) for which in PROJECTIONS)
    return layers or "embed_tokens" in name


def local_update(model: Any, cell: Cell, start: dict[str, torch.Tensor], texts: Sequence[list[int]]) -> dict[str, Any]:
    """What a client sends: the arrays that are looked at, and the length of all of them as ``norm``."""
    put_back(model, start)
    kind = torch.optim.SGD if cell.optimizer == "sgd" else torch.optim.AdamW
    optimizer = kind(trained(model).values(), lr=RATES["lora" if cell.rank else "full", cell.optimizer])
    for _ in range(cell.steps):
        take_step(model, optimizer, texts)
    changes = {name: weight.detach() - start[name] for name, weight in trained(model).items()}
    norm = math.sqrt(sum(float(change.double().square().sum()) for change in changes.values()))
    return {"norm": norm, "arrays": {name: change.numpy() for name, change in changes.items() if looked_at(name)}}


def seen(updates: list[dict[str, Any]], cell: Cell, noise_multiplier: float) -> list[dict[str, np.ndarray]]:
    """For each client what the attacker sees of its update."""
    if cell.view == "update":
        return [update["arrays"] for update in updates]
    bound = 0.5 * float(np.median([update["norm"] for update in updates]))
    scales = [min(1.0, bound / max(update["norm"], 1e-30)) for update in updates]
    cut = [
        {name: change * scale for name, change in update["arrays"].items()}
        for update, scale in zip(updates, scales, strict=True)
    ]
    if cell.view == "bounded":
        return cut
    mean = {name: np.mean([arrays[name] for arrays in cut], axis=0) for name in cut[0]}
    if cell.view == "noised":
        drawn, std = np.random.default_rng(0), noise_multiplier * bound / len(updates)
        mean = {name: change + drawn.normal(scale=std, size=change.shape) for name, change in mean.items()}
    return [mean] * len(updates)


class Attacker:
    """Holds the round's model, and turns an update into scores of tokens and into sentences."""

    def __init__(self, model: Any, cell: Cell, start: dict[str, torch.Tensor], settings: BeamSettings) -> None:
        self.model, self.cell, self.start, self.settings = model, cell, start, settings
        self.core = (model.base_model.model if cell.rank else model).model
        self.embeddings = self.core.embed_tokens.weight.detach().numpy()
        self.vectors = self._normalised(self.embeddings, 0)

    def scores(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Score → ``[V]``."""
        span = self._span(arrays, 0)
        scores = {"distance": -span_distances(self.vectors, span), "energy": span_energy(self.vectors, span)}
        if self.cell.rank:
            scores["through_b"] = self._through_b(arrays)
        else:
            name = next(name for name in arrays if "embed_tokens" in name)
            scores["rows"] = moved_rows(arrays[name], self.start[name].numpy())
        return scores

    def sentences(self, arrays: dict[str, np.ndarray], tokens: np.ndarray, texts: Sequence[list[int]]) -> set:
        """The best guesses of each length, as many as there are texts of it."""
        put_back(self.model, self.start)
        span, guesses = self._span(arrays, 1), set()
        for length in sorted({len(text) for text in texts}):
            count = sum(len(text) == length for text in texts)
            found = ordered_sentences(tokens, self._reader(span), length=length, settings=self.settings)
            guesses |= {guess.tokens for guess in found[:count]}
        return guesses

    def _reader(self, span: RowSpan) -> PrefixReader:
        @torch.inference_mode()
        def logp(prefixes: np.ndarray) -> np.ndarray:
            logits = self.model(input_ids=torch.from_numpy(prefixes), logits_to_keep=1).logits[:, -1]
            return logits.log_softmax(-1).double().numpy()

        def distance(prefixes: np.ndarray) -> np.ndarray:
            return span_distances(self._normalised(self._behind_first(prefixes), 1), span)

        return PrefixReader(logp=logp, distance=distance if len(span.directions) else None)

    @torch.inference_mode()
    def _behind_first(self, prefixes: np.ndarray) -> np.ndarray:
        """``[B, D]``: hidden states of last tokens behind layer 0. Layer 1 runs too: a norm follows the last."""
        layers = self.core.layers
        self.core.layers = layers[:2]
        try:
            result = self.core(input_ids=torch.from_numpy(prefixes), output_hidden_states=True, use_cache=False)
        finally:
            self.core.layers = layers
        return result.hidden_states[1][:, -1].numpy()

    def _span(self, arrays: dict[str, np.ndarray], number: int) -> RowSpan:
        chosen = [
            change for name, change in arrays.items() if f"layers.{number}.self_attn." in name and "lora_B" not in name
        ]
        return row_span(chosen, tolerance=TOLERANCE)

    def _through_b(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        nearness = []
        for name, change in arrays.items():
            if "layers.0." in name and "lora_B" in name:
                a_matrix = self.start[name.replace("lora_B", "lora_A")].numpy()
                nearness.append(
                    -span_distances(seen_through(self.vectors, a_matrix), row_span([change], tolerance=TOLERANCE))
                )
        return np.mean(nearness, axis=0)

    def _normalised(self, rows: np.ndarray, number: int) -> np.ndarray:
        weight = self.core.layers[number].input_layernorm.weight.detach().numpy()
        return normalised(rows, weight, epsilon=self.core.config.rms_norm_eps)


def outcome(federation: Federation, cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of one cell, each with an interval over its clients."""
    began = time.perf_counter()
    model = federation.model(cell.rank)
    start = federation.start(model, cell)
    held = [federation.texts[cell.batch * i :][: cell.batch] for i in range(given.clients)]
    updates = [local_update(model, cell, start, texts) for texts in held]
    put_back(model, start)
    attacker = Attacker(model, cell, start, BeamSettings(width=given.width, unchecked=0))
    rows: list[dict[str, float]] = []
    for arrays, texts in zip(seen(updates, cell, given.noise_multiplier), held, strict=True):
        present = {token for text in texts for token in text}
        scores = attacker.scores(arrays)
        row = {f"auc_{name}": token_auc(values, present) for name, values in scores.items()}
        row |= {f"recall_{name}": token_recall(values, present) for name, values in scores.items()}
        if cell.batch <= MOST_ORDERED and len(rows) < given.ordered:
            best = max(scores, key=lambda name: row[f"recall_{name}"])
            tokens = best_tokens(scores[best], len(present))
            guesses = attacker.sentences(arrays, tokens, texts)
            row["exact"] = exact_sentences(guesses, [tuple(text) for text in texts])
        rows.append(row)
    figures = {name: [row[name] for row in rows if name in row] for name in rows[0]}
    return {
        **asdict(cell),
        "clients": len(rows),
        "tokens": float(np.mean([len({token for text in texts for token in text}) for texts in held])),
        "seconds": round(time.perf_counter() - began, 1),
        **{name: _plain(values) for name, values in figures.items()},
    }


def _plain(values: list[float]) -> dict[str, float]:
    estimate = over_updates(values)
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi, "n": estimate.n}


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """Updates as they are in every setting, then what is done against it in one line of settings."""
    rounds = ("first", "later")
    for rank, optimizer, steps, batch, round_ in itertools.product(
        given.ranks, ("sgd", "adamw"), given.steps, given.batches, rounds
    ):
        yield Cell(rank=rank, optimizer=optimizer, steps=steps, batch=batch, round=round_)
    rank = given.ranks[min(1, len(given.ranks) - 1)]
    for view, optimizer, steps in itertools.product(VIEWS[1:], ("sgd", "adamw"), given.steps[:2]):
        yield Cell(rank=rank, optimizer=optimizer, steps=steps, batch=given.batches[0], round="later", view=view)


def main() -> None:
    """Make all cells that are missing, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="write the outcome here")
    parser.add_argument("--work", type=Path, default=Path("runs/inversion"), help="cells; resumed from here")
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--tiny", action="store_true", help="a tiny base and few cells: seconds, to try it out")
    parser.add_argument("--ranks", nargs="+", type=int, default=[8, 16, 64, 0], help="of LoRA; 0: all weights")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--clients", type=int, default=8, help="of each cell")
    parser.add_argument("--ordered", type=int, default=4, help="clients of a cell whose sentences are looked for")
    parser.add_argument("--tokens", type=int, default=24, help="of a text, at most")
    parser.add_argument("--warm", type=int, default=40, help="steps before a later round")
    parser.add_argument("--width", type=int, default=8, help="of the beam")
    parser.add_argument("--noise_multiplier", type=float, default=0.8)
    given = parser.parse_args()
    base = given.base
    if given.tiny:
        base = str(given.work / "base")
        given.ranks, given.steps, given.batches = [4, 0], [1, 2], [1, 2]
        given.clients, given.ordered, given.tokens, given.warm = 3, 1, 8, 3
        if not Path(base).exists():
            save_tiny(Path(base))
    else:
        base = str(locate(base))
    tokenizer = load(base, dtype="float32", device="cpu").tokenizer
    count = max(given.batches) * given.clients

    def encoded(users: int, seed: int) -> list[list[int]]:
        mails = short_texts(users, seed=seed, base=base, tokens=given.tokens)
        return [tokenizer(mail.plain)["input_ids"] for mail in mails]

    settings = {name: value for name, value in vars(given).items() if not isinstance(value, Path)}
    if stage(given.work, "settings", lambda: settings) != settings:
        raise SystemExit(f"{given.work} holds cells of other settings: give another --work")
    federation = Federation(base, encoded(count, 0), encoded(4 * given.warm, 1), given.warm)
    rows = []
    for cell in cells(given):
        rows.append(stage(given.work, cell.name, lambda cell=cell: outcome(federation, cell, given)))
        print(json.dumps(rows[-1]), flush=True)
    report = {"environment": environment(), "settings": settings, "cells": rows}
    write_text(given.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
