# SPDX-License-Identifier: Apache-2.0
"""What `reticent scan` refuses, what it lets pass, and how long it takes.

Each part is a function of ``PARTS`` that returns its own figures; those of parts that were not run are null.

=====================  ==============================================================================================
``malicious``          folders of `reticent.testing.malicious_files`
``malicious_refused``  those of them that end with exit code 1
``clean``              folders of `reticent.testing.clean_artefacts`
``clean_refused``      those of them that do not end with 0
``payloads_written``   files that a payload wrote: none may be there
``files_mb_per_s``     bytes of a folder of ``--megabytes``, by seconds of its file scan, not hashed
``files_seconds``      seconds of that scan
``hash_mb_per_s``      the same folder, hashed for the bill of materials
``peers``              other scanners that are installed here, by version, on the same folders
=====================  ==============================================================================================

    python benchmarks/scan.py --json benchmarks/results/scan.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.manifest import environment
from reticent.scan.bill_of_materials import bill_of_materials
from reticent.testing.clean_artefacts import clean_artefacts
from reticent.testing.malicious_files import make_malicious, malicious_kinds, torch_zip
from reticent.testing.tiny import save_tiny
from reticent.workflows.scan import exit_code, scan

KEYS = (
    *("malicious", "malicious_refused", "clean", "clean_refused", "files_mb_per_s"),
    *("spectrum_seconds_per_adapter", "pre_memorized_over_scoring", "trigger_search_seconds", "peers"),
)
"""Keys that the file always has."""
MEGABYTE = 1_000_000
REPEATS = 5
PEERS: Mapping[str, tuple[list[str], list[str], tuple[int, ...]]] = {
    "picklescan": (["picklescan", "-p"], ["picklescan", "--version"], (1,)),
    "modelscan": (["modelscan", "-p"], ["modelscan", "--version"], (1,)),
}
"""Name → its command on a folder, on its version, and the exit codes by which it refuses."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, separated by commas")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the folder that is timed")
    chosen = parser.parse_args()
    figures: dict[str, Any] = dict.fromkeys(KEYS)
    for name in chosen.parts.split(","):
        with tempfile.TemporaryDirectory() as folder:
            figures |= PARTS[name](Path(folder), chosen)
    figures["machine"] = environment()
    text = json.dumps(figures, indent=2) + "\n"
    if chosen.json:
        chosen.json.write_text(text, encoding="utf-8")
    print(text)


def files(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Malicious and clean folders, and the time that a large one takes."""
    written = folder / "written"
    written.mkdir()
    bad = {kind: make_malicious(kind, folder / "bad" / kind, written / kind) for kind in malicious_kinds()}
    good = dict(clean_artefacts(folder / "good"))
    outcome = {
        "malicious": len(bad),
        "malicious_refused": sum(code_of(place) == 1 for place in bad.values()),
        "clean": len(good),
        "clean_refused": sum(code_of(place) != 0 for place in good.values()),
        "writers": len({name.partition("/")[0] for name in good}),
        "payloads_written": len(list(written.iterdir())),
        "peers": peers(bad, good),
    }
    return outcome | speed(folder / "large", chosen.megabytes)


def code_of(folder: Path) -> int:
    """Exit code of a file scan."""
    try:
        return exit_code(scan(folder, only=["files"]))
    except BadInput:
        return 2


def speed(folder: Path, megabytes: int) -> dict[str, float]:
    """Seconds of the file scan of a folder of that size: half safetensors, half a torch checkpoint."""
    save_tiny(folder)
    half = megabytes * MEGABYTE // 2
    header = json.dumps({"a": {"dtype": "U8", "shape": [half], "data_offsets": [0, half]}}).encode()
    with (folder / "large.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(half // MEGABYTE):
            file.write(bytes(range(256)) * (MEGABYTE // 256) + bytes(MEGABYTE % 256))
        file.truncate(8 + len(header) + half)
    (folder / "pytorch_model.bin").write_bytes(torch_zip(b"\x80\x02}.", storage=bytes(half)))
    size = sum(path.stat().st_size for path in folder.iterdir())
    seconds = min(timed(lambda: scan(folder, only=["files"])) for _ in range(REPEATS))
    hashing = timed(lambda: bill_of_materials(folder, hashes=True))
    return {
        "files_seconds": seconds,
        "files_mb_per_s": size / MEGABYTE / seconds,
        "hash_mb_per_s": size / MEGABYTE / hashing,
    }


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def peers(bad: Mapping[str, Path], good: Mapping[str, Path]) -> dict[str, Any]:
    """Scanners of others that are installed here, on the same folders; each runs in a process of its own."""
    rows: dict[str, Any] = {}
    for name, (command, version, refuses) in PEERS.items():
        if shutil.which(command[0]) is None:
            continue
        codes = {kind: status([*command, str(place)]) for kind, place in {**bad, **good}.items()}
        rows[name] = {
            "version": subprocess.run(version, capture_output=True, text=True, check=False).stdout.strip(),
            "malicious_refused": sum(codes[kind] in refuses for kind in bad),
            "clean_refused": sum(codes[kind] in refuses for kind in good),
        }
    return rows


def status(command: list[str]) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


PARTS: Mapping[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {"files": files}
"""Name of a part → ``(folder of its own, flags) -> figures``, some of ``KEYS`` and any further ones."""

if __name__ == "__main__":
    main()
