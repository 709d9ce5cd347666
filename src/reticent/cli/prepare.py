# SPDX-License-Identifier: Apache-2.0
"""`reticent prepare`: find and scrub personal data before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from reticent.core.membership import Membership
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.data.dedup import drop_exact_duplicates
from reticent.data.split_config import SplitConfig, throw_coins
from reticent.workflows.inputs import DataConfig

if TYPE_CHECKING:
    from reticent.workflows.prepare import PreparedData

USUAL = (
    "out",
    "scrub",
    "dedup",
    "detectors",
    "patterns",
    "text_field",
    "user_field",
    "id_field",
    "spans_field",
    "key_file",
)


def command(
    data: str,
    *,
    out: str = "prepared.parquet",
    scrub: Literal["surrogate", "placeholder", "mask"] | None = None,
    dedup: str | None = None,
    detectors: str | None = None,
    patterns: dict[str, str] | None = None,
    marks: Literal["scrub", "check"] = "scrub",
    key_file: str | None = None,
    data_config: DataConfig,
    split_config: SplitConfig,
) -> int:
    """Find personal data and secrets in records, scrub them if asked to, and write records with spans and a data card.

    The card (a page and a JSON file beside the records, and a short table) has counts only: no text, no value, no name.
    Detection misses some; docs/personal_data.md says how much of what. What other detectors find in scrubbed text is
    listed beside the records: `reticent tune` takes the list along, and `reticent audit` tries to get it out.

    Args:
        data: JSONL, CSV, Parquet, mbox or Maildir, a folder or hub id of Hugging Face datasets.
        out: where to write the records: a .parquet or .jsonl file. It holds private text, even scrubbed.
        scrub: "surrogate" puts made-up values of the same form, the same for the same value; "placeholder" the
            type in brackets; "mask" three asterisks. Left out, personal data is marked and stays.
        dedup: rules separated by commas: "exact" drops copies, "near" also near-copies, "user" what a user repeats,
            "substring" records of which half or more are passages of earlier ones. Left out, they are counted.
        detectors: names separated by commas; left out, all that can run here (names need the extra pii).
        patterns: regular expressions for what only your data has, by type: {"ORDER": "BW-[0-9]{6}"}.
        marks: what marks that the data has (--spans-field) are for: "scrub" scrubs them as well; "check" leaves them to
            the detectors, and lists those that they miss.
        key_file: keep the key of surrogates here, so that other runs give the same ones. Keep it secret.
    """
    from reticent.workflows.inputs import read_data
    from reticent.workflows.prepare import check_places
    from reticent.workflows.prepare import prepare as run_prepare

    inputs = {"the data": data}
    check_places(out, key_file=key_file, scrub=scrub, inputs=inputs)
    records, rejects = read_data(data, data_config)
    done = run_prepare(
        records,
        out=out,
        scrub=scrub,
        dedup=dedup,
        detectors=detectors,
        patterns=patterns,
        marks=marks,
        key_file=key_file,
        source=Path(data).name,
        coins=lambda rows: _coins(rows, split_config),
        rejects=rejects,
        inputs=inputs,
    )
    if rejects:
        n = rejects.count("\n")
        console.print(f"{n} bad rows skipped; see {done.rejects_path}", style="yellow", highlight=False, soft_wrap=True)
    _show(done.card)
    for what, path in _files(done):
        console.print(f"{what}: {path}", highlight=False, soft_wrap=True)
    return 0


def _coins(records: Sequence[Record], config: SplitConfig) -> Membership:
    """The coins that `reticent tune` throws where there is no promise and the ids are kept (--id-field id)."""
    return throw_coins(drop_exact_duplicates(records, within_users=config.copies_within_users()).records, config)


def _files(done: PreparedData) -> list[tuple[str, Path]]:
    files = [("records", done.out), ("data card", done.page_path)]
    if done.dropped:
        files.append(("dropped copies", done.dropped_path))
    if done.targets:
        files.append(("missed, for the audit", done.targets_path))
    return files


def _show(card: dict[str, Any]) -> None:
    table = Table("type", "spans", "records", "users", "values", "in several records", box=None)
    for kind, counts in card["kinds"].items():
        table.add_row(kind or "(marked before)", *(f"{count:,}" for count in counts.values()))
    console.print(table if card["kinds"] else "No personal data found.", highlight=False)
    for line in _lines(card):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(card: dict[str, Any]) -> list[str]:
    records, sensitive = card["records"], card["sensitive"]
    lines = [
        f"{sensitive['records']:,} of {records['kept']:,} records hold personal data "
        f"({100 * sensitive['share_of_characters']:.1f} % of the characters); "
        f"{sensitive['spans_in_trained_text']:,} of {sensitive['spans']:,} spans are in what is trained on",
        _copies(card["copies"]),
    ]
    if card["users"]["users"]:
        lines.append(_users(card["users"], sensitive["users"]))
    if card["coins"] is not None:
        lines.append(_thrown(card["coins"]))
    if "names" not in card["detectors"]["ran"]:
        lines.append('names of people, organisations and places were NOT looked for: pip install "reticent[pii]"')
    if "scrub" in card:
        done = card["scrub"]
        lines.append(
            f"scrubbed: {done['replaced']:,} spans ({done['style']}); {done['values_still_there']:,} values still "
            f"stand where nothing was marked; {done['renamed_users']:,} users and {done['renamed_ids']:,} ids renamed"
        )
        lines.append(_missed(card["missed"]))
    return lines


def _copies(copies: dict[str, Any]) -> str:
    labels = {
        "exact": "exact copies",
        "user": "repeats of a user",
        "near": "near-copies",
        "substring": "quoting others",
    }
    counts = (f"{words}: {copies[rule]:,}" for rule, words in labels.items() if copies[rule] is not None)
    return f"{'; '.join(counts)}; dropped: {copies['dropped']:,}"


def _users(users: dict[str, Any], with_data: int) -> str:
    return (
        f"users: {users['users']:,}, {with_data:,} of them with personal data; the largest has "
        f"{100 * users['largest_shares'][0]:.1f} % of the records; {users['records_without']:,} records have no user"
    )


def _thrown(coins: dict[str, Any]) -> str:
    if "refused" in coins:
        return f"coins: none can be thrown ({coins['refused'].rstrip('.')})"
    users = f", {coins['users_in']:,} users in and {coins['users_out']:,} out" if "users_in" in coins else ""
    return f"coins by {coins['unit']}: {coins['records_in']:,} records would be trained on{users}"


def _missed(missed: dict[str, Any]) -> str:
    if not missed["looked"]:
        return 'what the scrubber missed was NOT looked for, all detectors scrubbed: pip install "reticent[pii]"'
    kinds = ", ".join(f"{n:,} {kind or 'marked'}" for kind, n in missed["kinds"].items())
    return (
        f"missed by the scrubber, as {', '.join(missed['looked'])} see it: {missed['passages']:,} passages in "
        f"{missed['records']:,} records{f' ({kinds})' if kinds else ''}"
    )
