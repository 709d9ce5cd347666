# SPDX-License-Identifier: Apache-2.0
"""Copies and quotations against a slow obvious twin, and what must and must not be called one."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.record import Message, Record
from reticent.data.dedup.near import CONTAINMENT, JACCARD, MIN_CONTAINED, WORDS
from reticent.data.words import units
from reticent.unlearning import shared_phrases
from reticent.unlearning.normal_text import normal_text
from reticent.unlearning.shared_phrases import MOST_HOLDERS, MOST_ROWS, PASSAGE, Overlap, overlaps

RNG = random.Random(0)
WORDS_OF = [f"w{number}" for number in range(4000)]


def text(n, rng=RNG):
    return " ".join(rng.choice(WORDS_OF) for _ in range(n))


def mail(name, content, user=None):
    return Record(id=name, text=content, user=user)


def phrases(record):
    words = units(record.trained_text)
    return [tuple(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)]


def slow_overlaps(asked, others):
    """By sets and all pairs, one rule after the other."""
    rows = [*asked, *others]
    writers, holders = {}, {}
    for number, record in enumerate(rows):
        for phrase in set(phrases(record)):
            writers.setdefault(phrase, set()).add(record.user if record.user is not None else number)
            holders.setdefault(phrase, set()).add(number)
    least, share, most = MOST_HOLDERS
    n_writers = len({record.user if record.user is not None else number for number, record in enumerate(rows)})
    too_many = min(max(least, int(share * n_writers)), most)
    forms = {phrase for phrase in writers if len(writers[phrase]) > too_many or len(holders[phrase]) > MOST_ROWS}
    index = {phrase for record in asked for phrase in phrases(record)}
    found, passages = [], set()
    for place, other in enumerate(others):
        here = phrases(other)

        def longest(counts, through, here=here):
            best = run = 0
            for phrase in here:
                if phrase not in index or (phrase in forms and not through and not counts):
                    run = 0
                elif counts or phrase not in forms:
                    run += 1
                best = max(best, run)
            return best

        if longest(counts=True, through=True) >= PASSAGE:
            passages.add(place)
        same = [n for n, record in enumerate(asked) if normal_text(record.plain) == normal_text(other.plain)]
        theirs = set(here) - forms
        n_other = len([phrase for phrase in here if phrase not in forms or phrase not in index])
        sizes = [(len(set(phrases(record)) - forms), len((set(phrases(record)) - forms) & theirs)) for record in asked]
        alike = [
            (-common, n, "repeats")
            for n, (size, common) in enumerate(sizes)
            if common and common >= JACCARD * (size + n_other - common) and min(size, n_other) >= MIN_CONTAINED
        ]
        quoting = [
            (-common, n, "quotes")
            for n, (size, common) in enumerate(sizes)
            if common and common >= CONTAINMENT * size and size >= MIN_CONTAINED
        ]
        passing = [
            (-common, n, "passage")
            for n, (size, common) in enumerate(sizes)
            if common and longest(counts=False, through=True) >= PASSAGE
        ]
        related = {n for _, n, _ in alike + quoting} | {n for common, n, _ in passing if -common >= PASSAGE} | set(same)
        for candidates in (alike, quoting, passing):
            if candidates:
                common, n, kind = min(candidates)
                sources = tuple(sorted(related | {n}))
                found.append(Overlap(place, n, kind, min(1.0, -common / sizes[n][0]), sources))
                break
        if same:
            sources = found.pop().sources if found and found[-1].other == place else tuple(same)
            found.append(Overlap(place, same[0], "repeats", 1.0, sources))
    return tuple(found), len(passages - {row.other for row in found})


def without_share(row):
    return row._replace(share=0)


def altered(content, rng):
    """The text with some words changed, or a part of it, with something before and after it."""
    words = content.split()
    start = rng.randrange(len(words) // 2)
    part = words[start : start + rng.randrange(len(words) // 2, len(words) + 1)] if rng.random() < 0.6 else words
    part = [word if rng.random() > rng.choice([0, 0, 0.03, 0.2]) else rng.choice(WORDS_OF) for word in part]
    lines = "\n> ".join(" ".join(part[line : line + 9]) for line in range(0, len(part), 9))
    return f"{text(rng.randrange(40), rng)}\n> {lines}\n{text(rng.randrange(40), rng)}"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("block", [2, 7, 2_000])
def test_against_the_slow_twin(seed, block, monkeypatch):
    monkeypatch.setattr(shared_phrases, "_BLOCK", block)
    rng = random.Random(seed)
    footer = text(rng.choice([8, 40]), rng)
    asked = [
        mail(f"a{n}", text(rng.randrange(2, 90), rng) + (f"\n{footer}" if rng.random() < 0.5 else ""), f"u{n % 3}")
        for n in range(8)
    ]
    others = []
    for n in range(60):
        source = rng.choice(asked)
        content = altered(source.trained_text, rng) if rng.random() < 0.5 else text(rng.randrange(1, 60), rng)
        if rng.random() < 0.4:
            content += f"\n{footer}"
        user = rng.choice([None, f"v{n % 20}", "u0"])
        others.append(mail(f"o{n}", source.trained_text if rng.random() < 0.1 else content, user))
    found = overlaps(asked, others)
    rows, form_letters = slow_overlaps(asked, others)
    assert [without_share(row) for row in found.rows] == [without_share(row) for row in rows]
    assert [row.share for row in found.rows] == pytest.approx([row.share for row in rows])
    assert found.form_letters == form_letters
    assert {row.kind for row in rows} == {"repeats", "quotes", "passage"} or len(rows) > 5


MAIL = text(120)


def test_a_quoted_mail_in_a_longer_one_is_found_whatever_its_layout():
    lines = MAIL.split()
    quoted = "\n".join("> > " + " ".join(lines[n : n + 8]) for n in range(0, 120, 8))
    long = f"{text(900)}\n{quoted}\n{text(900)}"
    found = overlaps([mail("a", MAIL)], [mail("o", text(50)), mail("q", long.upper())])
    assert found.rows == (Overlap(1, 0, "quotes", 1.0, (0,)),)


def test_a_part_of_a_mail_is_a_passage_from_35_words_on():
    words = MAIL.split()
    for length, kinds in ((35, ["passage"]), (34, [])):
        other = mail("q", f"{text(200)} {' '.join(words[40 : 40 + length])} {text(200)}")
        assert [row.kind for row in overlaps([mail("a", MAIL)], [other]).rows] == kinds


def test_a_short_text_is_a_copy_only_as_a_whole():
    greeting = "A happy new year to all of you"
    others = [mail("b", "> A happy new year\n> to all of you"), mail("c", f"{greeting}! {text(20)}"), mail("d", "Yes")]
    assert overlaps([mail("a", greeting)], others).rows == (Overlap(0, 0, "repeats", 1.0, (0,)),)


def test_what_is_not_trained_on_is_no_copy():
    asks = Record(id="p", prompt=MAIL, completion="Thanks.")
    answers = Record(id="c", messages=(Message(role="user", content="So?"), Message(role="assistant", content=MAIL)))
    yes = [Record(id=str(n), prompt=f"Question {n}", completion="Yes, I think so") for n in range(2)]
    assert [row.other for row in overlaps([mail("a", MAIL)], [asks, answers]).rows] == [1]
    assert overlaps(yes[:1], yes[1:]).rows == ()


def test_a_disclaimer_is_no_quotation_and_is_counted():
    footer = text(60)
    many = [mail(f"o{n}", f"{text(30)}\n{footer}", f"v{n}") for n in range(40)]
    asked = mail("a", f"{MAIL}\n{footer}", "u")
    reply = mail("r", f"{text(10)}\n> {MAIL}\n> {footer}", "w")
    found = overlaps([asked], [*many, reply])
    assert [(row.other, row.kind) for row in found.rows] == [(40, "repeats")]
    assert found.form_letters == 40
    few = overlaps([asked], [*many[:5], reply])
    assert [row.kind for row in few.rows] == ["passage"] * 5 + ["repeats"]
    assert few.form_letters == 0


def test_a_letter_that_all_sent_is_the_same_letter():
    found = overlaps([mail("a", MAIL, "u")], [mail(f"o{n}", MAIL, f"v{n}") for n in range(300)])
    assert len(found.rows) == 300
    assert {row.kind for row in found.rows} == {"repeats"}


def test_scripts_without_blanks():
    rng = random.Random(3)
    chinese = "".join(chr(rng.randrange(0x4E00, 0x5200)) for _ in range(80))
    quoted = "好。\n> " + "\n> ".join(chinese[n : n + 16] for n in range(0, 80, 16)) + "\n谢谢"
    assert [row.kind for row in overlaps([mail("a", chinese)], [mail("o", quoted), mail("p", "好。谢谢")]).rows] == [
        "repeats"
    ]


def test_nothing_to_compare():
    assert overlaps([], [mail("a", MAIL)]) == overlaps([mail("a", MAIL)], []) == ((), 0)
    assert overlaps([mail("a", "!!!")], [mail("b", "???"), mail("c", "")]).rows == ()
    assert overlaps([mail("a", "!!!")], [mail("b", "!!!")]).rows == (Overlap(0, 0, "repeats", 1.0, (0,)),)


@settings(max_examples=60)
@given(
    st.lists(st.text(alphabet="ab \n", max_size=120), min_size=1, max_size=3),
    st.lists(st.text(alphabet="ab \n", max_size=120), min_size=1, max_size=4),
)
def test_texts_that_repeat_themselves(asked, others):
    first = [mail(f"a{n}", content) for n, content in enumerate(asked)]
    second = [mail(f"o{n}", content) for n, content in enumerate(others)]
    found = overlaps(first, second)
    rows, form_letters = slow_overlaps(first, second)
    assert [without_share(row) for row in found.rows] == [without_share(row) for row in rows]
    assert found.form_letters == form_letters


def test_the_time_grows_with_the_texts_and_not_with_the_pairs():
    rng = random.Random(1)
    body = [text(60, rng) for _ in range(50)]
    others = [mail(str(n), f"{body[n % 50]} {rng.choice(WORDS_OF)} {n}", f"v{n % 300}") for n in range(4_000)]
    asked = [mail(f"a{n}", f"{body[n % 50]} {n}", "u") for n in range(400)]
    start = time.process_time()
    found = overlaps(asked, others)
    assert time.process_time() - start < 8
    assert len(found.rows) == 4_000


def test_a_phrase_of_eleven_users_in_twelve_is_a_form_of_words():
    mails = [mail(f"o{n}", f"{text(30)} {MAIL} {n}", f"v{n}") for n in range(9)]
    assert [row.kind for row in overlaps([mail("a", MAIL, "u")], mails).rows] == ["repeats"] * 9
    mails.append(mail("o9", f"{text(30)} {MAIL}", "v9"))
    assert overlaps([mail("a", MAIL, "u")], mails) == ((), 10)
    assert len(overlaps([mail("a", MAIL, "v1")], mails).rows) == 10  # of so many users again


def test_a_form_of_words_does_not_cut_a_passage():
    words, form = MAIL.split(), text(12)
    body = [" ".join(words[:20]), form, " ".join(words[20:45])]
    asked = mail("a", " ".join([*body, text(200)]), "u")
    many = [mail(f"o{n}", f"{text(20)} {form} {text(20)}", f"v{n}") for n in range(30)]
    other = mail("q", " ".join([text(100), *body, text(100)]), "w")
    assert [(row.other, row.kind) for row in overlaps([asked], [*many, other]).rows] == [(30, "passage")]
    apart = mail("q", " ".join([text(50), body[0], form, text(50), form, body[2], text(100)]), "w")
    assert overlaps([asked], [*many, apart]).rows == ()


def test_half_of_a_short_text_is_no_copy():
    words = text(13).split()
    near = mail("o", " ".join([*words[:12], "another"]))
    assert overlaps([mail("a", " ".join(words))], [near]).rows == ()
    words = [*words, "and", "more"]
    near = mail("o", " ".join([*words[:14], "another"]))
    assert [row.kind for row in overlaps([mail("a", " ".join(words))], [near]).rows] == ["repeats"]


def test_all_texts_that_are_quoted_are_named():
    other = mail("q", f"{MAIL}\n{text(20)}")
    assert overlaps([mail("x", text(50)), mail("a", MAIL), mail("b", f"{MAIL} {text(3)}")], [other]).rows[
        0
    ].sources == (1, 2)
    greeting = [mail(str(n), "Happy new year") for n in range(3)]
    assert overlaps(greeting, greeting[:1]).rows[0].sources == (0, 1, 2)
