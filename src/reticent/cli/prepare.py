# SPDX-License-Identifier: Apache-2.0
"""`reticent prepare`: find and scrub personal data before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from reticent.core.atomic import write_text
from reticent.core.progress import console
from reticent.intake import DataConfig


def prepare(
    data: str,
    *,
    out: str = "prepared.parquet",
    scrub: Literal["surrogate", "placeholder", "mask"] | None = None,
    dedup: Literal["exact", "near"] | None = None,
    detectors: str | None = None,
    key_file: str | None = None,
    data_config: DataConfig,
) -> int:
    """Find personal data and secrets in records, scrub them if asked to, and write records with spans and a data card.

    The card (a JSON file beside the records, and a short table) has counts only: no text, no value, no user's name.
    Detection misses some; docs/personal_data.md says how much of what.

    Args:
        data: JSONL, CSV, Parquet, mbox or Maildir, a folder or hub id of Hugging Face datasets.
        out: where to write the records: a .parquet or .jsonl file. It holds private text, even scrubbed.
        scrub: "surrogate" puts made-up values of the same form, the same for the same value; "placeholder" the
            type in brackets; "mask" three asterisks. Left out, personal data is marked and stays.
        dedup: "exact" drops copies, "near" also near-copies. Left out, they are counted.
        detectors: names separated by commas; left out, all that can run here (names need the extra pii).
        key_file: keep the key of surrogates here, so that other runs give the same ones. Keep it secret.
    """
    from reticent.intake import read_data
    from reticent.prepare import prepare as run_prepare

    records, rejects = read_data(data, data_config)
    done = run_prepare(
        records,
        out=out,
        scrub=scrub,
        dedup=dedup,
        detectors=detectors,
        key_file=key_file,
        source=Path(data).name,
    )
    if rejects:
        listed = done.out.with_suffix(".rejects.jsonl")
        write_text(listed, rejects)
        n = rejects.count("\n")
        console.print(f"{n} bad rows skipped; see {listed}", style="yellow", highlight=False, soft_wrap=True)
    _show(done.card)
    console.print(f"records: {done.out}\ndata card: {done.card_path}", highlight=False, soft_wrap=True)
    return 0


def _show(card: dict[str, Any]) -> None:
    table = Table("type", "spans", "records", "users", "values", "in several records", box=None)
    for kind, counts in card["kinds"].items():
        table.add_row(kind or "(marked before)", *(f"{count:,}" for count in counts.values()))
    console.print(table if card["kinds"] else "No personal data found.", highlight=False)
    for line in _lines(card):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(card: dict[str, Any]) -> list[str]:
    records, sensitive, copies, users = card["records"], card["sensitive"], card["copies"], card["users"]
    near = "not counted" if copies["near"] is None else f"{copies['near']:,}"
    lines = [
        f"{sensitive['records']:,} of {records['kept']:,} records hold personal data "
        f"({100 * sensitive['share_of_characters']:.1f} % of the characters); "
        f"{sensitive['spans_in_trained_text']:,} of {sensitive['spans']:,} spans are in what is trained on",
        f"exact copies: {copies['exact']:,}; near-copies: {near}; dropped: {copies['dropped']:,}",
    ]
    if users["users"]:
        share = 100 * users["largest_shares"][0]
        lines.append(
            f"users: {users['users']:,}, {sensitive['users']:,} of them with personal data; the largest has "
            f"{share:.1f} % of the records; {users['records_without']:,} records have no user"
        )
    if "names" not in card["detectors"]["ran"]:
        lines.append('names of people, organisations and places were NOT looked for: pip install "reticent[pii]"')
    if "scrub" in card:
        done = card["scrub"]
        lines.append(
            f"scrubbed: {done['replaced']:,} spans ({done['style']}); {done['values_still_there']:,} values still "
            f"stand where nothing was marked; {done['renamed_users']:,} users and {done['renamed_ids']:,} ids renamed"
        )
    return lines
