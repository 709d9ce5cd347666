"""reticent prepare: records with spans that tune reads back, a card without text, nothing half-written."""

from __future__ import annotations

import json

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.data.example import help_desk
from reticent.intake import DataConfig, read_data
from reticent.prepare import prepare

WHO = "email,phone,card_number,iban"
RECORDS = [
    Record(id="a1", user="ana@corp.com", text="Mail ana@corp.com or call 07911 123456."),
    Record(id="a2", user="ana@corp.com", text="Mail ana@corp.com or call 07911 123456."),
    Record(id="b1", user="bob", text="Card 4539 5279 3550 5473, call +44 7911 123456 about the blue lamp that broke."),
    Record(id="b2", user="bob", text="Card 4539 5279 3550 5473, call +44 7911 123456 about the blue lamp that broke!"),
    Record(id="c1", user=None, text="Nothing to see here at all."),
]


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
    assert card["copies"] == {"exact": 1, "near": 1, "dropped": 0, "rule": None}
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
    for private in ("ana", "corp", "bob", "07911", "4539", "lamp", "example.com"):
        assert private not in written


@pytest.mark.parametrize(("rule", "left"), [(None, 5), ("exact", 4), ("near", 3)])
def test_copies(tmp_path, rule, left):
    done = prepare(RECORDS, out=tmp_path / "out.jsonl", detectors=WHO, dedup=rule)
    assert len(done.records) == left
    assert done.card["copies"]["dropped"] == 5 - left


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

    monkeypatch.setattr("reticent.prepare._row", broken)
    with pytest.raises(RuntimeError):
        prepare(RECORDS[:1], out=out, detectors=WHO)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.card.json", "out.jsonl"]
