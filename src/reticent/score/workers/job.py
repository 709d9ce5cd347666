# SPDX-License-Identifier: Apache-2.0
"""The shards of a table as another process can make them: where the model lies, and the encoded texts.

Nothing of it is code: a model is named by its folder and checked by its fingerprint, texts are a Parquet file. They are
as private as the store that they lie in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.core.schema import RECORD_COLUMNS
from reticent.models.encode import EncodedRecord
from reticent.models.load import LoadedModel, load
from reticent.score.engine import ScoreOptions
from reticent.score.render import RenderedRecords
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.worker import OpenTable

AT_ONCE = 2
"""Models that a process keeps in memory: the two of an audit."""


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """A model as another process opens it.

    Args:
        source, base: as `reticent.models.load.load` takes them.
        dtype: of the weights.
        device: its type: each process takes its own GPU.
        off: whether its adapter is switched off.
        options: how it scores, with nothing left open: shards are named by what the one that leads chose.
        key: which weights, type and libraries it has to have.
    """

    source: str
    base: str | None
    dtype: str
    device: str
    off: bool
    options: ScoreOptions
    key: str

    @classmethod
    def of(cls, side: ScoredModel) -> ModelPlace:
        loaded, choices = side.loaded, side.choices
        base = loaded.base_source if loaded.can_switch_off and loaded.emulation is None else None
        return cls(
            source=_absolute(loaded.source),
            base=None if base is None else _absolute(base),
            dtype=loaded.dtype,
            device=torch.device(loaded.device).type,
            off=side.off,
            options=replace(
                side.options, impl=choices.impl, window=choices.window, tokens_per_batch=choices.tokens_per_batch
            ),
            key=side.key,
        )


class OpenModels:
    """Models of one process, opened when they are asked for, the last few of them kept.

    Args:
        loader: as `reticent.models.load.load`.
    """

    def __init__(self, loader: Callable[..., LoadedModel] = load) -> None:
        self._loader = loader
        self._loaded: dict[tuple[str, str | None, str, str], LoadedModel] = {}
        self._sides: dict[ModelPlace, ScoredModel] = {}

    def side(self, place: ModelPlace) -> ScoredModel:
        """The model at ``place``, as it is to answer.

        Raises:
            BadInput: it cannot be opened here, or is not the one that was meant.
        """
        if place in self._sides:
            return self._sides[place]
        where = (place.source, place.base, place.dtype, place.device)
        if where not in self._loaded:
            while len(self._loaded) >= AT_ONCE:
                self._loaded.pop(next(iter(self._loaded)))
                self._sides.clear()
            self._loaded[where] = self._loader(place.source, base=place.base, dtype=place.dtype, device=place.device)
        side = ScoredModel(loaded=self._loaded[where], off=place.off, options=place.options)
        if side.key != place.key:
            raise BadInput(
                place.source,
                "is another model in this process than in the one that leads: other weights, or other versions of "
                "torch or transformers",
                "Give all processes the same files and versions.",
            )
        self._sides[place] = side
        return side


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Shards that others may make.

    Args:
        model: that scores.
        files: where each shard is kept.
        slices: the texts of each.
        texts: of all of them.
    """

    model: ModelPlace
    files: tuple[Path, ...]
    slices: tuple[slice, ...]
    texts: RenderedRecords

    @classmethod
    def of(cls, table: OpenTable, shards: Sequence[int]) -> Job:
        """Some of the shards of a table."""
        chosen = [table.texts.part(table.slices[shard]) for shard in shards]
        ends = np.cumsum([0, *(len(part.rows) for part in chosen)]).tolist()
        names = list(table.texts.about)
        return cls(
            model=ModelPlace.of(table.side),
            files=tuple(table.files[shard] for shard in shards),
            slices=tuple(slice(start, end) for start, end in pairwise(ends)),
            texts=RenderedRecords(
                rows=[row for part in chosen for row in part.rows],
                about={name: np.concatenate([part.about[name] for part in chosen]) for name in names},
            ),
        )

    def part(self, shard: int) -> RenderedRecords:
        """The texts of one shard."""
        return self.texts.part(self.slices[shard])


def write_job(job: Job, path: Path) -> None:
    """Write ``job`` for others to find. The shards have to lie in one folder."""
    model = asdict(job.model) | {"options": asdict(job.model.options)}
    about = {
        "model": model,
        "folder": os.path.relpath(job.files[0].parent, path.parent),  # the store may lie elsewhere on another machine
        "files": [file.name for file in job.files],
        "ends": [part.stop for part in job.slices],
    }
    rows = job.texts.rows
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    token_id = np.concatenate([np.zeros(0, dtype=np.int32), *(row.token_id for row in rows)])
    trained = np.concatenate([np.zeros(0, dtype=bool), *(row.trained for row in rows)])
    flat = {"token_id": pa.array(token_id, pa.int32()), "trained": pa.array(trained, pa.bool_())}
    columns: dict[str, Any] = {name: pa.ListArray.from_arrays(offsets, values) for name, values in flat.items()}
    columns |= {name: pa.array(column) for name, column in job.texts.about.items()}
    table = pa.table(columns).replace_schema_metadata({"job": json.dumps(about)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_job(path: Path) -> Job | None:
    """The job that ``write_job`` wrote; None where it is there no more."""
    with suppress(FileNotFoundError):
        table = pq.read_table(path).combine_chunks()
        about = json.loads(table.schema.metadata[b"job"])
        ends = about["ends"]
        model = about["model"] | {"options": ScoreOptions(**about["model"]["options"])}
        folder = path.parent / about["folder"]
        return Job(
            model=ModelPlace(**model),
            files=tuple(folder / name for name in about["files"]),
            slices=tuple(slice(start, end) for start, end in pairwise([0, *ends])),
            texts=RenderedRecords(rows=_rows(table), about=_about(table)),
        )
    return None


def _rows(table: pa.Table) -> list[EncodedRecord]:
    if not table.num_rows:
        return []
    token_id, trained = (table.column(name).chunk(0) for name in ("token_id", "trained"))
    ends = token_id.offsets.to_numpy()
    ids, mask = token_id.values.to_numpy(), trained.values.to_numpy(zero_copy_only=False)
    spans = [slice(start, end) for start, end in pairwise(ends)]
    return [EncodedRecord(token_id=ids[span], trained=mask[span]) for span in spans]


def _about(table: pa.Table) -> dict[str, Any]:
    return {
        name: table.column(name).to_numpy().astype(column.dtype)
        for name, column in RECORD_COLUMNS.items()
        if name in table.column_names
    }


def _absolute(source: str) -> str:
    """``source`` for a process that works in another folder."""
    return str(Path(source).resolve()) if Path(source).exists() else source
