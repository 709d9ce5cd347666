# SPDX-License-Identifier: Apache-2.0
"""Make data ready: drop copies, find personal data, scrub it, look for what was missed; write records and a card."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from reticent.core import validate
from reticent.core.atomic import refuse_folder, replacing, replacing_together, write_text
from reticent.core.errors import BadInput, Unusable
from reticent.core.lock import locked
from reticent.core.manifest import environment, now
from reticent.core.membership import Membership
from reticent.core.outputs import OutputKind, file_to_write, hash_of, listed, marked, refuse_empty
from reticent.core.processes import refuse_several
from reticent.core.progress import progress
from reticent.core.record import Record, Span, fingerprint, write_records
from reticent.core.secret import Secret
from reticent.data import card as cards
from reticent.data.dedup import DroppedRecord, write_dropped
from reticent.data.dedup.rules import DedupResult, deduplicate, named
from reticent.data.ids import Naming, is_digest
from reticent.data.mapped_records import RecordSink
from reticent.data.pii import DETECTORS, SCRUBBED, Detector, Scrubber, choose, find, originals
from reticent.data.pii.detect import detect_beside
from reticent.data.pii.missed import others, targets, unscrubbed
from reticent.data.pii.patterns import pattern_detectors
from reticent.data.pii.surrogate import KEY_BYTES
from reticent.data.pii.workers import Workers, enough
from reticent.data.secrets_file import secrets_beside, write_secrets
from reticent.report.data_card import write_data_card

SUFFIXES = (".parquet", ".jsonl")
MARKS = ("scrub", "check")
CARD, PAGE = ".card.json", ".card.html"
LISTS = (".dropped.jsonl", ".targets.jsonl", ".rejects.jsonl")
"""Ends of the names of the lists beside the records."""

DATA_CARD = OutputKind(name="data card", is_ours=lambda path: _is_card(path))
CARD_PAGE = marked("data card's page", '<meta name="generator" content="reticent data card">')

Coins = Callable[[Sequence[Record]], Membership]
"""The membership that a split would give the records as they are written."""


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """The records and files that were written.

    Args:
        records: as written, with spans.
        card: counts, without any text, name of a user or value: what is in the JSON file beside the records.
        out: the records.
        card_path: the card.
        dropped: copies that were left out; in ``dropped_path``, if any.
        targets: what the scrubber missed, as far as it is known; in ``targets_path``, if any.
        rejects: rows of the data that were skipped; in ``rejects_path``, if any.
    """

    records: Sequence[Record]
    card: dict[str, Any]
    out: Path
    card_path: Path
    dropped: tuple[DroppedRecord, ...]
    targets: tuple[Secret, ...]
    rejects: str = ""

    @property
    def rejects_path(self) -> Path:
        return self.out.with_suffix(".rejects.jsonl")

    @property
    def dropped_path(self) -> Path:
        return self.out.with_suffix(".dropped.jsonl")

    @property
    def page_path(self) -> Path:
        return self.out.with_suffix(PAGE)

    @property
    def targets_path(self) -> Path:
        return secrets_beside(self.out)


def prepare(
    records: Sequence[Record],
    *,
    out: str | Path,
    scrub: str | None = None,
    dedup: str | None = None,
    detectors: str | None = None,
    patterns: Mapping[str, str] | None = None,
    marks: str = "scrub",
    key_file: str | Path | None = None,
    source: str = "",
    coins: Coins | None = None,
    rejects: str = "",
    inputs: Mapping[str, str | Path | None] | None = None,
) -> PreparedData:
    """Find personal data in records, scrub it where asked to, and write them with spans, and a data card beside them.

    Copies are dropped first, then data is found, then scrubbed. Spans that the records had are kept; where something
    was put in place of them, their kind is `SCRUBBED`. Whoever belongs to a record stays the same; only under ``scrub``
    do users and ids that are themselves personal data (a sender's address; a hash of the text) get pseudonyms.

    All detectors that do not scrub look through the same texts. What they find and the scrubber left is written as
    targets beside the records: `reticent tune` takes them along, and the audit of the run tries to get them out.

    Args:
        records: with unique ids.
        out: ``.parquet`` or ``.jsonl``. What an earlier call wrote there is replaced whole, with all that lies beside
            it, or left as it was where anything fails. Anything else there is refused.
        scrub: ``"surrogate"``, ``"placeholder"``, ``"mask"``, or None to mark only.
        dedup: names of `dedup.rules.RULES`, separated by commas; None to count only.
        detectors: their names, separated by commas; None for all that run by default here.
        patterns: kind → regular expression of one's own, beside the detectors: `pii.patterns.pattern_detectors`.
        marks: what the spans that the records have are for: ``"scrub"`` scrubs them as well; ``"check"`` leaves them to
            the detectors, and those that they overlook become targets. With ``scrub`` only.
        key_file: holds the key of surrogates; made where there is none. Without it a key is made and forgotten.
        source: what the card calls the data.
        coins: throws the coins that training would throw; the card counts them.
        rejects: rows of the data that were skipped, as `intake.Reading` has them; listed beside the records.
        inputs: what else is read and where it lies, such as the file of the records: nothing is written there.

    Raises:
        BadInput: an unknown choice, no records, a file that is no key, a place that cannot be written to, or several
            processes.

    Examples:
        >>> mails = [Record(id="a", text="Write to ana@example.org"), Record(id="b", text="Write to ana@example.org")]
        >>> prepared = prepare(mails, out="prepared.jsonl", scrub="placeholder", dedup="exact", detectors="email")
        >>> [record.text for record in prepared.records], len(prepared.dropped)
        (['Write to [EMAIL]'], 1)
    """
    refuse_several("reticent.workflows.prepare")
    out = check_places(out, key_file=key_file, scrub=scrub, inputs=inputs)
    plan = _planned(scrub=scrub, dedup=dedup, detectors=detectors, patterns=patterns, marks=marks, key_file=key_file)
    if not records:
        raise BadInput(source or "the data", "holds no record", "Give at least one.")
    once, detected, beside = _detected(records, plan)
    card = _card(detected, once, plan, source=source, given=records)
    written = _scrubbed(records, once, detected, beside, plan) if plan.scrubber else _Output(detected, once.dropped)
    card |= written.counts
    card["coins"] = _coins(coins, written.records)
    card["fingerprint"] = {"given": fingerprint(records), "written": fingerprint(written.records)}
    done = PreparedData(
        records=written.records,
        card=card,
        out=out,
        card_path=out.with_suffix(CARD),
        dropped=written.dropped,
        targets=written.targets,
        rejects=rejects,
    )
    with locked(out):
        check_places(out, key_file=key_file, scrub=scrub, inputs=inputs)  # another process may have been faster
        _keep_key(key_file, plan.key)
        _write(done)
    return done


def check_places(
    out: str | Path,
    *,
    key_file: str | Path | None = None,
    scrub: str | None = None,
    inputs: Mapping[str, str | Path | None] | None = None,
) -> Path:
    """``out``, where it and all that is written beside it may be written; refused before anything is read.

    Raises:
        BadInput: a place that is an input, or holds what `prepare` did not write; a format that cannot be written; a
            key that nothing needs.
    """
    refuse_empty("out", out)
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise BadInput(str(out), "is of no format that can be written", f"Name it with one of: {', '.join(SUFFIXES)}.")
    if key_file is not None:
        refuse_empty("key_file", key_file)
        if scrub is None:
            raise BadInput(
                f"key_file={str(key_file)!r}", "is only used to scrub", "Give --scrub surrogate, or leave it out."
            )
    read = {"the key": key_file, **(inputs or {})}
    card = out.with_suffix(CARD)
    for path in (out, *(out.with_suffix(suffix) for suffix in LISTS)):
        file_to_write(path, listed(card, "file"), inputs=read)
    file_to_write(card, DATA_CARD, inputs=read)
    file_to_write(out.with_suffix(PAGE), CARD_PAGE, inputs=read)
    return out


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The choices of a call.

    Args:
        rules: of `deduplicate`.
        detectors: that mark, and scrub where there is a ``scrubber``.
        looking: detectors that look for what was missed.
        check: whether the marks that the records have are kept from the detectors.
        key: of the surrogates.
    """

    rules: Sequence[str]
    detectors: Sequence[Detector]
    looking: Sequence[Detector]
    scrubber: Scrubber | None
    check: bool
    key: bytes


def _planned(
    *,
    scrub: str | None,
    dedup: str | None,
    detectors: str | None,
    patterns: Mapping[str, str] | None,
    marks: str,
    key_file: str | Path | None,
) -> _Plan:
    """The choices, checked before anything is done."""
    validate.one_of(MARKS, marks=marks)
    if marks == "check" and scrub is None:
        raise BadInput("marks='check'", "checks a scrubber, and nothing is scrubbed", "Give --scrub, or leave it out.")
    rules, key = named(dedup), _key(key_file)
    scrubber = None if scrub is None else Scrubber(style=scrub, key=key)
    chosen = [*choose(detectors), *pattern_detectors(patterns or {})]
    looking = [] if scrubber is None else others(chosen)
    return _Plan(rules=rules, detectors=chosen, looking=looking, scrubber=scrubber, check=marks == "check", key=key)


def _key(path: str | Path | None) -> bytes:
    """The key in a file; a fresh one without a file."""
    if path is None or not Path(path).exists():
        return secrets.token_bytes(KEY_BYTES)
    path = Path(path)
    refuse_folder(path)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        fix = "Name a file that does not exist: a key is made there. Keep it secret, it can test guesses."
        raise BadInput(str(path), "holds no key of 64 hexadecimal digits", fix)
    return key


def _is_card(path: Path) -> bool:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(card, dict) and {"format", "made", "files"} <= card.keys()


def _keep_key(path: str | Path | None, key: bytes) -> None:
    """Write a fresh key; another process's, made meanwhile, is no longer the one that was used."""
    if path is None:
        return
    path = Path(path)
    if not path.exists():
        write_text(path, key.hex() + "\n")
    elif _key(path) != key:
        raise Unusable(str(path), "was made by another process meanwhile", "Run the same command again.")


def _detected(records: Sequence[Record], plan: _Plan) -> tuple[DedupResult, Sequence[Record], list[tuple[Span, ...]]]:
    """Records without copies; the same with spans on what is to be scrubbed; for each what the others find.

    Processes load their models while copies are looked for.
    """
    chosen = [*plan.detectors, *plan.looking]
    many = enough([len(record.plain) for record in records], chosen)
    with Workers(chosen, processes=many) as workers:
        once = deduplicate(records, plan.rules)
        plain = [replace(record, spans=()) for record in once.records] if plan.check else once.records
        with progress("Finding personal data", len(plain), unit="records") as advance:
            marked, beside = RecordSink(), []
            for record, spans in detect_beside(plain, workers, plan.looking, advance):
                marked.add(record)
                beside.append(spans)
    return once, marked.records(), beside


class _Output(NamedTuple):
    """Records to write, copies that are not, targets; for the card, in counts, how much was scrubbed and missed."""

    records: Sequence[Record]
    dropped: tuple[DroppedRecord, ...]
    targets: tuple[Secret, ...] = ()
    counts: Mapping[str, Any] = MappingProxyType({})


def _scrubbed(
    given: Sequence[Record],
    once: DedupResult,
    records: Sequence[Record],
    beside: Sequence[Sequence[Span]],
    plan: _Plan,
) -> _Output:
    """Records with every value that a detector found replaced.

    Args:
        given: all records. Ids that were made of their texts could confirm what one guesses of a text, so they are made
            again, of what is written.
        once: those without copies, with the marks that they had.
        records: the same with spans on what is to be scrubbed.
        beside: what detectors that do not scrub found in each before it was scrubbed.
    """
    assert plan.scrubber is not None
    scrubber = replace(plan.scrubber, avoid=originals(records))
    digests = {record.id for record in given if is_digest(record)}
    names = {name for record in records for name in (record.id, record.user) if name}
    names = (names | {name for copy in once.dropped for name in (copy.id, copy.kept)}) - digests
    personal = {name for name in names if _is_personal(name, plan.detectors)}
    renamed = {name: scrubber.pseudonym(name) if name in personal else name for name in names}
    done, still = _replaced(records, scrubber, renamed, digests)
    left: list[Secret] = []
    for before, record, new, seen in zip(once.records, records, done, beside, strict=True):
        leftover = unscrubbed(before.spans, record, new) if plan.check else ()
        left += targets(new, [*leftover, *unscrubbed(seen, record, new)])
    scrubbing = {
        "style": scrubber.style,
        "replaced": sum(len(record.spans) for record in done),
        "renamed_users": len({record.user for record in records} & personal),
        "renamed_ids": len({record.id for record in records} & personal),
        "values_still_there": still,
        "copies_made": len(done) - len({record.content_hash for record in done}),
    }
    missed = cards.missed(left, [detector.name for detector in plan.looking], marks=plan.check)
    return _Output(done, _renamed(once.dropped, renamed), tuple(left), {"scrub": scrubbing, "missed": missed})


def _replaced(
    records: Sequence[Record], scrubber: Scrubber, renamed: dict[str, str], digests: set[str]
) -> tuple[Sequence[Record], int]:
    """Scrubbed records under new names, and how many values are still there, marked nowhere.

    Args:
        renamed: new names of users and ids; those of the ids in ``digests`` are added.
        digests: ids that are made of a text, and again of the scrubbed one.
    """
    naming = Naming("r")
    done, still = RecordSink(), 0
    with progress("Scrubbing", len(records), unit="records") as advance:
        for record in records:
            new = scrubber.scrub(record)
            still += sum(value in new.plain for value in _long_values(record))
            user = renamed[record.user] if record.user else record.user
            new = replace(new, user=user, spans=tuple(replace(span, kind=SCRUBBED) for span in new.spans))
            if record.id in digests:
                renamed[record.id] = naming(new)
            done.add(replace(new, id=renamed[record.id]))
            advance(1)
    return done.records(), still


def _renamed(dropped: Sequence[DroppedRecord], renamed: Mapping[str, str]) -> tuple[DroppedRecord, ...]:
    """The list of copies under new names; a copy whose id was made of its text is named after the record it repeats."""
    return tuple(
        DroppedRecord(renamed.get(copy.id, f"{renamed[copy.kept]}-copy{number}"), renamed[copy.kept], copy.why)
        for number, copy in enumerate(dropped, start=1)
    )


def _coins(throw: Coins | None, records: Sequence[Record]) -> dict[str, Any] | None:
    """Counts of who would be in, or why no coins can be thrown."""
    if throw is None:
        return None
    try:
        return cards.coins(throw(records))
    except BadInput as error:
        return {"refused": f"{error.why}. {error.fix}"}


def _is_personal(name: str, detectors: Sequence[Detector]) -> bool:
    """True where a user's or record's name holds personal data by its form; models of names take any word for one."""
    return any(span.kind != "ADDRESS" for span in find(name, [detector for detector in detectors if detector.evidence]))


def _long_values(record: Record, shortest: int = 4) -> set[str]:
    text = record.plain
    return {text[span.start : span.end] for span in record.spans if span.end - span.start >= shortest}


def _card(
    records: Sequence[Record],
    once: DedupResult,
    plan: _Plan,
    *,
    source: str,
    given: Sequence[Record],
) -> dict[str, Any]:
    """The content of the data, in counts. It is made before scrubbing."""
    return {
        "format": 2,
        "made": now(),
        "source": source,
        "environment": environment(),
        "detectors": {
            "ran": [detector.name for detector in plan.detectors],
            "did_not": sorted(set(DETECTORS.names()) - {detector.name for detector in plan.detectors}),
        },
        "records": {
            "given": len(given),
            "kept": len(records),
            "characters": sum(len(record.plain) for record in records),
        },
        "copies": {**once.counts, "dropped": len(once.dropped), "rules": list(plan.rules)},
        "users": cards.users(records),
        "sensitive": cards.sensitive(records),
        "kinds": cards.kinds(records),
    }


def _write(done: PreparedData) -> None:
    """Records, lists, card and page, all or nothing; lists of an earlier run that have nothing in them now go.

    Records and lists have no room for a mark, so the card tells them by their hashes from files of somebody else. While
    they are moved to their places it lists those that go and those that come, and nothing else: who needs to know how
    records were made finds an unfinished card, not that of other records.
    """
    lists = {suffix: done.out.with_suffix(suffix) for suffix in LISTS}
    before = {path.name: hash_of(path) for path in (done.out, *lists.values()) if path.is_file()}
    paths = [done.out, *lists.values(), done.page_path, done.card_path]
    with replacing_together(paths, public=(done.page_path, done.card_path)) as temporary:
        _write_records(temporary[done.out], done.records)
        if done.dropped:
            write_dropped(temporary[lists[".dropped.jsonl"]], done.dropped)
        if done.targets:
            write_secrets(temporary[lists[".targets.jsonl"]], done.targets)
        if done.rejects:
            write_text(temporary[lists[".rejects.jsonl"]], done.rejects)
        there = [path for path in (done.out, *lists.values()) if temporary[path].exists()]
        files = {path.name: hash_of(temporary[path]) for path in there}
        done.card["files"] = files
        write_data_card(temporary[done.page_path], done.card)
        write_text(temporary[done.card_path], json.dumps(done.card, indent=2) + "\n")
        unfinished = {"format": done.card["format"], "made": done.card["made"], "files": files, "before": before}
        write_text(done.card_path, json.dumps(unfinished, indent=2) + "\n", private=False)
        for path in lists.values():
            if not temporary[path].exists():
                path.unlink(missing_ok=True)


def _write_records(out: Path, records: Sequence[Record]) -> None:
    if out.suffix == ".parquet":
        write_records(out, records)
        return
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(_row(record), ensure_ascii=False) + "\n")


def _row(record: Record) -> dict[str, Any]:
    """The fields that the record has; spans and user are always there, so that readers see the fields in every row."""
    row = asdict(record) | {"messages": None if record.messages is None else [turn.row for turn in record.messages]}
    shape = {name: row[name] for name in ("text", "prompt", "completion", "messages") if row[name] is not None}
    return {"id": record.id, "user": record.user, **shape, "spans": [_span(span) for span in record.spans]}


def _span(span: Span) -> dict[str, Any]:
    return {"start": span.start, "end": span.end, "kind": span.kind}
