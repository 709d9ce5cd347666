# SPDX-License-Identifier: Apache-2.0
"""RunFolder: where each file of a run lies, and the rule that one folder holds one run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput


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
    def canaries(self) -> Path:
        return self.root / "canaries.parquet"

    @property
    def model(self) -> Path:
        return self.root / "model"

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

    def claim(self, step: str, config: Mapping[str, Any]) -> None:
        """Record ``config`` as what ``step`` does here, or check that it is what it did before.

        The same command again goes on where it was; another one is refused, so that no run is ever a mixture.

        Raises:
            BadInput: the folder holds a run of that step with another configuration, or cannot be written.
        """
        path = self.root / f"{step}.yaml"
        wanted = json.loads(json.dumps(config, default=str))
        if path.exists():
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            changed = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
            if changed:
                raise BadInput(
                    str(self.root),
                    f"holds a run with other settings ({', '.join(changed)})",
                    "Choose another folder (--out), or delete this one to start over.",
                )
        write_text(path, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))
