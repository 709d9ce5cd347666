# SPDX-License-Identifier: Apache-2.0
"""How likely a model finds each of many texts in one place of a text: what comes before is read once for all of them.

Two ways to the same numbers, chosen by ``impl``:

=========  ==========================================================================================================
``whole``  every candidate's text is scored from its first token on, as any text is
``tree``   the tokens that all candidates' texts begin with are read once, and their keys and values kept. What
           differs is a tree of tokens (``score.candidates.token_tree``), read in one pass: each token attends to
           the kept ones and to those on its own path. Nothing is copied for a candidate, and a token that only ends
           candidates is not read at all
=========  ==========================================================================================================

Both score the tokens of the whole text with the candidate in place, so they agree but for rounding: in float32 to about
1e-5 nats a token. In bfloat16 a logit is rounded to 8 bits whatever the way: the sums of two ways lie tenths of a nat
apart, and candidates that are closer than that may change places. Where single ranks matter, score in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.context import text_config
from reticent.models.emulated_cache import empty_cache
from reticent.models.encode import EncodedRecord
from reticent.models.output_layer import hidden_states
from reticent.score.candidates.masked import FilledSpan, MaskedSpan, fill
from reticent.score.candidates.token_tree import ROOT, TokenTree, trees
from reticent.score.engine import Engine, score
from reticent.score.forward import Forward, device_of

Array = npt.NDArray[Any]

IMPLS = ("auto", "tree", "whole")
_TREE_TOKENS = {"cpu": 256, "cuda": 2048}
"""Tokens of a tree that are read at a time: each attends to all others, so the cost of attention is their square."""
_CLOSE = {torch.float32: 1e-3, torch.float64: 1e-3}
_CLOSE_HALF = 0.15
"""How far apart, in nats and in the middle of the probe's tokens, the two ways may be in 16 bits."""


_reasons: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()
"""The outcome of the probe of an engine: a probe costs about as much as a short text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateScores:
    """Log-probabilities of the ``C`` candidates of one masked span.

    Args:
        logp: ``[C]`` float64, nats: log p of the candidate and what counts behind it, given what stands before.
            Counting starts at the same token for all (`FilledSpan.start`), so that differences between candidates are
            those of log p of the whole texts.
        tokens: ``[C]`` int64: how many tokens that sums.
        before: log p in nats of the tokens before, the very first left out; NaN unless it was asked for.
        before_tokens: how many tokens that sums.
    """

    logp: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    before: float = float("nan")
    before_tokens: int = 0

    @property
    def perplexity(self) -> npt.NDArray[np.float64]:
        """``[C]``: of the whole text with each candidate in place; needs ``before``."""
        return np.exp(-(self.before + self.logp) / (self.before_tokens + self.tokens))


def score_candidates(
    engine: Engine,
    tokenizer: Any,
    blanks: Sequence[MaskedSpan],
    *,
    follow: int | None = None,
    before: bool = False,
    impl: str = "auto",
    advance: Callable[[int], None] = lambda blanks: None,
) -> list[CandidateScores]:
    """Score all candidates of all places.

    Args:
        engine: of the model, which must answer now as it did when the engine was opened (an adapter on or off).
        tokenizer: that belongs to it.
        blanks: ``K`` places, each with candidates of its own.
        follow: tokens behind the candidate that count too; 0 for none, None for all.
        before: whether to sum up the tokens before the place as well.
        impl: ``"tree"``, ``"whole"``, or ``"auto"``: see `resolve_candidates`.
        advance: told how many places are done, as they are.

    Returns:
        ``K`` scores, in the order of the blanks.

    Raises:
        BadInput: ``impl="tree"`` cannot be had; as `fill`; a token that the model does not know.
    """
    if follow is not None:
        validate.non_negative(follow=follow)
    window = engine.choices.window
    texts = [fill(blank, tokenizer, window=window, follow=follow) for blank in blanks]
    return score_filled(engine, texts, before=before, impl=impl, advance=advance)


def score_filled(
    engine: Engine,
    texts: Sequence[FilledSpan],
    *,
    before: bool = False,
    impl: str = "auto",
    advance: Callable[[int], None] = lambda blanks: None,
) -> list[CandidateScores]:
    """As `score_candidates`, for places that are tokenised already; with ``before`` rows count from one token on."""
    assert not before or all(text.first is None for text in texts)
    impl, _ = resolve_candidates(engine, impl)
    _check_tokens(texts, engine.forward.vocabulary)
    reach = _reach(engine)
    by_tree = [
        impl == "tree" and text.common > 0 and (reach is None or max(map(len, text.rows)) <= reach) for text in texts
    ]
    scored: dict[int, CandidateScores] = {}
    with torch.inference_mode():
        for number, text in enumerate(texts):
            if not by_tree[number]:
                scored[number] = _whole(engine, text, before)
                advance(1)
        most = _TREE_TOKENS.get(device_of(engine.forward.model).type, _TREE_TOKENS["cuda"])
        jobs = [_job(number, text, most) for number, text in enumerate(texts) if by_tree[number]]
        for group in _groups(jobs, engine.choices.tokens_per_batch):
            scored.update(_read(engine.forward, group, before))
            advance(len(group))
    return [scored[number] for number in range(len(texts))]


def resolve_candidates(engine: Engine, impl: str) -> tuple[str, str]:
    """The implementation to use, and why, for the manifest.

    ``"tree"`` is taken where a probe shows that the model gives the same numbers by it. Texts that are longer than the
    sliding window of a model that has one are scored whole, and so are those beyond which it has other positions, and
    those that do not all begin with one token.

    Raises:
        BadInput: ``impl`` is unknown, or ``"tree"`` and the model does not allow it.
    """
    validate.one_of(IMPLS, impl=impl)
    if impl == "whole":
        return "whole", "as asked"
    if engine not in _reasons:
        _reasons[engine] = _why_not(engine)
    reason = _reasons[engine]
    if impl == "tree" and reason:
        raise BadInput('impl="tree"', reason, 'Score with impl="whole".')
    return ("whole", reason) if reason else ("tree", "the model gives the same numbers by it")


# ---- one candidate after the other ------------------------------------------------------------------------------


def _whole(engine: Engine, text: FilledSpan, before: bool) -> CandidateScores:
    """As any text is scored: batches of whole texts."""
    rows = [
        EncodedRecord(token_id=row, trained=np.arange(len(row)) >= first)
        for row, first in zip(text.rows, text.counted_from, strict=True)
    ]
    columns, offsets = score(engine, rows)
    logp = np.add.reduceat(columns["logp"].astype(np.float64), offsets[:-1])
    lead, count = float("nan"), 0
    if before:
        head = text.rows[0][: text.start]
        columns, _ = score(engine, [EncodedRecord(token_id=head, trained=np.ones(len(head), dtype=np.bool_))])
        lead, count = float(columns["logp"].astype(np.float64).sum()), len(head) - 1
    return CandidateScores(logp=logp, tokens=np.diff(offsets).astype(np.int64), before=lead, before_tokens=count)


# ---- as a tree --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """One place: the tokens that all candidates begin with, and trees of what follows."""

    number: int
    text: FilledSpan
    prefix: Array
    trees: tuple[TokenTree, ...]

    @property
    def widest(self) -> int:
        return max(map(len, self.trees))


class _TokenPredictions(NamedTuple):
    """Predictions that are asked for in one line of a batch: ``[E]`` after which token, and of which token."""

    place: Array
    token: Array


def _job(number: int, text: FilledSpan, most: int) -> _Job:
    common = min(text.common, min(map(len, text.rows)) - 1)  # so that every candidate has a token in the tree
    if text.first is not None:
        common = min(common, *text.first)  # so that what counts for one row and not for another is in the tree
    counted_from = [max(0, first - common) for first in text.counted_from]
    grown = tuple(trees([tuple(row[common:].tolist()) for row in text.rows], most, counted_from))
    return _Job(number=number, text=text, prefix=text.rows[0][:common], trees=grown)


def _groups(jobs: Sequence[_Job], tokens: int) -> Iterator[list[_Job]]:
    """Places with prefixes of like length together, longest first; one with several trees is by itself."""
    group: list[_Job] = []
    for job in sorted(jobs, key=lambda job: (-len(job.trees), -len(job.prefix), job.number)):
        widest = max(max(len(member.prefix), member.widest) for member in [*group, job])
        if group and (len(group[0].trees) > 1 or (len(group) + 1) * widest > tokens):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


def _read(forward: Forward, group: Sequence[_Job], before: bool) -> dict[int, CandidateScores]:
    """One pass over the prefixes, and one over each round of trees."""
    cache = empty_cache(forward.model)
    asked = [_of_prefix(job, before) for job in group]
    logp = _predict(forward, [job.prefix for job in group], asked, use_cache=True, past_key_values=cache)
    inner = [len(_inside(job, before)) for job in group]
    totals = [np.zeros(len(job.text.rows)) for job in group]
    read = list(inner)
    for grown in zip(*(job.trees for job in group), strict=True):
        below = _below(forward, group, grown, cache)
        for line, tree in enumerate(grown):
            at_root = tree.edge_from == ROOT
            values = np.empty(len(at_root))
            values[at_root] = logp[line][read[line] : read[line] + at_root.sum()]
            values[~at_root] = below[line]
            read[line] += int(at_root.sum())
            totals[line] += tree.totals(values, len(totals[line]))
    return {
        job.number: _collected(job, totals[line], logp[line][: inner[line]], before) for line, job in enumerate(group)
    }


def _inside(job: _Job, before: bool) -> Array:
    """The tokens within the prefix that count."""
    return np.arange(1 if before else min(job.text.counted_from), len(job.prefix))


def _of_prefix(job: _Job, before: bool) -> _TokenPredictions:
    """The tokens within the prefix that count, and the first tokens of all trees, one tree after the other."""
    inside = _inside(job, before)
    roots = np.concatenate([tree.edge_token[tree.edge_from == ROOT] for tree in job.trees])
    place = np.concatenate([inside - 1, np.full(len(roots), len(job.prefix) - 1)])
    return _TokenPredictions(place, np.concatenate([job.prefix[inside], roots]))


def _below(forward: Forward, group: Sequence[_Job], grown: Sequence[TokenTree], cache: Any) -> list[Array]:
    """For each line of the batch, log p of the edges that do not come from the root. Leaves the cache as it was."""
    width = max(map(len, grown))
    if not width:
        return [np.zeros(0)] * len(grown)
    held = cache.get_seq_length()
    kind = forward.model.get_input_embeddings().weight.dtype
    position = np.zeros((len(grown), width), dtype=np.int64)
    sees = np.zeros((len(grown), 1, width, held + width), dtype=np.bool_)
    sees[:, :, :, held:] = np.eye(width, dtype=np.bool_)  # padding sees itself, or it is NaN
    for line, (job, tree) in enumerate(zip(group, grown, strict=True)):
        position[line, : len(tree)] = len(job.prefix) + tree.depth
        sees[line, 0, :, : len(job.prefix)] = True
        sees[line, 0, : len(tree), held : held + len(tree)] = tree.sees
    mask = torch.zeros(sees.shape, dtype=kind).masked_fill_(~torch.from_numpy(sees), torch.finfo(kind).min)
    device = device_of(forward.model)
    logp = _predict(
        forward,
        [tree.token_id for tree in grown],
        [
            _TokenPredictions(tree.edge_from[inner], tree.edge_token[inner])
            for tree in grown
            for inner in [tree.edge_from != ROOT]
        ],
        use_cache=True,
        past_key_values=cache,
        position_ids=torch.from_numpy(position).to(device),
        attention_mask=mask.to(device),
    )
    cache.crop(-width)
    return logp


def _predict(forward: Forward, rows: Sequence[Array], asked: Sequence[_TokenPredictions], **inputs: Any) -> list[Array]:
    """For each line of a batch, log p in nats of what is asked for; float64."""
    device = device_of(forward.model)
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    for line, row in enumerate(rows):
        ids[line, : len(row)] = row
    token_id = torch.from_numpy(ids).to(device)
    flat = np.concatenate([line * width + question.place for line, question in enumerate(asked)]).astype(np.int64)
    where, row_of = np.unique(flat, return_inverse=True)
    token = np.concatenate([question.token for question in asked]).astype(np.int64)
    logp = np.empty(len(flat))
    order = np.argsort(row_of, kind="stable")
    for some, logits in _logits(forward, token_id, torch.from_numpy(where).to(device), inputs):
        low, high = np.searchsorted(row_of[order], (some.start, some.stop))
        mine = order[low:high]
        at = torch.from_numpy(row_of[mine] - some.start).to(logits.device)
        chosen = logits[at, torch.from_numpy(token[mine]).to(logits.device)].float()
        logp[mine] = (chosen - logits.float().logsumexp(dim=1)[at]).cpu().numpy()
    return np.split(logp, np.cumsum([len(question.place) for question in asked])[:-1])


def _logits(
    forward: Forward, token_id: torch.Tensor, where: torch.Tensor, inputs: dict[str, Any]
) -> Iterator[tuple[slice, torch.Tensor]]:
    """As `Forward.logits_at`, with what was read before."""
    cache = inputs["past_key_values"]
    with forward.attention(cache.get_seq_length() + token_id.shape[1]):
        if forward.head is None:
            logits = forward.model(input_ids=token_id, **inputs).logits[:, -token_id.shape[1] :]
            yield slice(0, len(where)), logits.flatten(0, 1)[where]
            return
        hidden = hidden_states(forward.model, forward.head.module, token_id, **inputs).flatten(0, 1)
    yield from forward.of_hidden(hidden[where.to(hidden.device)])


def _collected(job: _Job, totals: Array, inside: Array, before: bool) -> CandidateScores:
    """The candidates' own tokens, and those within the prefix: before the place, or shared by all candidates."""
    start = job.text.start
    ahead = inside[: start - 1] if before else inside[:0]
    return CandidateScores(
        logp=totals + inside[len(ahead) :].sum(),
        tokens=np.array(list(map(len, job.text.rows)), dtype=np.int64) - np.array(job.text.counted_from),
        before=float(ahead.sum()) if before else float("nan"),
        before_tokens=len(ahead),
    )


# ---- whether the tree may be used -------------------------------------------------------------------------------


def _why_not(engine: Engine) -> str:
    """Why the model cannot be read as a tree; empty if it can."""
    model = engine.forward.model
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return "virtual tokens stand before every text that the model reads"
    if getattr(text_config(model), "_attn_implementation", "") not in ("sdpa", "eager"):
        return "the model's attention takes no mask of one's own"
    probe = _probe(engine.forward.vocabulary)
    with torch.inference_mode():
        truth = _whole(engine, probe, before=False)
        try:
            mine = _read(engine.forward, [_job(0, probe, 512)], before=False)[0]
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            return f"the model does not go on from what it has read ({type(error).__name__})"
    apart = np.abs(mine.logp - truth.logp) / truth.tokens
    near = _CLOSE.get(model.get_input_embeddings().weight.dtype)
    same = apart.max() <= near if near else np.median(apart) <= _CLOSE_HALF
    return "" if same else "the model gives other numbers by it"


def _probe(vocabulary: int) -> FilledSpan:
    """Random tokens: twelve that are shared, and branches that part at different depths."""
    rng = np.random.default_rng(12)
    prefix, left, right = (rng.integers(vocabulary, size=size).astype(np.int32) for size in (12, 5, 5))
    ends = [left, right, left[:3], np.concatenate([left[:2], right]), np.concatenate([right[:4], left]), right[:2]]
    return FilledSpan(rows=tuple(np.concatenate([prefix, end]) for end in ends), start=12, cut=0)


def _sliding_window(model: Any) -> int | None:
    """The narrowest window in which the model's layers attend; None if they attend to all."""
    config = text_config(model)
    if getattr(config, "use_sliding_window", True) is False:
        return None
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((int(size) for size in sizes if isinstance(size, int) and size > 0), default=None)


def _reach(engine: Engine) -> int | None:
    """Most tokens of a text that is read as a tree; None for any number."""
    ends = (_sliding_window(engine.forward.model), engine.forward.positions.next_border(0))
    return min((end for end in ends if end is not None), default=None)


def _check_tokens(texts: Sequence[FilledSpan], vocabulary: int) -> None:
    highest = max((int(row.max()) for text in texts for row in text.rows), default=0)
    if highest >= vocabulary:
        raise BadInput(
            f"token {highest}",
            f"is not among the {vocabulary:,} tokens that the model knows",
            "Use the tokenizer that the model was trained with.",
        )
