# SPDX-License-Identifier: Apache-2.0
"""Texts, bases, victims and scores of the privacy backdoor's benchmarks. Every model is a stage that is resumed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reticent.attacks.membership.ez_mia import ez_mia
from reticent.attacks.membership.loss import loss
from reticent.core.atomic import write_text
from reticent.core.finding import Estimate
from reticent.core.record import Record, Span
from reticent.core.table import read_table
from reticent.data.example import help_desk
from reticent.models.load import load, load_tokenizer
from reticent.models.locate import locate
from reticent.privacy.spec import PrivacySpec
from reticent.score.make_tables import make_tables
from reticent.score.requests import Request
from reticent.stats.simultaneous import auc_number, difference, sides, together, tpr_number
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

TINY = "tiny"
ATTACKS = ("loss", "ez_mia")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Everything that a run's size depends on. Rates are AdamW's peaks."""

    targets: int
    others: int
    tokens: int
    auxiliary: int
    batch: int
    poison_rate: float
    victim_epochs: int
    victim_rate: float
    lora_rate: float
    warm: int


REAL = Sizes(
    targets=2000, others=1000, tokens=32, auxiliary=4000, batch=8, poison_rate=3e-5, victim_epochs=3, victim_rate=5e-5,
    lora_rate=5e-4, warm=1000,
)  # fmt: skip
SMALL = Sizes(
    targets=80, others=20, tokens=64, auxiliary=240, batch=8, poison_rate=5e-3, victim_epochs=2, victim_rate=3e-3,
    lora_rate=1e-2, warm=64,
)  # fmt: skip


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """A flag for each size, for the work folder, the base and the outcome."""
    parser.add_argument("--json", type=Path, required=True, help="write the outcome here")
    parser.add_argument("--work", type=Path, default=Path("runs/backdoor"), help="models and tables; resumed from here")
    parser.add_argument("--base", default="smollm2-135m", help="a whole model")
    parser.add_argument("--tiny", action="store_true", help="a tiny base and tiny sizes: seconds, to try it out")
    for name, value in vars(REAL).items():
        parser.add_argument(
            f"--{name}", type=type(value), help=f"left out, {value}; with --tiny {getattr(SMALL, name)}"
        )


def sizes_of(given: argparse.Namespace) -> Sizes:
    """The sizes that were asked for."""
    usual = SMALL if given.tiny else REAL
    asked = {name: getattr(given, name) for name in vars(usual)}
    return replace(usual, **{name: value for name, value in asked.items() if value is not None})


def stage(work: Path, name: str, make: Callable[[], Any]) -> Any:
    """The outcome of ``make``, from its file where it was made before."""
    path = work / "stages" / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(make()) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def base_of(given: argparse.Namespace, sizes: Sizes) -> str:
    """Folder of the clean base; the tiny one is taught the kind of text first, as it knows nothing."""
    if not given.tiny:
        return str(locate(given.base))
    raw = given.work / "raw"
    if not raw.exists():
        save_tiny(raw)
    texts = short_texts(200, seed=900, base=str(raw), tokens=sizes.tokens)
    config = TuneConfig(epochs=6, learning_rate=5e-3, batch_size=16, max_tokens=sizes.tokens + 2)
    return str(tune(str(raw), texts, given.work / "base", config))


def short_texts(users: int, *, seed: int, base: str, tokens: int) -> list[Record]:
    """The ends of mails of so many people, one each, of at most ``tokens`` tokens: who wrote, and how to reach them."""
    tokenizer = load_tokenizer(base)
    return [_ending(mail, tokenizer, tokens, seed) for mail in help_desk(users=users, mails_per_user=1, seed=seed)]


def _ending(mail: Record, tokenizer: Any, tokens: int, seed: int) -> Record:
    text = mail.plain
    starts = [0] + [place + 1 for place, char in enumerate(text) if char in " \n" and place + 1 < len(text)]
    start = starts[-1]
    for place in reversed(starts):
        if len(tokenizer(text[place:])["input_ids"]) > tokens:
            break
        start = place
    spans = tuple(
        Span(start=max(span.start, start) - start, end=span.end - start, kind=span.kind)
        for span in mail.spans
        if span.end > start
    )
    return Record(id=f"{seed}-{mail.id}", user=f"{seed}-{mail.user}", text=text[start:], spans=spans)


def coins(count: int, seed: int) -> np.ndarray:
    """``[count]`` bool: independent fair coins."""
    return np.random.default_rng([seed, 0xC014]).random(count) < 0.5


def victim(
    base: str,
    members: Sequence[Record],
    held_out: Sequence[Record],
    out: Path,
    sizes: Sizes,
    *,
    method: str,
    seed: int,
    epsilon: float | None = None,
) -> Path:
    """A fine-tune on private text, as a user would do it."""
    rate = sizes.lora_rate if method == "lora" else sizes.victim_rate
    privacy = None if epsilon is None else PrivacySpec(epsilon=epsilon)
    config = TuneConfig(
        method=method,
        epochs=sizes.victim_epochs,
        learning_rate=rate if privacy is None else None,
        batch_size=sizes.batch if privacy is None else None,
        max_tokens=sizes.tokens + 2,
        seed=seed,
    )
    return tune(base, members, out, config, held_out=held_out, privacy=privacy)


def utility(folder: Path) -> dict[str, float]:
    """Held-out loss (nats a token) of a victim, ``before`` and ``after`` it was tuned, and the ``records`` it is of."""
    held_out = json.loads((folder / "train_log.json").read_text(encoding="utf-8"))["held_out"]
    losses = {name: held_out[side]["loss"] for name, side in (("before", "base"), ("after", "tuned"))}
    return {"records": held_out["records"], **losses}


def attack_scores(target: Path | str, reference: str, records: Sequence[Record], cache: Path) -> dict[str, list[float]]:
    """Attack → ``[N]`` scores, higher = member, with the base that the attacker released as the reference."""
    requests = [Request(name=name, model=name) for name in ("target", "reference")]
    models = {"target": load(str(target)), "reference": load(reference)}
    paths = make_tables(requests, records, **models, cache=cache)
    table, ref = (read_table(paths[request]) for request in requests)
    return {"loss": loss(table).tolist(), "ez_mia": ez_mia(table, ref).tolist()}


def leak(scores: Sequence[float], member: np.ndarray, fpr: float) -> dict[str, Any]:
    """AUC and TPR of one attack on one victim, as numbers with influences."""
    of, values = sides(member, None), np.asarray(scores)
    rate = tpr_number(values, of, fpr) if (~member).sum() * fpr >= 10 else None
    return {"auc": auc_number(values, of), "tpr": rate}


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Estimates of both and of the paired difference over the same records, each by itself at 95 %."""
    rows: dict[str, Any] = {}
    for name in ("auc", "tpr"):
        if before[name] is None:
            rows[name] = None
            continue
        numbers = (before[name], after[name], difference(after[name], before[name]))
        clean, poisoned, apart = (together([number], confidence=0.95)[0] for number in numbers)
        rows[name] = {"clean": plain(clean), "poisoned": plain(poisoned), "difference": plain(apart)}
    return rows


def plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON."""
    return {name: getattr(estimate, name) for name in ("value", "lo", "hi", "n", "method")}
