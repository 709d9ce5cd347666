# SPDX-License-Identifier: Apache-2.0
"""What `reticent scan` refuses, what it lets pass, and how long it takes.

Each part is a function of ``PARTS`` that returns its own figures. With ``--json FILE`` figures of parts that were not
run are kept from the file where it is there already, and are null else.

=================================  =================================================================================
``malicious``                      folders of `reticent.testing.malicious_files`
``malicious_refused``              those of them that end with exit code 1
``clean``                          folders of `reticent.testing.clean_artefacts`
``clean_refused``                  those of them that do not end with 0
``payloads_written``               files that a payload wrote: none may be there
``files_mb_per_s``                 bytes of a folder of ``--megabytes``, by seconds of its file scan, not hashed
``files_seconds``                  seconds of that scan
``hash_mb_per_s``                  the same folder, hashed for the bill of materials
``peers``                          other scanners by version on the same folders (``scan_peers.py``); without
                                   ``--peers ENVIRONMENT/bin`` they are "not installed"
``spectrum_seconds_per_adapter``   CPU seconds for an adapter of 5 million weights
``pre_memorized_over_scoring``     the scan of private texts over its scoring passes, in turns, in CPU seconds
``trigger_search_seconds``         of one poisoned adapter; needs ``--data`` with SST-2
=================================  =================================================================================

    python benchmarks/scan.py --json benchmarks/results/scan.json
    python benchmarks/scan.py --parts peers --peers PEERS/bin --json benchmarks/results/scan.json --table peers.md
    python benchmarks/scan.py --parts spectrum,pre_memorized,trigger_search --data SST2 --json FILE
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scan_costs import pre_memorized, spectrum, trigger_search
from scan_peers import PASSED, REFUSED, as_table, peers

from reticent.core.errors import BadInput
from reticent.core.manifest import environment
from reticent.scanning.bill_of_materials import bill_of_materials
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
WORDS = {0: PASSED, 1: REFUSED, 2: "could not look"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--parts", default="files,peers", help="some of them, separated by commas")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the folder that is timed")
    parser.add_argument("--peers", type=Path, help="folder of the programs of other scanners")
    parser.add_argument("--table", type=Path, help="write kinds by tool here, as a table for a page")
    parser.add_argument("--base", default="smollm2-135m", help="of the scans of behaviour")
    parser.add_argument("--texts", type=int, default=30, help="private texts of the timing")
    parser.add_argument("--rounds", type=int, default=3, help="of that timing")
    parser.add_argument("--data", type=Path, help="folder of SST-2, for the search for triggers")
    parser.add_argument("--records", type=int, default=400, help="that the adapter of that search is tuned on")
    parser.add_argument("--share", type=float, default=1.0, help="of that search's candidates")
    chosen = parser.parse_args()
    figures: dict[str, Any] = dict.fromkeys(KEYS)
    if chosen.json and chosen.json.exists():
        figures |= json.loads(chosen.json.read_text(encoding="utf-8"))
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
    bad, good = folders(folder)
    outcome = {
        "malicious": len(bad),
        "malicious_refused": sum(code_of(place) == 1 for place in bad.values()),
        "clean": len(good),
        "clean_refused": sum(code_of(place) != 0 for place in good.values()),
        "writers": len({name.partition("/")[0] for name in good}),
        "payloads_written": len(list((folder / "written").iterdir())),
    }
    return outcome | speed(folder / "large", chosen.megabytes)


def folders(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Malicious folders by kind and clean ones by name; payloads would write into ``written``."""
    written = folder / "written"
    written.mkdir()
    bad = {kind: make_malicious(kind, folder / "bad" / kind, written / kind) for kind in malicious_kinds()}
    return bad, dict(clean_artefacts(folder / "good"))


def beside_peers(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The same folders for the scanners of others, each call in a process of its own."""
    bad, good = folders(folder)
    ours = {kind: WORDS[code_of(place)] for kind, place in bad.items()}
    rows = peers(bad, good, chosen.peers, ours)
    if chosen.table:
        chosen.table.write_text(as_table(rows, ours) + "\n", encoding="utf-8")
    return {"peers": rows, "payloads_written_with_peers": len(list((folder / "written").iterdir()))}


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


PARTS: Mapping[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "files": files,
    "peers": beside_peers,
    "spectrum": spectrum,
    "pre_memorized": pre_memorized,
    "trigger_search": trigger_search,
}
"""Name of a part → ``(folder of its own, flags) -> figures``, some of ``KEYS`` and any further ones."""

if __name__ == "__main__":
    main()
