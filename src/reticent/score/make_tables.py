# SPDX-License-Identifier: Apache-2.0
"""Merge what all attacks ask for, score each (model, variant) once, and say where the tables lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from reticent.core.errors import BadInput
from reticent.core.progress import console, progress
from reticent.core.record import Record
from reticent.core.table import TokenTable
from reticent.models.load import LoadedModel
from reticent.score.cache import content_key, drop_shard, intact, join, keep, kept, key_of, open_cache, taking_turns
from reticent.score.candidates.memory import steady_heap
from reticent.score.candidates.propose import Proposer
from reticent.score.engine import ScoreOptions, score
from reticent.score.render import RenderedRecords, render
from reticent.score.requests import Request, Variant
from reticent.score.scored_model import ScoredModel as ScoredModel
from reticent.score.workers.packed_texts import pack_texts, unpack_texts
from reticent.score.workers.shard_kinds import SHARD_KINDS, Advance, OpenShards, told_nobody
from reticent.score.workers.worker import worker


def make_tables(
    requests: Iterable[Request],
    records: Sequence[Record],
    *,
    target: LoadedModel,
    reference: LoadedModel | None = None,
    known_members: Sequence[Record] = (),
    known_held_out: Sequence[Record] = (),
    cache: str | Path,
    options: ScoreOptions | None = None,
) -> dict[Request, Path]:
    """Score the records as the requests ask, each model and variant once, and give the table of each request.

    A table has ``len(records) · copies`` rows in the order of the records, also for texts without a token to predict.
    Only tokens that are trained on have entries. All tables are made with the target's tokenizer.

    Killed at any moment and called again, it goes on after the last finished shard, and the tables have the same bytes
    as those of an undisturbed run.

    Args:
        requests: of all attacks together; equal ones are merged.
        records: ``N`` records.
        target: the fine-tuned model.
        reference: what it is compared with; None for the target with its adapter switched off.
        known_members: records that renderings may use as members known to the attacker.
        known_held_out: the same for records that are not in.
        cache: folder of the content-addressed store. It holds token ids of private text.
        options: how to score; None for the defaults.

    Raises:
        BadInput: a reference is asked for and there is none; a model cannot be scored, or gives numbers that are not
            finite; the cache cannot be written to.
    """
    wanted = list(dict.fromkeys(requests))
    sides = _sides(wanted, target, reference, options or ScoreOptions())
    folder = open_cache(Path(cache))
    paths: dict[tuple[str, Variant], Path] = {}
    with steady_heap():
        for variant in dict.fromkeys(request.variant for request in wanted):
            texts = render(
                records,
                variant,
                tokenizer=target.tokenizer,
                max_tokens=sides["target"].options.max_tokens,
                known_members=known_members,
                known_held_out=known_held_out,
                proposer=_proposer(sides["reference"], folder) if "reference" in sides else None,
            )
            for model in _in_order(wanted, variant, paths):
                paths[model, variant] = _score(texts, sides[model], f"{variant.name}, {model}", folder)
    return {request: paths[request.model, request.variant] for request in wanted}


def describe(loaded: LoadedModel, options: ScoreOptions, *, off: bool = False) -> dict[str, Any]:
    """The choices that scoring this model makes, for the manifest: implementation and why, logits, window, batch."""
    engine = ScoredModel(loaded=loaded, off=off, options=options).engine
    return {**asdict(engine.choices), "logits": engine.forward.path, "max_tokens": options.max_tokens}


def _in_order(wanted: Sequence[Request], variant: Variant, done: Iterable[tuple[str, Variant]]) -> list[str]:
    """The models that are asked for ``variant``. The one that was asked last comes first: where there is room for one,
    it is the one in memory."""
    models: list[str] = list(dict.fromkeys(request.model for request in wanted if request.variant == variant))
    last = next(reversed(list(done)), None)
    return sorted(models, key=lambda model: last is not None and model != last[0])


def _sides(
    wanted: Sequence[Request], target: LoadedModel, reference: LoadedModel | None, options: ScoreOptions
) -> dict[str, ScoredModel]:
    sides = {"target": ScoredModel(loaded=target, off=False, options=options)}
    if reference is not None:
        sides["reference"] = ScoredModel(loaded=reference, off=False, options=options)
    elif target.is_adapter:
        sides["reference"] = ScoredModel(loaded=target, off=True, options=options)
    for request in wanted:
        if request.model not in sides:
            raise BadInput(
                f"request {request.name!r}",
                f"needs a reference model, and {target.source} is no adapter whose base could serve",
                "Name the model that it was fine-tuned from (--reference).",
            )
    return sides


def _proposer(side: ScoredModel, folder: Path) -> Proposer:
    return Proposer(side=side, folder=folder / "proposals")


def _score(texts: RenderedRecords, side: ScoredModel, title: str, folder: Path) -> Path:
    """The table of all texts by one model: made shard by shard, and only what is not there yet."""
    shards = texts.shards()
    keys = [key_of(side.key, side.choices.key, content_key(part.rows, part.about)) for part in map(texts.part, shards)]
    path = folder / "tables" / f"{key_of(keys)}.parquet"
    with taking_turns(path):
        return path if intact(path) else _make(path, texts, side, title, folder, keys)


def _make(path: Path, texts: RenderedRecords, side: ScoredModel, title: str, folder: Path, keys: Sequence[str]) -> Path:
    files = [folder / "shards" / f"{key}.parquet" for key in keys]
    if side.choices.impl != "fused" and torch.device(side.loaded.device).type == "cpu":
        console.print(f"Statistics by {side.choices.impl} ({side.choices.why}): slower.", highlight=False)

    work = OpenShards(kind=TABLE_SHARDS, sides=(side,), parts=[*map(texts.part, texts.shards())], files=files)
    with progress(f"Scoring ({title})", len(texts.rows), unit="texts") as advance:
        worker().fill(work, advance)
    join((_kept_or_scored(work, shard) for shard in range(len(files))), path)
    for file in files:
        drop_shard(file)
    return path


def _kept_or_scored(work: OpenShards, shard: int) -> TokenTable:
    """A shard from the store. Another table may hold the same one, and have dropped it in the meantime: then it is
    scored again, as nothing but the time for it is lost."""
    table = kept(work.files[shard])
    return TABLE_SHARDS.make(work.parts[shard], work.sides, told_nobody) if table is None else table


class TableShards:
    """Shards of token tables: some of the texts of one, scored."""

    name, passing = "tables", True

    def size(self, part: RenderedRecords) -> int:
        return len(part.rows)

    def make(self, part: RenderedRecords, sides: Sequence[ScoredModel], advance: Advance) -> TokenTable:
        (side,) = sides
        engine = side.engine  # opened outside of the context below: PEFT's does not nest
        with side.answering():
            columns, offsets = score(engine, part.rows, advance)
        return TokenTable(rows=part.about, tokens=columns, offsets=offsets)

    def keep(self, content: TokenTable, file: Path) -> None:
        keep(content, file)

    def pack(self, parts: Sequence[RenderedRecords]) -> pa.Table:
        return pack_texts(parts)

    def unpack(self, table: pa.Table) -> list[RenderedRecords]:
        return unpack_texts(table)


TABLE_SHARDS = SHARD_KINDS.add(TableShards.name, TableShards())
