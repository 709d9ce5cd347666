# SPDX-License-Identifier: Apache-2.0
"""A file that is the private data is refused: in part, in another order, spelled otherwise; others are taken."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from reticent.auditing.synthetic.private_overlap import is_near, letters, naive_overlap, near_of, overlap
from reticent.auditing.synthetic.synthetic_file import SyntheticFile, read_synthetic
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.canaries.passphrase import WORDS
from reticent.data.example import help_desk
from reticent.data.split import split

RNG = random.Random(5)
TEXTS = [" ".join(RNG.choices(WORDS, k=9)) for _ in range(80)]
RECORDS = [Record(id=f"r{number}", text=text) for number, text in enumerate(TEXTS)]
PAIRS = [Record(id=f"r{number}", prompt="A note:", completion=f" {text}") for number, text in enumerate(TEXTS)]
COINS = split(RECORDS, unit="record", seed=2)
IN = [text for text, member in zip(TEXTS, COINS.member, strict=True) if member]
OUT = [text for text, member in zip(TEXTS, COINS.member, strict=True) if not member]
OTHERS = [" ".join(RNG.choices(WORDS, k=9)) for _ in range(200)]


def read(folder: Path, rows: list[dict[str, str]], records: list[Record] = RECORDS) -> SyntheticFile:
    place = folder / "text.jsonl"
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_synthetic(str(place), records, COINS)


def plain(texts: list[str]) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def halves(texts: list[str]) -> list[str]:
    return [" ".join(part) for text in texts for part in (text.split()[:-1], text.split()[1:])]


def changed(text: str, place: int = 4, word: str = "otherwise") -> str:
    """With another word in one place."""
    words = text.split()
    return " ".join([*words[:place], word, *words[place + 1 :]])


def shown(text: str, change: Callable[[str], str]) -> str:
    return "".join(map(change, text))


@pytest.mark.parametrize(
    ("rows", "overlap"),
    [
        pytest.param(plain(IN), f"{len(IN)} of {len(IN)} texts .* trained on, and {len(IN)}", id="one side"),
        pytest.param(plain(OUT), f"{len(OUT)} of {len(OUT)} texts .* held out", id="the other side"),
        pytest.param(
            plain(TEXTS), "80 of 80 texts .* trained on or that were held out, and 80 of these 80", id="both sides"
        ),
        pytest.param(plain(random.Random(1).sample(TEXTS, 80)), "80 of 80", id="another order"),
        pytest.param(plain(TEXTS[:12]), "12 of 12 texts .* and 12 of these 80", id="a few records"),
        pytest.param(plain([*IN, *OTHERS]), f"{len(IN)} of {len(IN) + 200} texts", id="among many others"),
        pytest.param(plain(halves(IN)), f"0 of {2 * len(IN)} texts .*, {2 * len(IN)} are a part", id="cut into parts"),
        pytest.param(
            plain([changed(text, place % 9) for place, text in enumerate(IN)]),
            f"0 of {len(IN)} texts .*, {len(IN)} are one but for a word in 10, and 0 of",
            id="one word of each",
        ),
        pytest.param(
            plain([*map(changed, TEXTS)]), "0 of 80 texts .* or that were held out, 80 are", id="on both sides"
        ),
        pytest.param(
            plain([*IN[::2], *map(changed, IN[1::2])]), f"{len(IN[::2])} of {len(IN)} texts", id="of every other one"
        ),
        pytest.param(
            [{"prompt": " ".join(text.split()[:3]), "completion": " ".join(changed(text).split()[3:])} for text in IN],
            "but for a word",
            id="and fields",
        ),
        pytest.param(plain([text.upper() for text in IN]), "word for word", id="case"),
        pytest.param(plain([text.replace(" ", "\n\t ") for text in IN]), "word for word", id="blanks"),
        pytest.param(plain([text.replace(" ", "") for text in IN]), "word for word", id="no blanks"),
        pytest.param(plain([text.replace(" ", ", ") + "." for text in IN]), "word for word", id="punctuation"),
        pytest.param(
            plain([shown(text, lambda sign: chr(ord(sign) + 0xFEE0) if sign != " " else sign) for text in IN]),
            "word for word",
            id="full width",
        ),
        pytest.param(plain(["\u200b".join(text) for text in IN]), "word for word", id="blanks of no width"),
        pytest.param(plain([text.replace("a", "a\u00ad") for text in IN]), "word for word", id="soft hyphens"),
        pytest.param(
            [{"prompt": text[:20], "completion": text[20:]} for text in IN], "word for word", id="divided among fields"
        ),
        pytest.param([{"instruction": text[:9], "output": text[9:], "id": "7"} for text in IN], "word for", id="names"),
    ],
)
def test_private_data_is_refused_with_the_overlap(rows: list[dict[str, str]], overlap: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"is the private data: .*{overlap}"):
        read(tmp_path, rows)


@pytest.mark.parametrize("rows", [[f"A note: {text}" for text in IN], IN])
def test_prompts_and_completions_are_found_together_and_alone(rows: list[str], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is the private data"):
        read(tmp_path, plain(rows), PAIRS)


@pytest.mark.parametrize(
    ("texts", "copies"),
    [
        (OTHERS, (0, 0)),
        ([*IN[:20], *OTHERS[:20]], (20, 0)),  # a leak, and not the data: the audit says it
        (["thank you", *["ok"] * 30], (0, 0)),
        ([" ".join(reversed(text.split())) for text in TEXTS], (0, 0)),
    ],
)
def test_other_texts_are_taken_and_copies_counted(texts: list[str], copies: tuple[int, int], tmp_path: Path) -> None:
    file = read(tmp_path, plain(texts))
    assert (file.copies_of_members, file.copies_of_held_out) == copies


def test_texts_after_a_form_are_taken_though_they_differ_in_two_words() -> None:
    """And those that differ in one word are told from records whose owners do, where few of the records are there."""
    mails = help_desk(users=60, mails_per_user=2)
    other_half = [[str(mail.text)] for mail in mails[1::2]]
    assert overlap(other_half, mails[::2]).near == 0
    form = "please send parcel {} to {} before the end of this week"
    rows = [[form.format(number, number * 7)] for number in range(99)]
    assert overlap(rows, [Record(id="a", text=form.format(500, 501))]).near == 0


def test_a_word_of_each_completion_is_changed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="but for a word"):
        read(tmp_path, plain([*map(changed, IN)]), PAIRS)


@pytest.mark.parametrize("seed", range(4))
def test_texts_near_a_record_are_those_of_the_naive_way(seed: int) -> None:
    rng = random.Random(seed)
    texts = [changed(rng.choice(TEXTS), rng.randrange(9), rng.choice(WORDS)) for _ in range(40)]
    texts += [changed(changed(text, 1), 7) for text in rng.sample(TEXTS, 9)]
    numbered = [(number, text.split()) for number, text in enumerate(TEXTS)]
    naive = [next((n for n, record in numbered if is_near(text.split(), record)), None) for text in texts]
    assert near_of([[text] for text in texts], numbered) == [number for number in naive if number is not None]


def test_runs_that_no_text_has_take_no_memory() -> None:
    rng = random.Random(2)
    records = [(number, [f"w{rng.randrange(9000)}" for _ in range(60)]) for number in range(1000)]
    text = " ".join([*records[7][1][:-1], "other"])
    tracemalloc.start()
    try:
        assert near_of([[text]], records) == [7]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # all runs of all records: 20 million bytes
    finally:
        tracemalloc.stop()


def test_short_texts_that_everybody_writes_are_no_private_data(tmp_path: Path) -> None:
    short = [Record(id=f"r{number}", text=f"thank you {number % 30}") for number in range(80)]
    assert read(tmp_path, plain([f"thank you {number}" for number in range(9)]), short).copies_of_members > 0


def test_what_a_known_mechanism_repeats_is_for_the_audit_to_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "reticent.auditing.synthetic.synthetic_file.read_promise", lambda place: (None, "none"), raising=True
    )
    assert read(tmp_path, plain([*IN[:12], *IN[:12]])).copies_of_members == 24
    with pytest.raises(BadInput, match="is the private data"):
        read(tmp_path, plain(IN))


@pytest.mark.parametrize("seed", range(6))
def test_the_overlap_is_that_of_the_naive_way(seed: int) -> None:
    rng = random.Random(seed)
    records = [
        Record(id=f"t{n}", text=" ".join(rng.choices(WORDS[:6], k=rng.choice([0, 3, 8]))))
        if n % 2
        else Record(
            id=f"p{n}", prompt=rng.choice("ab"), completion=" ".join(rng.choices(WORDS[:6], k=rng.choice([1, 7])))
        )
        for n in range(24)
    ]
    rows = [(record.plain, record.plain) for record in rng.sample(records, 8)]
    rows += [(record.trained_text, record.plain) for record in rng.sample(records, 8)]
    rows += [(text := " ".join(record.plain.split()[1:]), text) for record in rng.sample(records, 8)]
    found = overlap(rows, records)
    assert (found.whole, found.parts, found.found) == naive_overlap(rows, records)
    assert found.texts == sum(any(map(letters, row)) for row in rows)
    assert found.records == len({letters(record.plain) for record in records} - {""})
