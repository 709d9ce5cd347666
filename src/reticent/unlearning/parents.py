# SPDX-License-Identifier: Apache-2.0
"""The chain of requests: from an unlearned run back to the run of `reticent tune` that the first of them began with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.portable import found as portable_place
from reticent.core.run_folder import RunFolder
from reticent.unlearning.request_file import RequestRow, read_request

SETTINGS = "unlearn.yaml"
LONGEST = 10_000
"""Requests in a row. A chain that is longer goes in a circle, whatever its links are called."""


@dataclass(frozen=True, kw_only=True)
class UnlearnedRun:
    """A run in which one request was unlearned.

    Args:
        run: its folder.
        data: fingerprint of the records of the run of `reticent tune`, as its settings have it.
        request: the records that it forgot.
    """

    run: RunFolder
    data: str
    request: tuple[RequestRow, ...]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """All requests so far.

    Args:
        root: the run of `reticent tune`, which holds the texts.
        links: unlearned runs, the first request first; none for a run that was only tuned.
    """

    root: RunFolder
    links: tuple[UnlearnedRun, ...]

    @property
    def last(self) -> RunFolder:
        """The run whose model has gone through all of it."""
        return self.links[-1].run if self.links else self.root

    @cached_property
    def forgotten(self) -> dict[str, int]:
        """Record id → number of the request, from 1, that took it out."""
        return {row.record_id: number for number, link in enumerate(self.links, 1) for row in link.request}


def chain(run: RunFolder) -> Chain:
    """All runs between a run and the fine-tuning at its root, with their requests.

    Args:
        run: made by `reticent tune` or by an unlearning that came to its end.

    Raises:
        BadInput: it is neither; a parent is gone, moved, unfinished or broken, or the parents go in a circle.

    Examples:
        >>> chain(RunFolder(root=Path("no run")))
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: no run: there is no such folder. Give a run folder that `reticent tune` made.
    """
    links: list[UnlearnedRun] = []
    visited: list[Path] = []
    here, child = run, None
    while True:
        place = _place(here, child)
        if place in visited or len(visited) > LONGEST:
            raise BadInput(
                str(run.root),
                f"has parents that go in a circle, by way of {here.root}",
                f"Write the run that it was made from as `parent` in {visited[-1] / SETTINGS}.",
            )
        visited.append(place)
        settings = here.settings("unlearn")
        if settings is None:
            _check_root(here, child)
            return Chain(root=here, links=tuple(reversed(links)))
        named, data = settings["parent"], settings["data"]
        if not (isinstance(named, str) and named.strip() and isinstance(data, str)):
            raise BadInput(str(here.root / SETTINGS), "names no parent", "Copy the folder again.")
        _check_finished(here)
        links.append(UnlearnedRun(run=here, data=data, request=read_request(here.request)))
        child = here.root
        here = RunFolder(root=Path(portable_place(named, child.resolve())))
        if not here.root.is_absolute():  # it led nowhere: say where it was looked for
            here = RunFolder(root=child.resolve() / named)


def _place(run: RunFolder, child: Path | None) -> Path:
    """The folder without links; ``child`` is the run that names it as its parent."""
    try:
        if run.root.is_dir():
            return run.root.resolve(strict=True)
        is_there = run.root.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(str(run.root)[:200], f"cannot be looked at ({error})", "Check the path.") from error
    reason = "is a file and no run folder" if is_there else "there is no such folder"
    if child is None:
        raise BadInput(str(run.root)[:200], reason, "Give a run folder that `reticent tune` made.")
    raise BadInput(
        str(child),
        f"was made from {run.root}, and {'that is a file' if is_there else 'there is no such folder'}: it was moved or "
        "deleted, and the texts are read from it",
        f"Move it back, or write its new place as `parent` in {child / SETTINGS}.",
    )


def _check_finished(run: RunFolder) -> None:
    for path in (run.request, run.model):
        if not path.exists():
            raise BadInput(
                str(run.root), f"has no {path.name}, so its unlearning did not end", "Give the same command again."
            )


def _check_root(run: RunFolder, child: Path | None) -> None:
    missing = [path.name for path in (run.records, run.membership, run.model) if not path.exists()]
    tuned = any(run.settings(step) is not None for step in ("tune", "federate"))
    if tuned and not missing:
        return
    about = "" if child is None else f", and {child} was made from it"
    if not tuned:
        if missing and run.settings("audit") is not None:
            about += "; it holds an audit, which keeps no texts"
        raise BadInput(
            str(run.root),
            f"holds no run of `reticent tune`{about}",
            "Give the run folder that `reticent tune` made, or one of an unlearning of it.",
        )
    raise BadInput(
        str(run.root), f"has no {missing[0]}, so its fine-tune did not end{about}", "Run `reticent tune` again."
    )
