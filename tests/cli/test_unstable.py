# SPDX-License-Identifier: Apache-2.0
"""What would make one unit's rows depend on another is refused with a promise, all at once, before the data is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reticent.cli.main import main


@pytest.mark.parametrize(
    ("verb", "private"),
    [("tune", ["--epsilon", "8"]), ("compare", ["--defences", "none,epsilon8"])],
)
def test_refused_by_name_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, private: list[str]
) -> None:
    flags = ["--max_records", "60", "--min_user_records", "10", "--canaries", "9", "--canary_kind", "bigram"]
    assert main([verb, str(tmp_path / "no.jsonl"), *private, *flags, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "for 3 reasons in how the data is prepared" in said
    for given, fix in (
        ("max_records=60", "cut the file before"),
        ("min_user_records=10", "--unit user"),
        ("canary_kind='bigram'", "secret_number"),
    ):
        assert f"- {given}: " in said
        assert fix in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", [["--copies", "all"], ["--canary_users", "4"], ["--block_words", "9"]])
def test_a_promise_per_user_has_refusals_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    private = ["--epsilon", "8", "--unit", "user", "--out", str(tmp_path / "run")]
    assert main(["tune", "no.jsonl", *private, *flags]) == 2
    assert f"{flags[0][2:]}=" in capsys.readouterr().err
    assert main(["tune", "no.jsonl", *private, "--min_user_records", "3"]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_no_row_decides_how_others_are_read_with_a_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"content": "x"}, *({"content": f"a {i}", "text": f"b {i}"} for i in range(20))]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for verb, private in (("tune", ["--epsilon", "8"]), ("compare", ["--defences", "none,user_epsilon8"])):
        assert main([verb, str(data), *private, "--out", str(tmp_path / "run")]) == 2
        assert f"{data}:2: in private training no row may decide" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_a_list_of_row_numbers_needs_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, labels = tmp_path / "data.jsonl", tmp_path / "labels.csv"
    data.write_text("".join(json.dumps({"text": f"mail {i}"}) + "\n" for i in range(20)))
    labels.write_text("id,member\n" + "".join(f"r{i + 1:06d},{i % 2}\n" for i in range(20)))
    assert main(["audit", "--model", "base", "--data", str(data), "--membership", str(labels)]) == 2
    said = capsys.readouterr().err
    assert "names records such as 'r000001', and without --id_field their ids are made of user and text" in said


@pytest.mark.parametrize(
    ("rule", "refused"), [("exact", {"user"}), ("user", {"record"}), ("near", {"record", "user"}), (None, set())]
)
def test_data_that_was_prepared_by_comparing_records_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str | None, refused: set[str]
) -> None:
    source, out = tmp_path / "mails.jsonl", tmp_path / "prepared.parquet"
    rows = [{"text": f"mail {i} of {user}", "user": f"u{user}"} for user in range(3) for i in range(2)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dedup = ["--dedup", rule] if rule else []
    assert main(["prepare", str(source), "--out", str(out), "--detectors", "email", *dedup]) == 0
    capsys.readouterr()
    for unit in ("record", "user"):
        assert main(["tune", str(out), "--epsilon", "8", "--unit", unit, "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert (f"prepared with --dedup {rule}: " in said) == (unit in refused)
        assert ("too few" in said) == (unit not in refused)  # read, and then not enough
        if unit in refused:
            flags = ["--defences", f"none,{'user_' if unit == 'user' else ''}epsilon8", "--out", str(tmp_path / "grid")]
            assert main(["compare", str(out), *flags]) == 2
            assert f"prepared with --dedup {rule}: " in capsys.readouterr().err
    (tmp_path / "prepared.card.json").write_text("{}")
    assert main(["tune", str(out), "--epsilon", "8", "--out", str(tmp_path / "run")]) == 2
    assert "is no readable data card" in capsys.readouterr().err
