# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes of small models on public texts, with both models' token tables: what the learned attack is made of.

Not a benchmark by itself: ``learned_attack_training.py``, ``learned_attack.py`` and ``transferred_attack.py`` ask for
runs by name. Each run is made once, by ``reticent.train.trainer.tune``, and kept as tables below a folder; the tuned
model is not kept. Killed and called again it goes on with the next run.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from reticent.attacks.attack import ATTACKS
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.table import TokenTable, read_table
from reticent.models.load import load
from reticent.models.locate import locate
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import make_tables
from reticent.score.requests import Request
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

COLUMNS = ("ez_mia", "loss", "lowercase", "min_k", "min_k_plus", "ref_diff", "ref_ratio", "wbc", "zlib")
"""The attacks that every audit with a reference runs, but for those that need known texts: what is combined."""

VOCABULARY = 2048
PRETRAINING_SEED = 7


@dataclass(frozen=True, kw_only=True)
class Run:
    """One fine-tune.

    Args:
        base: ``"smollm2-135m"`` or a name in ``TINY``.
        texts: name in ``TEXTS``.
        method, epochs, learning_rate: of the fine-tune.
        members, held_out: how many records on each side, drawn by the seed; fewer held out where the set is small.
        max_tokens: records are cut there.
        seed: of draw and training.
        minutes: CPU time that a base in ``TINY`` is pre-trained for, where it is not there yet.
    """

    base: str
    texts: str
    method: str = "full"
    epochs: int = 3
    learning_rate: float = 1e-3
    members: int = 300
    held_out: int = 300
    max_tokens: int = 96
    seed: int = 0
    minutes: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.base}.{self.texts}.{self.method}.e{self.epochs}.lr{self.learning_rate:g}.s{self.seed}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A run's tables over members, then held-out records; ``member [N]`` and paths by evidence name."""

    run: Run
    member: np.ndarray
    paths: dict[str, Path]

    def tables(self) -> tuple[TokenTable, TokenTable]:
        """Target's and reference's table of trained tokens."""
        return read_table(self.paths["table"]).trained(), read_table(self.paths["ref"]).trained()


# ---- texts ------------------------------------------------------------------------------------------------------


def _wikitext(data: Path) -> list[str]:
    lines = (data / "wikitext-2" / "valid.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if len(line) > 150 and not line.strip().startswith("=")]


def _speeches(data: Path) -> list[str]:
    return [part for part in _from_zip(data / "nltk" / "state_union.zip") if len(part) > 120]


def _from_zip(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".txt"):
                for part in re.split(r"\n\s*\n|\r\n", archive.read(name).decode("latin-1")):
                    yield " ".join(part.split())


def _plays(data: Path) -> list[str]:
    parts = (data / "shakespeare" / "tinyshakespeare.txt").read_text(encoding="utf-8").split("\n\n")
    return ["\n\n".join(parts[i : i + 3]) for i in range(0, len(parts) - 2, 3)]


def _authors(data: Path) -> list[str]:
    rows = json.loads((data / "tofu" / "tofu_full_pistol.json").read_text(encoding="utf-8"))
    return [f"Question: {row['question']}\nAnswer: {row['answer']}" for row in rows]


def _forms(data: Path) -> list[str]:
    names = ("presidio_synth_dataset_v2.json", "presidio_generated_large.json")
    rows = [row for name in names for row in json.loads((data / "pii" / name).read_text(encoding="utf-8"))]
    return [row["full_text"] for row in rows if len(row["full_text"]) > 40]


def _mails(data: Path) -> list[str]:
    with gzip.open(data / "spamassassin" / "ham_by_sender.jsonl.gz", "rt", encoding="utf-8") as lines:
        bodies = [json.loads(line)["body"].strip() for line in lines]
    return [body[:800] for body in bodies if len(body) > 100]


def _judgments(data: Path) -> list[str]:
    lines = (data / "echr" / "echr_name.jsonl").read_text(encoding="utf-8").splitlines()
    return [prompt for prompt in (json.loads(line)["prompt"] for line in lines) if len(prompt) > 150]


def _comments(data: Path) -> list[str]:
    lines = (data / "synth_attributes" / "llmprivacy_synthetic_dataset.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["response"] for line in lines]


def _reviews(data: Path) -> list[str]:
    lines = (data / "sst2" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[0] for line in lines if len(line) > 60]


TEXTS: dict[str, Callable[[Path], list[str]]] = {
    "wikitext": _wikitext,
    "speeches": _speeches,
    "plays": _plays,
    "authors": _authors,
    "forms": _forms,
    "mails": _mails,
    "judgments": _judgments,
    "comments": _comments,
    "reviews": _reviews,
}
"""Sets of texts below the data folder; the first five may be trained on (public domain, CC BY-SA, MIT)."""


def texts(name: str, data: Path) -> list[str]:
    """A set without texts that begin alike, in the order of the files."""
    first: dict[str, str] = {}
    for text in TEXTS[name](data):
        first.setdefault(text[:60], text)
    return list(first.values())


# ---- models -----------------------------------------------------------------------------------------------------

_SHAPE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 256}
TINY: dict[str, Callable[..., Any]] = {
    "llama": lambda **ids: LlamaConfig(**_SHAPE, intermediate_size=384, num_key_value_heads=2, **ids),
    "qwen3": lambda **ids: Qwen3Config(**_SHAPE, intermediate_size=384, num_key_value_heads=2, head_dim=32, **ids),
    "gpt2": lambda **ids: GPT2Config(
        n_embd=128, n_layer=4, n_head=4, n_positions=256, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ids
    ),
    "gpt_neox": lambda **ids: GPTNeoXConfig(**_SHAPE, intermediate_size=512, **ids),
}
"""Families that are made from a configuration and pre-trained for a minute; the last two are for evaluation only."""


def base_folder(name: str, data: Path, folder: Path, minutes: float = 1.0) -> str:
    """A base model by name, made on first use."""
    if name not in TINY:
        return name
    made = folder / "bases" / name
    if not (made / "model.safetensors").exists():
        partial = made.with_name(f"{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        pretrain(name, data, partial, minutes=minutes)
        partial.rename(made)
    return str(made)


def pretraining_texts(data: Path) -> list[str]:
    """Public texts that no run is about."""
    lines = (data / "wikitext-2" / "test.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if len(line) > 80] + [
        part for part in _from_zip(data / "nltk" / "inaugural.zip") if len(part) > 80
    ]


def pretrain(name: str, data: Path, out: Path, *, minutes: float = 1.0, tokens: int = 2048) -> None:
    """Train a tiny model of a family for so much CPU time, and save it with a tokenizer."""
    corpus = pretraining_texts(data)
    tokenizer = make_tokenizer(corpus)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    torch.manual_seed(PRETRAINING_SEED)
    model = AutoModelForCausalLM.from_config(TINY[name](tie_word_embeddings=True, **ids), dtype=torch.float32)
    flat = torch.tensor([i for text in corpus for i in [*tokenizer(text)["input_ids"], 0]])
    rng = np.random.default_rng(PRETRAINING_SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    started, step, loss = time.process_time(), 0, torch.tensor(0.0)
    while (used := (time.process_time() - started) / 60 / minutes) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 20, 1.05 - used)
        starts = rng.integers(0, len(flat) - 129, tokens // 128)
        batch = torch.stack([flat[s : s + 128] for s in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    console.print(f"{name}: {step} steps, loss {loss.item():.2f}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def make_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of ``VOCABULARY`` entries."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=special[0], pad_token=special[1])


# ---- runs -------------------------------------------------------------------------------------------------------


def make(run: Run, data: Path, folder: Path) -> Made:
    """Fine-tune, score members and held-out records with both models, keep the tables."""
    kept = folder / "runs" / run.name
    if not (kept / "run.json").exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        started = os.times()
        _make(run, data, folder, kept)
        ended = os.times()
        about = {**asdict(run), "cpu_seconds": round(ended.user + ended.system - started.user - started.system, 1)}
        (kept / "run.json").write_text(json.dumps(about), encoding="utf-8")
    paths = {path.stem: path for path in kept.glob("*.parquet")}
    return Made(run=run, member=np.load(kept / "member.npy"), paths=paths)


def _make(run: Run, data: Path, folder: Path, kept: Path) -> None:
    members, held_out = draw(run, data)
    base = base_folder(run.base, data, folder, run.minutes)
    config = TuneConfig(
        method=run.method,
        epochs=run.epochs,
        learning_rate=run.learning_rate,
        max_tokens=run.max_tokens,
        seed=run.seed,
        resume=False,
    )
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    target = load(str(tune(base, members, model, config)))
    reference = load(str(locate(base)), dtype=target.dtype)
    made = make_tables(
        requests(),
        [*members, *held_out],
        target=target,
        reference=reference,
        cache=kept / "cache",
        options=ScoreOptions(max_tokens=run.max_tokens),
    )
    for request, path in made.items():
        shutil.copyfile(path, kept / f"{request.name}.parquet")
    np.save(kept / "member.npy", np.arange(len(members) + len(held_out)) < len(members))
    shutil.rmtree(kept / "cache")
    shutil.rmtree(model)


def draw(run: Run, data: Path) -> tuple[list[Record], list[Record]]:
    """Members and held-out records of a run, by its seed."""
    found = texts(run.texts, data)
    order = np.random.default_rng([run.seed, *run.texts.encode()]).permutation(len(found))
    records = [Record(id=f"{run.texts}-{i}", text=found[i]) for i in order]
    members = min(run.members, len(records) // 2)
    return records[:members], records[members : members + run.held_out]


def requests() -> set[Request]:
    """What the attacks in ``COLUMNS`` read."""
    return {request for name in COLUMNS for request in ATTACKS.get(name).requests}
