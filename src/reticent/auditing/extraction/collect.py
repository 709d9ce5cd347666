# SPDX-License-Identifier: Apache-2.0
"""Evidence of the extraction attacks: both models read secrets and records, and write continuations and free texts."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction import Continued, ExtractionInputs, FreeGenerations
from reticent.attacks.extraction.overlap import shares_run
from reticent.attacks.extraction.prompt_prefix import PROMPTS
from reticent.auditing.case import AuditCase
from reticent.auditing.extraction.choose_secrets import ChosenSecrets
from reticent.auditing.extraction.prompts import ExtractionPrompt, ExtractionPrompts, make_prompts, start_tokens
from reticent.auditing.models import Models, scored_models
from reticent.core.progress import progress
from reticent.core.record import Record
from reticent.core.secret import Secret
from reticent.data.coin import uniform
from reticent.models.encode import EncodedRecord, encode, leading_tokens, opening_tokens
from reticent.report.sentences import numbered
from reticent.score.forward import most_read
from reticent.score.generation.forced import TeacherForced
from reticent.score.generation.generate import make_generations
from reticent.score.generation.generations import Generations
from reticent.score.generation.sampled_logp import force
from reticent.score.generation.scheme import GREEDY, Scheme
from reticent.score.make_tables import ScoredModel

SCHEME = Scheme(temperature=1.0, top_k=40)
"""Decoding of samples: the setting of arXiv:2410.19482."""
MOST = 100
"""Records of one side; enough for an interval of ± 0.1."""
SHORT = 10
BEYOND = 4
"""Tokens that are written beyond the length of a secret, so that a slip early on does not cut its end off."""
TEXTS_PER_SAMPLE, TEXT_TOKENS, RUN = 32, 64, 20
"""Freely written texts for each sample asked for, their length, and the run of tokens that counts as a copy."""
OPENINGS = ("", "", "", "", "Dear", "Hi,", "The", "My name is")
"""First words of freely written texts: mostly none, else words that any attacker would try."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractionEvidence:
    """Evidence of the extraction attacks, from both models.

    Args:
        prompts: of the secrets, in the order of the evidence about secrets.
        records: in the order of the evidence about records; True where a record was trained on.
        target, base: evidence from each model; no base without one.
        chance: as ``target``, with only the freely written texts, and as copies those of records never trained on.
        chance_base: the same from the base.
        notes: one line for each kind of secret or text that was left out, with the reason.
        secrets: all that were chosen, with those that no prompt could be made of.
    """

    prompts: ExtractionPrompts
    records: tuple[tuple[Record, bool], ...]
    target: ExtractionInputs
    base: ExtractionInputs | None
    chance: ExtractionInputs
    chance_base: ExtractionInputs | None
    notes: tuple[str, ...]
    secrets: tuple[Secret, ...] = ()


def collect(
    case: AuditCase,
    models: Models,
    chosen: ChosenSecrets,
    *,
    samples: int,
    seed: int,
    cache: Path,
    short: Sequence[int] = (SHORT,),
) -> ExtractionEvidence:
    """Let both models read and write all that the extraction attacks need.

    Args:
        case: the data under audit.
        models: as opened.
        chosen: the secrets to extract.
        samples: sampled continuations of each secret's prefix.
        seed: of the sampling.
        cache: content-addressed store of generated texts.
        short: numbers of tokens before a secret that an attacker may know, as attacks ask for.
    """
    target, base = scored_models(models)
    tokenizer = models.target.tokenizer
    room = min((most for model in (target, base) if model and (most := most_read(model.loaded.model))), default=None)
    prompts = make_prompts(chosen.secrets, tokenizer, max_tokens=case.max_tokens, room=room)
    records, rows = _whole_records(case, tokenizer)
    inputs = {
        model: ExtractionInputs(
            **_of_secrets(model, prompts.kept, samples=samples, seed=seed, cache=cache, short=short),
            whole=_forced(model, rows, "whole records"),
        )
        for model in (target, base)
        if model is not None
    }
    texts = {model: _free_texts(model, samples=samples, seed=seed, cache=cache) for model in inputs}
    generations = {model: _free_generations(case, model, target, base, *texts[model]) for model in inputs}
    return ExtractionEvidence(
        prompts=prompts,
        records=tuple(records),
        target=replace(inputs[target], free_generations=generations[target][0]),
        base=None if base is None else replace(inputs[base], free_generations=generations[base][0]),
        chance=ExtractionInputs(free_generations=generations[target][1]),
        chance_base=None if base is None else ExtractionInputs(free_generations=generations[base][1]),
        notes=tuple(_notes(prompts, generations[target][0], chosen)),
        secrets=tuple(chosen.secrets),
    )


def _notes(prompts: ExtractionPrompts, generations: FreeGenerations | None, chosen: ChosenSecrets) -> Iterator[str]:
    if chosen.common:
        yield numbered(
            chosen.common,
            "{secret|secrets} on the list {was|were} left out: other people on the other side have {it|them}.",
        )
    if chosen.shared:
        yield numbered(
            chosen.shared,
            "{value|values} of personal data in records that were trained on {was|were} left out: held-out records of "
            "other people have {it|them} too, so that {it comes|they come} up says nothing of training.",
        )
    for reason, count in sorted(prompts.dropped.items()):
        yield numbered(count, "{secret|secrets} {was|were} left out: ") + f"{reason}."
    if not prompts and not (chosen.common or chosen.shared or prompts.dropped):
        yield "no secrets to pull out: nothing was planted, and no personal data is marked or found in the records"
    if generations is None:
        yield f"none of the texts that the model wrote freely has {RUN} tokens, so none can be a copy"


# ---- secrets ----------------------------------------------------------------------------------------------------


def _of_secrets(
    model: ScoredModel,
    prompts: Sequence[ExtractionPrompt],
    *,
    samples: int,
    seed: int,
    cache: Path,
    short: Sequence[int],
) -> dict[str, Any]:
    if not prompts:
        return {}
    tokenizer = model.loaded.tokenizer
    return {
        "forced": _forced(model, [prompt.forced() for prompt in prompts], "secrets"),
        "short": {
            most: _forced(model, [prompt.forced(most=most) for prompt in prompts], f"{most} tokens before")
            for most in short
        },
        "prompted": {
            words: _forced(
                model, [prompt.prompted(words, tokenizer) for prompt in prompts], f"prompt {number} of {len(PROMPTS)}"
            )
            for number, words in enumerate(PROMPTS, start=1)
        },
        "greedy": _written(model, prompts, GREEDY, samples=1, seed=seed, cache=cache),
        "sampled": _written(model, prompts, SCHEME, samples=samples, seed=seed, cache=cache),
    }


def _forced(model: ScoredModel, rows: Sequence[EncodedRecord], title: str) -> TeacherForced | None:
    if not rows:
        return None
    engine = model.engine  # opened outside of the context below: PEFT's does not nest
    with progress(f"Reading ({title}, {model.name})", len(rows), unit="texts") as advance, model.answering():
        return force(engine, rows, SCHEME, advance)


def _written(
    model: ScoredModel, prompts: Sequence[ExtractionPrompt], scheme: Scheme, *, samples: int, seed: int, cache: Path
) -> Continued:
    generations = make_generations(
        model,
        [prompt.given() for prompt in prompts],
        max_new_tokens=[len(prompt.suffix) + BEYOND for prompt in prompts],
        samples=samples,
        scheme=scheme,
        seed=seed,
        keys=[prompt.secret.id for prompt in prompts],
        cache=cache,
        title="Continuing" if scheme.greedy else "Sampling",
    )
    decode = model.loaded.tokenizer.decode
    texts = generations.texts(model.loaded.tokenizer)
    tokens = [generations.tokens(index).tolist() for index in range(len(generations))]
    return Continued(
        secrets=[decode(prompt.suffix.tolist()) for prompt in prompts],
        texts=[texts[row * samples : (row + 1) * samples] for row in range(len(prompts))],
        secret_tokens=[prompt.suffix.tolist() for prompt in prompts],
        tokens=[tokens[row * samples : (row + 1) * samples] for row in range(len(prompts))],
    )


# ---- whole records ----------------------------------------------------------------------------------------------


def _whole_records(case: AuditCase, tokenizer: Any) -> tuple[list[tuple[Record, bool]], list[EncodedRecord]]:
    """Attacked records, ``MOST`` a side by hash, and their tokens with what there is to predict marked."""
    chosen: list[tuple[Record, bool]] = []
    rows: list[EncodedRecord] = []
    pairs = list(zip(case.evaluated_records, case.evaluated.member.tolist(), strict=True))
    pairs.sort(key=lambda pair: uniform(0, "whole", pair[0].id))
    for is_member in (True, False):
        count = 0
        for record, member in pairs:
            if member != is_member or count == MOST:
                continue
            row = encode(record, tokenizer, max_tokens=case.max_tokens)
            trained = row.trained.copy()
            trained[:1] = False
            if trained.any():
                chosen.append((record, member))
                rows.append(replace(row, trained=trained))
                count += 1
    return chosen, rows


# ---- freely written texts ---------------------------------------------------------------------------------------


def _free_texts(model: ScoredModel, *, samples: int, seed: int, cache: Path) -> tuple[list[list[int]], Generations]:
    """Token ids that the texts begin with, and the texts that the model wrote after them."""
    tokenizer = model.loaded.tokenizer
    start, lead = start_tokens(tokenizer), len(leading_tokens(tokenizer))
    openings = [[*start, *opening_tokens(words, tokenizer)[lead:]] for words in OPENINGS]
    per_opening = samples * TEXTS_PER_SAMPLE // len(OPENINGS)
    generations = make_generations(
        model,
        openings,
        max_new_tokens=TEXT_TOKENS,
        samples=per_opening,
        scheme=SCHEME,
        seed=seed,
        keys=[f"free/{number}" for number in range(len(openings))],
        cache=cache,
        title="Writing freely",
    )
    return openings, generations


def _free_generations(
    case: AuditCase,
    writer: ScoredModel,
    target: ScoredModel,
    base: ScoredModel | None,
    openings: list[list[int]],
    generations: Generations,
) -> tuple[FreeGenerations | None, FreeGenerations | None]:
    """The different texts of ``writer``: once with copies of trained records marked, once with copies of other records.
    None where no text is long enough."""
    texts, first = np.unique(np.array(generations.texts(writer.loaded.tokenizer), dtype=object), return_index=True)
    long = [int(index) for index, text in zip(first, texts, strict=True) if len(generations.tokens(int(index))) >= RUN]
    shared_vocabulary = min(model.engine.forward.vocabulary for model in (target, base) if model is not None)
    # Both models have to read it, and one may have a larger vocabulary.
    usable = [index for index in long if generations.tokens(index).max() < shared_vocabulary]
    if not usable:
        return None, None
    tokens = [generations.tokens(index) for index in usable]
    rows = [_after(openings[int(generations.row[index])], generations.tokens(index)) for index in usable]
    loss = {model: _loss(model, rows) for model in (target, base) if model is not None}
    bytes_ = [len(zlib.compress(made_text.encode("utf-8", "surrogatepass"))) for made_text in _texts(writer, tokens)]
    trained, untrained = _corpora(case, writer.loaded.tokenizer)
    free = FreeGenerations(
        target_loss=loss[target],
        base_loss=None if base is None else loss[base],
        zlib_bytes=np.array(bytes_, dtype=np.int64),
        copied=shares_run(tokens, trained, RUN),
    )
    return free, replace(free, copied=shares_run(tokens, untrained, RUN))


def _after(opening: list[int], text: npt.NDArray[np.int32]) -> EncodedRecord:
    token_id = np.concatenate([np.asarray(opening, dtype=np.int32), text])
    return EncodedRecord(token_id=token_id, trained=np.arange(len(token_id)) >= len(opening))


def _loss(model: ScoredModel, rows: Sequence[EncodedRecord]) -> npt.NDArray[np.float64]:
    """``[M]`` nats a token."""
    forced = _forced(model, rows, "free texts")
    assert forced is not None
    loss: npt.NDArray[np.float64] = -forced.sum(forced.logp) / forced.lengths
    return loss


def _texts(model: ScoredModel, tokens: Sequence[npt.NDArray[np.int32]]) -> list[str]:
    return [str(model.loaded.tokenizer.decode(text.tolist())) for text in tokens]


def _corpora(case: AuditCase, tokenizer: Any) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
    """Tokens of the texts that were trained on (planted secrets too), and of those that were not."""
    trained: list[npt.NDArray[np.int32]] = []
    untrained: list[npt.NDArray[np.int32]] = []
    for record, member in zip(case.records, case.membership.member.tolist(), strict=True):
        row = encode(record, tokenizer, max_tokens=case.max_tokens)
        (trained if member else untrained).append(row.token_id[row.trained])
    for canary in case.canaries:
        row = encode(canary.record, tokenizer)
        (trained if canary.planted else untrained).append(row.token_id[row.trained])
    return trained, untrained
