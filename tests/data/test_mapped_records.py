# SPDX-License-Identifier: Apache-2.0
"""Records of a mapped file are the records of a list, whatever is asked of them; and no file is left anywhere."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import SCHEMA, Message, Record, Span, fingerprint, read_records, write_records
from reticent.data import mapped_records
from reticent.data.dedup.rules import RULES, deduplicate
from reticent.data.mapped_records import MappedRecords, RecordSink, held
from reticent.data.read import read
from reticent.workflows.inputs import DataConfig, read_data
from reticent.workflows.prepare import prepare

TURNS = (Message(role="user", content="Where?"), Message(role="assistant", content="Wait.", trained=False))


def example(count: int) -> list[Record]:
    """All shapes, with and without users and spans, some of them empty, some alike."""
    shapes: list[dict[str, Any]] = [
        {"text": "I am Ann, 好 👍", "spans": (Span(start=5, end=8, kind="PERSON"), Span(start=0, end=1, kind=""))},
        {"prompt": "", "completion": "On its way.\n", "user": "ana"},
        {"messages": TURNS, "user": "bo"},
        {"messages": ()},
        {"text": ""},
    ]
    return [Record(id=f"r{place}", **shapes[place % len(shapes)]) for place in range(count)]


def mapped(records: list[Record], monkeypatch: pytest.MonkeyPatch, batch: int = 4) -> MappedRecords:
    monkeypatch.setattr(mapped_records, "_BATCH", batch)
    sink = RecordSink(large=0)
    for record in records:
        sink.add(record)
    made = sink.records()
    assert isinstance(made, MappedRecords)
    return made


@pytest.mark.parametrize("count", [1, 4, 11])
def test_equals_a_list(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = example(count)
    made = mapped(plain, monkeypatch)
    assert list(made) == plain
    assert made == plain
    assert made == tuple(plain)
    assert made != plain[1:]
    assert len(made) == count
    assert [made[place] for place in range(-count, count)] == [plain[place] for place in range(-count, count)]
    for cut in (slice(2), slice(-3, None), slice(None, None, -2), slice(5, 1)):
        assert list(made[cut]) == plain[cut]
    order = np.random.default_rng(0).permutation(count).tolist()
    assert list(made.take(order)) == [plain[place] for place in order]
    assert made.take(order)[0] == plain[order[0]]
    assert pickle.loads(pickle.dumps(made)) == plain
    assert fingerprint(made) == fingerprint(plain)
    assert plain[-1] in made
    with pytest.raises(IndexError):
        made[count]


def test_few_characters_stay_objects_and_many_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_records, "_BATCH", 2)
    for count, kind in ((10, list), (11, MappedRecords)):
        sink = RecordSink(large=10)
        for place in range(count):
            sink.add(Record(id=str(place), text="x"))
        assert type(sink.records()) is kind


def test_what_the_file_cannot_hold_stays_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_records, "_BATCH", 4)
    plain = example(20)
    plain[9] = Record(id="odd", text="x", spans=(Span(start=0, end=1, kind="\ud800"),))
    sink = RecordSink(large=0)
    for record in plain:
        sink.add(record)
    assert sink.records() == plain


def test_the_strings_of_a_batch_may_be_longer_than_2_gib_together() -> None:
    """With others, 1,024 records of 2 MB broke off; making them takes too long for a test."""
    kinds = str(mapped_records._COLUMNS)
    assert "string" in kinds
    assert "string" not in kinds.replace("large_string", "")
    assert mapped_records._COLUMNS.names == SCHEMA.names


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_csv(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("text,user\n" + "".join(f'"{row["text"]}",{row["user"]}\n' for row in rows), encoding="utf-8")


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), file)


def write_folder(file: Path, rows: list[dict[str, Any]]) -> None:
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(str(file))


WRITERS = {"a.jsonl": write_jsonl, "a.csv": write_csv, "a.parquet": write_parquet, "saved": write_folder}


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_gives_the_same_records_and_the_same_refusals(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"letter {place}, {place % 7} times", "user": f"u{place % 5}"} for place in range(60)]
    WRITERS[name](tmp_path / name, rows)
    rows[41]["text"] = " "
    (tmp_path / "bad").mkdir()
    WRITERS[name](tmp_path / "bad" / name, rows)

    def outcome() -> list[Any]:
        whole = read(str(tmp_path / name))
        with pytest.raises(BadInput) as refused:
            read(str(tmp_path / "bad" / name))
        skipped = read(str(tmp_path / "bad" / name), on_bad_row="skip", rejects=tmp_path / "rejects.jsonl")
        rejects = (tmp_path / "rejects.jsonl").read_text(encoding="utf-8")
        return [list(whole.records), whole.fingerprint, str(refused.value), list(skipped.records), rejects, skipped]

    before = outcome()
    monkeypatch.setattr(mapped_records, "LARGE", 100)
    monkeypatch.setattr(mapped_records, "_BATCH", 8)
    after = outcome()
    assert isinstance(after[-1].records, MappedRecords)
    assert after[:-1] == before[:-1]
    assert after[-1] == before[-1] or after[-1].records == before[-1].records
    place = {"a.jsonl": ":42", "a.csv": ":43", "a.parquet": ", row 42", "saved": ", row 42"}[name]
    assert f"{name}{place}" in after[2]


def letters(count: int) -> list[Record]:
    rng = np.random.default_rng(0)
    words = [" ".join(f"w{number}" for number in rng.integers(0, 300, size=40)) for _ in range(count)]
    texts = [words[place // 2] + (f" {place}" if place % 4 == 1 else "") for place in range(count)]
    return [
        Record(id=f"r{place}", text=f"{text} a{place}@example.org", user=f"u{place % 3}")
        for place, text in enumerate(texts)
    ]


def test_rules_against_copies_leave_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = letters(40)
    made = mapped(plain, monkeypatch, batch=8)
    left = deduplicate(made, tuple(RULES))
    assert isinstance(left.records, MappedRecords)
    assert left.dropped
    same = deduplicate(plain, tuple(RULES))
    assert (list(left.records), *left[1:]) == tuple(same)


def test_prepare_writes_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = letters(40)
    choices = {"dedup": "exact,near", "detectors": "email", "scrub": "placeholder"}
    prepare(plain, out=tmp_path / "a.parquet", **choices)
    made = mapped(plain, monkeypatch, batch=8)
    monkeypatch.setattr(mapped_records, "LARGE", 0)
    prepared = prepare(made, out=tmp_path / "b.parquet", **choices)
    assert isinstance(prepared.records, MappedRecords)
    assert read_records(tmp_path / "b.parquet") == list(prepared.records)
    for end in (".parquet", ".dropped.jsonl"):
        assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()


def test_settings_of_the_data_leave_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.jsonl"
    write_jsonl(file, [{"text": record.text, "user": record.user} for record in letters(40)])
    config = DataConfig(drop_users="u1", min_user_records=3, max_records=9)
    before = read_data(str(file), config)
    monkeypatch.setattr(mapped_records, "LARGE", 0)
    after = read_data(str(file), config)
    assert isinstance(after.records, MappedRecords)
    assert list(after.records) == before.records
    assert len(before.records) == 9


def test_files_of_many_parts_are_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = example(11)
    write_records(tmp_path / "one.parquet", plain)
    monkeypatch.setattr("reticent.core.record._ROWS", 4)
    write_records(tmp_path / "parts.parquet", plain)
    write_records(tmp_path / "none.parquet", [])
    assert read_records(tmp_path / "parts.parquet") == read_records(tmp_path / "one.parquet") == plain
    assert read_records(tmp_path / "none.parquet") == []


def test_the_file_has_no_name_and_one_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(mapped_records, "_BATCH", 2)
    sink = RecordSink(large=0)
    for record in example(9):
        sink.add(record)
    assert sink._file is not None
    assert stat.S_IMODE(os.fstat(sink._file.fileno()).st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []
    assert list(sink.records()) == example(9)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal
from reticent.core.record import Record
from reticent.data import mapped_records
mapped_records._BATCH = 2
sink = mapped_records.RecordSink(large=0)
for place in range(9):
    sink.add(Record(id=str(place), text="private"))
assert sink._file is not None
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


class Full:
    """A file on a full disk."""

    closed = False

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def tell(self) -> int:
        return 0

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_a_full_disk_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[[], Full] = Full
    monkeypatch.setattr(tempfile, "TemporaryFile", make)
    monkeypatch.setattr(mapped_records, "_BATCH", 1)
    sink = RecordSink(large=0)
    with pytest.raises(BadInput, match="TMPDIR"):
        sink.add(example(1)[0])


def test_held_keeps_what_is_mapped_and_lists_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mapped(example(5), monkeypatch)
    assert held(made) is made
    assert held(iter(example(5))) == example(5)
