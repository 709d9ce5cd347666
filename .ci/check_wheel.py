# SPDX-License-Identifier: Apache-2.0
"""Refuse a wheel or a source archive that lacks a file of the package: templates, schemas, kernels and types.

python .ci/check_wheel.py dist
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def missing(folder: Path) -> list[str]:
    """Files of the package that an archive in the folder lacks, with the archive's name."""
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed, tarfile.open(source) as archived:
        names = {
            wheel.name: set(packed.namelist()),
            source.name: {name.partition("/src/")[2] for name in archived.getnames()},
        }
    files = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    files = {name for name in files if name.startswith("reticent/")}
    return [f"{archive}: {name}" for archive, there in names.items() for name in sorted(files - there)]


if __name__ == "__main__":
    sys.exit("\n".join(missing(Path(sys.argv[1]))) or 0)
