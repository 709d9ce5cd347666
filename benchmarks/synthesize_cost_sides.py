# SPDX-License-Identifier: Apache-2.0
"""Ways to synthetic text as calls that write it once, for `synthesize_cost`: ours, the published one, plain sampling.

The published package (`invink` on PyPI) is used where it can be imported, with the model, the prompts, the number of
references and the number of tokens of our side. Where it cannot, its way is built again here after its description:
every row of the batch goes through the model with a cache, all logits travel to NumPy in float64, are clipped and
averaged there, and a token is drawn. That stand-in says so in the outcome (`invink_is`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

KEY = hashlib.sha256(b"synthesize_cost").digest()
INSTRUCTION = "A mail that a customer wrote to a shop:"
EPSILON, DELTA = 8.0, 1e-3
TOP_K = 100
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat template that adds nothing, so that the package reads the prompts that we read."""


def references(tokenizer: Any, *, count: int, tokens: int) -> list[str]:
    """Made-up private texts of so many tokens each."""
    from reticent.data import help_desk

    mails = " ".join(record.plain for record in help_desk(users=max(8, count), mails_per_user=4))
    ids = tokenizer(mails, add_special_tokens=False, verbose=False)["input_ids"]
    return [str(tokenizer.decode(ids[place * tokens : (place + 1) * tokens])) for place in range(count)]


def sampling(model: Any, tokenizer: Any, *, texts: int, new: int) -> Callable[[], None]:
    """Ordinary sampling of so many texts after the public words, in one batch."""
    from reticent.models.encode import opening_tokens
    from reticent.score.generation.generate import generate
    from reticent.score.generation.scheme import Scheme

    prefixes = [opening_tokens(f"{INSTRUCTION}\n", tokenizer)] * texts
    scheme = Scheme(temperature=1.0, top_k=TOP_K)
    return lambda: _void(generate(model, tokenizer, prefixes, max_new_tokens=new, scheme=scheme, stop=()))


def predicting(model: Any, tokenizer: Any, texts: list[str], *, new: int, tokens: int) -> Callable[[], None]:
    """One text by private prediction, with all of ``texts`` as references, to its last token; self-check and all."""
    from reticent.core.record import Record
    from reticent.models.encode import opening_tokens
    from reticent.score.forward import most_read
    from reticent.synthesis import concentrated
    from reticent.synthesis.predicted_text import PendingText, PredictionSettings, logits_after, write_texts
    from reticent.synthesis.prediction_check import PredictionWatch
    from reticent.synthesis.prefix_decoder import open_prompts
    from reticent.synthesis.reference_prompts import prompts_of
    from reticent.synthesis.synthesis_spec import SynthesisSpec

    behind = len(texts)
    spec = SynthesisSpec(
        epsilon=EPSILON, instruction=INSTRUCTION, references=behind, max_new_tokens=new, reference_tokens=tokens,
        long_texts="cut", top_k=TOP_K,
    )  # fmt: skip
    records = [Record(id=str(number), text=text) for number, text in enumerate(texts)]
    clip = concentrated.clip_for(
        concentrated.rho_for(EPSILON, DELTA) / new, references=behind, temperature=1.0, relation=spec.relation
    )

    # As in a run: prompts, the decoder and its trial are made once, and the self-check looks at every text.
    prompts = prompts_of(records, spec, tokenizer, context=most_read(model))
    decoder = open_prompts(
        model, shared=prompts.shared, width=prompts.width, longest=prompts.longest + spec.max_new_tokens
    )
    alone = cache(lambda words: logits_after(model, opening_tokens(f"{words}\n", tokenizer)))
    settings = PredictionSettings(
        clip=clip, references=behind, temperature=1.0, tokens=new, top_k=TOP_K, ends=frozenset(), key=KEY
    )

    def write() -> None:
        watch = PredictionWatch(clip=clip, references=behind, tokens=new, top_k=TOP_K, alone=alone)
        pending = PendingText(
            number=0,
            words=spec.prompt(0),
            public=prompts.without(spec.prompt(0)),
            private=tuple(prompts.holding(spec.prompt(0), number) for number in range(behind)),
            owner=tuple(range(behind)),
            units=behind,
        )
        write_texts(decoder, [pending], settings, watch)
        assert len(pending.token_id) == new

    return write


def evolving(model: Any, tokenizer: Any, *, texts: int, new: int, tokens: int) -> Callable[[], None]:
    """So many texts by private evolution, all rounds, voted on by sixteen times as many private texts."""
    from reticent.core.record import Record
    from reticent.models.load import LoadedModel
    from reticent.synthesis.step_store import StepStore
    from reticent.synthesis.synthesis_mechanism import MECHANISMS, SynthesisMaterial, SynthesisTools
    from reticent.synthesis.synthesis_spec import SynthesisSpec

    loaded = LoadedModel(model=model, tokenizer=tokenizer, source="bench", fingerprint="0")
    private = references(tokenizer, count=16 * texts, tokens=tokens)
    spec = SynthesisSpec(
        mechanism="private_evolution", epsilon=EPSILON, instruction=INSTRUCTION, count=texts, max_new_tokens=new,
        rounds=3, variants=2, reference_tokens=tokens, long_texts="cut", top_k=TOP_K,
    )  # fmt: skip
    records = [Record(id=str(number), text=text) for number, text in enumerate(private)]
    plan = MECHANISMS.get("private_evolution").settle(SynthesisMaterial(records=records, spec=spec, key=KEY))

    def refuse(*_: Any) -> Any:
        raise AssertionError("private evolution tunes nothing")

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = StepStore(Path(folder), plan.about, key=KEY, steps=plan.steps)
            plan.write(SynthesisTools(load=lambda: loaded, store=store, tune=refuse, load_tuned=refuse))

    return write


# ---- the published way -----------------------------------------------------------------------------------------------


def published(
    model: Any, tokenizer: Any, texts: list[str], *, new: int, folder: str = ""
) -> tuple[Callable[[], None], str]:
    """One text by the published package, and what it is; by a stand-in where the package cannot be used.

    Args:
        folder: where the package lies, if Python does not find it.
    """
    if folder:
        sys.path.insert(0, folder)
    try:
        from importlib import import_module
        from importlib.metadata import PackageNotFoundError, version

        package = import_module("invink.generate")
        try:
            name = f"invink {version('invink')}"
        except PackageNotFoundError:
            name = "invink"
        write = _packaged(package, model, tokenizer, texts, new=new)
        write()
        return write, name
    except Exception as error:  # noqa: BLE001 - another library of that version may break it
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        return rebuilt(model, tokenizer, texts, new=new), f"rebuilt after its description ({reason})"


def _packaged(package: Any, model: Any, tokenizer: Any, texts: list[str], *, new: int) -> Callable[[], None]:
    from copy import deepcopy

    reader = deepcopy(tokenizer)
    reader.chat_template, reader.padding_side = PLAIN, "left"
    reader.pad_token = reader.pad_token or reader.eos_token

    def write() -> None:
        before = model.generation_config.eos_token_id
        package.load_hf_tokenizer = lambda **_: reader
        package.load_hf_model = lambda **_: model
        model.generation_config.eos_token_id = len(reader) + 10**6  # no text ends before its time, on any side
        try:
            with _quiet():
                package.generate(
                    txt_list_or_path=texts, model_name_or_path=".", dataset_desc=INSTRUCTION, system_prompt="",
                    pub_prompt="{0}\n", prv_prompt="{0}\n{1}\n{0}\n", epsilon=EPSILON, delta=DELTA,
                    batch_size=len(texts) + 1, num=1, max_toks=new, topk=TOP_K, dtype="float32", device_map=-1,
                    allow_download=False, trust_remote_code=False, print_text=True,
                )  # fmt: skip
        finally:
            model.generation_config.eos_token_id = before

    return write


def rebuilt(model: Any, tokenizer: Any, texts: list[str], *, new: int) -> Callable[[], None]:
    """The published way after its description, one text: all rows through the model, the rest in NumPy."""
    from reticent.synthesis import concentrated

    prompts = [f"{INSTRUCTION}\n{text}\n{INSTRUCTION}\n" for text in texts] + [f"{INSTRUCTION}\n"]
    rows = [tokenizer(prompt, verbose=False)["input_ids"] for prompt in prompts]
    width = max(map(len, rows))
    blank = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    start = torch.tensor([[blank] * (width - len(row)) + row for row in rows])
    seen = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    rho = concentrated.rho_for(EPSILON, DELTA) / new
    clip = concentrated.clip_for(rho, references=len(texts), temperature=1.0, relation="add_or_remove")
    draw = np.random.default_rng(0)

    def write() -> None:
        token_id, mask, past = start, seen, None
        for _ in range(new):
            with torch.inference_mode():
                place = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -token_id.shape[1] :]
                out = model(
                    input_ids=token_id, attention_mask=mask, position_ids=place, past_key_values=past, use_cache=True
                )
            past, logits = out.past_key_values, out.logits[:, -1].float().numpy().astype(np.float64)
            public = logits[-1]
            scores = (public + np.clip(logits[:-1] - public, -clip, clip)).mean(axis=0)
            least = np.partition(public, -min(TOP_K, len(public)))[-min(TOP_K, len(public))]
            scores = np.where(public >= least - 2 * clip / len(texts), scores, -np.inf)
            shares = np.exp(scores - scores.max())
            token = int(draw.choice(len(shares), p=shares / shares.sum()))
            token_id = torch.full((len(rows), 1), token)
            mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=mask.dtype)], dim=1)

    return write


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _void(_: Any) -> None:
    """Drop a result."""
