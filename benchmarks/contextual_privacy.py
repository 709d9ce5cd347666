# SPDX-License-Identifier: Apache-2.0
"""The methods of PrivacyMind side by side: what each one leaves of utility, and what still leaks.

Made-up mails to a help desk, cut behind the subject line: the subject is the prompt, the mail is learned. The curator
is this package's own detection, which misses some; what leaks is judged by something else, the values that the grammar
of the mails put there, found or not. So no method can win by agreeing with its own scrubber.

One mail of each trained user is evaluated, so its figures are independent of the others' and binomial intervals are
exact (Clopper-Pearson, 95 %). Leaks are values of the mail's own writer that the prompt did not hold:

- ``leak``: in one sampled answer to the subject line;
- ``leak_worst``: in any of ``samples`` answers;
- ``leak_attacked``: the mail itself is given up to its longest personal value, and the greedy answer goes on with it.

Readers see what the method lets them see: with instruction pairs the version for readers, with the classifier what is
left after flagged tokens are replaced. Under attack no instruction is given, as the attacker leaves it out.

Utility is the loss on tokens outside of personal data in mails of users that were never trained on (nats a token, in
the plain form; instruction pairs answer in another form, so it says less of them), and ROUGE-L of an answer to their
subject lines against the mail with its personal data replaced.

    OMP_NUM_THREADS=2 python benchmarks/contextual_privacy.py --json benchmarks/results/contextual_privacy.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reticent.core.atomic import write_text
from reticent.core.finding import Estimate
from reticent.core.manifest import environment
from reticent.core.record import Record, Span
from reticent.data.example import help_desk
from reticent.data.pii import detect
from reticent.models.encode import EncodedRecord, encode
from reticent.models.load import LoadedModel, load
from reticent.score.generation.generate import GREEDY, Scheme, generate
from reticent.stats.intervals import clopper_pearson
from reticent.stats.means import ratio_of_sums
from reticent.train.config import TuneConfig
from reticent.train.contextual import METHODS, ContextualConfig
from reticent.train.objectives.instruction_pairs import for_readers, instruct
from reticent.train.objectives.substitution import substitution
from reticent.train.objectives.token_classifier import TokenClassifier, hidden_states, read_classifier, redact
from reticent.train.trainer import tune

SHORTEST = 4
"""Values of fewer characters are in many texts by chance."""
MAX_TOKENS = 160


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Mails with spans from the grammar: trained on, one of each trained user, and of users never trained on."""

    trained: list[Record]
    evaluated: list[Record]
    unseen: list[Record]


def corpus(users: int, mails: int) -> Corpus:
    """Half as many users again are kept out."""
    every = [cut_behind_subject(record) for record in help_desk(users=users + users // 2, mails_per_user=mails)]
    inside = {f"u{number:04d}" for number in range(users)}
    trained = [record for record in every if record.user in inside]
    first = {record.user: record for record in reversed(trained) if target_of(record) is not None}
    return Corpus(
        trained=trained,
        evaluated=list(first.values())[::-1],
        unseen=[record for record in every if record.user not in inside and record.id.endswith("m00")],
    )


def cut_behind_subject(record: Record) -> Record:
    """The subject line as a prompt that ends with its line break, the rest as its completion."""
    text = record.plain
    end = text.index("\n") + 1
    # Prompt and completion are joined by one more line break.
    spans = [replace(s, start=s.start + (s.start >= end), end=s.end + (s.start >= end)) for s in record.spans]
    return replace(record, text=None, prompt=text[:end], completion=text[end:], spans=tuple(spans))


def values(record: Record) -> set[str]:
    """Personal values of the completion that the prompt does not hold, as `normal` writes them."""
    prompt = normal(record.prompt or "")
    found = {normal(record.plain[s.start : s.end]) for s in record.spans if s.start >= len(record.prompt or "")}
    return {value for value in found if len(value) >= SHORTEST and value not in prompt}


def normal(text: str) -> str:
    return " ".join(text.casefold().split())


def target_of(record: Record) -> Span | None:
    """The longest value of the completion that stands nowhere before."""
    text = record.plain
    fresh = [
        span
        for span in record.spans
        if span.start > len(record.prompt or "") + 1
        and span.end - span.start >= SHORTEST
        and text[span.start : span.end] not in text[: span.start]
    ]
    return max(fresh, key=lambda span: (span.end - span.start, -span.start), default=None)


# ---- what readers see --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """A tuned model as readers meet it."""

    loaded: LoadedModel
    order: str | None = None
    classifier: TokenClassifier | None = None

    def answers(self, prompts: Sequence[str], *, samples: int, tokens: int, attacked: bool = False) -> list[list[str]]:
        """``[len(prompts)][samples]`` texts; greedy where ``attacked``."""
        asked = [instruct(prompt.strip()) if self.order and not attacked else prompt for prompt in prompts]
        # Both versions have to fit where the private one comes first.
        tokens *= 2 if self.order == "np" and not attacked else 1
        prefixes = [self.ids(prompt) for prompt in asked]
        found = generate(
            self.loaded.model,
            self.loaded.tokenizer,
            prefixes,
            max_new_tokens=tokens,
            samples=1 if attacked else samples,
            scheme=GREEDY if attacked else Scheme(temperature=0.7),
        )
        texts: list[list[str]] = [[] for _ in prompts]
        for place, row in enumerate(found.row):
            ids = found.token_id[found.offsets[place] : found.offsets[place + 1]].tolist()
            texts[row].append(self.shown(prefixes[row], ids, attacked=attacked))
        return texts

    def ids(self, prompt: str) -> list[int]:
        record = Record(id="", prompt=prompt, completion="")
        found: list[int] = encode(record, self.loaded.tokenizer).token_id.tolist()
        return found

    def shown(self, prefix: list[int], ids: list[int], *, attacked: bool) -> str:
        if self.classifier is not None and ids:
            whole = np.array([*prefix, *ids], dtype=np.int32)
            one = EncodedRecord(token_id=whole, trained=np.ones(len(whole), dtype=bool))
            (hidden,) = hidden_states(self.loaded.model, [one])
            gap = self.loaded.tokenizer(" [REMOVED]", add_special_tokens=False)["input_ids"]
            ids = redact(self.classifier, hidden[len(prefix) :], ids, replacement=gap)
        text: str = self.loaded.tokenizer.decode(ids, skip_special_tokens=True)
        return for_readers(text, order=self.order) if self.order and not attacked else text


# ---- figures -----------------------------------------------------------------------------------------------------


def share(hits: Sequence[bool]) -> dict[str, Any]:
    lo, hi = clopper_pearson(sum(hits), len(hits))
    return {"value": float(np.mean(hits)), "lo": float(lo), "hi": float(hi), "n": len(hits)}


def leaks(answerer: Answerer, data: Corpus, curated: dict[str, Record], *, samples: int, tokens: int) -> dict[str, Any]:
    """See the top of this file; by whether the curator had found the target, too."""
    texts = answerer.answers([one.prompt or "" for one in data.evaluated], samples=samples, tokens=tokens)
    told = [
        [any(value in normal(text) for value in values(record)) for text in own]
        for record, own in zip(data.evaluated, texts, strict=True)
    ]
    prefixes, wanted, found = [], [], []
    for record in data.evaluated:
        span = target_of(record)
        assert span is not None
        ahead = len(record.prompt or "") + 1
        prefixes.append((record.prompt or "") + (record.completion or "")[: span.start - ahead].rstrip(" "))
        wanted.append(normal(record.plain[span.start : span.end]))
        found.append(any(s.start < span.end and span.start < s.end for s in curated[record.id].spans))
    answers = answerer.answers(prefixes, samples=1, tokens=24, attacked=True)
    hit = [value in normal(text) for value, (text,) in zip(wanted, answers, strict=True)]
    by = {
        name: share([one for one, seen in zip(hit, found, strict=True) if seen == side])
        for name, side in (("leak_attacked_curated", True), ("leak_attacked_missed", False))
        if side in found
    }
    return {
        "leak": share([own[0] for own in told]),
        "leak_worst": share([any(own) for own in told]),
        "leak_attacked": share(hit),
        **by,
    }


def utility(answerer: Answerer, data: Corpus, *, tokens: int) -> dict[str, Any]:
    total, count = zip(*(outside_loss(answerer.loaded, record) for record in data.unseen), strict=True)
    loss = ratio_of_sums(total, count, [str(record.user) for record in data.unseen], unit="nats a token")
    answers = answerer.answers([record.prompt or "" for record in data.unseen], samples=1, tokens=tokens)
    clean = [substitution(record).completion or "" for record in data.unseen]
    scores = [rouge_l(text, reference) for (text,), reference in zip(answers, clean, strict=True)]
    rouge = ratio_of_sums(scores, np.ones(len(scores)), [str(record.user) for record in data.unseen])
    return {"loss_outside": number(loss), "rouge_l": number(rouge)}


@torch.no_grad()
def outside_loss(loaded: LoadedModel, record: Record) -> tuple[float, int]:
    """Sum of the losses of trained tokens outside of spans (nats), and how many they are."""
    one = encode(record, loaded.tokenizer, max_tokens=MAX_TOKENS, mark_spans=True)
    ids = torch.tensor(one.token_id.astype(np.int64))
    logp = torch.log_softmax(loaded.model(input_ids=ids[None]).logits[0, -len(ids) :].float(), -1)
    each = -logp[:-1].gather(1, ids[1:, None])[:, 0].numpy()
    assert one.marked is not None
    outside = (one.trained & ~one.marked)[1:]
    return float(each[outside].sum()), int(outside.sum())


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin, "ROUGE", 2004, section 3.1, β = 1).

    >>> rouge_l("the cat sat", "the cat has sat")
    0.8571428571428571
    """
    a, b = normal(text).split(), normal(reference).split()
    longest = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for place, other in enumerate(b, start=1):
            above = longest[place]
            longest[place] = before + 1 if word == other else max(longest[place], longest[place - 1])
            before = above
    return 2 * longest[-1] / (len(a) + len(b)) if a and b else 0.0


def number(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi, "n": estimate.n}


# ---- all methods -------------------------------------------------------------------------------------------------


def measured(answerer: Answerer, data: Corpus, curated: dict[str, Record], options: Any) -> dict[str, Any]:
    answerer.loaded.model.eval()
    found = leaks(answerer, data, curated, samples=options.samples, tokens=options.tokens)
    return found | utility(answerer, data, tokens=options.tokens)


def one_method(method: str, data: Corpus, curated: dict[str, Record], options: Any, folder: Path) -> dict[str, Any]:
    """Train and measure; ``base`` is not trained, ``plain`` on the mails as they are."""
    started = time.perf_counter()
    source = options.model
    if method != "base":
        contextual = ContextualConfig(contextual=None if method == "plain" else method)
        config = TuneConfig(
            method="lora",
            learning_rate=options.learning_rate,
            epochs=options.epochs,
            max_tokens=2 * MAX_TOKENS + 64 if method.startswith("instruct") else MAX_TOKENS,
        )
        records = [curated[record.id] for record in data.trained]
        source = str(tune(options.model, records, folder / method, config, objectives=contextual.objectives))
    trained = time.perf_counter() - started
    answerer = Answerer(
        loaded=load(source),
        order=method.removeprefix("instruct_") if method.startswith("instruct") else None,
        classifier=read_classifier(source) if method == "classifier" else None,
    )
    found = measured(answerer, data, curated, options)
    return found | {"training_seconds": trained, "seconds": time.perf_counter() - started}


def curator_recall(data: Corpus, curated: dict[str, Record]) -> float:
    """Share of the grammar's personal characters that the curator marked."""
    hit = total = 0
    for record in data.trained:
        marked = {place for span in curated[record.id].spans for place in range(span.start, span.end)}
        truth = {place for span in record.spans for place in range(span.start, span.end)}
        hit, total = hit + len(truth & marked), total + len(truth)
    return hit / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--users", type=int, default=48)
    parser.add_argument("--mails", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--methods", default=",".join(("base", "plain", *METHODS)))
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    data = corpus(options.users, options.mails)
    curated = {record.id: detect(replace(record, spans=())) for record in data.trained}
    report: dict[str, Any] = {
        "settings": {name: value for name, value in vars(options).items() if name != "json"},
        "records": {name: len(of) for name, of in vars(data).items()},
        "curator_recall": curator_recall(data, curated),
        "methods": {},
        "environment": environment(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for method in options.methods.split(","):
            report["methods"][method] = one_method(method, data, curated, options, Path(folder))
            print_row(method, report["methods"][method])
            if options.json:
                Path(options.json).parent.mkdir(parents=True, exist_ok=True)
                write_text(options.json, json.dumps(report, indent=2) + "\n")


def print_row(method: str, row: dict[str, Any]) -> None:
    percent: Callable[[str], str] = lambda name: (  # noqa: E731
        f"{100 * row[name]['value']:3.0f} % [{100 * row[name]['lo']:.0f}, {100 * row[name]['hi']:.0f}]"
    )
    plain: Callable[[str], str] = lambda name: (  # noqa: E731
        f"{row[name]['value']:.3f} [{row[name]['lo']:.3f}, {row[name]['hi']:.3f}]"
    )
    print(
        f"{method:13} leak {percent('leak')}  worst {percent('leak_worst')}  attacked {percent('leak_attacked')}  "
        f"ROUGE-L {plain('rouge_l')}  loss {plain('loss_outside')}  {row['seconds']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
