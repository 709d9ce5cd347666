# SPDX-License-Identifier: Apache-2.0
"""RunFolder: where each file of a run lies, and the rule that one folder holds one run."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reticent.core.atomic import is_temporary, sweep, write_text
from reticent.core.errors import BadInput, Unusable
from reticent.core.lock import LOCK, locked
from reticent.core.outputs import refuse_input

KEY_BYTES = 32
PROMISE_FILE = "privacy.json"
"""In the folder of a model that was trained with differential privacy: what is guaranteed."""

WRITTEN = {
    "tune": {"base", "data", "title", "split", "canaries", "training"},
    "audit": {"target", "reference", "data", "max_tokens", "audit"},
    "compare": {"base", "data", "split", "canaries", "training", "monitor"},
    "unlearn": {"parent", "data", "request", "unlearning"},
    "federate": {"base", "data", "title", "federation", "clients", "split", "canaries"},
    "synthesize": {"base", "data", "title", "synthesis"},
}
"""Steps that work in a run folder, and what the settings that each leaves there always hold: they mark the folder."""

MADE = {
    *(f"{step}.yaml" for step in WRITTEN),
    "manifest.json",
    "records.parquet",
    "membership.parquet",
    "rejects.jsonl",
    "dropped.jsonl",
    "canaries.parquet",
    "targets.jsonl",
    "model",
    ".model.training",
    ".model.tuned.json",
    ".model.lock",
    "monitor.json",
    "panel.parquet",
    "risk.jsonl",
    "tables",
    "scores.parquet",
    "results.json",
    "report.html",
    "hash.key",
    "cells",
    "comparison.json",
    "moved.parquet",
    "request.parquet",
    "unseen.parquet",
    "looks.json",
    "unlearning.json",
    "certificate.json",
    "certificate.html",
    "overfitted",
    "shards",
    "federation.json",
    "federation.html",
    "rounds.jsonl",
    "updates",
    "synthetic.jsonl",
    "synthesis.json",
    "synthesis.html",
    ".synthesis",
    "training",
    "record_ledger.jsonl",
}
"""All that is ever written into a run folder, but for the record of what private trainings spent and for shadow models,
which outlive a call that failed after hours: nothing else is taken away."""

FIRST = {
    "tune": {
        *("tune.yaml", "records.parquet", "membership.parquet", "rejects.jsonl", "dropped.jsonl", "canaries.parquet"),
        *("targets.jsonl", ".model.training", ".model.lock", "panel.parquet", "shards"),
    },
    "audit": {"audit.yaml", "tables", "scores.parquet"},
    "compare": {"compare.yaml", "records.parquet", "cells"},
    "unlearn": {
        *("unlearn.yaml", "request.parquet", "unseen.parquet", "looks.json", "overfitted", "shards"),
        *(".model.training", ".model.lock"),
    },
    "federate": {
        *("federate.yaml", "records.parquet", "membership.parquet", "rejects.jsonl", "canaries.parquet", "hash.key"),
        *(".model.training", ".model.lock", "updates"),
    },
    "synthesize": {
        *("synthesize.yaml", "rejects.jsonl", ".synthesis", "training"),
        *("records.parquet", "membership.parquet", "canaries.parquet"),
    },
}
"""Files that each step writes before it has a result."""

MAKES_A_MODEL = {"tune", "unlearn", "federate"}
"""Steps whose model an audit may be made beside."""

LEFT = {
    *(".model.begun.jsonl", ".model.training", ".model.lock", LOCK, "job.json", "output.txt", "cell.json", "cell.log"),
    "auxiliary",
}
"""Files that may lie in a run folder without settings: what private trainings spent, what `compare` keeps of
a training, and the model that an audit tuned on synthetic text, which outlives a call that failed."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The files of one run below ``root``; every step reads what the step before it wrote.

    Examples:
        >>> run = RunFolder(root=Path("runs/mails"))
        >>> run.report.name, run.results.exists()
        ('report.html', False)
    """

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
        """The record of private trainings here that gave no model: it outlives a refusal."""
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
    def shadows(self) -> Path:
        """Shadow models of the audits of this run; they never leave it."""
        return self.root / "shadows"

    @property
    def auxiliary(self) -> Path:
        """The model that an audit tuned on synthetic text."""
        return self.root / "auxiliary"

    @property
    def scores(self) -> Path:
        return self.root / "scores.parquet"

    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def request(self) -> Path:
        """Ids of the records that were unlearned here, each with the reason; no text."""
        return self.root / "request.parquet"

    @property
    def unseen(self) -> Path:
        """Ids of the records never trained on that those are compared with; no text."""
        return self.root / "unseen.parquet"

    @property
    def looks(self) -> Path:
        """Looks at a panel of texts while the model unlearned; no text."""
        return self.root / "looks.json"

    @property
    def shards(self) -> Path:
        """Adapters of a training in shards, which the model is the average of; they never leave it."""
        return self.root / "shards"

    @property
    def retrained(self) -> Path:
        """Models that were trained again without what was forgotten; they outlive a call that failed after hours."""
        return self.root / "retrained"

    @property
    def unlearning(self) -> Path:
        """The measurements of how far the unlearning worked."""
        return self.root / "unlearning.json"

    @property
    def certificate(self) -> Path:
        return self.root / "certificate.json"

    @property
    def certificate_page(self) -> Path:
        return self.root / "certificate.html"

    @property
    def federation(self) -> Path:
        """The course of a federated fine-tuning; no text."""
        return self.root / "federation.json"

    @property
    def federation_page(self) -> Path:
        return self.root / "federation.html"

    @property
    def rounds(self) -> Path:
        """All that is known of the rounds of a federation; covered by no promise, so it never leaves the folder."""
        return self.root / "rounds.jsonl"

    @property
    def updates(self) -> Path:
        """Updates of clients, where they were recorded; as private as the texts."""
        return self.root / "updates"

    @property
    def synthetic(self) -> Path:
        """Synthetic texts."""
        return self.root / "synthetic.jsonl"

    @property
    def synthesis(self) -> Path:
        """The promise of these texts, and how they were made; no text."""
        return self.root / "synthesis.json"

    @property
    def synthesis_page(self) -> Path:
        return self.root / "synthesis.html"

    @property
    def synthesis_state(self) -> Path:
        """Steps that were spent, their texts and their secret key while they are made."""
        return self.root / ".synthesis"

    @property
    def synthesis_training(self) -> Path:
        """A run folder of its own, where synthetic text comes from a tuned model."""
        return self.root / "training"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work in the folder while no other process does. To be held around ``kept_if``, which takes away what it did
        not find: it might be another's.

        Raises:
            Unusable: another process works in it.
        """
        with locked(self.root):
            for folder in (self.root, self.tables, self.checkpoints):
                sweep(folder)
            yield

    def hash_key(self) -> str:
        """The secret of this folder with which reports name units; made when first asked for, readable by its owner.

        It stays here: a report that travels cannot be searched for guessed ids.

        Raises:
            BadInput: the file holds no key. Without one, names in reports could be guessed.
        """
        path = self.root / "hash.key"
        if not path.exists():
            write_text(path, secrets.token_hex(KEY_BYTES))
        try:
            key = path.read_text(encoding="ascii").strip()
            whole = len(bytes.fromhex(key)) == KEY_BYTES
        except ValueError:
            whole = False
        if not whole:
            raise BadInput(
                str(path),
                f"holds no key of {2 * KEY_BYTES} hexadecimal digits, so names in the report could be guessed",
                "Copy it again, or delete it: units then get other names than in earlier reports.",
            )
        return key

    # ---- whose folder it is -----------------------------------------------------------------------------------------

    def settings(self, step: str) -> dict[str, Any] | None:
        """Settings of ``step`` (a key of ``WRITTEN``) in this folder; None where it was not run.

        A file of that name which such a step did not write, like a person's own settings, counts as nothing.

        Raises:
            BadInput: the file is broken.
        """
        path = self.root / f"{step}.yaml"
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BadInput(str(path), "is broken", "Choose another folder (--out), or delete this one.") from error
        return values if isinstance(values, dict) and values.keys() >= WRITTEN[step] else None

    def refuse_foreign(self, step: str, inputs: Mapping[str, str | Path | None] | None = None) -> None:
        """Refuse to work in a folder that is not this package's, or holds a run of another kind, or is an input.

        Args:
            step: what is to be done here, as in ``settings``. An audit may be made where the model was tuned or
                unlearned.
            inputs: see `core.outputs.refuse_input`.

        Raises:
            BadInput: it may not be worked in. Nothing in it was changed.
        """
        refuse_input(self.root, inputs or {})
        try:
            if not self.root.exists():
                return
            if not self.root.is_dir():
                raise BadInput(
                    str(self.root), "is a file, so it cannot be a run folder", "Choose another place (--out)."
                )
            there = {path.name for path in self.root.iterdir()}
        except OSError as error:
            raise Unusable(
                str(self.root)[:200], f"cannot be used ({error.strerror})", "Choose a writable folder (--out)."
            ) from error
        steps = {name for name in WRITTEN if self.settings(name) is not None}
        foreign = sorted(name for name in there if name not in LEFT and not is_temporary(name))
        if not steps and foreign:
            raise BadInput(
                str(self.root),
                f"holds {foreign[0]!r}{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}, and is no run of "
                "reticent: nothing of yours is to be mixed with it, or replaced",
                "Choose a new folder (--out), such as one in it.",
            )
        if steps and step not in steps and not (step == "audit" and steps & MAKES_A_MODEL):
            raise BadInput(
                str(self.root),
                f"holds what `reticent {min(steps)}` made, and `reticent {step}` would mix its own with it",
                "Choose another folder (--out).",
            )

    def refuse_other(self, step: str, config: Mapping[str, Any], *, begun: Callable[[], bool] = lambda: True) -> None:
        """Check that the folder holds no run of ``step`` with another configuration than ``config``.

        The same command again goes on where it was; another one is refused, so that no run is ever a mixture. What an
        earlier command left that came to nothing is taken away.

        Args:
            begun: whether the other one came to anything.

        Raises:
            BadInput: it does.
        """
        if not (self.root / f"{step}.yaml").exists():
            return
        stored, wanted = self.settings(step) or {}, _plain(config)
        changed = sorted(key for key in stored.keys() | wanted.keys() if stored.get(key) != wanted.get(key))
        if changed and begun():
            raise BadInput(
                str(self.root),
                f"holds a run with other settings ({', '.join(changed)})",
                "Choose another folder (--out), or delete this one to start over.",
            )
        if changed:
            self.clear(FIRST[step])

    def claim(self, step: str, config: Mapping[str, Any]) -> None:
        """Record ``config`` as what ``step`` does here, see ``refuse_other``.

        Raises:
            BadInput: the folder holds another run, or cannot be written.
        """
        self.refuse_other(step, config)
        self.record(step, config)

    def record(self, step: str, config: Mapping[str, Any]) -> None:
        """Write ``config`` as what ``step`` does here now. A folder that is made, or was empty, is its owner's only."""
        self.make()
        text = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)
        write_text(self.root / f"{step}.yaml", text)

    def make(self) -> None:
        """Make the folder, for its owner only; one that is there and holds something keeps its mode."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not any(self.root.iterdir()):
                self.root.chmod(0o700)
        except OSError as error:
            raise Unusable(
                str(self.root)[:200], f"cannot be made ({error.strerror})", "Choose a writable folder (--out)."
            ) from error

    @contextmanager
    def kept_if(self, begun: Callable[[], bool], *, step: str = "") -> Iterator[None]:
        """Should what is done within fail in any way before ``begun()``, take away what it wrote: a corrected command
        must not be told that the folder is taken, and half a run is no run.

        Args:
            begun: whether it came to something.
            step: whose settings are put back as they were found.
        """
        path = self.root / f"{step}.yaml"
        there = self.root.is_dir()
        before = {entry.name for entry in self.root.iterdir()} if there else set()
        was = self.root.stat() if there else None
        recorded = path.read_text(encoding="utf-8") if step and path.is_file() else None
        try:
            yield
        except BaseException:
            if not begun() and self.root.is_dir():
                self.clear(MADE - before)
                with suppress(OSError):
                    if was is None:
                        self.root.rmdir()
                    else:
                        self.root.chmod(was.st_mode)
                        os.utime(self.root, ns=(was.st_atime_ns, was.st_mtime_ns))
            if recorded is not None and path.is_file() and path.read_text(encoding="utf-8") != recorded:
                with suppress(BadInput, OSError):
                    write_text(path, recorded)
            raise

    def clear(self, names: Collection[str]) -> None:
        """Take away files and folders of these names, and what was half-written; nothing else."""
        for path in list(self.root.iterdir()):
            if path.name in names or is_temporary(path.name):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return plain
