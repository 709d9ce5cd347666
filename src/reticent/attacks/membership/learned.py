# SPDX-License-Identifier: Apache-2.0
"""Learned attack: a small network over what both models say about each token, trained on other fine-tunes.

Whoever fine-tunes a model knows what went in, so examples of membership can be made at will (Ilić et al. 2026). The
network saw fine-tunes of public texts only; ``learned.json`` beside the weights is the recipe: which models, texts and
seeds, and the hash of the weights. It needs no label of the audited records. The published network reads 154 numbers a
token, the most and the least likely tokens among them; this one reads what a token table has.

For each token 13 features of ``log p`` under target and reference, ranks, entropies and place; two convolutions over
neighbouring tokens; per record the mean, two weighted means and the logarithms of means of positive channels, whose
differences are ratios such as EZ-MIA's; beside them those published ratios themselves; then one hidden layer.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.attacks.membership.ez_mia import ez_mia
from reticent.attacks.membership.wbc import wbc
from reticent.core.errors import BadInput
from reticent.core.table import TokenTable

Floats: TypeAlias = npt.NDArray[np.float64]
Weights: TypeAlias = Mapping[str, Floats]

WEIGHTS = Path(__file__).with_suffix(".safetensors")
RECIPE = Path(__file__).with_suffix(".json")

SHORT, LONG = 8, 96
"""Tokens of the shortest and the longest texts of the training. Place and length count no further than ``LONG``."""

_TOKENS = 1 << 13
"""Tokens that are worked on at a time, so that they stay in the processor's cache."""
_DECIMALS = 6
"""Scores are rounded so that the order of additions, which follows the batch, does not show."""


@functools.cache
def load_weights() -> dict[str, Floats]:
    """The shipped network, as float64 arrays.

    Raises:
        BadInput: the file is not the one that the recipe names.
    """
    return read_weights(WEIGHTS, json.loads(RECIPE.read_text(encoding="utf-8"))["sha256"])


def read_weights(path: Path, sha256: str) -> dict[str, Floats]:
    """Weights from a safetensors file whose hash must be the given one.

    Raises:
        BadInput: it is not.
    """
    from safetensors.numpy import load

    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != sha256:
        raise BadInput(str(path), f"has SHA-256 {digest}, its recipe says {sha256}", "Install the package again.")
    return {name: array.astype(np.float64) for name, array in load(raw).items()}


def token_features(table: TokenTable, ref: TokenTable) -> Floats:
    """Features of each token that the network reads, ``[T, 13]``, each of about unit size."""
    target, reference = table["logp"].astype(np.float64), ref["logp"].astype(np.float64)
    gain = target - reference
    place = np.arange(len(target)) - np.repeat(table.offsets[:-1], table.lengths)
    return np.column_stack(
        [
            np.log1p(-np.minimum(target, 0)),
            np.log1p(-np.minimum(reference, 0)),
            np.tanh(gain),
            np.tanh(10 * gain),
            np.sign(gain) * np.log1p(np.abs(gain)),
            np.log1p(table["rank"]) / 5,
            np.log1p(ref["rank"]) / 5,
            table["rank"] > 0,
            ref["rank"] > 0,
            table["entropy"] / 4,
            (table["entropy"].astype(np.float64) - ref["entropy"]),
            _surprise(table, target) - _surprise(ref, reference),
            np.log1p(np.minimum(place, LONG)) / 4,
        ]
    )


def _surprise(table: TokenTable, logp: Floats) -> Floats:
    """How far below its mean, in standard deviations, the model finds the token, squashed to (-1, 1)."""
    return np.tanh((logp - table["mu"]) / (2 * np.maximum(table["sigma"], 1e-3)))


def record_features(table: TokenTable, ref: TokenTable) -> Floats:
    """Published ratios of each record and its size, ``[N, 7]``, each of about unit size."""
    gain = table["logp"].astype(np.float64) - ref["logp"]
    mean = table.mean(gain)
    spread = np.sqrt(np.maximum(table.mean(gain**2) - mean**2, 0))
    length = np.minimum(table.lengths, LONG)
    loss, loss_ref = (np.log(0.05 - np.minimum(side.mean(side["logp"]), 0)) for side in (table, ref))
    return np.column_stack(
        [
            _log_odds(ez_mia(table, ref)),
            _log_odds(wbc(table, ref)),
            loss - loss_ref,
            loss_ref,
            np.arcsinh(5 * mean),
            np.arcsinh(mean * np.sqrt(length) / (spread + 0.02)),
            np.log(length) / 4,
        ]
    )


def _log_odds(share: Floats) -> Floats:
    return np.log((share + 0.02) / (1.02 - share))


def forward(weights: Weights, tokens: Floats, records: Floats, offsets: npt.NDArray[Any]) -> Floats:
    """The network's output for each record, ``[N]``.

    Args:
        weights: as in the file.
        tokens: ``[T, 13]``, rows one after the other.
        records: ``[N, 7]``.
        offsets: ``[N + 1]``, rising; every row has a token.
    """
    hidden = np.maximum(_convolved(tokens, weights["first.weight"], weights["first.bias"], offsets), 0)
    deep = _convolved(hidden, weights["second.weight"], weights["second.bias"], offsets)
    hidden = hidden + np.maximum(deep, 0)
    starts, lengths = offsets[:-1], np.diff(offsets)
    mean = np.add.reduceat(hidden, starts, axis=0) / lengths[:, None]
    score = hidden @ weights["attend.weight"].T
    share = np.exp(score - np.repeat(np.maximum.reduceat(score, starts, axis=0), lengths, axis=0))
    total = np.add.reduceat(share, starts, axis=0)
    heads = [
        np.add.reduceat(hidden * share[:, head, None], starts, axis=0) / total[:, head, None]
        for head in range(share.shape[1])
    ]
    positive = np.maximum(hidden @ weights["amount.weight"].T + weights["amount.bias"], 0)
    amount = np.log(np.add.reduceat(positive, starts, axis=0) / lengths[:, None] + 0.01)
    told = np.concatenate([mean, *heads, amount, records], axis=1)
    told = (told - weights["centre"]) / weights["scale"]
    inner = np.maximum(told @ weights["inner.weight"].T + weights["inner.bias"], 0)
    return (inner @ weights["outer.weight"].T)[:, 0] + (told @ weights["direct.weight"].T)[:, 0]


def _convolved(tokens: Floats, kernel: Floats, bias: Floats, offsets: npt.NDArray[Any]) -> Floats:
    """Convolution ``[T, out]`` within each row, zeros beyond its ends; ``kernel`` is ``[out, in, width]``, width odd.

    Rows lie behind one another with half a width of zeros between them, so that one shift serves all rows.
    """
    half = kernel.shape[2] // 2
    where = np.arange(len(tokens)) + half * (1 + np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
    padded = np.zeros((len(tokens) + half * len(offsets), tokens.shape[1]))
    padded[where] = tokens
    out = np.zeros((len(padded) - 2 * half, len(bias)))
    for shift in range(kernel.shape[2]):
        out += padded[shift : shift + len(out)] @ kernel[:, :, shift].T
    return out[where - half] + bias


def edge_cases(table: TokenTable, ref: TokenTable) -> Mapping[str, int]:
    """How many rows are shorter than what the network was trained on."""
    return {f"fewer than {SHORT} tokens, shorter than any text of the training": int((table.lengths < SHORT).sum())}


@attack(
    "learned",
    unit="record",
    returns="score",
    needs=("logp", "rank", "entropy", "mu", "sigma"),
    access="logits",
    paper="arXiv:2604.03199",
    edge_cases=edge_cases,
    by_name="is weaker than wbc on fine-tunes of the real base that it was measured on",
)
def learned(table: TokenTable, ref: TokenTable) -> Scores:
    """Output of a small network over the tokens, trained to tell members in other fine-tunes.

    Args:
        table: the target on the text.
        ref: the reference on the text.

    Returns ``[N]``, log-odds on no particular scale, higher = member. Defined from one token on; below ``SHORT``
    tokens the network extrapolates, and such rows are counted.
    """
    return score_with(load_weights(), table, ref)


def score_with(weights: Weights, table: TokenTable, ref: TokenTable) -> Scores:
    """Scores ``[N]`` of a network of the same shape, such as one that was trained on other fine-tunes."""
    scores = np.empty(len(table))
    for rows in portions(table):
        part, part_ref = table.take(rows), ref.take(rows)
        scores[rows] = forward(weights, token_features(part, part_ref), record_features(part, part_ref), part.offsets)
    return np.round(scores, _DECIMALS)


def portions(table: TokenTable) -> list[npt.NDArray[np.int64]]:
    """Rows in order, in portions of about ``_TOKENS`` tokens, which a processor's cache holds."""
    if not len(table):
        return []
    portion = (table.offsets[1:] - 1) // _TOKENS
    return np.split(np.arange(len(table)), np.flatnonzero(np.diff(portion)) + 1)
