# SPDX-License-Identifier: Apache-2.0
"""The step of an audit in which the models write: all evidence that extraction attacks read, for both models."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction import Continued, ExtractionInputs, FreeGenerations
from reticent.attacks.extraction.overlap import shares_run
from reticent.attacks.extraction.prompt_prefix import PROMPTS
from reticent.auditing.case import AuditCase
from reticent.auditing.extraction.prompts import ExtractionPrompt, ExtractionPrompts, make_prompts, start_tokens
from reticent.auditing.extraction.secrets import canary_secrets, given_secrets, marked_secrets
from reticent.auditing.models import Models, scored_models
from reticent.core.progress import progress
from reticent.core.record import Record
from reticent.core.secret import Secret
from reticent.data.coin import uniform
from reticent.data.pii.detect import detect
from reticent.models.encode import EncodedRecord, encode, leading_tokens, opening_tokens
from reticent.score.forward import most_read
from reticent.score.generation.forced import TeacherForced
from reticent.score.generation.generate import make_generations
from reticent.score.generation.generations import Generations
from reticent.score.generation.sampled_logp import force
from reticent.score.generation.scheme import GREEDY, Scheme
from reticent.score.make_tables import ScoredModel

SCHEME = Scheme(temperature=1.0, top_k=40)
"""How samples are drawn: the setting of arXiv:2410.19482."""
MOST = 100
"""Targets of one group, and records of one side; enough for an interval of ± 0.1."""
SHORT = 10
BEYOND = 4
"""Tokens that are written beyond the length of a secret, so that a slip early on does not cut its end off."""
TEXTS_PER_SAMPLE, TEXT_TOKENS, RUN = 32, 64, 20
"""Freely written texts for each sample asked for, their length, and the run of tokens that counts as a copy."""
OPENINGS = ("", "", "", "", "Dear", "Hi,", "The", "My name is")
"""What freely written texts begin with: mostly nothing, else words that anybody would try."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractionEvidence:
    """What both models gave.

    Args:
        passages: the secrets, in the order of the evidence about targets.
        records: in the order of the evidence about records, with whether each was trained on.
        target, base: evidence from each model; no base without one.
        chance: as ``target``, with only the freely written texts, and as copies those of records never trained on.
        chance_base: the same from the base.
        notes: what was left out and why.
        secrets: all that were chosen, also those that no prompt could be made of.
    """

    passages: ExtractionPrompts
    records: tuple[tuple[Record, bool], ...]
    target: ExtractionInputs
    base: ExtractionInputs | None
    chance: ExtractionInputs
    chance_base: ExtractionInputs | None
    notes: tuple[str, ...]
    secrets: tuple[Secret, ...] = ()


def collect(
    case: AuditCase, models: Models, chosen: ChosenSecrets, *, samples: int, seed: int, cache: Path
) -> ExtractionEvidence:
    """Let both models read and write all that the attacks ask for.

    Args:
        chosen: the secrets that are asked for.
        samples: sampled continuations of each secret's prefix.
        seed: of the sampling.
        cache: content-addressed store; what was generated is kept there.
    """
    target, base = scored_models(models)
    tokenizer = models.target.tokenizer
    room = min((most for side in (target, base) if side and (most := most_read(side.loaded.model))), default=None)
    passages = make_prompts(chosen.targets, tokenizer, max_tokens=case.max_tokens, room=room)
    records, rows = _whole_records(case, tokenizer)
    gathered = {
        side: ExtractionInputs(
            **_of_targets(side, passages.kept, samples=samples, seed=seed, cache=cache),
            whole=_forced(side, rows, "whole records"),
        )
        for side in (target, base)
        if side is not None
    }
    texts = {side: _free_texts(side, samples=samples, seed=seed, cache=cache) for side in gathered}
    drawn = {side: _drawn(case, side, target, base, *texts[side]) for side in gathered}
    return ExtractionEvidence(
        passages=passages,
        records=tuple(records),
        target=replace(gathered[target], drawn=drawn[target][0]),
        base=None if base is None else replace(gathered[base], drawn=drawn[base][0]),
        chance=ExtractionInputs(drawn=drawn[target][1]),
        chance_base=None if base is None else ExtractionInputs(drawn=drawn[base][1]),
        notes=tuple(_notes(passages, drawn[target][0], chosen)),
        secrets=tuple(chosen.targets),
    )


def _notes(passages: ExtractionPrompts, drawn: FreeGenerations | None, chosen: ChosenSecrets) -> Iterator[str]:
    if chosen.common:
        yield f"{chosen.common:,} secrets on the list were left out: other people on the other side have them."
    if chosen.shared:
        yield (
            f"{chosen.shared:,} values of personal data in records that were trained on were left out: held-out "
            "records of other people have them too, so that they come up says nothing of training."
        )
    for why, count in sorted(passages.dropped.items()):
        yield f"{count:,} secrets were left out: {why}."
    if not passages and not (chosen.common or chosen.shared or passages.dropped):
        yield "no secrets to pull out: nothing was planted, and no personal data is marked or found in the records"
    if drawn is None:
        yield f"none of the texts that the model wrote freely has {RUN} tokens, so none can be a copy"


class ChosenSecrets(NamedTuple):
    """What is to be pulled out, and what was left out since other people on the other side have it."""

    targets: list[Secret]
    common: int
    """Listed secrets."""
    shared: int = 0
    """Values of personal data that records hold which were trained on."""


def secrets_of(case: AuditCase) -> ChosenSecrets:
    """Planted secrets, what was handed in, and marked or found personal data of the attacked records."""
    membership = case.evaluated
    member = case.membership.member.tolist()
    by_user = case.membership.unit == "user"
    attacked = set(membership.record_id.tolist())
    elsewhere = [(r, m) for r, m in zip(case.records, member, strict=True) if r.id not in attacked]
    found, shared = marked_secrets(
        case.evaluated_records,
        membership.member.tolist(),
        most=MOST,
        find=detect,
        by_user=by_user,
        elsewhere=elsewhere,
    )
    given, common = given_secrets(case.targets, case.records, member, most=MOST, by_user=by_user)
    return ChosenSecrets([*canary_secrets(case.canaries, most=MOST), *given, *found], common, shared)


# ---- secrets ----------------------------------------------------------------------------------------------------


def _of_targets(
    side: ScoredModel, passages: Sequence[ExtractionPrompt], *, samples: int, seed: int, cache: Path
) -> dict[str, Any]:
    if not passages:
        return {}
    tokenizer = side.loaded.tokenizer
    return {
        "forced": _forced(side, [one.forced() for one in passages], "secrets"),
        "short": {SHORT: _forced(side, [one.forced(most=SHORT) for one in passages], f"{SHORT} tokens before")},
        "prompted": {
            prompt: _forced(
                side, [one.prompted(prompt, tokenizer) for one in passages], f"prompt {number} of {len(PROMPTS)}"
            )
            for number, prompt in enumerate(PROMPTS, start=1)
        },
        "greedy": _written(side, passages, GREEDY, samples=1, seed=seed, cache=cache),
        "sampled": _written(side, passages, SCHEME, samples=samples, seed=seed, cache=cache),
    }


def _forced(side: ScoredModel, rows: Sequence[EncodedRecord], title: str) -> TeacherForced | None:
    if not rows:
        return None
    engine = side.engine  # opened outside of the context below: PEFT's does not nest
    with progress(f"Reading ({title}, {side.name})", len(rows), unit="texts") as advance, side.answering():
        return force(engine, rows, SCHEME, advance)


def _written(
    side: ScoredModel, passages: Sequence[ExtractionPrompt], scheme: Scheme, *, samples: int, seed: int, cache: Path
) -> Continued:
    made = make_generations(
        side,
        [one.given() for one in passages],
        max_new_tokens=[len(one.secret) + BEYOND for one in passages],
        samples=samples,
        scheme=scheme,
        seed=seed,
        keys=[one.target.id for one in passages],
        cache=cache,
        title="Continuing" if scheme.greedy else "Sampling",
    )
    decode = side.loaded.tokenizer.decode
    texts = made.texts(side.loaded.tokenizer)
    tokens = [made.tokens(index).tolist() for index in range(len(made))]
    return Continued(
        secrets=[decode(one.secret.tolist()) for one in passages],
        texts=[texts[row * samples : (row + 1) * samples] for row in range(len(passages))],
        secret_tokens=[one.secret.tolist() for one in passages],
        tokens=[tokens[row * samples : (row + 1) * samples] for row in range(len(passages))],
    )


# ---- whole records ----------------------------------------------------------------------------------------------


def _whole_records(case: AuditCase, tokenizer: Any) -> tuple[list[tuple[Record, bool]], list[EncodedRecord]]:
    """Attacked records, ``MOST`` a side by hash, and their tokens with what there is to predict marked."""
    chosen: list[tuple[Record, bool]] = []
    rows: list[EncodedRecord] = []
    pairs = list(zip(case.evaluated_records, case.evaluated.member.tolist(), strict=True))
    pairs.sort(key=lambda pair: uniform(0, "whole", pair[0].id))
    for side in (True, False):
        taken = 0
        for record, member in pairs:
            if member != side or taken == MOST:
                continue
            row = encode(record, tokenizer, max_tokens=case.max_tokens)
            trained = row.trained.copy()
            trained[:1] = False
            if trained.any():
                chosen.append((record, member))
                rows.append(replace(row, trained=trained))
                taken += 1
    return chosen, rows


# ---- texts written from next to nothing -------------------------------------------------------------------------


def _free_texts(side: ScoredModel, *, samples: int, seed: int, cache: Path) -> tuple[list[list[int]], Generations]:
    """What each text begins with, and what the model wrote after it."""
    tokenizer = side.loaded.tokenizer
    start, lead = start_tokens(tokenizer), len(leading_tokens(tokenizer))
    openings = [[*start, *opening_tokens(words, tokenizer)[lead:]] for words in OPENINGS]
    each = samples * TEXTS_PER_SAMPLE // len(OPENINGS)
    made = make_generations(
        side,
        openings,
        max_new_tokens=TEXT_TOKENS,
        samples=each,
        scheme=SCHEME,
        seed=seed,
        keys=[f"free/{number}" for number in range(len(openings))],
        cache=cache,
        title="Writing freely",
    )
    return openings, made


def _drawn(
    case: AuditCase,
    writer: ScoredModel,
    target: ScoredModel,
    base: ScoredModel | None,
    openings: list[list[int]],
    made: Generations,
) -> tuple[FreeGenerations | None, FreeGenerations | None]:
    """The different texts that one model wrote: which copy what was trained on, and which what was not."""
    texts, first = np.unique(np.array(made.texts(writer.loaded.tokenizer), dtype=object), return_index=True)
    long = [int(index) for index, text in zip(first, texts, strict=True) if len(made.tokens(int(index))) >= RUN]
    known = min(side.engine.forward.vocabulary for side in (target, base) if side is not None)
    kept = [index for index in long if made.tokens(index).max() < known]  # a grown vocabulary: both have to read it
    if not kept:
        return None, None
    tokens = [made.tokens(index) for index in kept]
    rows = [_after(openings[int(made.row[index])], made.tokens(index)) for index in kept]
    loss = {side: _loss(side, rows) for side in (target, base) if side is not None}
    bytes_ = [len(zlib.compress(made_text.encode("utf-8", "surrogatepass"))) for made_text in _texts(writer, tokens)]
    trained, other = _corpora(case, writer.loaded.tokenizer)
    free = FreeGenerations(
        target_loss=loss[target],
        base_loss=None if base is None else loss[base],
        zlib_bytes=np.array(bytes_, dtype=np.int64),
        copied=shares_run(tokens, trained, RUN),
    )
    return free, replace(free, copied=shares_run(tokens, other, RUN))


def _after(opening: list[int], text: npt.NDArray[np.int32]) -> EncodedRecord:
    whole = np.concatenate([np.asarray(opening, dtype=np.int32), text])
    return EncodedRecord(token_id=whole, trained=np.arange(len(whole)) >= len(opening))


def _loss(side: ScoredModel, rows: Sequence[EncodedRecord]) -> npt.NDArray[np.float64]:
    """``[M]`` nats a token."""
    forced = _forced(side, rows, "free texts")
    assert forced is not None
    loss: npt.NDArray[np.float64] = -forced.sum(forced.logp) / forced.lengths
    return loss


def _texts(side: ScoredModel, tokens: Sequence[npt.NDArray[np.int32]]) -> list[str]:
    return [str(side.loaded.tokenizer.decode(text.tolist())) for text in tokens]


def _corpora(case: AuditCase, tokenizer: Any) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
    """Tokens of the texts that were trained on (planted secrets too), and of those that were not."""
    trained: list[npt.NDArray[np.int32]] = []
    other: list[npt.NDArray[np.int32]] = []
    for record, member in zip(case.records, case.membership.member.tolist(), strict=True):
        row = encode(record, tokenizer, max_tokens=case.max_tokens)
        (trained if member else other).append(row.token_id[row.trained])
    for canary in case.canaries:
        row = encode(canary.record, tokenizer)
        (trained if canary.planted else other).append(row.token_id[row.trained])
    return trained, other
