# SPDX-License-Identifier: Apache-2.0
"""Scores of candidates that are kept: a ranking that was cut off goes on after its last finished shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.core.progress import progress
from reticent.score.cache import intact, key_of, open_cache, seal, taking_turns
from reticent.score.candidates.masked import FilledSpan, MaskedSpan, fill
from reticent.score.candidates.memory import steady_heap
from reticent.score.candidates.rank import CandidateScores, score_filled
from reticent.score.make_tables import ScoredModel

VERSION = 1
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
    all_scores: list[CandidateScores] = []
    with progress(f"{title} ({side.name})", len(blanks), unit="places") as advance, steady_heap():
        for start in range(0, len(blanks), SHARD):
            texts = [fill(blank, tokenizer, window=window, follow=follow) for blank in blanks[start : start + SHARD]]
            path = folder / f"{key_of(VERSION, side.key, before, list(map(_about, texts)))}.parquet"
            with taking_turns(path):
                if not intact(path):
                    engine = side.engine  # opened outside of the context below: PEFT's does not nest
                    with side.answering():
                        _write(path, score_filled(engine, texts, before=before))
                all_scores += _read(path)
            advance(len(texts))
    return all_scores


def _about(text: FilledSpan) -> list[object]:
    return [text.start, [row.tolist() for row in text.rows]]


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
