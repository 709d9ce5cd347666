# SPDX-License-Identifier: Apache-2.0
"""Evidence about records with a planted membership signal, for any attack on records or users. No model, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Attack
from reticent.attacks.continuations import Continuations
from reticent.attacks.evidence import POPULATION, SHADOWS, TABLES, WRITES
from reticent.attacks.shadow_models import ShadowScores
from reticent.core.table import TokenTable

VOCABULARY = 50_000


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedSignal:
    """Evidence about ``N`` records, half of them members.

    Args:
        tables: one for each evidence name; a variant of ``c`` copies has ``c`` adjacent rows for each record.
        member: ``[N]``.
    """

    tables: dict[str, TokenTable]
    member: npt.NDArray[np.bool_]


def plant(attack: Attack, *, records: int = 300, seed: int = 0, gain: float = 0.35) -> PlantedSignal:
    """Tables for everything that ``attack`` reads, in which members are easier for the target.

    A record has a base log-probability for every token; the reference gives it, and so does the target to records that
    are held out, up to noise. On the plain text of members the target's loss is smaller by the share ``gain``; on
    variants of the text it is not, for what is memorized is the text as it is.

    Args:
        attack: what to make evidence for.
        records: how many.
        seed: of everything.
        gain: strength of the signal; 0 plants nothing.

    >>> from reticent.attacks.attack import ATTACKS
    >>> signal = plant(ATTACKS.get("loss"), records=100)
    >>> sorted(signal.tables), int(signal.member.sum())
    (['table'], 50)
    """
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(records) % 2 == 0)
    lengths = rng.integers(8, 64, records)
    attacked = _Texts(rng, "r", lengths)
    outside = _Texts(rng, "z", rng.integers(8, 64, records))
    tables: dict[str, TokenTable] = {}
    for name in attack.evidence:
        texts = outside if name in POPULATION else attacked
        share = np.where(member, gain, 0.0) if name == "table" else np.zeros(records)
        tables[name] = texts.table(rng, share, attack.copies.get(name, 1), reference=name.endswith("ref"))
    return PlantedSignal(tables=tables, member=member)


def plant_written(
    attack: Attack, *, records: int = 300, samples: int = 4, seed: int = 0, gain: float = 0.35
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """``(evidence, member [N])`` for an attack that reads what models write.

    Each model writes some of the words that follow in the record, in their places, and words of its own between them;
    about members the target writes the true word more often, by the share ``gain``.
    """
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(records) % 2 == 0)
    rests = [[f"w{number}" for number in rng.integers(0, VOCABULARY, size)] for size in rng.integers(6, 30, records)]

    def write(rest: list[str], share: float) -> str:
        true = rng.random(len(rest)) < share
        others = rng.integers(0, VOCABULARY, len(rest))
        return " ".join(
            word if is_true else f"w{other}" for word, is_true, other in zip(rest, true, others, strict=True)
        )

    evidence: dict[str, Any] = {}
    for name in attack.evidence:
        shares = np.where(member & (name == "written"), 0.3 + gain, 0.3)
        pairs = zip(rests, shares.tolist(), strict=True)
        texts = [tuple(write(rest, share) for _ in range(samples)) for rest, share in pairs]
        evidence[name] = Continuations(rest=tuple(" ".join(rest) for rest in rests), texts=texts)
    return evidence, member


def plant_shadows(
    attack: Attack, *, records: int = 300, models: int = 8, seed: int = 0, gain: float = 0.35
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """``(evidence, member [N])`` for an attack that reads shadow models.

    Every model says of a text what is in the text, and some noise; being trained on it takes the share ``gain`` off its
    loss. Half of the models were trained on each text. The population was not in the target's training.
    """
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(records) % 2 == 0)
    loss = rng.gamma(8.0, 0.3, 2 * records)
    inside = rng.permuted(np.tile(np.arange(models) % 2 == 0, (2 * records, 1)), axis=1)
    trained = np.concatenate([member, np.zeros(records, bool)])

    def told(saw: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        less = np.where(saw, gain, 0.0) + rng.normal(0, 0.05, saw.shape)
        return -(loss[:, None] if saw.ndim > 1 else loss) * (1 - np.clip(less, -0.9, 0.9))

    whole = ShadowScores(target=told(trained), shadows=told(inside), inside=inside)
    place = {"shadow": np.arange(records), "known_shadow": np.arange(records, 2 * records)}
    return {name: whole.take(place[name]) for name in attack.evidence}, member


def plant_learned(
    attack: Attack, *, records: int = 300, columns: int = 4, seed: int = 0, gain: float = 1.5
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """``(evidence, member [N])`` for an attack that learns from labels.

    Scores of ``columns`` attacks, or as many properties of the inside, share a part that members have more of by
    ``gain`` standard deviations. Three records belong to each user.
    """
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(records) % 2 == 0)
    shared = rng.normal(size=records) + gain * member
    scores = shared[:, None] + rng.normal(size=(records, columns))
    names = ("loss", *(f"hidden_moved.{place}" for place in range(1, columns - 1)), "gradient_cosine.block")
    by_name: dict[str, Any] = {
        "scores": scores,
        "internals": dict(zip(names, (-scores).T.copy(), strict=True)),
        "member": member,
        "user": np.array([f"u{row // 3}" for row in range(records)], dtype=object),
        "half": np.arange(records) // 3 % 2 == 1,
    }
    return {name: by_name[name] for name in attack.evidence}, member


def plant_tables(attack: Attack) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """`plant`, narrowed to trained tokens as attacks are given it."""
    planted = plant(attack)
    return {name: table.trained() for name, table in planted.tables.items()}, planted.member


PLANTERS: Mapping[str, Callable[[Attack], tuple[dict[str, Any], npt.NDArray[np.bool_]]]] = {
    TABLES: plant_tables,
    WRITES: plant_written,
    SHADOWS: plant_shadows,
    "scores": plant_learned,
    "internals": plant_learned,
}
"""Source of the evidence → what plants a membership signal in it."""


class _Texts:
    """Texts whose tokens have a base log-probability, whichever model and rendering is looked at."""

    def __init__(self, rng: np.random.Generator, prefix: str, lengths: npt.NDArray[np.int64]) -> None:
        self.record_id = np.array([f"{prefix}{i}" for i in range(len(lengths))], dtype=object)
        self.lengths = lengths
        total = int(lengths.sum())
        hard = np.repeat(np.exp(rng.normal(0, 0.15, len(lengths))), lengths)
        self.logp = -hard * rng.gamma(1.0, 2.5, total)
        self.token_id = rng.integers(0, VOCABULARY, total)
        self.loss_mask = rng.random(total) < 0.8
        self.loss_mask[np.cumsum(lengths) - 1] = True
        self.bytes = lengths * 4

    def table(
        self, rng: np.random.Generator, share: npt.NDArray[np.float64], copies: int, *, reference: bool
    ) -> TokenTable:
        """Table of a model for ``copies`` renderings of the texts; its loss is smaller by ``share [N]``."""
        rows = np.repeat(np.arange(len(self.lengths)), copies)
        starts = np.repeat(np.cumsum(self.lengths) - self.lengths, copies)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        where = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        noise = 0.02 if reference else 0.1
        less = np.clip(np.repeat(share[rows], lengths) + rng.normal(0, noise, len(where)), -1.0, 0.95)
        logp = self.logp[where] * (1 - less)
        entropy = rng.gamma(4.0, 0.6, len(where))
        return TokenTable(
            rows={
                "record_id": self.record_id[rows],
                "copy": np.tile(np.arange(copies), len(self.lengths)).astype(np.int32),
                "text_bytes": self.bytes[rows].astype(np.int32),
                "zlib_bytes": (self.bytes[rows] * 0.7 + 10).astype(np.int32),
            },
            tokens={
                "token_id": self.token_id[where].astype(np.int32),
                "logp": logp.astype(np.float32),
                "rank": np.minimum(np.expm1(-logp) * rng.random(len(where)), VOCABULARY - 1).astype(np.int32),
                "entropy": entropy.astype(np.float32),
                "mu": (-entropy).astype(np.float32),
                "sigma": rng.uniform(0.5, 2.0, len(where)).astype(np.float32),
                "loss_mask": self.loss_mask[where],
            },
            offsets=offsets.astype(np.int64),
        )
