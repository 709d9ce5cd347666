# SPDX-License-Identifier: Apache-2.0
"""Other scanners of model files on the folders of ``scan.py``, in an environment of their own.

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

Each is called by the entry of its command with the command's arguments, all folders in one process of that environment.
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
SECONDS = 1800
_HUB = """
import pathlib, types
class HfApi:
    def __init__(self, **_): pass
    def repo_info(self, repo_id, **_):
        folder = pathlib.Path(repo_id)
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        return types.SimpleNamespace(siblings=[types.SimpleNamespace(rfilename=name) for name in names])
def hf_hub_download(repo_id, filename, **_):
    return str(pathlib.Path(repo_id) / filename)
"""
"""A stand-in for the library of the hub: a name of a model is a folder here."""
_DRIVER = """
import importlib, json, os, sys, tempfile
module, place = sys.argv[1:]
calls, rows = json.load(sys.stdin), []
main = importlib.import_module(module).main
for call in calls:
    with tempfile.TemporaryFile("w+b") as words:
        kept = os.dup(1), os.dup(2)
        os.dup2(words.fileno(), 1), os.dup2(words.fileno(), 2)
        sys.argv = call
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = 99
            print(repr(error))
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        os.close(kept[0]), os.close(kept[1])
        words.seek(0)
        rows.append([code or 0, words.read().decode("utf-8", "replace")])
with open(place, "w") as file:
    json.dump(rows, file)
"""
"""The program's own entry with each of many lists of arguments, in one process: some take half a minute to start."""


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


def _of_folder(module: str, *command: str) -> Look:
    return lambda place, folders: _calls(place, module, [[*command, str(folder)] for folder in folders])


def _of_files(place: Path, folders: Sequence[Path]) -> list[tuple[int, str]]:
    """fickling on each file that it takes for a pickle by its ending; -1 where there is none."""
    files = [
        [path for path in sorted(folder.rglob("*")) if path.suffix in PICKLE_ENDINGS and path.is_file()]
        for folder in folders
    ]
    command = ["fickling", "--check-safety", "--json-output", os.devnull]
    said = iter(_calls(place, "fickling.cli", [[*command, str(path)] for of in files for path in of]))
    found = [[next(said) for _ in of] for of in files]
    return [max(of, default=(-1, ""), key=lambda row: (row[0] == 1, row[0])) for of in found]


def _of_hub(place: Path, folders: Sequence[Path]) -> list[tuple[int, str]]:
    command = ["fickling", "--json-output", os.devnull, "--huggingface"]
    rows = _calls(place, "fickling.cli", [[*command, str(folder)] for folder in folders])
    return [(ERROR_CODE if "are required for" in words else code, words) for code, words in rows]


ERROR_CODE = 99
_FICKLING = {0: PASSED, 1: REFUSED, 2: ERROR, -1: NO_FILE}
PEERS: Mapping[str, Peer] = {
    "picklescan": Peer(
        package="picklescan",
        program="picklescan",
        look=_of_folder("picklescan.cli", "picklescan", "-p"),
        words={0: PASSED, 1: REFUSED},
        called="picklescan -p FOLDER",
    ),
    "picklescan_strict": Peer(
        package="picklescan",
        program="picklescan",
        look=_of_folder("picklescan.cli", "picklescan", "--strict", "-p"),
        words={0: PASSED, 1: REFUSED},
        called="picklescan --strict -p FOLDER",
    ),
    "modelscan": Peer(
        package="modelscan",
        program="modelscan",
        look=_of_folder("modelscan.cli", "modelscan", "-p"),
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
        called="fickling --huggingface FOLDER, with a stand-in for the hub that hands out the folder's files",
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
    done = subprocess.run([str(place / "python"), "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _calls(place: Path, module: str, calls: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Exit code and words of each call; nothing of the user's settings or of a hub is read."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "huggingface_hub.py").write_text(_HUB, encoding="utf-8")
        env = {"PATH": os.environ.get("PATH", ""), "HOME": home, "PYTHONWARNINGS": "ignore", "PYTHONPATH": home}
        rows = Path(home) / "rows.json"
        command = [str(place / "python"), "-c", _DRIVER, module, str(rows)]
        subprocess.run(command, input=json.dumps(calls), text=True, cwd=home, env=env, check=True, timeout=SECONDS)
        return [(code, words) for code, words in json.loads(rows.read_text(encoding="utf-8"))]


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
