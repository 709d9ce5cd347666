# SPDX-License-Identifier: Apache-2.0
"""How much personal data is found, and how fast: ours against Presidio's default analyzer, on two public sets.

Both sets were made with templates and made-up people (github.com/microsoft/presidio-research, MIT), and share most of
their templates. Our rules were written with the first set at hand. Of the second one text was read, an address; after
its first measurement (recall of CARD 0.82) numbers of unknown issuers were taken for cards after words that say so.
"New templates" is the part of the second set whose templates are not in the first. Both detectors use the same small
spaCy model, without the network; Presidio's own default is a larger one.

A span counts as found **exactly** when start, end and class agree, and by **overlap** when it shares a character with a
span of its class. Recall is over marked spans, precision over found spans. Streets, towns, states and codes are one
class, PLACE, since the sets, Presidio and we cut them differently. Not compared: dates and times (we mark dates of
birth only), web addresses, titles, ages, nationalities. Intervals are Clopper-Pearson at 95 % as if spans were
independent; those of one template are not, so they are somewhat too narrow. Organisations are off by default: they are
measured with the detector ``organisations`` named, and so is what they cost (``without_organisations``).

"Pasted" are texts of our own, made by `reticent.testing.written_numbers` with a seed: numbers with odd blanks, hyphens
and line breaks, beside letters of other scripts, and addresses of internationalised domains. Patterns only.

    python benchmarks/pii_detection.py FOLDER --json benchmarks/results/pii_detection.json
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.data.pii import choose, find_all
from reticent.data.pii.detectors.names import reader
from reticent.data.pii.detectors.presidio import KINDS, analyzer
from reticent.stats.intervals import clopper_pearson
from reticent.testing.written_numbers import WrittenNumber, written_addresses, written_numbers

SETS = ("presidio_generated_large", "presidio_synth_dataset_v2")
GOLD = {
    "PERSON": "PERSON",
    "ORGANIZATION": "ORGANISATION",
    "LOCATION": "PLACE",
    "GPE": "PLACE",
    "ADDRESS": "PLACE",
    "STREET_ADDRESS": "PLACE",
    "ZIP_CODE": "PLACE",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
    "US_SSN": "US_SSN",
    "IP_ADDRESS": "IP_ADDRESS",
    "US_DRIVER_LICENSE": "DRIVER_LICENCE",
}
"""Types of the sets → classes that are compared."""
MERGED = {"LOCATION": "PLACE", "ADDRESS": "PLACE"}
CLASSES = tuple(dict.fromkeys(GOLD.values()))
NOT_IN_PRESIDIO = ("ORGANISATION",)
"""Presidio leaves organisations out unless told otherwise."""


PASTED, SEED = 6000, 1
Look = Callable[[list[str]], list[list["Marked"]]]


class Marked(NamedTuple):
    """A marked or found stretch."""

    start: int
    end: int
    kind: str


def gold(row: dict[str, Any]) -> list[Marked]:
    """What the set marks of the compared types."""
    spans = row["spans"]
    return [
        Marked(s["start_position"], s["end_position"], GOLD[s["entity_type"]])
        for s in spans
        if s["entity_type"] in GOLD
    ]


def ours(*, without: Sequence[str] = (), named: str = "") -> Look:
    """Our detectors that run by default but some, and further ones."""
    chosen = [found for found in choose() if found.name not in without] + (choose(named) if named else [])

    def look(texts: list[str]) -> list[list[Marked]]:
        return [
            [Marked(s.start, s.end, MERGED.get(s.kind, s.kind)) for s in found] for found in find_all(texts, chosen)
        ]

    return look


def presidio(texts: list[str]) -> list[list[Marked]]:
    """Everything that it finds; types of its own keep their names and count for coverage only."""
    kinds = {name: MERGED.get(kind, kind) for name, kind in KINDS.items()}
    found = (analyzer().analyze(text, language="en") for text in texts)
    return [
        sorted({Marked(one.start, one.end, kinds.get(one.entity_type, one.entity_type)) for one in spans})
        for spans in found
    ]


def overlaps(one: Marked, others: Sequence[Marked]) -> bool:
    return any(one.kind == other.kind and one.start < other.end and other.start < one.end for other in others)


def share(hits: int, n: int) -> dict[str, Any]:
    if n == 0:
        return {"value": None, "lo": None, "hi": None, "n": 0}
    lo, hi = clopper_pearson(hits, n)
    return {"value": hits / n, "lo": float(lo), "hi": float(hi), "n": n}


def scores(truth: list[list[Marked]], found: list[list[Marked]], kind: str) -> dict[str, Any]:
    """Precision, recall and F1 of one class by both rules."""
    result: dict[str, Any] = {}
    for rule in ("exact", "overlap"):
        hit: Callable[[Marked, list[Marked]], bool] = overlaps if rule == "overlap" else lambda one, many: one in many
        marked = [(one, there) for here, there in zip(truth, found, strict=True) for one in here if one.kind == kind]
        given = [(one, here) for here, there in zip(truth, found, strict=True) for one in there if one.kind == kind]
        recall = share(sum(hit(one, there) for one, there in marked), len(marked))
        precision = share(sum(hit(one, here) for one, here in given), len(given))
        p, r = precision["value"] or 0.0, recall["value"] or 0.0
        result[rule] = {"precision": precision, "recall": recall, "f1": 2 * p * r / (p + r) if p + r else 0.0}
    return result


def covered(truth: list[list[Marked]], found: list[list[Marked]]) -> dict[str, Any]:
    """Marked spans of the compared types that lie whole under found spans of any type: what a scrubber would remove."""
    hits = n = 0
    for here, there in zip(truth, found, strict=True):
        places = {place for one in there for place in range(one.start, one.end)}
        hits += sum(places.issuperset(range(one.start, one.end)) for one in here)
        n += len(here)
    return share(hits, n)


def template(row: dict[str, Any]) -> str:
    """Words of the template, all types of slots alike."""
    return " ".join(re.findall(r"\w+", re.sub(r"\{\{.*?\}\}", "X", row["masked"]).lower()))


def measure(texts: list[str], truth: list[list[Marked]], look: Look, new: Sequence[bool]) -> dict[str, Any]:
    """Speed and scores over all texts, and scores over those of new templates."""
    reader.cache_clear()  # stretches of words that another look has read are known, and take no time
    look(texts[:20])
    began, cpu = time.perf_counter(), time.process_time()
    found = look(texts)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    return {
        "documents_per_second": len(texts) / seconds,
        "documents_per_cpu_second": len(texts) / cpu_seconds,
        "covered": covered(truth, found),
        "classes": {kind: scores(truth, found, kind) for kind in CLASSES},
        "new_templates": {
            "covered": covered(list(compress(truth, new)), list(compress(found, new))),
            "classes": {kind: scores(list(compress(truth, new)), list(compress(found, new)), kind) for kind in CLASSES},
        },
    }


def pasted() -> dict[str, Any]:
    """Precision and recall of exact spans by kind, and recall by separator and by what is around."""
    rows: list[WrittenNumber] = [*written_numbers(PASTED, seed=SEED), *written_addresses(PASTED // 3, seed=SEED)]
    texts = [row.text for row in rows]
    truth = [[Marked(row.span.start, row.span.end, row.span.kind)] for row in rows]
    look = ours(without=("names",))
    began = time.process_time()
    found = look(texts)
    seconds = time.process_time() - began
    hits = [one in there for (one,), there in zip(truth, found, strict=True)]

    def recall(of: Callable[[WrittenNumber], str]) -> dict[str, Any]:
        names = dict.fromkeys(map(of, rows))
        return {
            name: share(
                sum(hit for hit, row in zip(hits, rows, strict=True) if of(row) == name),
                sum(of(row) == name for row in rows),
            )
            for name in names
        }

    return {
        "documents": len(rows),
        "documents_per_cpu_second": len(rows) / seconds,
        "classes": {kind: scores(truth, found, kind)["exact"] for kind in dict.fromkeys(row.span.kind for row in rows)},
        "recall_by_separator": recall(lambda row: row.separator),
        "recall_by_surroundings": recall(lambda row: row.around),
    }


def cell(one: dict[str, Any]) -> str:
    return "–" if one["value"] is None else f"{one['value']:.2f} [{one['lo']:.2f}, {one['hi']:.2f}]"


def table(name: str, documents: int, ours_: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Markdown: F1 by both rules, precision and recall by overlap."""
    head = "| type | n | ours P | ours R | F1 (exact) | Presidio P | Presidio R | F1 (exact) |\n" + "|---" * 8 + "|"
    lines = [f"**{name}**, {documents} texts\n", head]
    for kind in CLASSES:
        cells = []
        n = ours_["classes"][kind]["overlap"]["recall"]["n"]
        for who in (ours_, theirs):
            one = who["classes"][kind]
            if n == 0 or (who is theirs and kind in NOT_IN_PRESIDIO):
                cells += ["–", "–", "–"]
                continue
            over = one["overlap"]
            cells += [cell(over["precision"]), cell(over["recall"]), f"{over['f1']:.2f} ({one['exact']['f1']:.2f})"]
        lines.append(f"| {kind} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sets", nargs="*", default=SETS)
    options = parser.parse_args()
    results: dict[str, Any] = {"environment": environment(), "load_average": os.getloadavg()[0], "sets": {}}
    seen: set[str] = set()
    for name in options.sets:
        rows = json.loads((options.folder / f"{name}.json").read_text(encoding="utf-8"))
        texts, truth = [row["full_text"] for row in rows], [gold(row) for row in rows]
        new = [template(row) not in seen for row in rows]
        result = {
            "documents": len(rows),
            "documents_of_new_templates": sum(new),
            "ours": measure(texts, truth, ours(named="organisations"), new),
            "without_organisations": measure(texts, truth, ours(), new),
            "patterns_only": measure(texts, truth, ours(without=("names",)), new),
            "presidio": measure(texts, truth, presidio, new),
        }
        results["sets"][name] = result
        print(table(name, len(rows), result["ours"], result["presidio"]), "\n")
        if seen:
            parts = [result[who]["new_templates"] for who in ("ours", "presidio")]
            print(table(f"{name}, new templates", sum(new), *parts), "\n")
        seen |= {template(row) for row in rows}
        for who in ("ours", "without_organisations", "patterns_only", "presidio"):
            speed, cover = result[who]["documents_per_cpu_second"], cell(result[who]["covered"])
            print(f"{who}: {speed:.0f} documents a CPU second; {cover} of marked spans are covered whole")
        print()
    results["pasted"] = made = pasted()
    print(f"pasted: {made['documents']} texts, {made['documents_per_cpu_second']:.0f} a CPU second")
    for kind, one in made["classes"].items():
        print(f"| {kind} | {one['recall']['n']} | {cell(one['precision'])} | {cell(one['recall'])} |")
    if options.json:
        write_text(options.json, json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
