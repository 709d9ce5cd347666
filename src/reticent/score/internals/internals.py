# SPDX-License-Identifier: Apache-2.0
"""All that a white-box auditor reads of a model: hidden states and gradients of records, as plain columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers

from reticent.core.atomic import replacing
from reticent.core.progress import progress
from reticent.core.record import Record
from reticent.models import adapters
from reticent.models.encode import EncodedRecord, encode
from reticent.models.load import LoadedModel
from reticent.score.cache import content_key, intact, key_of, open_cache, seal, taking_turns
from reticent.score.engine import ScoreOptions
from reticent.score.internals.gradients import Origin, by_block, gradient_properties, origin_of, trained_parameters
from reticent.score.internals.hidden import Base, forward_properties

Floats = npt.NDArray[np.float64]

VERSION = 2
"""Cache version. Increment when this module's output changes for the same inputs."""
_SIDES = ("forward", "backward")


@dataclass(frozen=True, kw_only=True, eq=False)
class Internals:
    """Properties of ``N`` records, each ``[N]`` float64 by name.

    Args:
        forward: of the states (``score.internals.hidden.ForwardProperties``).
        backward: of the gradients (``score.internals.gradients.GradientProperties``), grouped by block and
            kind of parameter.
    """

    forward: dict[str, Floats]
    backward: dict[str, Floats]


def read_internals(
    model: Any,
    base: Any | None,
    rows: Sequence[EncodedRecord],
    *,
    name: str = "the model",
    origin: Origin | None = None,
    options: ScoreOptions | None = None,
) -> Internals:
    """Read everything: a forward pass of model and base, and a backward pass of the model. The model is left as it was.

    Args:
        model: the tuned model in evaluation mode.
        base: what it was tuned from; None for an adapter, which is switched off for that, and where there is none.
        rows: ``N`` encoded records, each with a trained token that has something before it.
        name: of the model, for messages.
        origin: where training started, by parameter, if more is known than ``origin_of`` can tell afterwards (whoever
            trains can keep LoRA's first ``A``).
        options: window and tokens in a batch of the forward pass.
    """
    with progress("Hidden states", len(rows), unit="records") as advance:
        forward = forward_properties(
            model, rows, base=base_of(model, base), name=name, options=options, advance=advance
        )
    parameters = trained_parameters(model, base)
    start = origin_of(model, parameters, base) | dict(origin or {})
    with progress("Gradients", len(rows), unit="records") as advance:
        backward = gradient_properties(model, rows, parameters=parameters, origin=start, advance=advance)
    return Internals(forward=forward.columns(), backward=backward.grouped(by_block).columns())


def base_of(model: Any, base: Any | None) -> Base | None:
    """``base`` itself, else the model with its adapter switched off, else None."""
    if base is not None:
        return lambda: nullcontext(base)
    if not adapters.can_switch_off(model):
        return None

    @contextmanager
    def off() -> Iterator[Any]:
        with adapters.switched_off(model):
            yield model

    return off


def cached_internals(
    target: LoadedModel, reference: LoadedModel | None, records: Sequence[Record], *, cache: Path, options: ScoreOptions
) -> Internals:
    """``read_internals`` of loaded models; the same call again reads what was kept.

    Args:
        target: the tuned model.
        reference: its base; None for an adapter, which is switched off.
        records: each with a trained token to score.
        cache: content-addressed store.
        options: as for scoring; ``max_tokens`` cuts the records off.
    """
    rows = [encode(record, target.tokenizer, max_tokens=options.max_tokens) for record in records]
    about = (VERSION, target.fingerprint, reference.fingerprint if reference else None, target.dtype)
    place = (torch.device(target.device).type, torch.__version__, transformers.__version__, options.window)
    path = open_cache(cache) / f"inside-{key_of(*about, *place, content_key(rows, {}))}.parquet"
    with taking_turns(path):
        internals = _read(path) if intact(path) else None
        if internals is None:
            base = None if reference is None else reference.model
            internals = read_internals(target.model, base, rows, name=target.source, options=options)
            _write(path, internals)
            seal(path)
    return internals


def _write(path: Path, inside: Internals) -> None:
    columns = {f"{side}:{name}": column for side in _SIDES for name, column in getattr(inside, side).items()}
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _read(path: Path) -> Internals | None:
    """The stored properties; None if it is missing or not whole, for it can be made again."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None
    sides: dict[str, dict[str, Floats]] = {side: {} for side in _SIDES}
    for name in table.column_names:
        side, _, column = name.partition(":")
        sides[side][column] = table[name].to_numpy()
    return Internals(forward=sides["forward"], backward=sides["backward"])
