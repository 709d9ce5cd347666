# SPDX-License-Identifier: Apache-2.0
"""The verb prepare: exit codes, what it prints and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from reticent.cli.main import main
from reticent.core.record import read_records
from reticent.data.ids import is_digest
from reticent.data.read import read


@pytest.fixture(autouse=True)
def no_slow_second_look(monkeypatch):
    """Presidio takes seconds to load, where it is installed."""
    monkeypatch.setattr("reticent.data.pii.missed.DETECTORS", [])


def data(tmp_path, *texts):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"text": text, "user": "u1"}) + "\n" for text in texts))
    return str(path)


def test_marks_scrubs_and_prints_counts_only(tmp_path, capsys):
    source = data(tmp_path, "write to ana@corp.com", "nothing", "nothing")
    out = tmp_path / "out.parquet"
    flags = ["--out", str(out), "--scrub", "placeholder", "--dedup", "exact", "--detectors", "email"]
    assert main(["prepare", source, *flags]) == 0
    printed = capsys.readouterr().err
    assert "EMAIL" in printed
    assert "1 of 2 records hold personal data" in printed
    assert "NOT looked for" in printed
    assert "ana" not in printed
    assert out.exists()
    assert json.loads((tmp_path / "out.card.json").read_text())["scrub"]["replaced"] == 1
    assert "missed was NOT looked for" in printed
    assert "coins: none can be thrown (are too few to split" in printed
    assert "exact copies: 1; repeats of a user: 0; near-copies: 0; quoting others: 0; dropped: 1" in printed
    kept = read_records(out)[1].id
    assert json.loads((tmp_path / "out.dropped.jsonl").read_text()) == {
        "id": f"{kept}-copy1",
        "kept": kept,
        "why": "exact",
    }
    assert f"dropped copies: {tmp_path / 'out.dropped.jsonl'}" in printed


def test_no_id_of_a_scrubbed_record_confirms_a_guess_of_what_it_held(tmp_path):
    source = data(tmp_path, "write to ana@corp.com", "write to bo@corp.com", "write to bo@corp.com", "nothing")
    before = [record.id for record in read(source).records]
    out = tmp_path / "out.jsonl"
    flags = ["--out", str(out), "--scrub", "placeholder", "--dedup", "exact", "--detectors", "email"]
    assert main(["prepare", source, *flags]) == 0
    written = "".join(path.read_text() for path in tmp_path.glob("out.*") if path.suffix != ".html")
    assert not any(id_[1:17] in written for id_ in before[:3])
    found = read(str(out), id_field="id").records
    assert [record.id for record in found] == [record.id for record in read(str(out)).records]
    assert all(map(is_digest, found))
    assert main(["prepare", source, *flags]) == 0  # the same again, where no key decides
    assert read(str(out), id_field="id").records == found


def test_patterns_of_ones_own_are_scrubbed_and_counted(tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    flags = ["--out", str(out), "--scrub", "placeholder", "--detectors", "email"]
    assert main(["prepare", data(tmp_path, "order BW-123456"), *flags, "--patterns", '{"ORDER": "BW-[0-9]{6}"}']) == 0
    assert "ORDER" in capsys.readouterr().err
    assert "BW-123456" not in out.read_text()
    assert "[ORDER]" in out.read_text()
    assert main(["prepare", data(tmp_path, "x"), *flags, "--patterns", '{"ORDER": "BW-["}']) == 2
    assert "is no regular expression" in capsys.readouterr().err


def test_the_card_shows_the_coins_that_tune_would_throw(tmp_path, capsys):
    source = data(tmp_path, *(f"mail {i} of many" for i in range(40)))
    flags = ["--out", str(tmp_path / "out.parquet"), "--detectors", "email"]
    assert (
        main(["prepare", source, *flags, "--split-unit", "record", "--split-seed", "3", "--probability", "0.25"]) == 0
    )
    coins = json.loads((tmp_path / "out.card.json").read_text())["coins"]
    assert (coins["unit"], coins["probability"], coins["seed"]) == ("record", 0.25, 3)
    said = f"coins by record: {coins['records_in']} records would be trained on, 1 users in and 0 out"
    assert said in capsys.readouterr().err


def test_bad_input_is_2(tmp_path, capsys):
    assert main(["prepare", str(tmp_path / "no.jsonl")]) == 2
    assert main(["prepare", data(tmp_path, "x"), "--out", str(tmp_path / "x.txt")]) == 2
    assert main(["prepare", data(tmp_path, "x"), "--detectors", "emial"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_skipped_rows_are_listed(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "ok"}\n{"text": 3}\n')
    flags = ["--out", str(tmp_path / "out.jsonl"), "--detectors", "email", "--on-bad-row", "skip"]
    assert main(["prepare", str(path), *flags]) == 0
    assert (tmp_path / "out.rejects.jsonl").read_text().count("\n") == 1


def test_it_needs_no_torch(tmp_path):
    argv = ["prepare", data(tmp_path, "x"), "--out", str(tmp_path / "o.jsonl"), "--detectors", "email"]
    code = (
        f"import sys; from reticent.cli.main import main\nassert main({argv!r}) == 0\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
