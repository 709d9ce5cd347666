# SPDX-License-Identifier: Apache-2.0
"""The trainings of a comparison shared among hands that start the same one: each is taken by a lease.

A hand that dies loses at most the training it was at, and that goes on from its last checkpoint in another hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reticent.comparison.grid import Trial
from reticent.comparison.trial import TrialOutcome, TrialSettings, read_outcome, run_trial
from reticent.core import hands
from reticent.core.comparison import Comparison
from reticent.core.lease import Lease, Leases
from reticent.core.progress import console, progress
from reticent.core.record import Record
from reticent.report.comparison_file import read_comparison


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One training of the grid and its place.

    Args:
        trial: how it is trained.
        folder: its run folder.
        key: of all its settings.
    """

    trial: Trial
    folder: Path
    key: str

    @property
    def lease(self) -> Path:
        """Held by the hand that trains it."""
        return self.folder.with_name(f".{self.folder.name}.lease")


@dataclass(kw_only=True, eq=False)
class SharedCells:
    """The trainings of one comparison, as one of several hands sees them.

    Args:
        cells: all of them.
        shared, records: as `run_trial` takes them.
        is_claimed: whether the hand that leads has begun; nothing is trained before.
    """

    cells: Sequence[Cell]
    shared: TrialSettings
    records: Sequence[Record]
    is_claimed: Callable[[], bool]
    _leases: Leases = field(default_factory=Leases)
    _tried: set[Path] = field(default_factory=set)

    def lead_or_help(self, root: Path, *, asked: str, lead: Callable[[], Comparison]) -> Comparison:
        """Lead the comparison in ``root``, or train cells of it until the hand that leads is done.

        Args:
            root: its folder.
            asked: what all hands have to have been asked for alike, besides the cells.
            lead: trains by `train_all`, and writes.

        Raises:
            BadInput: the hand that leads was asked for something else, or as `reticent.comparison.run.compare`.
        """
        page = root / "report.html"  # the last file that a comparison writes
        before = hands.stamp(page)

        def done() -> Comparison | None:
            return None if hands.stamp(page) in (None, before) else read_comparison(root / "comparison.json")

        place = root.resolve()
        return hands.lead_or_help(
            place.parent / f".{place.name}.hands" / "lead",
            flag="--jobs join",
            asked=hands.in_words([asked, *(cell.key for cell in self.cells)]),
            lead=lead,
            help_out=self.help_out,
            done=done,
        )

    def help_out(self) -> bool:
        """Train a cell that nobody is at; whether there was one. A cell that failed here is left to others."""
        if not self.is_claimed():
            return False
        for cell in reversed(self.cells):  # the one that leads begins at the other end
            if cell.folder in self._tried or read_outcome(cell.folder, cell.key) is not None:
                continue
            lease = self._leases.take(cell.lease)
            if lease is not None:
                self._tried.add(cell.folder)
                self._train(cell, lease)
                return True
        return False

    def train_all(self) -> list[TrialOutcome]:
        """Train all cells that no other hand trains, and wait for those. Of the hand that leads."""
        outcomes: dict[int, TrialOutcome] = {}
        with progress("Comparing", len(self.cells), unit="trainings") as advance:
            while len(outcomes) < len(self.cells):
                before = len(outcomes)
                for number, cell in enumerate(self.cells):
                    if number in outcomes:
                        continue
                    lease = self._leases.take(cell.lease)
                    if lease is None:
                        continue
                    outcomes[number] = self._train(cell, lease)  # takes the outcome that is there
                    advance(1)
                if len(outcomes) == before:
                    time.sleep(hands.PAUSE)
        for cell in self.cells:
            cell.lease.unlink(missing_ok=True)  # of a hand that died before it gave it back
        return [outcomes[number] for number in range(len(self.cells))]

    def _train(self, cell: Cell, lease: Lease) -> TrialOutcome:
        with lease:
            if read_outcome(cell.folder, cell.key) is None:
                console.print(f"training: {cell.trial.name}", style="bold", highlight=False)
            outcome = run_trial(cell.folder, cell.trial, self.shared, self.records, cell.key)
        tell_of(cell.trial.name, outcome)
        return outcome


def tell_of(name: str, outcome: TrialOutcome) -> None:
    """Say why a training came to nothing, where it did."""
    if outcome.status != "done":
        console.print(f"{name} {outcome.status}: {outcome.why}", style="yellow", highlight=False, markup=False)
