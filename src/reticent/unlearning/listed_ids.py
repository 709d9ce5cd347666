# SPDX-License-Identifier: Apache-2.0
"""Ids that a person names, in a list or in a file, held against those that there are."""

from __future__ import annotations

import difflib
import gzip
import unicodedata
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.data.fields import USUAL_USER
from reticent.data.labels import ID_FIELDS
from reticent.data.readers.reader import BadRow, lines_of, open_binary, rows_of

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
"""Ends of names of files that have fields; of other files each line is an id."""
FIELDS = {"user": USUAL_USER, "record": ID_FIELDS}
SHOWN = 5
"""Ids that a message lists before it counts the rest."""
MOST_COMPARED = 5_000
"""Ids that a mistyped one is held against letter by letter: of 100,000, that takes a second each."""


def listed_ids(
    given: str | Sequence[str], *, flag: str, kind: str, present: Collection[str], others: Collection[str] = ()
) -> tuple[str, ...]:
    """The ids that ``given`` names, as they stand in the run, once each and in order.

    An id counts as it is written; where there is none, without blanks at its ends, and in the other Unicode form of the
    same letters.

    Args:
        given: ids; or as a text: an id, several with commas between them, or the path of a file.
        flag: that it was given with.
        kind: ``"user"`` or ``"record"``.
        present: ids of this kind in the run.
        others: ids of the other kind, to tell a person who took the wrong flag.

    Raises:
        BadInput: an id that is not there, with the nearest that are; a file that names none or cannot be read; a text
            that is an id and a file.

    Examples:
        >>> listed_ids("ana, bo", flag="forget_users", kind="user", present={"ana", "bo", "cy"})
        ('ana', 'bo')
        >>> listed_ids("anna", flag="forget_users", kind="user", present={"ana", "bo"})
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: --forget_users 'anna': is no user of this run, and no file. Did you mean 'ana'?
    """
    entries, from_file = _entries(given, flag, kind, present)
    forms: dict[str, list[str]] = {}
    for name in present:
        forms.setdefault(_form(name), []).append(name)
    chosen: dict[str, None] = {}
    missing: dict[str, None] = {}
    for entry in entries:
        alike = [entry] if entry in present else forms.get(_form(entry), [])
        if len(alike) > 1:
            raise BadInput(
                f"--{flag} {shown([entry])}",
                f"may be {' or '.join(map(repr, sorted(alike)))}",
                "Write it as it stands in the data.",
            )
        (chosen if alike else missing)[alike[0] if alike else entry] = None
    if missing:
        raise _not_there(list(missing), flag, kind, present, others, is_file=from_file or not isinstance(given, str))
    return tuple(chosen)


def shown(ids: Sequence[str]) -> str:
    """A few ids for a message, and how many more there are.

    >>> shown(["a", "b"]), shown(list("abcdefgh"))
    ("'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 3 more")
    """
    few = ", ".join(repr(name if len(name) <= 80 else name[:80] + "…") for name in ids[:SHOWN])
    return few + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")


def nearest(name: str, present: Collection[str], *, most: int = 3) -> list[str]:
    """Ids that somebody may have meant by ``name``: the same number, the same letters in another case, near ones."""
    number = _number(name)
    if number is not None and (same := sorted(other for other in present if _number(other) == number)):
        return same[:most]
    folded = name.strip().casefold()
    if same := sorted(other for other in present if other.strip().casefold() == folded):
        return same[:most]
    near = [other for other in present if abs(len(other) - len(name)) <= max(2, len(name) // 3)]
    if len(near) > MOST_COMPARED:
        near = [other for other in near if other[:2].casefold() == folded[:2] or other[-2:].casefold() == folded[-2:]]
    return difflib.get_close_matches(name[:200], sorted(near)[:MOST_COMPARED], n=most)


def _entries(given: str | Sequence[str], flag: str, kind: str, present: Collection[str]) -> tuple[Sequence[str], bool]:
    """The entries, and True if they stand in a file."""
    if not isinstance(given, str):
        return given, False
    path = Path(given).expanduser()
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # too long, or with a NUL: no path
        is_file = is_folder = False
    if given in present and is_file:
        raise BadInput(
            f"--{flag} {given!r}",
            f"is a {kind} of this run and a file here",
            f"Write './{given}' for the file, or '{given},' for the {kind}.",
        )
    if given in present:
        return [given], False
    if is_file:
        return _of_file(path, flag, kind), True
    entries = [entry.strip() for entry in given.split(",") if entry.strip()]
    if not entries:
        raise BadInput(f"--{flag}={given[:80]!r}", "names nothing", "Give ids, or a file with one a line.")
    if is_folder:
        raise BadInput(f"--{flag} {given!r}", f"is a folder, and no {kind} of this run", "Give a file with ids.")
    return entries, False


def _of_file(path: Path, flag: str, kind: str) -> list[str]:
    name = path.name.lower().removesuffix(".gz")
    entries = _of_table(str(path), flag, kind) if name.endswith(TABLES) else _lines(str(path))
    if not entries:
        raise BadInput(f"--{flag} {path}", "is empty, so it names nothing", "Write one id on each line.")
    return entries


def _of_table(source: str, flag: str, kind: str) -> list[str]:
    entries = []
    for row in rows_of(source):
        if isinstance(row, BadRow):
            raise BadInput(row.place, row.why, row.fix)
        field = next((name for name in FIELDS[kind] if row.fields.get(name) not in (None, "")), None)
        if field is None:
            raise BadInput(
                row.place,
                f"has no {kind} for --{flag}, only the fields {', '.join(repr(str(name)[:80]) for name in row.fields)}",
                f"Name the field {FIELDS[kind][0]!r}, or give a file of text (.txt) with one id on each line.",
            )
        entries.append(str(row.fields[field]))
    return entries


def _lines(source: str) -> list[str]:
    """The lines of a file that hold anything, without their ends."""
    entries: list[str] = []
    try:
        with open_binary(source) as file:
            for number, raw in lines_of(source, file):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                entries += [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start + 1} of a line is 0x{error.object[error.start]:02x})"
        raise BadInput(source, reason, "Save the file as UTF-8.") from error
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(source, f"cannot be read ({error})", "Check the file, its permissions and the disk.") from error
    return entries


def _not_there(
    missing: Sequence[str],
    flag: str,
    kind: str,
    present: Collection[str],
    others: Collection[str],
    *,
    is_file: bool,
) -> BadInput:
    given = f"--{flag} {shown(missing)}"
    names = f"is no {kind} of this run" if len(missing) == 1 else f"are no {kind}s of this run"
    if not is_file:
        names += ", and no file" if len(missing) == 1 else ", and no files"
    if not present:
        return BadInput(given, f"{names}: its records have no {kind}s", "Name records (--forget_ids, --forget_file).")
    crossed = [name for name in missing if name in others]
    if crossed:
        other = "record" if kind == "user" else "user"
        right = "--forget_ids" if kind == "user" else "--forget_users"
        return BadInput(given, f"{names}; {shown(crossed)} names a {other}", f"Use {right} for {other}s.")
    hints = [hint for name in missing[:3] for hint in nearest(name, present)[: 3 if len(missing) == 1 else 1]]
    near = list(dict.fromkeys(hints))
    if near:
        fix = f"Did you mean {' or '.join(map(repr, near))}?"
    else:
        fix = f"The run has {len(present):,} {kind}s, such as {shown(sorted(present)[:2])}."
    return BadInput(given, names, fix)


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _number(name: str) -> int | float | None:
    text = name.strip()
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except (ValueError, OverflowError):
        return None
