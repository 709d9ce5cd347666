"""reticent prepare: records with spans that tune reads back, a card without text, nothing half-written."""

from __future__ import annotations

import json

import pytest

from reticent.auditing.extraction.secrets import marked_secrets
from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.data.example import help_desk
from reticent.data.pii import DETECTORS, SCRUBBED, detect
from reticent.data.pii.workers import Workers
from reticent.data.secrets_file import read_secrets
from reticent.data.split import split
from reticent.workflows.inputs import DataConfig, read_data
from reticent.workflows.prepare import prepare

WHO = "email,phone,card_number,iban"
RECORDS = [
    Record(id="a1", user="ana@corp.com", text="Mail ana@corp.com or call 07911 123456."),
    Record(id="a2", user="ana@corp.com", text="Mail ana@corp.com or call 07911 123456."),
    Record(id="b1", user="bob", text="Card 4539 5279 3550 5473, call +44 7911 123456 about the blue lamp that broke."),
    Record(id="b2", user="bob", text="Card 4539 5279 3550 5473, call +44 7911 123456 about the blue lamp that broke!"),
    Record(id="c1", user=None, text="Nothing to see here at all."),
]


def only(monkeypatch, *names):
    """No other detectors take a second look: Presidio takes seconds to load, where it is installed."""
    found = [DETECTORS.get(name) for name in sorted(names)]
    monkeypatch.setattr("reticent.data.pii.missed.DETECTORS", found)


@pytest.fixture(autouse=True)
def no_slow_second_look(monkeypatch):
    only(monkeypatch)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("shape", ["text", "pair", "messages"])
def test_records_are_read_back_as_they_were_written(tmp_path, suffix, shape):
    """Ids, users, shape and spans survive the file, so that `tune --protect spans` trains on what was marked."""
    texts = [record.plain for record in help_desk(users=3, mails_per_user=2)]
    contents = {
        "text": lambda text: {"text": text},
        "pair": lambda text: {"prompt": "Reply:", "completion": text},
        "messages": lambda text: {
            "messages": (Message(role="user", content=text), Message(role="assistant", content=text))
        },
    }[shape]
    records = [Record(id=f"x{i}", user=f"u{i % 2}", **contents(text)) for i, text in enumerate(texts)]
    done = prepare(records, out=tmp_path / f"out{suffix}", detectors=WHO)
    back = read_data(str(done.out), DataConfig(id_field="id")).records
    assert back == done.records
    assert any(record.spans for record in back)


def test_the_card_counts(tmp_path):
    card = prepare(RECORDS, out=tmp_path / "out.jsonl", detectors=WHO).card
    assert card["records"] == {"given": 5, "kept": 5, "characters": sum(len(r.plain) for r in RECORDS)}
    assert card["copies"] == {"exact": 1, "user": 1, "near": 0, "substring": 0, "dropped": 0, "rules": []}
    assert card["kinds"]["PHONE"] == {"spans": 4, "records": 4, "users": 2, "values": 2, "values_in_several_records": 2}
    assert card["kinds"]["EMAIL"]["values"] == 1
    assert (card["sensitive"]["records"], card["sensitive"]["users"]) == (4, 2)
    assert card["users"]["largest_shares"] == [0.4, 0.4]
    assert card["users"]["records_without"] == 1
    assert card["detectors"]["ran"] == WHO.split(",")


def test_the_card_holds_no_text(tmp_path):
    done = prepare(RECORDS, out=tmp_path / "out.jsonl", detectors=WHO, scrub="surrogate")
    written = done.card_path.read_text(encoding="utf-8")
    assert json.loads(written) == done.card
    page = done.page_path.read_text(encoding="utf-8")
    for private in ("ana", "corp", "bob", "07911", "4539", "lamp", "example.com"):
        assert private not in written
        assert private not in page.partition("<main>")[2]


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        (None, []),
        ("exact", [("a2", "a1", "exact")]),
        ("near", [("a2", "a1", "near"), ("b2", "b1", "near")]),
        ("exact,near", [("a2", "a1", "exact"), ("b2", "b1", "near")]),
        ("near, exact", [("a2", "a1", "exact"), ("b2", "b1", "near")]),
        ("user", [("a2", "a1", "exact of the user"), ("b2", "b1", "near of the user")]),
        ("substring", []),
    ],
)
def test_copies_are_dropped_and_listed(tmp_path, rules, gone):
    done = prepare(RECORDS, out=tmp_path / "out.jsonl", detectors=WHO, dedup=rules)
    assert [tuple(one) for one in done.dropped] == gone
    assert [record.id for record in done.records] == [r.id for r in RECORDS if r.id not in {one[0] for one in gone}]
    assert done.card["copies"] | {"rules": 0} == {
        "exact": 1, "user": 1, "near": 0, "substring": 0, "dropped": len(gone), "rules": 0
    }  # fmt: skip
    assert done.dropped_path.exists() == bool(gone)
    if gone:
        listed = [json.loads(line) for line in done.dropped_path.read_text().splitlines()]
        assert [tuple(row.values()) for row in listed] == gone


def test_a_quoted_text_is_dropped_and_its_personal_id_is_not_written(tmp_path):
    long = "The lamp that I ordered has arrived, but its switch does nothing at all and the shade is cracked. " * 3
    records = [Record(id="ana@corp.com/1", text=long), Record(id="bo@corp.com/2", text="See what she says: " + long)]
    done = prepare(records, out=tmp_path / "out.jsonl", detectors=WHO, dedup="substring", scrub="mask")
    assert [(one.why, len(done.records)) for one in done.dropped] == [("substring", 1)]
    assert done.card["copies"]["user"] is None
    written = done.dropped_path.read_text()
    assert "corp.com" not in written
    assert done.dropped[0].kept == done.records[0].id
    with pytest.raises(BadInput, match="no users"):
        prepare(records, out=tmp_path / "out.jsonl", detectors=WHO, dedup="user")


def test_lists_of_an_earlier_run_go(tmp_path, monkeypatch):
    only(monkeypatch, "email")
    out = tmp_path / "out.jsonl"
    first = prepare(RECORDS, out=out, detectors="card_number", dedup="exact", scrub="mask")
    assert first.dropped_path.exists()
    assert first.targets_path.exists()
    prepare(RECORDS, out=out, detectors=WHO)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.card.html", "out.card.json", "out.jsonl"]


def test_what_the_scrubber_missed_is_what_others_find(tmp_path, monkeypatch):
    """Cards are scrubbed and the rest is left to the second look, which must not take the made-up cards for misses."""
    only(monkeypatch, "card_number", "email", "phone", "iban")
    done = prepare(RECORDS, out=tmp_path / "out.jsonl", detectors="card_number", scrub="surrogate")
    missed = read_secrets(done.targets_path)
    assert missed == done.targets
    assert {(one.record.id, one.kind, one.secret) for one in missed} == {
        ("a1", "EMAIL", "ana@corp.com"),
        ("a1", "PHONE", "07911 123456"),
        ("a2", "EMAIL", "ana@corp.com"),
        ("a2", "PHONE", "07911 123456"),
        ("b1", "PHONE", "+44 7911 123456"),
        ("b2", "PHONE", "+44 7911 123456"),
    }
    assert {(one.group, one.member) for one in missed} == {("missed by the scrubber", False)}
    assert all(one.record in done.records for one in missed)
    assert done.card["missed"] == {
        "looked": ["email", "iban", "phone"], "passages": 6, "records": 4, "users": 2, "kinds": {"PHONE": 4, "EMAIL": 2}
    }  # fmt: skip
    assert "corp" not in done.card_path.read_text()


def test_marks_that_are_kept_from_the_scrubber_say_what_it_missed(tmp_path):
    text = "I am Zed Quill, mail zed@corp.com or zed2@corp.com, flat 7 Elm Row near Ulm."
    marks = {"Zed Quill": "PERSON", "zed@corp.com": "EMAIL", "zed2@corp.com, flat 7 Elm": "ADDRESS", "Ulm": "PLACE"}
    spans = tuple(Span(start=text.index(m), end=text.index(m) + len(m), kind=kind) for m, kind in marks.items())
    turns = (Message(role="user", content="hello"), Message(role="assistant", content=text))
    moved = tuple(Span(start=s.start + 6, end=s.end + 6, kind=s.kind) for s in spans)
    records = [Record(id="a", text=text, spans=spans), Record(id="b", messages=turns, spans=moved)]
    done = prepare(records, out=tmp_path / "out.parquet", detectors="email", scrub="placeholder", marks="check")
    assert done.records[0].text == "I am Zed Quill, mail [EMAIL] or [EMAIL], flat 7 Elm Row near Ulm."
    found = [(one.record.id, one.kind, one.secret) for one in done.targets]
    rest = [("PERSON", "Zed Quill"), ("ADDRESS", "flat 7 Elm"), ("PLACE", "Ulm")]
    assert found == [(name, *one) for name in "ab" for one in rest]
    assert done.card["missed"]["looked"] == ["marks of the data"]
    assert done.card["kinds"].keys() == {"EMAIL"}
    with pytest.raises(BadInput, match="nothing is scrubbed"):
        prepare(records, out=tmp_path / "out.parquet", marks="check")


def test_what_was_put_in_place_is_marked_and_no_audit_is_after_it(tmp_path):
    done = prepare(RECORDS[:1], out=tmp_path / "out.jsonl", detectors=WHO, scrub="surrogate")
    assert [span.kind for span in done.records[0].spans] == [SCRUBBED, SCRUBBED]
    assert marked_secrets(done.records, [True], most=9, find=detect)[0] == []


def test_the_card_says_who_would_be_in(tmp_path):
    mails = help_desk(users=30, mails_per_user=3)

    def coins(records):
        return split(records, unit="user", seed=3)

    card = prepare(mails, out=tmp_path / "out.jsonl", detectors=WHO, coins=coins).card["coins"]
    expected = coins(mails)
    assert (card["unit"], card["seed"], card["probability"]) == ("user", 3, 0.5)
    assert card["records_in"] == int(expected.member.sum())
    assert card["records_in"] + card["records_out"] == 90 == sum(card["roles"].values())
    assert card["users_in"] == len(set(expected.user[expected.user_member]))
    assert card["users_in"] + card["users_out"] == 30
    few = prepare(RECORDS, out=tmp_path / "few.jsonl", detectors=WHO, coins=coins).card["coins"]
    assert "have no user" in few["refused"] or "too few" in few["refused"]
    assert prepare(RECORDS, out=tmp_path / "few.jsonl", detectors=WHO).card["coins"] is None


@pytest.mark.parametrize("style", ["surrogate", "placeholder", "mask"])
def test_nothing_found_is_in_the_file(tmp_path, style):
    done = prepare(RECORDS, out=tmp_path / "out.jsonl", detectors=WHO, scrub=style)
    written = done.out.read_text(encoding="utf-8")
    for private in ("ana@corp.com", "07911 123456", "7911 123456", "4539"):
        assert private not in written
    assert done.card["scrub"]["values_still_there"] == 0
    assert done.card["scrub"]["renamed_users"] == 1
    users = [record.user for record in done.records]
    assert users[0] == users[1] != "ana@corp.com"
    assert users[2:] == ["bob", "bob", None]


def test_what_was_marked_before_is_scrubbed_too(tmp_path):
    record = Record(id="a", text="the lamp is blue", spans=(Span(start=4, end=8, kind="PRODUCT"),))
    done = prepare([record], out=tmp_path / "out.jsonl", detectors=WHO, scrub="placeholder")
    assert done.records[0].text == "the [PRODUCT] is blue"


def test_a_key_file_makes_runs_agree(tmp_path):
    key = tmp_path / "key"
    one, two, other = (
        prepare(RECORDS, out=tmp_path / f"{i}.jsonl", detectors=WHO, scrub="surrogate", key_file=file).records
        for i, file in enumerate([key, key, None])
    )
    assert one == two != other
    assert key.stat().st_mode & 0o077 == 0
    key.write_text("short")
    with pytest.raises(BadInput, match="64 hexadecimal"):
        prepare(RECORDS, out=tmp_path / "x.jsonl", detectors=WHO, scrub="surrogate", key_file=key)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"out": "x.txt"}, "no format"),
        ({"scrub": "blur"}, "style"),
        ({"dedup": "fuzzy"}, "dedup"),
        ({"dedup": ","}, "dedup"),
        ({"marks": "both"}, "marks"),
        ({"detectors": "nonsense"}, "not known"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_written(tmp_path, change, said):
    options = {"out": "x.jsonl", "detectors": WHO, **change}
    options["out"] = tmp_path / options["out"]
    with pytest.raises(BadInput, match=said):
        prepare(RECORDS, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    prepare(RECORDS, out=out, detectors=WHO)
    before = out.read_bytes()

    def broken(record):
        raise RuntimeError("half-way")

    monkeypatch.setattr("reticent.workflows.prepare._row", broken)
    with pytest.raises(RuntimeError):
        prepare(RECORDS[:1], out=out, detectors=WHO)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.card.html", "out.card.json", "out.jsonl"]


def test_processes_that_start_before_copies_are_dropped_find_what_one_finds(tmp_path, monkeypatch):
    records = [Record(id=f"m{i}", text=mail.text) for i, mail in enumerate(help_desk(users=70, mails_per_user=1))]
    records += RECORDS
    key = tmp_path / "key"
    options = {"detectors": WHO, "dedup": "exact", "scrub": "surrogate", "key_file": key}
    alone = prepare(records, out=tmp_path / "one.jsonl", **options)
    monkeypatch.setattr("reticent.workflows.prepare.enough", lambda lengths, detectors: 2)
    done = prepare(records, out=tmp_path / "two.jsonl", **options)
    assert (done.records, done.dropped, done.targets) == (alone.records, alone.dropped, alone.targets)
    assert done.card["kinds"] == alone.card["kinds"]
    assert len(done.dropped) == 1


def test_no_process_stays_where_copies_cannot_be_looked_for(tmp_path, monkeypatch):
    started = []

    class Watched(Workers):
        def __enter__(self):
            started.extend(super().__enter__()._started)
            return self

    monkeypatch.setattr("reticent.workflows.prepare.enough", lambda lengths, detectors: 2)
    monkeypatch.setattr("reticent.workflows.prepare.Workers", Watched)
    with pytest.raises(BadInput, match="no users"):
        prepare([RECORDS[4]], out=tmp_path / "out.jsonl", detectors=WHO, dedup="user")
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
