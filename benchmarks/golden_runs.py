# SPDX-License-Identifier: Apache-2.0
"""Hold the numbers of two versions of this package against each other, around a change that is to change none.

``make`` runs the same commands with the package in ``--source``: a run with secrets and an audit, an audit of
a model that learned nothing, one with all kinds of attack on, a private run, data preparation and a comparison, on a
tiny model and made-up mails. ``compare`` holds every value of the results of two such folders against each other. What
was renamed is said by a file: ``{"keys": {"old": "new"}, "values": {"old": "new"}}``, for field names (each part of a
path) and for whole strings; a key ``old.path`` with a dot renames a whole path. Times, versions and the environment
are left out. Random keys (of names in reports, of noise) are fixed, so that private runs can be compared too.

``make --real`` runs `reticent demo` on its real model instead (`reticent fetch-model smollm2-135m` first), with fewer
users, secrets and epochs.

    python benchmarks/golden_runs.py make runs/before --source ../before/src
    python benchmarks/golden_runs.py make runs/after --source src --given runs/before
    python benchmarks/golden_runs.py compare runs/before runs/after --renames renames.json
    python benchmarks/golden_runs.py make runs/demo_before --source ../before/src --real
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIXED = """
import hashlib, secrets, sys
drawn = 0
def token_bytes(count=None):
    global drawn
    drawn += 1
    return hashlib.shake_256(b"golden%d" % drawn).digest(count or 32)
secrets.token_bytes = token_bytes
secrets.token_hex = lambda count=None: token_bytes(count).hex()
"""
"""Random keys that are the same in every run."""

COMMAND_LINE = """
from reticent.cli.main import main
sys.exit(main(sys.argv[1:]))
"""

DEMO = """
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
demo = import_module("reticent.workflows.demo" if find_spec("reticent.workflows") else "reticent.demo")
demo.USERS, demo.MAILS_PER_USER = 80, 4
demo.CANARIES = replace(demo.CANARIES, canaries=24, canary_controls=60)
demo.TUNING = replace(demo.TUNING, epochs=1, device="cpu")
demo.AUDIT = replace(demo.AUDIT, device="cpu")
demo.demo("demo")
"""
"""The demo at a size that one core does in minutes, wherever a version keeps it."""

GIVEN = """
import json, sys
from pathlib import Path
from reticent.core.record import Record
from reticent.data.example import help_desk
from reticent.testing.tiny import save_tiny
out = Path(sys.argv[1])
save_tiny(out / "base")
with (out / "mails.jsonl").open("w", encoding="utf-8") as file:
    for mail in help_desk(users=60, mails_per_user=4):
        file.write(json.dumps({"id": mail.id, "user": mail.user, "text": mail.text}) + "\\n")
"""

FEW = ("--epochs", "2", "--batch_size", "16", "--max_tokens", "48", "--dtype", "float32", "--device", "cpu")
HERE = ("--dtype", "float32", "--device", "cpu")
TUNE = ("tune", "given/mails.jsonl", "--model", "given/base", "--learning_rate", "0.01", *FEW)
COMMANDS: tuple[tuple[str, ...], ...] = (
    (*TUNE, "--out", "run", "--split_unit", "user", "--canaries", "24", "--canary_controls", "60", "--monitor"),
    ("audit", "run", *HERE),
    ("tune", "given/mails.jsonl", "--model", "given/base", "--learning_rate", "1e-9", *FEW, "--out", "learned_nothing"),
    ("audit", "learned_nothing", *HERE),
    ("prepare", "given/mails.jsonl", "--out", "prepared.jsonl", "--dedup", "near", "--detectors", "email,phone"),
    ("tune", "prepared.jsonl", "--model", "given/base", "--learning_rate", "0.01", *FEW, "--out", "all",
     "--spans_field", "spans", "--canaries", "24", "--canary_controls", "60"),
    ("audit", "all", *HERE, "--extraction", "--extraction_samples", "2", "--identifiers", "--whitebox",
     "--shadow", "4"),
    (*TUNE, "--out", "private", "--split_unit", "user", "--epsilon", "8", "--unit", "user"),
    ("audit", "private", *HERE),
    ("compare", "given/mails.jsonl", "--model", "given/base", "--out", "comparison", "--methods", "full,head",
     "--learning_rates", "1e-2", "--seeds", "0,1", "--epochs", "1", "--panel", "30", "--jobs", "1",
     "--max_tokens", "48", *HERE),
)  # fmt: skip
RESULTS = ("results.json", "comparison.json", ".card.json", "promise.json", "manifest.json")
"""How the names of files end that are compared."""
UNORDERED = ("not_tested",)
"""Lists of sentences whose order means nothing."""
IDENTITY = ("attack", "level", "metric")
"""Fields that tell one finding from another."""
TIMES = re.compile(
    r"^(created|finished|made|.*seconds?.*|.*runtime|.*per_second|total_flos|overhead|time.*|before|environment|version)$"
)
"""Fields that differ from run to run by what they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make")
    making.add_argument("out", type=Path)
    making.add_argument("--source", type=Path, default=Path("src"), help="folder that holds the package")
    making.add_argument("--given", type=Path, help="an earlier folder whose model and mails are taken")
    making.add_argument("--real", action="store_true", help="the demo on the real model, smaller: minutes on a core")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--renames", type=Path)
    chosen = parser.parse_args()
    if chosen.verb == "make":
        source = chosen.source.resolve()
        make_real(chosen.out, source) if chosen.real else make(chosen.out, source, chosen.given)
        return
    renames = json.loads(chosen.renames.read_text(encoding="utf-8")) if chosen.renames else {}
    sys.exit(compare(chosen.before, chosen.after, renames))


def make(out: Path, source: Path, given: Path | None) -> None:
    """Run all commands in a new folder."""
    env = opened(out, source)
    if given is None:
        (out / "given").mkdir()
        subprocess.run([sys.executable, "-c", GIVEN, "given"], cwd=out, env=env, check=True)
    else:
        shutil.copytree(given / "given", out / "given")
    for command in COMMANDS:
        print(" ".join(command), file=sys.stderr)
        subprocess.run(
            [sys.executable, "-c", FIXED + COMMAND_LINE, *command],
            cwd=out,
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def make_real(out: Path, source: Path) -> None:
    """Run the demo in a new folder. The fetched model is linked to: all else that a cache keeps is made anew."""
    where = "from reticent.models.catalog import cache_folder; print(cache_folder().resolve())"
    env = os.environ | {"PYTHONPATH": str(source)}
    models = subprocess.run([sys.executable, "-c", where], env=env, check=True, capture_output=True, text=True).stdout
    env = opened(out, source)
    Path(env["RETICENT_CACHE"]).mkdir()
    (Path(env["RETICENT_CACHE"]) / "models").symlink_to(models.strip())
    subprocess.run([sys.executable, "-c", FIXED + DEMO], cwd=out, env=env, check=True, stdout=subprocess.DEVNULL)


def opened(out: Path, source: Path) -> dict[str, str]:
    """The environment of commands that run in a new folder, with a cache of its own."""
    out.mkdir(parents=True)
    cache = out.resolve() / "cache"
    return os.environ | {"PYTHONPATH": str(source), "RETICENT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def compare(before: Path, after: Path, renames: dict[str, dict[str, str]]) -> int:
    """Print what differs; 0 where nothing does."""
    keys, values = renames.get("keys", {}), renames.get("values", {})
    old = {renamed(path, keys): values.get(leaf, leaf) if isinstance(leaf, str) else leaf for path, leaf in of(before)}
    new = dict(of(after))
    only = sorted(old.keys() ^ new.keys())
    differ = [path for path in sorted(old.keys() & new.keys()) if old[path] != new[path]]
    for path in only:
        print(f"only {'before' if path in old else 'after'}: {path} = {(old | new)[path]!r:.100}")
    for path in differ:
        print(f"{path}: {old[path]!r:.100} -> {new[path]!r:.100}")
    numbers = sum(isinstance(leaf, int | float) and not isinstance(leaf, bool) for leaf in new.values())
    print(f"{len(new)} values, {numbers} of them numbers; {len(only)} on one side only, {len(differ)} differ")
    return int(bool(only or differ) or not new)


def of(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every value of every file of results, by ``file:path.to.it``."""
    for path in sorted(folder.rglob("*.json")):
        name = str(path.relative_to(folder))
        if name.endswith(RESULTS) and not name.startswith(("given/", "cache/")):
            for place, leaf in leaves(json.loads(path.read_text(encoding="utf-8"))):
                yield f"{name}:{place}", leaf


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What is neither an object nor a list, by where it is."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if not TIMES.match(key):
                yield from leaves(entry, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for name, entry in named_rows(value, unordered=place in UNORDERED):
            yield from leaves(entry, f"{place}.{name}")
    else:
        yield place, value


def named_rows(rows: list[Any], *, unordered: bool = False) -> Iterator[tuple[str, Any]]:
    """The rows of a list by name: findings by their identity, whose order means nothing, sentences of an ``unordered``
    list by themselves, all others by their number."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        name = str(number)
        if isinstance(row, dict) and set(IDENTITY) <= row.keys():
            name = "/".join(str(row[key]) for key in (*IDENTITY, "method"))
        elif unordered and isinstance(row, str):
            name = row
        name = name.replace(".", ",")
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}", row


def renamed(path: str, keys: dict[str, str]) -> str:
    """The path under its new names."""
    file, place = path.split(":", 1)
    for old, new in keys.items():
        if "." in old:
            place = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, place)
    return f"{file}:" + ".".join(keys.get(part, part) for part in place.split("."))


if __name__ == "__main__":
    main()
