# SPDX-License-Identifier: Apache-2.0
"""RunFolder: where each file of a run lies, and the rule that one folder holds one run."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.privacy.statement import PROMISE_FILE


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The files of one run below ``root``; every step reads what the step before it wrote."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def records(self) -> Path:
        return self.root / "records.parquet"

    @property
    def membership(self) -> Path:
        return self.root / "membership.parquet"

    @property
    def rejects(self) -> Path:
        return self.root / "rejects.jsonl"

    @property
    def dropped(self) -> Path:
        return self.root / "dropped.jsonl"

    @property
    def canaries(self) -> Path:
        return self.root / "canaries.parquet"

    @property
    def targets(self) -> Path:
        return self.root / "targets.jsonl"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def promise(self) -> Path:
        return self.model / PROMISE_FILE

    @property
    def checkpoints(self) -> Path:
        """Where those of an unfinished training lie."""
        return self.root / ".model.training"

    @property
    def begun(self) -> Path:
        """What private trainings spent here that gave no model: it outlives a refusal."""
        return self.root / ".model.begun.jsonl"

    @property
    def monitor(self) -> Path:
        return self.root / "monitor.json"

    @property
    def panel(self) -> Path:
        return self.root / "panel.parquet"

    @property
    def risk(self) -> Path:
        return self.root / "risk.jsonl"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    @property
    def scores(self) -> Path:
        return self.root / "scores.parquet"

    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work in the folder while no other process does. To be held around ``kept_if``, which takes away what it did
        not find: it might be another's.

        Raises:
            BadInput: another process works in it.
        """
        with locked(self.root):
            yield

    def hash_key(self) -> str:
        """The secret of this folder with which reports name units; made when first asked for, readable by its owner.

        It stays here: a report that travels cannot be searched for guessed ids.
        """
        path = self.root / "hash.key"
        if not path.exists():
            write_text(path, secrets.token_hex(32))
            path.chmod(0o600)
        return path.read_text()

    def refuse_other(self, step: str, config: Mapping[str, Any]) -> None:
        """Check that the folder holds no run of ``step`` with another configuration than ``config``.

        The same command again goes on where it was; another one is refused, so that no run is ever a mixture.

        Raises:
            BadInput: it does.
        """
        path = self.root / f"{step}.yaml"
        if not path.exists():
            return
        wanted = _plain(config)
        try:
            found = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise BadInput(str(path), "is broken", "Choose another folder (--out), or delete this one.") from error
        changed = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        if changed:
            raise BadInput(
                str(self.root),
                f"holds a run with other settings ({', '.join(changed)})",
                "Choose another folder (--out), or delete this one to start over.",
            )

    def claim(self, step: str, config: Mapping[str, Any]) -> None:
        """Record ``config`` as what ``step`` does here, see ``refuse_other``.

        Raises:
            BadInput: the folder holds another run, or cannot be written.
        """
        self.refuse_other(step, config)
        self.record(step, config)

    def record(self, step: str, config: Mapping[str, Any]) -> None:
        """Write ``config`` as what ``step`` does here now."""
        text = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)
        write_text(self.root / f"{step}.yaml", text)

    @contextmanager
    def kept_if(self, begun: Callable[[], bool]) -> Iterator[None]:
        """Should what is done within be refused before ``begun()``, take away what it wrote: a corrected command must
        not be told that the folder is taken, and half a run is no run."""
        before = set(self.root.iterdir()) if self.root.is_dir() else None
        try:
            yield
        except BadInput:
            if not begun() and self.root.is_dir():
                for path in set(self.root.iterdir()) - {*(before or ()), self.begun}:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                if before is None:
                    with suppress(OSError):
                        self.root.rmdir()
            raise


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return plain
