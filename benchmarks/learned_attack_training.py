# SPDX-License-Identifier: Apache-2.0
"""Train the network of the ``learned`` attack again: fine-tunes of public texts, their tables, then the network.

    python benchmarks/learned_attack_training.py --data ../shared/data --work runs/learned

Writes the weights and the recipe beside the attack; ``--out`` writes them elsewhere. Five minutes of one core for the
runs, which are kept in ``--work``, and one for the network. ``OMP_NUM_THREADS`` sets the threads, 1 where it is unset.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learned_attack_runs import Made, Run, make
from safetensors.numpy import save
from torch import nn
from torch.nn import functional as F

from reticent.attacks.membership import learned
from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.progress import console
from reticent.core.table import TokenTable

LICENCES = {
    "wikitext": "wikitext-2, validation part: Wikipedia, CC BY-SA 3.0",
    "speeches": "State of the Union addresses, NLTK: public domain",
    "plays": "tinyshakespeare: public domain",
    "authors": "TOFU, questions on invented authors: MIT",
    "forms": "Presidio's made-up sentences: MIT",
}
_STRONG = (("full", 3, 1e-3), ("full", 6, 5e-4), ("lora", 4, 3e-3))
_WEAK = (("full", 2, 5e-4), ("full", 1, 1e-3), ("lora", 3, 2e-3))


def runs() -> list[Run]:
    """The fine-tunes that the network is trained on."""
    found = []
    for i, base in enumerate(("llama", "qwen3")):
        for j, texts in enumerate(LICENCES):
            method, epochs, rate = (_STRONG if base == "llama" else _WEAK)[(i + j) % 3]
            found.append(Run(base=base, texts=texts, method=method, epochs=epochs, learning_rate=rate, seed=10 * i + j))
    return found


class Network(nn.Module):
    """The same as ``learned.forward``, for gradients; ``[B, L, 13]`` padded."""

    def __init__(self, *, tokens: int, records: int, width: int, heads: int, amounts: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(tokens, width, 5, padding=2)
        self.second = nn.Conv1d(width, width, 5, padding=2)
        self.attend = nn.Linear(width, heads, bias=False)
        self.amount = nn.Linear(width, amounts)
        told = width * (1 + heads) + amounts + records
        self.inner = nn.Linear(told, inner)
        self.outer = nn.Linear(inner, 1, bias=False)
        self.direct = nn.Linear(told, 1, bias=False)
        self.register_buffer("centre", torch.zeros(told))
        self.register_buffer("scale", torch.ones(told))
        nn.init.zeros_(self.outer.weight)
        with torch.no_grad():
            self.direct.weight.zero_()
            self.direct.weight[0, -records:] = torch.tensor([0.5, 0.5, -0.5, 0, 0, 0, 0])

    def told(self, tokens: torch.Tensor, records: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What is known of each record, ``[B, told]``, before it is scaled."""
        there = (torch.arange(tokens.shape[1]) < lengths[:, None])[..., None]
        hidden = torch.relu(self.first(tokens.mT)).mT * there
        hidden = (hidden + torch.relu(self.second(hidden.mT)).mT) * there
        size = lengths[:, None].to(hidden.dtype)
        share = self.attend(hidden).masked_fill(~there, -torch.inf).softmax(dim=1)
        heads = torch.einsum("blh,blc->bhc", share, hidden).flatten(1)
        amount = (torch.relu(self.amount(hidden)) * there).sum(1) / size
        return torch.cat([hidden.sum(1) / size, heads, torch.log(amount + 0.01), records], dim=1)

    def forward(
        self, tokens: torch.Tensor, records: torch.Tensor, lengths: torch.Tensor, *, drop: float = 0.0
    ) -> torch.Tensor:
        told = (self.told(tokens, records, lengths) - self.centre) / self.scale
        kept = F.dropout(told, drop, training=drop > 0)
        return (self.outer(torch.relu(self.inner(kept))) + self.direct(kept))[:, 0]


class Examples:
    """Padded features of a run, whole texts and random stretches of them."""

    def __init__(self, made: Made, seed: int) -> None:
        table, ref = made.tables()
        rng = np.random.default_rng(seed)
        parts, member = [], []
        for shortest in (1.0, 0.3, 0.1):
            cut, cut_ref = stretches(table, ref, shortest, rng)
            parts.append(padded(cut, cut_ref))
            member.append(made.member)
        longest = max(part[0].shape[1] for part in parts)
        self.tokens = torch.cat([F.pad(part[0], (0, 0, 0, longest - part[0].shape[1])) for part in parts])
        self.records = torch.cat([part[1] for part in parts])
        self.lengths = torch.cat([part[2] for part in parts])
        self.member = torch.tensor(np.concatenate(member))
        self.versions = len(parts)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows of members and of held-out records, of one version of the texts."""
        size = len(self.member) // self.versions
        start = int(rng.integers(self.versions)) * size
        inside = self.member[start : start + size].numpy()
        return tuple(start + rng.choice(np.flatnonzero(side), count) for side in (inside, ~inside))


def stretches(
    table: TokenTable, ref: TokenTable, shortest: float, rng: np.random.Generator
) -> tuple[TokenTable, TokenTable]:
    """A stretch of each row, at least that share of it and at least ``learned.SHORT`` tokens where it has so many."""
    length = np.maximum(np.ceil(table.lengths * rng.uniform(shortest, 1, len(table))), learned.SHORT)
    length = np.minimum(length, table.lengths).astype(int)
    start = (rng.random(len(table)) * (table.lengths - length + 1)).astype(int)
    place = np.arange(table.offsets[-1]) - np.repeat(table.offsets[:-1], table.lengths)
    mask = (place >= np.repeat(start, table.lengths)) & (place < np.repeat(start + length, table.lengths))
    cut = [replace(one, tokens={**one.tokens, "loss_mask": mask}).trained() for one in (table, ref)]
    return cut[0], cut[1]


def padded(table: TokenTable, ref: TokenTable) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``[N, L, 13]``, ``[N, 7]``, ``[N]``."""
    flat = torch.tensor(learned.token_features(table, ref), dtype=torch.float32)
    tokens = nn.utils.rnn.pad_sequence(list(flat.split(table.lengths.tolist())), batch_first=True)
    records = torch.tensor(learned.record_features(table, ref), dtype=torch.float32)
    return tokens, records, torch.tensor(table.lengths)


def train(made: list[Made], *, steps: int, seed: int) -> Network:
    """A network that ranks members of a run above its held-out records, run by run."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    examples = [Examples(one, seed + i) for i, one in enumerate(made)]
    network = Network(tokens=13, records=7, width=20, heads=3, amounts=16, inner=48)
    settle(network, examples)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    seen = 0.0
    for step in range(steps):
        loss = torch.tensor(0.0)
        for chosen in rng.choice(len(examples), 4):
            one = examples[chosen]
            rows = np.concatenate(one.draw(32, rng))
            longest = int(one.lengths[rows].max())
            score = network(one.tokens[rows, :longest], one.records[rows], one.lengths[rows], drop=0.1)
            loss = loss + F.softplus(score[32:] - score[:32, None]).mean() / 4
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        seen = 0.99 * seen + 0.01 * loss.item()
        if (step + 1) % 200 == 0:
            console.print(f"step {step + 1}: loss {seen / (1 - 0.99 ** (step + 1)):.4f}")
    return network.eval()


@torch.no_grad()
def settle(network: Network, examples: list[Examples]) -> None:
    """Scale what the last layers read by its spread over all records, once."""
    told = torch.cat([network.told(one.tokens, one.records, one.lengths) for one in examples])
    network.centre.copy_(told.mean(0))
    network.scale.copy_(told.std(0) + 0.05)


@torch.no_grad()
def check(network: Network, weights: dict[str, np.ndarray], made: Made) -> None:
    """The shipped arithmetic gives what the trained network gives."""
    table, ref = made.tables()
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    np.testing.assert_allclose(
        learned.score_with(wide, table, ref), network(*padded(table, ref)).numpy(), rtol=1e-3, atol=1e-3
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=learned.WEIGHTS, help="the .safetensors file")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    made = [make(run, args.data, args.work) for run in runs()]
    network = train(made, steps=args.steps, seed=args.seed)
    weights = {name: value.numpy().astype(np.float32) for name, value in network.state_dict().items()}
    check(network, weights, made[0])
    raw = save(weights, metadata={"attack": "learned"})
    args.out.write_bytes(raw)
    write_text(args.out.with_suffix(".json"), json.dumps(recipe(args, raw, weights), indent=1) + "\n")
    console.print(f"{args.out}: {len(raw):,} bytes")


def recipe(args: argparse.Namespace, raw: bytes, weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """How the weights came about."""
    return {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "parameters": int(sum(array.size for array in weights.values())),
        "made_by": f"python benchmarks/learned_attack_training.py --steps {args.steps} --seed {args.seed}",
        "texts": LICENCES,
        "tiny_bases": "wikitext-2, test part (CC BY-SA 3.0), and inaugural addresses (public domain)",
        "runs": [asdict(run) for run in runs()],
        "libraries": {name: value for name, value in environment().items() if name in ("python", "packages")},
    }


if __name__ == "__main__":
    main()
