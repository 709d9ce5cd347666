# SPDX-License-Identifier: Apache-2.0
"""Make data ready: find personal data, scrub it, drop copies, write the records with spans and a data card."""

from __future__ import annotations

import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reticent.core import validate
from reticent.core.atomic import replacing, write_text
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now
from reticent.core.progress import progress
from reticent.core.record import Record, Span, fingerprint, write_records
from reticent.data.dedup import drop_exact_duplicates, near_copies
from reticent.data.pii import DETECTORS, Detector, Scrubber, choose, detect, find, originals
from reticent.data.pii.surrogate import KEY_BYTES

MAX_NEAR = 50_000
"""More texts than this, and near-duplicates are counted only when they are to be dropped: it takes minutes."""
SUFFIXES = (".parquet", ".jsonl")
TOP_USERS = 5


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was written.

    Args:
        records: as written, with spans.
        card: counts, without any text, name of a user or value: what is in the JSON file beside the records.
        out: the records.
        card_path: the card.
    """

    records: list[Record]
    card: dict[str, Any]
    out: Path
    card_path: Path


def prepare(
    records: Sequence[Record],
    *,
    out: str | Path,
    scrub: str | None = None,
    dedup: str | None = None,
    detectors: str | None = None,
    key_file: str | Path | None = None,
    source: str = "",
) -> Prepared:
    """Find personal data in records, scrub it where asked to, and write them with spans, and a data card beside them.

    Copies are dropped first, then data is found, then scrubbed. Spans that the records had are kept. Whoever belongs
    to a record stays the same; only under ``scrub`` do users and ids that are themselves personal data (a sender's
    address) get pseudonyms.

    Args:
        records: with unique ids.
        out: ``.parquet`` or ``.jsonl``; replaced whole, or left as it was where anything fails.
        scrub: ``"surrogate"``, ``"placeholder"``, ``"mask"``, or None to mark only.
        dedup: ``"exact"``, ``"near"``, or None to count only.
        detectors: their names, separated by commas; None for all that run by default here.
        key_file: holds the key of surrogates; made where there is none. Without it a key is made and forgotten.
        source: what the card calls the data.

    Raises:
        BadInput: an unknown choice, no records, a file that is no key, or a place that cannot be written to.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise BadInput(str(out), "is of no format that can be written", f"Name it with one of: {', '.join(SUFFIXES)}.")
    if dedup is not None:
        validate.one_of(("exact", "near"), dedup=dedup)
    scrubber = None if scrub is None else Scrubber(style=scrub, key=_key(key_file))
    if not records:
        raise BadInput(source or "the data", "holds no record", "Give at least one.")
    chosen = choose(detectors)
    kept, copies = _without_copies(list(records), dedup)
    found = _detected(kept, chosen)
    card = _card(found, copies=copies, detectors=chosen, source=source, given=records)
    if scrubber is not None:
        found, card["scrub"] = _scrubbed(found, replace(scrubber, avoid=originals(found)), chosen)
    card["fingerprint"] = {"given": fingerprint(records), "written": fingerprint(found)}
    card_path = out.with_suffix(".card.json")
    _write(out, found)
    write_text(card_path, json.dumps(card, indent=2) + "\n")
    return Prepared(records=found, card=card, out=out, card_path=card_path)


def _key(path: str | Path | None) -> bytes:
    """The key in a file, made where there is no such file; a fresh one without a file."""
    if path is None:
        return secrets.token_bytes(KEY_BYTES)
    path = Path(path)
    if not path.exists():
        with replacing(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_hex(KEY_BYTES) + "\n", encoding="ascii")
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        fix = "Name a file that does not exist: a key is made there. Keep it secret, it can test guesses."
        raise BadInput(str(path), "holds no key of 64 hexadecimal digits", fix)
    return key


def _without_copies(records: list[Record], dedup: str | None) -> tuple[list[Record], dict[str, Any]]:
    """Records without the copies that are to go, and how many copies of each sort there were."""
    once = drop_exact_duplicates(records)
    near: int | None = None
    kept = records if dedup is None else once.records
    if dedup == "near" or len(once.records) <= MAX_NEAR:
        copy = near_copies([record.plain for record in once.records])
        near = int(copy.sum())
        if dedup == "near":
            kept = [record for record, gone in zip(once.records, copy, strict=True) if not gone]
    return kept, {"exact": once.dropped, "near": near, "dropped": len(records) - len(kept), "rule": dedup}


def _detected(records: Sequence[Record], detectors: Sequence[Detector]) -> list[Record]:
    found = []
    with progress("Finding personal data", len(records), unit="records") as advance:
        for record in records:
            found.append(detect(record, detectors))
            advance(1)
    return found


def _scrubbed(
    records: list[Record], scrubber: Scrubber, detectors: Sequence[Detector]
) -> tuple[list[Record], dict[str, Any]]:
    """Scrubbed records, and what was done, with a count of the values that are still there: marked nowhere else."""
    names = {name for record in records for name in (record.id, record.user) if name}
    personal = {name for name in names if _is_personal(name, detectors)}
    renamed = {name: scrubber.pseudonym(name) if name in personal else name for name in names}
    done, left = [], 0
    with progress("Scrubbing", len(records), unit="records") as advance:
        for record in records:
            new = scrubber.scrub(record)
            left += sum(value in new.plain for value in _long_values(record))
            done.append(replace(new, id=renamed[record.id], user=renamed[record.user] if record.user else record.user))
            advance(1)
    return done, {
        "style": scrubber.style,
        "replaced": sum(len(record.spans) for record in done),
        "renamed_users": len({record.user for record in records} & personal),
        "renamed_ids": len({record.id for record in records} & personal),
        "values_still_there": left,
        "copies_made": len(done) - len({record.content_hash for record in done}),
    }


def _is_personal(name: str, detectors: Sequence[Detector]) -> bool:
    """Whether a user's or record's name holds personal data by its form; models of names take any word for one."""
    return any(span.kind != "ADDRESS" for span in find(name, [one for one in detectors if one.evidence]))


def _long_values(record: Record, shortest: int = 4) -> set[str]:
    text = record.plain
    return {text[span.start : span.end] for span in record.spans if span.end - span.start >= shortest}


def _card(
    records: Sequence[Record],
    *,
    copies: dict[str, Any],
    detectors: Sequence[Detector],
    source: str,
    given: Sequence[Record],
) -> dict[str, Any]:
    """What is in the data, in counts. It is made before scrubbing."""
    users = Counter(record.user for record in records if record.user is not None)
    sensitive = [record for record in records if record.spans]
    characters = sum(len(record.plain) for record in records)
    idle = sorted(set(DETECTORS.names()) - {found.name for found in detectors})
    shares = sorted(users.values(), reverse=True)
    return {
        "format": 1,
        "made": now(),
        "source": source,
        "environment": environment(),
        "detectors": {"ran": [found.name for found in detectors], "did_not": idle},
        "records": {"given": len(given), "kept": len(records), "characters": characters},
        "copies": copies,
        "users": {
            "users": len(users),
            "records_without": sum(record.user is None for record in records),
            "median_records": float(np.median(shares)) if shares else None,
            "largest_shares": [round(n / len(records), 6) for n in shares[:TOP_USERS]],
        },
        "sensitive": {
            "spans": sum(len(record.spans) for record in records),
            "records": len(sensitive),
            "users": len({record.user for record in sensitive if record.user is not None}),
            "share_of_characters": round(_covered(sensitive) / characters, 6) if characters else 0.0,
            "spans_in_trained_text": sum(_trained_spans(record) for record in sensitive),
        },
        "kinds": _kinds(records),
    }


def _kinds(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """By kind: spans, records and users with one, distinct values, and values that are in more than one record."""
    spans: Counter[str] = Counter()
    holders: defaultdict[str, set[str]] = defaultdict(set)
    users: defaultdict[str, set[str]] = defaultdict(set)
    values: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        text = record.plain
        for kind in {span.kind for span in record.spans}:
            here = [text[span.start : span.end].casefold() for span in record.spans if span.kind == kind]
            spans[kind] += len(here)
            holders[kind].add(record.id)
            values[kind].update(set(here))
            if record.user is not None:
                users[kind].add(record.user)
    return {
        kind: {
            "spans": n,
            "records": len(holders[kind]),
            "users": len(users[kind]),
            "values": len(values[kind]),
            "values_in_several_records": sum(count > 1 for count in values[kind].values()),
        }
        for kind, n in spans.most_common()
    }


def _covered(records: Sequence[Record]) -> int:
    """Characters under spans."""
    return sum(len({i for span in record.spans for i in range(span.start, span.end)}) for record in records)


def _trained_spans(record: Record) -> int:
    """Spans that touch what is trained on; the others are only read by the model as context."""
    place, count = 0, 0
    for trained, piece in record.pieces:
        end = place + len(piece)
        count += sum(trained and span.start < end and span.end > place for span in record.spans)
        place = end + 1
    return count


def _write(out: Path, records: Sequence[Record]) -> None:
    if out.suffix == ".parquet":
        write_records(out, records)
        return
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(_row(record), ensure_ascii=False) + "\n")


def _row(record: Record) -> dict[str, Any]:
    """The fields that the record has; spans and user are always there, so that readers see the fields in every row."""
    row = asdict(record)
    shape = {name: row[name] for name in ("text", "prompt", "completion", "messages") if row[name] is not None}
    return {"id": record.id, "user": record.user, **shape, "spans": [_span(span) for span in record.spans]}


def _span(span: Span) -> dict[str, Any]:
    return {"start": span.start, "end": span.end, "kind": span.kind}
