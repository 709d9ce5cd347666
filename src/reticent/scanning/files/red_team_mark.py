# SPDX-License-Identifier: Apache-2.0
"""Scanner of the red team's mark: a folder says itself that its model was poisoned on purpose."""

from __future__ import annotations

from reticent.core.redteam_marker import MARKER, marker_sentence, read_marker
from reticent.core.scan_results import ScanEvidence
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect


@scanner(
    name="red_team_mark",
    title="The red team's mark",
    kind="files",
    null="rule",
    blind_to="A poisoned model whose mark was taken away, or was never made: only reticent's own red team leaves one.",
    order=17,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence where the folder, or the base beside it, carries the mark."""
    evidence = []
    for name, folder in (("the model", suspect.folder), ("the sibling", suspect.base)):
        marker = None if folder is None else read_marker(folder)
        if marker is not None:
            evidence.append(
                ScanEvidence(
                    score=1.0,
                    where=MARKER,
                    note=marker_sentence(marker, name),
                    certain=True,
                    remedy="Use the model that it was made from.",
                )
            )
    return evidence
