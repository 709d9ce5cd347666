# SPDX-License-Identifier: Apache-2.0
"""Columns of numbers that a model was asked for, kept by content, so that a killed verification goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.score.cache import intact, key_of, open_cache, seal, taking_turns

Columns = Mapping[str, npt.NDArray[Any]]


def kept_columns(cache: Path, kind: str, about: Any, make: Callable[[], Columns]) -> Columns:
    """The columns that ``make`` gives, made once.

    Args:
        cache: content-addressed store.
        kind: begins the file's name.
        about: plain values that the columns follow from, the fingerprint of the model among them.
        make: columns of equal length by name.
    """
    path = open_cache(cache) / f"{kind}-{key_of(about)}.parquet"
    with taking_turns(path):
        if not intact(path):
            with replacing(path) as temporary:
                pq.write_table(pa.table({name: pa.array(column) for name, column in make().items()}), temporary)
            seal(path)
        table = pq.read_table(path)
    return {name: np.asarray(table[name].to_numpy(zero_copy_only=False)) for name in table.column_names}
