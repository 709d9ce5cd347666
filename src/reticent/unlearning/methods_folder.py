# SPDX-License-Identifier: Apache-2.0
"""MethodsFolder: one request unlearned by several methods and seeds, a run folder each, side by side.

``methods.json`` lists them with their places in the forget-retain plane; ``retrained/`` holds the models that were
trained again without what was forgotten, once for all of them. No text, and no id of a record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import is_temporary, write_text
from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput
from reticent.core.run_folder import WRITTEN, RunFolder
from reticent.core.unlearning import PlanePoint

FILE = "methods.json"
FORMAT = 1
"""Version of the file. Increment when fields change."""


@dataclass(frozen=True, kw_only=True)
class MethodTried:
    """One unlearning among several of one request.

    Args:
        name: of its run folder, such as ``npo_seed0``; ``untouched`` for the model before.
        method: of unlearning; empty for the untouched model.
        seed: of it.
        step: optimizer steps of the weights that were kept; None where no step is taken.
        seconds: that its training took, since it was last resumed; None where none is logged.
        place: AUC of forgotten against unseen rows and loss of retained rows, both with interval; None where rows are
            too few, or nothing was kept.
        why_not: why nothing was kept; empty where there is a model.
    """

    name: str
    method: str
    seed: int | None = None
    step: int | None = None
    seconds: float | None = None
    place: PlanePoint | None = None
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class MethodsFolder:
    """The folder of several unlearnings of one request.

    Examples:
        >>> MethodsFolder(root=Path("runs/tried")).run("npo", 0).root.name
        'npo_seed0'
    """

    root: Path

    @property
    def file(self) -> Path:
        """The list of what was tried."""
        return self.root / FILE

    @property
    def retrained(self) -> Path:
        """Models that were trained again without what was forgotten, for the verification of any of the runs."""
        return RunFolder(root=self.root).retrained

    def run(self, method: str, seed: int) -> RunFolder:
        """The run folder of one of them."""
        return RunFolder(root=self.root / f"{method}_seed{seed}")

    @property
    def exists(self) -> bool:
        """True where the folder was made by this package for several methods."""
        return self.file.is_file()

    def claim(self, request: Mapping[str, Any]) -> None:
        """Make the folder one of this request, or find that it is; further methods and seeds may join.

        Raises:
            BadInput: it holds another request, something of yours, or a run.
        """
        if self.exists:
            stored = self.request
            changed = sorted(key for key in stored.keys() | request.keys() if stored.get(key) != request.get(key))
            if changed:
                raise BadInput(
                    str(self.root),
                    f"holds another request or other settings ({', '.join(changed)})",
                    "Choose another folder (--out), or delete this one to start over.",
                )
            return
        self._refuse_foreign()
        RunFolder(root=self.root).make()
        self._write(request, ())

    @property
    def request(self) -> dict[str, Any]:
        """The request and the settings that all share."""
        return dict(self._content()["request"])

    def tried(self) -> tuple[MethodTried, ...]:
        """All that was tried so far, the untouched model first.

        Raises:
            BadInput: the file is broken.
        """
        try:
            return tuple(decode(MethodTried, row) for row in self._content()["tried"])
        except (ValueError, TypeError, KeyError) as error:
            raise self._broken() from error

    def put(self, row: MethodTried) -> None:
        """Add a row, in the place of one of the same name."""
        rows = self.tried()
        names = [other.name for other in rows]
        changed = [row if other.name == row.name else other for other in rows]
        self._write(self.request, changed if row.name in names else (*rows, row))

    def _content(self) -> dict[str, Any]:
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            whole = content["format"] == FORMAT and isinstance(content["request"], dict) and "tried" in content
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._broken() from error
        if not whole:
            raise self._broken()
        return dict(content)

    def _broken(self) -> BadInput:
        return BadInput(
            str(self.file), "is broken, or of another version", "Copy it again, or choose a new folder (--out)."
        )

    def _write(self, request: Mapping[str, Any], rows: Any) -> None:
        content = {"format": FORMAT, "request": dict(request), "tried": [encode(row) for row in rows]}
        write_text(self.file, json.dumps(content, indent=2) + "\n")

    def _refuse_foreign(self) -> None:
        if not self.root.exists():
            return
        there = [] if not self.root.is_dir() else sorted(path.name for path in self.root.iterdir())
        there = [name for name in there if not is_temporary(name)]
        if self.root.is_dir() and not there:
            return
        is_run = self.root.is_dir() and any(RunFolder(root=self.root).settings(step) is not None for step in WRITTEN)
        reason = "is a file" if not self.root.is_dir() else f"holds {there[0]!r}"
        raise BadInput(
            str(self.root),
            "is a run folder, and several methods need a folder each" if is_run else f"{reason}, which is not ours",
            "Choose a new folder (--out).",
        )


def methods_folder_of(run: RunFolder) -> MethodsFolder | None:
    """The folder of several methods that a run folder lies in and that lists it for the same request; None where it
    lies in none."""
    place = run.root.resolve()
    around = MethodsFolder(root=place.parent)
    if not around.exists or all(row.name != place.name for row in around.tried()):
        return None
    request = (run.settings("unlearn") or {}).get("request", {})
    return around if around.request.get("request") == request.get("fingerprint") else None
