# SPDX-License-Identifier: Apache-2.0
"""Content-addressed store of what was scored: every file is named by what it was made from.

The files hold the token ids of private texts. The folder is made readable by its owner only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from reticent.core import sealed
from reticent.core.atomic import replacing, sweep
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.core.schema import TOKEN_COLUMNS
from reticent.core.shared_store import SharedStore, shared_store
from reticent.core.table import ROW_GROUP, TokenTable, arrow_schema, concat, from_arrow
from reticent.core.user_cache import user_cache
from reticent.models.encode import EncodedRecord

Array = npt.NDArray[Any]


def key_of(*parts: Any) -> str:
    """SHA-256 (hex) of plain values: what a file is named by."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def content_key(rows: Sequence[EncodedRecord], about: dict[str, Array]) -> str:
    """SHA-256 (hex) over encoded texts and the row columns that go with them, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(len(row).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(row.token_id, dtype="<i4").tobytes())
        digest.update(np.packbits(row.trained).tobytes())
    for name, column in sorted(about.items()):
        digest.update(json.dumps([name, column.tolist()]).encode())
    return digest.hexdigest()


def open_cache(folder: Path) -> Path:
    """The folder, made if it is missing, for its owner only; what killed processes left half-written in it goes.

    Raises:
        BadInput: it cannot be written to.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            str(folder), f"cannot be made ({error.strerror})", "Choose a writable folder with free space (--out)."
        ) from error
    for place in (folder, *(entry for entry in folder.iterdir() if entry.is_dir())):
        sweep(place)
    return folder


def intact(path: Path) -> bool:
    """True if the file is there and is what was sealed; one that a shared store has is fetched."""
    if sealed.intact(path):
        return True
    store = _store(path)
    if store is None:
        return False
    store.fetch(path)
    return sealed.intact(path)


def seal(path: Path) -> None:
    """Write beside the file what ``intact`` compares it with, and give it to a shared store."""
    sealed.seal(path)
    if store := _store(path):
        store.offer(path)


def drop(path: Path) -> None:
    """Remove a sealed file, here and from a shared store."""
    sealed.drop(path)
    if store := _store(path):
        store.drop(path)


def _store(path: Path) -> SharedStore | None:
    return shared_store(path, user_cache())


def taking_turns(path: Path) -> AbstractContextManager[None]:
    """Make the file while no other process does: the other one waits, and then finds it made."""
    return locked(path, wait=True)


def keep(table: TokenTable, path: Path) -> None:
    """Write a table so that ``kept`` can tell whether it is whole."""
    table.write(path)
    seal(path)


def kept(path: Path) -> TokenTable | None:
    """The table that ``keep`` wrote; None if it is missing, cut short or changed, or goes while it is looked at."""
    try:
        return from_arrow(pq.read_table(path)) if intact(path) else None
    except FileNotFoundError:
        return None


def lease_of(shard: Path) -> Path:
    """Where the lease of a shard lies, which is held by who makes it."""
    return shard.with_name(f".{shard.stem}.lease")


def drop_shard(shard: Path) -> None:
    """Remove a shard, and the lease of one who died before it gave it back."""
    drop(shard)
    lease_of(shard).unlink(missing_ok=True)


def join(parts: Iterable[TokenTable], path: Path) -> None:
    """Write the rows of all parts (at least one) as one table, in full row groups, holding little more than one."""
    waiting: list[TokenTable] = []
    with replacing(path) as temporary:
        settings: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["record_id"]}
        with pq.ParquetWriter(temporary, arrow_schema(set(TOKEN_COLUMNS)), **settings) as writer:
            empty = True
            for part in parts:
                waiting.append(part)
                while sum(map(len, waiting)) >= ROW_GROUP:
                    whole = concat(waiting)
                    writer.write_table(whole.take(np.arange(ROW_GROUP)).to_arrow())
                    waiting = [whole.take(np.arange(ROW_GROUP, len(whole)))]
                    empty = False
            if empty or any(map(len, waiting)):
                writer.write_table(concat(waiting).to_arrow())
    seal(path)
