# SPDX-License-Identifier: Apache-2.0
"""Other scanners of model files on the folders of ``scan.py``, called as commands of an environment of their own.

Not a benchmark by itself: ``scan.py --peers ENVIRONMENT/bin`` calls them; without the flag they are "not installed".

=====================  ====================================================================================
``picklescan``         ``picklescan -p FOLDER``: 0 passed, 1 refused, 2 error
``picklescan_strict``  the same with ``--strict``, which refuses all names that it does not know
``modelscan``          ``modelscan -p FOLDER``: 0 passed, 1 refused, 2 error, 3 no file that it reads
``fickling``           ``fickling --check-safety FILE`` for each file whose ending it takes for a pickle; the worst
                       counts: 0 passed, 1 refused, 2 error (no pickle that it can read); "no file" without any
``fickling_hub``       its mode for hubs, with a stand-in that hands out the folder's files, so that its own rules
                       choose what is looked at and how: 0 passed, 1 refused
=====================  ====================================================================================

What is only warned of ("suspicious", skipped) ends with 0 and counts as passed; the words beside it are kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_INSTALLED = "not installed"
PASSED, REFUSED, ERROR, NO_FILE = "passed", "refused", "error", "no file"
PICKLE_ENDINGS = (".bin", ".pkl", ".pickle", ".pt", ".pth")
"""Endings that fickling's own mode for hubs takes for pickles."""
SECONDS = 300
_HUB = """
import contextlib, io, json, pathlib, sys, types
hub = types.ModuleType("huggingface_hub")
class HfApi:
    def __init__(self, **_): pass
    def repo_info(self, **_):
        files = [types.SimpleNamespace(rfilename=p.relative_to(folder).as_posix())
                 for p in sorted(folder.rglob("*")) if p.is_file()]
        return types.SimpleNamespace(siblings=files)
hub.HfApi, hub.hf_hub_download = HfApi, lambda filename, **_: str(folder / filename)
sys.modules["huggingface_hub"] = hub
from fickling.cli import main
rows = []
for folder in map(pathlib.Path, json.load(sys.stdin)):
    words = io.StringIO()
    with contextlib.redirect_stderr(words), contextlib.redirect_stdout(words):
        try:
            code = main(["fickling", "--huggingface", "local/folder", "--json-output", "/dev/null"])
        except Exception as error:
            code = 99
            print(repr(error), file=words)
    rows.append([code, words.getvalue()])
print(json.dumps(rows))
"""


Look = Callable[[Path, Sequence[Path]], list[tuple[int, str]]]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A scanner of others.

    Args:
        package: whose version is told.
        program: that must be in the environment.
        look: ``(bin, folders) -> exit code and words`` of each.
        words: exit code → outcome; others are errors.
        called: how, in words.
    """

    package: str
    program: str
    look: Look
    words: Mapping[int, str]
    called: str


def _of_folder(*command: str) -> Look:
    return lambda place, folders: [_run([str(place / command[0]), *command[1:], str(folder)]) for folder in folders]


def _of_files(place: Path, folders: Sequence[Path]) -> list[tuple[int, str]]:
    """fickling on each file that it takes for a pickle by its ending; -1 where there is none."""
    command = [str(place / "fickling"), "--check-safety", "--json-output", "/dev/null"]
    rows = []
    for folder in folders:
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in PICKLE_ENDINGS and path.is_file()]
        found = [_run([*command, str(path)]) for path in files]
        rows.append(max(found, default=(-1, ""), key=lambda row: (row[0] == 1, row[0])))
    return rows


def _of_hub(place: Path, folders: Sequence[Path]) -> list[tuple[int, str]]:
    """One process for all folders, as it imports torch each time."""
    given = json.dumps([str(folder) for folder in folders])
    code, words = _run([str(place / "python"), "-c", _HUB], given)
    if code:
        return [(ERROR_CODE, words)] * len(folders)
    return [(ERROR_CODE if "are required for" in said else code, said) for code, said in json.loads(words)]


ERROR_CODE = 99
_FICKLING = {0: PASSED, 1: REFUSED, 2: ERROR, -1: NO_FILE}
PEERS: Mapping[str, Peer] = {
    "picklescan": Peer(
        package="picklescan",
        program="picklescan",
        look=_of_folder("picklescan", "-p"),
        words={0: PASSED, 1: REFUSED},
        called="picklescan -p FOLDER",
    ),
    "picklescan_strict": Peer(
        package="picklescan",
        program="picklescan",
        look=_of_folder("picklescan", "--strict", "-p"),
        words={0: PASSED, 1: REFUSED},
        called="picklescan --strict -p FOLDER",
    ),
    "modelscan": Peer(
        package="modelscan",
        program="modelscan",
        look=_of_folder("modelscan", "-p"),
        words={0: PASSED, 1: REFUSED, 3: NO_FILE},
        called="modelscan -p FOLDER",
    ),
    "fickling": Peer(
        package="fickling",
        program="fickling",
        look=_of_files,
        words=_FICKLING,
        called="fickling --check-safety FILE, for each file ending in " + ", ".join(PICKLE_ENDINGS),
    ),
    "fickling_hub": Peer(
        package="fickling",
        program="fickling",
        look=_of_hub,
        words=_FICKLING,
        called="fickling --huggingface, in one process, with a stand-in for the hub that hands out a folder's files",
    ),
}


def peers(
    bad: Mapping[str, Path], good: Mapping[str, Path], place: Path | None, ours: Mapping[str, str]
) -> dict[str, Any]:
    """Each peer on all folders; ``place``: the folder of its programs, ``ours``: what was refused here, by kind."""
    rows: dict[str, Any] = {}
    for name, peer in PEERS.items():
        if place is None or not (place / peer.program).exists():
            rows[name] = NOT_INSTALLED
            continue
        rows[name] = judged(peer, place, bad, good, ours)
    return rows


def judged(
    peer: Peer, place: Path, bad: Mapping[str, Path], good: Mapping[str, Path], ours: Mapping[str, str]
) -> dict[str, Any]:
    """What one peer says of malicious and clean folders."""
    folders = {**bad, **good}
    codes = dict(zip(folders, peer.look(place, list(folders.values())), strict=True))
    said = {kind: peer.words.get(code, ERROR) for kind, (code, _) in codes.items()}
    passed = {kind for kind in bad if said[kind] == PASSED}
    return {
        "version": version_of(place, peer.package),
        "called": peer.called,
        "exit_codes": {str(code): word for code, word in peer.words.items() if code >= 0},
        "malicious_refused": sum(said[kind] == REFUSED for kind in bad),
        "clean_refused": sum(said[kind] == REFUSED for kind in good),
        "malicious_words": dict(Counter(said[kind] for kind in bad)),
        "clean_words": dict(Counter(said[kind] for kind in good)),
        "passed_with_a_warning": sorted(kind for kind in passed if warned(codes[kind][1])),
        "refused_only_here": sorted(kind for kind in bad if said[kind] == REFUSED and ours.get(kind) != REFUSED),
        "clean_not_passed": {kind: said[kind] for kind in good if said[kind] in (REFUSED, ERROR)},
        "by_kind": {kind: said[kind] for kind in bad},
    }


def warned(words: str) -> bool:
    """True where a scanner says that something is suspicious, could not be read, or was left out.

    >>> warned("Suspicious globals: 0"), warned("Suspicious globals: 2"), warned("Total skipped: 1")
    (False, True, True)
    """
    found = re.search(r"Suspicious globals: [1-9]|Total skipped: [1-9]|Errors? ---|WARNING|Warning:|error", words)
    return found is not None


def version_of(place: Path, package: str) -> str:
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return _run([str(place / "python"), "-c", program])[1].strip()


def _run(command: list[str], given: str = "") -> tuple[int, str]:
    """Exit code and words; nothing of the user's settings or of a hub is read."""
    with tempfile.TemporaryDirectory() as home:
        env = {"PATH": os.environ.get("PATH", ""), "HOME": home, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, cwd=home, env=env, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return ERROR_CODE, f"more than {SECONDS} seconds"
    return done.returncode, done.stdout + (done.stderr if done.returncode or not given else "")


def as_table(rows: Mapping[str, Any], ours: Mapping[str, str]) -> str:
    """Kinds by tool, as a table for a page; tools that are not installed are left out."""
    shown = {name: row for name, row in rows.items() if isinstance(row, dict)}
    head = ["kind", "reticent", *(f"{name} {row['version']}" for name, row in shown.items())]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for kind, word in ours.items():
        cells = [kind.replace("_", " "), word, *(row["by_kind"][kind] for row in shown.values())]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(json.dumps({name: peer.called for name, peer in PEERS.items()}, indent=2))
