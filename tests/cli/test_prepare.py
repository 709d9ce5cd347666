"""The verb prepare: exit codes, what it prints and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys

from reticent.cli.main import main


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
