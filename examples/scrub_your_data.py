# SPDX-License-Identifier: Apache-2.0
"""Find personal data in texts and put made-up values in its place, before any model sees it; leave a data card.

    python examples/scrub_your_data.py --out prepared.parquet

The card counts what was found by kind, and what was dropped as a copy. What a scrubber finds is never all there is: the
made-up mails have marks of their own, which are kept from it, so what it missed is known here.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import reticent
from reticent.data import choose, find, help_desk


def main() -> None:
    parser = argparse.ArgumentParser(description="Scrub made-up mails.")
    parser.add_argument("--out", type=Path, default=Path("prepared.parquet"))
    parser.add_argument("--users", type=int, default=120)
    given = parser.parse_args()

    text = "Please call +44 20 7946 0123 or write to ana@example.org."
    for span in find(text, choose("phone,email")):
        print(f"{span.kind}: {text[span.start : span.end]}")

    prepared = reticent.prepare(
        help_desk(users=given.users, mails_per_user=4),
        out=given.out,
        scrub="surrogate",
        marks="check",
        dedup="exact",
    )
    print(f"{len(prepared.records)} mails written, {len(prepared.dropped)} copies dropped")
    missed = Counter(secret.kind for secret in prepared.targets)
    print("missed: " + ", ".join(f"{count} of kind {kind}" for kind, count in missed.most_common()))
    print(f"data card: {prepared.page_path}")


if __name__ == "__main__":
    main()
