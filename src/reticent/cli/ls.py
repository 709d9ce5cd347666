# SPDX-License-Identifier: Apache-2.0
"""`reticent ls`: the runs of a folder, and what the private ones cost together."""

from __future__ import annotations

import json as json_
import shutil
import sys

from reticent.core.errors import BadInput
from reticent.core.progress import console


def ls(folder: str = "runs", *, json: bool = False, ledger: bool = False, also: str = "") -> int:
    """List runs, a line each: when made, which model, the size of its files, the ε promised, the verdict, the best AUC.

    With --ledger: what each private training promised, and what those that share data cost together.

    Args:
        folder: where the run folders lie.
        json: print a JSON list instead, with all that is known of each run.
        ledger: add up the ε of private trainings instead.
        also: further folders for the ledger, separated by commas.
    """
    if ledger and json:
        raise BadInput("--json --ledger", "the ledger is no list of runs", "Give one of them.")
    if ledger:
        return _ledger([folder, *(word.strip() for word in also.split(",") if word.strip())])
    if also:
        raise BadInput(f"also={also!r}", "is only used with the ledger", "Give --ledger, or leave it out.")
    from reticent.report.listing import as_json, lines, runs

    listed = runs(folder)
    if json:
        print(json_.dumps([as_json(run) for run in listed], indent=1, ensure_ascii=False))
        return 0
    if not listed:
        console.print(f"There are no runs in {folder}.", markup=False, highlight=False, soft_wrap=True)
        return 0
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None
    for line in lines(listed, width):
        print("".join(letter if letter.isprintable() else "�" for letter in line))
    return 0


def _ledger(folders: list[str]) -> int:
    from reticent.spending.ledger import ledger
    from reticent.spending.ledger_text import print_ledger

    print_ledger(ledger(folders), console=console)
    return 0
