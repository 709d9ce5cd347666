# SPDX-License-Identifier: Apache-2.0
"""Shards as another process can make them: where the model lies, and what each is made from.

Nothing of it is code: a model is named by its folder and checked by its fingerprint, parts are a Parquet file. They are
as private as the store that they lie in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.models.load import LoadedModel, load
from reticent.score.engine import ScoreOptions
from reticent.score.scored_model import ScoredModel
from reticent.score.workers.shard_kinds import SHARD_KINDS, OpenShards

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
        kind: of all of them, a key of `SHARD_KINDS`.
        models: that they are made by.
        files: where each shard is kept.
        parts: what each is made from.
    """

    kind: str
    models: tuple[ModelPlace, ...]
    files: tuple[Path, ...]
    parts: tuple[Any, ...]

    @classmethod
    def of(cls, work: OpenShards, shards: Sequence[int]) -> Job:
        """Some of the shards that are wanted."""
        return cls(
            kind=work.kind.name,
            models=tuple(map(ModelPlace.of, work.sides)),
            files=tuple(work.files[shard] for shard in shards),
            parts=tuple(work.parts[shard] for shard in shards),
        )

    @property
    def passing(self) -> bool:
        """True if shards go once they are joined."""
        return SHARD_KINDS.get(self.kind).passing

    def opened(self, models: OpenModels) -> OpenShards:
        """The shards as this process makes them.

        Raises:
            BadInput: as `OpenModels.side`.
        """
        sides = tuple(map(models.side, self.models))
        return OpenShards(kind=SHARD_KINDS.get(self.kind), sides=sides, parts=self.parts, files=self.files)


def write_job(job: Job, path: Path) -> None:
    """Write ``job`` for others to find. The shards have to lie in one folder."""
    about = {
        "kind": job.kind,
        "models": [asdict(model) | {"options": asdict(model.options)} for model in job.models],
        "folder": os.path.relpath(job.files[0].parent, path.parent),  # the store may lie elsewhere on another machine
        "files": [file.name for file in job.files],
    }
    table = SHARD_KINDS.get(job.kind).pack(job.parts)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), "job": json.dumps(about)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_job(path: Path) -> Job | None:
    """The job that ``write_job`` wrote; None where it is there no more."""
    with suppress(FileNotFoundError):
        table = pq.read_table(path).combine_chunks()
        about = json.loads(table.schema.metadata[b"job"])
        folder = path.parent / about["folder"]
        return Job(
            kind=about["kind"],
            models=tuple(
                ModelPlace(**model | {"options": ScoreOptions(**model["options"])}) for model in about["models"]
            ),
            files=tuple(folder / name for name in about["files"]),
            parts=tuple(SHARD_KINDS.get(about["kind"]).unpack(table)),
        )
    return None


def _absolute(source: str) -> str:
    """``source`` for a process that works in another folder."""
    return str(Path(source).resolve()) if Path(source).exists() else source
