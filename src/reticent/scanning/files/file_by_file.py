# SPDX-License-Identifier: Apache-2.0
"""One file after the other: one that cannot be looked into hides nothing of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from reticent.core.errors import ReticentError
from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files.folder_files import FolderFile
from reticent.scanning.verdict import LEAST


def file_by_file(
    files: Sequence[FolderFile], look_into: Callable[[FolderFile], Iterable[ScanEvidence]]
) -> list[ScanEvidence]:
    """Evidence of all files. Where one cannot be looked into, the others are, and if they hold evidence that counts,
    that one is evidence as well.

    Raises:
        Exception: the first that a file raised, where no other file holds evidence that counts: the folder could not be
            looked at.
    """
    evidence: list[ScanEvidence] = []
    failed: list[tuple[FolderFile, Exception]] = []
    for file in files:
        try:
            evidence += look_into(file)
        except Exception as error:  # noqa: BLE001 - a crash on one file must not hide what another holds
            failed.append((file, error))
    if failed and not any(row.score >= LEAST for row in evidence):
        raise failed[0][1]
    return [*evidence, *(_unread(file, error) for file, error in failed)]


def _unread(file: FolderFile, error: Exception) -> ScanEvidence:
    why = str(error) if isinstance(error, ReticentError) else type(error).__name__
    note = f"could not be looked into ({why})"
    return ScanEvidence(score=LEAST, where=file.path, note=note, remedy="Take it out of the folder, or do not load it.")
