# SPDX-License-Identifier: Apache-2.0
"""Scores of candidates that are kept: a ranking that was cut off goes on after its last finished shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.core.progress import progress
from reticent.score.cache import key_of, open_cache, seal
from reticent.score.candidates.masked import FilledSpan, MaskedSpan, Tokens, fill
from reticent.score.candidates.memory import steady_heap
from reticent.score.candidates.rank import CandidateScores, score_filled
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.shard_kinds import SHARD_KINDS, Advance, OpenShards, packed, unpacked
from reticent.score.workers.worker import worker

VERSION = 2
"""Cache version. Increment when this module's output changes for the same inputs."""
SHARD = 32
"""Places in a file: what is lost when a run is killed."""

_FIELDS = pa.schema(
    [
        pa.field("logp", pa.list_(pa.float64()), nullable=False),
        pa.field("tokens", pa.list_(pa.int64()), nullable=False),
        pa.field("before", pa.float64(), nullable=False),
        pa.field("before_tokens", pa.int64(), nullable=False),
    ]
)


def make_candidate_scores(
    side: ScoredModel,
    blanks: Sequence[MaskedSpan],
    *,
    follow: int | None = None,
    before: bool = False,
    cache: str | Path,
    title: str = "Ranking",
) -> list[CandidateScores]:
    """As `candidates.score_candidates`, for one side of an audit; what was scored is kept and not scored again.

    Args:
        side: the target, or what it is compared with.
        cache: folder of the content-addressed store. It holds numbers only.
    """
    folder = open_cache(Path(cache)) / "candidates"
    tokenizer, window = side.loaded.tokenizer, side.choices.window
    with progress(f"{title} ({side.name})", len(blanks), unit="places") as advance, steady_heap():
        parts, files = FoldedPlaces(before=before), []
        for start in range(0, len(blanks), SHARD):
            texts = [fill(blank, tokenizer, window=window, follow=follow) for blank in blanks[start : start + SHARD]]
            parts.append(texts)
            files.append(folder / f"{key_of(VERSION, side.key, before, list(map(_about, texts)))}.parquet")
        worker().fill(OpenShards(kind=CANDIDATE_SHARDS, sides=(side,), parts=parts, files=files), advance)
    return [scores for file in files for scores in _read(file)]


def _about(text: FilledSpan) -> list[Any]:
    return [text.start, [row.tolist() for row in text.rows]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """All that a shard of scores is made from, the model left out.

    Args:
        texts: ``N`` places with their candidates.
        before: whether tokens before a place are summed up too.
    """

    texts: list[FilledSpan]
    before: bool


class FoldedPlaces(Sequence[Places]):
    """Shards of places, of each place what all its texts begin with once: whole texts for each candidate of all places
    would take a hundred times the memory.

    Args:
        before: of all of them.
    """

    def __init__(self, *, before: bool) -> None:
        self._before = before
        self._folded: list[list[tuple[FilledSpan, Tokens]]] = []

    def append(self, texts: Sequence[FilledSpan]) -> None:
        """Put another shard behind the others."""
        self._folded.append([self._fold(text) for text in texts])

    def __len__(self) -> int:
        return len(self._folded)

    def __getitem__(self, place: Any) -> Any:
        """A shard with its texts whole."""
        texts = [
            replace(text, rows=tuple(np.concatenate([common, row]) for row in text.rows))
            for text, common in self._folded[place]
        ]
        return Places(texts=texts, before=self._before)

    @staticmethod
    def _fold(text: FilledSpan) -> tuple[FilledSpan, Tokens]:
        common = text.common
        return replace(text, rows=tuple(row[common:].copy() for row in text.rows)), text.rows[0][:common].copy()


class CandidateShards:
    """Shards of candidates' scores."""

    name, passing = "candidates", False

    def size(self, part: Places) -> int:
        return len(part.texts)

    def make(self, part: Places, sides: Sequence[ScoredModel], advance: Advance) -> list[CandidateScores]:
        (side,) = sides
        engine = side.engine  # opened outside of the context below: PEFT's does not nest
        with side.answering():
            return score_filled(engine, part.texts, before=part.before, advance=advance)

    def keep(self, content: Sequence[CandidateScores], file: Path) -> None:
        _write(file, content)

    def pack(self, parts: Sequence[Places]) -> pa.Table:
        return packed([[part.before, [[*_about(text), text.cut] for text in part.texts]] for part in parts])

    def unpack(self, table: pa.Table) -> list[Places]:
        return [
            Places(
                texts=[FilledSpan(rows=_ids(rows), start=start, cut=cut) for start, rows, cut in texts], before=before
            )
            for before, texts in unpacked(table)
        ]


CANDIDATE_SHARDS = SHARD_KINDS.add(CandidateShards.name, CandidateShards())


def _ids(rows: Sequence[Sequence[int]]) -> tuple[Tokens, ...]:
    return tuple(np.array(row, dtype=np.int32) for row in rows)


def _write(path: Path, scores: Sequence[CandidateScores]) -> None:
    rows = [
        {
            "logp": row.logp.tolist(),
            "tokens": row.tokens.tolist(),
            "before": row.before,
            "before_tokens": row.before_tokens,
        }
        for row in scores
    ]
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=_FIELDS), temporary, compression="zstd")
    seal(path)


def _read(path: Path) -> Iterator[CandidateScores]:
    for row in pq.read_table(path).to_pylist():
        yield CandidateScores(
            logp=np.array(row["logp"], dtype=np.float64),
            tokens=np.array(row["tokens"], dtype=np.int64),
            before=row["before"],
            before_tokens=row["before_tokens"],
        )
