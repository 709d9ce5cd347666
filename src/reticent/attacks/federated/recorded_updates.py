# SPDX-License-Identifier: Apache-2.0
"""Recorded updates of a federation, as files: the contract between who records them and who attacks them.

    updates/round-0003/global.safetensors              the trained arrays with which round 3 began
    updates/round-0003/client-0123456789abcdef.safetensors   what local training added to them

Arrays are float32, under the same names in both. The client is named by 16 hexadecimal digits of a hash
(`client_hash`), so that the folder names nobody. Metadata of each file: ``format`` is `FORMAT`, ``round`` the number,
``client`` the hash. The update is as it arrived, before the server clips it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from reticent.core import validate
from reticent.core.atomic import replacing
from reticent.core.errors import BadInput

FORMAT = "reticent-updates-1"
Arrays = Mapping[str, npt.NDArray[np.float32]]
_ROUND, _CLIENT = re.compile(r"round-(\d{4,})"), re.compile(r"client-([0-9a-f]{16})\.safetensors")


def client_hash(name: str, key: str) -> str:
    """The 16 hexadecimal digits that stand for a client, which only who has ``key`` can trace back.

    >>> client_hash("ana", "a key") == client_hash("ana", "a key") != client_hash("ana", "another")
    True
    """
    digest = hashlib.blake2b(f"update\0{name}".encode(), key=key.encode()[:64], digest_size=8)
    return digest.hexdigest()


@dataclass(frozen=True)
class RecordedUpdates:
    """The folder ``updates`` of a run.

    Args:
        root: the folder.

    Examples:
        >>> import tempfile
        >>> recorded = RecordedUpdates(Path(tempfile.mkdtemp()))
        >>> recorded.write({"a": np.ones(2, dtype=np.float32)}, round_=3, client="0123456789abcdef")
        >>> recorded.rounds(), recorded.clients(3)
        ((3,), ('0123456789abcdef',))
        >>> recorded.update(3, "0123456789abcdef")["a"]
        array([1., 1.], dtype=float32)
    """

    root: Path

    def rounds(self) -> tuple[int, ...]:
        """Numbers of the recorded rounds, rising."""
        matches = [_ROUND.fullmatch(path.name) for path in self.root.glob("round-*")]
        return tuple(sorted(int(match[1]) for match in matches if match))

    def clients(self, round_: int) -> tuple[str, ...]:
        """Hashes of the clients whose update of that round is there, sorted."""
        matches = [_CLIENT.fullmatch(path.name) for path in self._folder(round_).glob("client-*")]
        return tuple(sorted(match[1] for match in matches if match))

    def update(self, round_: int, client: str) -> dict[str, npt.NDArray[np.float32]]:
        """The change that a client's training made in a round.

        Raises:
            BadInput: no such file, one of another format, round or client, or arrays that are not finite float32.
        """
        return self._read(self._path(round_, client), round_, client)

    def start(self, round_: int) -> dict[str, npt.NDArray[np.float32]]:
        """The arrays that the round began with.

        Raises:
            BadInput: as `update`.
        """
        return self._read(self._path(round_, ""), round_, "")

    def write(self, arrays: Arrays, *, round_: int, client: str = "") -> None:
        """Record an update, or with no client the arrays that the round begins with.

        Args:
            arrays: float32.
            round_: from 0 on.
            client: 16 hexadecimal digits.
        """
        path = self._path(round_, client)
        for folder in (self.root, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as temporary:  # a run that is killed here must not leave half an update
            save_file(
                {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()},
                temporary,
                metadata={"format": FORMAT, "round": str(round_), "client": client},
            )

    def _folder(self, round_: int) -> Path:
        validate.non_negative(round_=round_)
        return self.root / f"round-{round_:04d}"

    def _path(self, round_: int, client: str) -> Path:
        name = f"client-{client}.safetensors" if client else "global.safetensors"
        if client and not _CLIENT.fullmatch(name):
            raise BadInput(f"client {client[:40]!r}", "is no hash of 16 hexadecimal digits", "Hash the client's name.")
        return self._folder(round_) / name

    @staticmethod
    def _read(path: Path, round_: int, client: str) -> dict[str, npt.NDArray[np.float32]]:
        fix = "Record the federation again with --record-updates."
        try:
            with safe_open(path, framework="np") as file:
                told = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise BadInput(str(path), "cannot be read", fix) from error
        if told != {"format": FORMAT, "round": str(round_), "client": client}:
            raise BadInput(str(path), "says that it is something else", fix)
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()):
            raise BadInput(str(path), "holds an array that is not float32 or not finite", fix)
        return arrays
