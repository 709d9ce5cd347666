# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.core.secret import Secret
from reticent.data.canaries import plant_users
from reticent.data.example import help_desk
from reticent.data.secrets_file import carried_secrets, read_secrets, secrets_beside, write_secrets
from reticent.data.split import split

TURNS = (Message(role="user", content="who?"), Message(role="assistant", content="Zed\u2028 and Ana"))
SHAPES = [
    Record(id="a", text="call Zed\nnow", user="u", spans=(Span(start=0, end=4, kind="K"),)),
    Record(id="b", prompt="", completion="call Zed"),
    Record(id="c", messages=TURNS),
]


def target(record: Record, secret: str = "Zed", **changes: object) -> Secret:
    start = record.plain.index(secret)
    parts = {"id": f"t/{record.id}", "kind": "PERSON", "group": "g", "member": False} | changes
    return Secret(record=record, start=start, end=start + len(secret), **parts)


def test_every_shape_survives_the_file(tmp_path: Path) -> None:
    targets = tuple(map(target, SHAPES))
    write_secrets(tmp_path / "targets.jsonl", targets)
    assert read_secrets(tmp_path / "targets.jsonl") == targets
    assert [one.secret for one in targets] == ["Zed"] * 3


def test_no_list_says_that_a_coin_decided(tmp_path: Path) -> None:
    row = '{"id": "x", "start": 0, "end": 2, "kind": "K", "group": "planted 4 times", "member": true, '
    (tmp_path / "t.jsonl").write_text(row + '"source": "canary", "record": {"id": "a", "text": "hi"}}')
    (one,) = read_secrets(tmp_path / "t.jsonl")
    assert (one.source, one.randomized) == ("given", False)


def test_a_record_is_written_once_whatever_it_holds(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(400))
    record, other = Record(id="a", text=text), Record(id="b", text=text)
    targets = [target(record, f"word{number}", id=f"t{number}") for number in range(100, 150)]
    targets[7:7] = [target(other, "word7", id="other")]
    path = tmp_path / "targets.jsonl"
    write_secrets(path, targets)
    assert read_secrets(path) == tuple(targets)
    assert path.stat().st_size < 2 * len(text) + 150 * len(targets)


def test_lists_that_repeat_the_record_are_read(tmp_path: Path) -> None:
    row = '{"id": "%s", "start": 0, "end": 2, "kind": "K", "group": "g", "member": true, '
    row += '"record": {"id": "a", "text": "hi"}}'
    (tmp_path / "t.jsonl").write_text("\n".join(row % name for name in "xy"))
    assert [one.record for one in read_secrets(tmp_path / "t.jsonl")] == [Record(id="a", text="hi")] * 2


@pytest.mark.parametrize("number", ["0", "-1", "7", "true", "null", '"a"'])
def test_a_line_whose_record_is_nowhere_is_refused(tmp_path: Path, number: str) -> None:
    row = f'{{"id": "x", "start": 0, "end": 2, "kind": "K", "group": "g", "member": true, "record": {number}}}'
    (tmp_path / "t.jsonl").write_text(row)
    with pytest.raises(BadInput, match="no readable list of targets"):
        read_secrets(tmp_path / "t.jsonl")


@pytest.mark.parametrize(
    "text", ["no json\n", '{"id": "a"}\n', "[1]\n", '{"id": 1, "record": {"id": "a", "txt": ""}}\n']
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.targets.jsonl").write_text(text)
    with pytest.raises(BadInput, match="no readable list of targets"):
        read_secrets(tmp_path / "x.targets.jsonl")


def test_place_beside_the_data() -> None:
    assert secrets_beside("data/prepared.parquet") == Path("data/prepared.targets.jsonl")
    assert secrets_beside("org/name") == Path("org/name.targets.jsonl")
    assert secrets_beside(".") == Path("targets.jsonl")


def test_targets_are_found_by_content_and_take_the_coin() -> None:
    mails = help_desk(users=12, mails_per_user=3)
    numbered = [replace(mail, id=f"r{i:06d}") for i, mail in enumerate(mails)]
    coins = split(numbered, unit="user", seed=1)
    targets = [target(mail, mail.plain[5:9]) for mail in mails[::5]]
    gone = target(Record(id="x", text="not in the data, Zed"))
    found = carried_secrets([*targets, gone], numbered, numbered, coins)
    assert [one.id for one in found] == [one.id for one in targets]
    assert [one.record.id for one in found] == [f"r{i:06d}" for i in range(0, len(mails), 5)]
    assert [one.member for one in found] == coins.member[::5].tolist()
    assert {one.member for one in found} == {True, False}


def test_targets_of_canary_users_move_with_the_phrase() -> None:
    mails = help_desk(users=12, mails_per_user=3)
    coins = split(mails, unit="user", seed=1)
    users = plant_users(mails, coins, users=6, words=4)
    targets = [
        Secret(
            id=f"{mail.id}/{span.start}", record=mail, start=span.start, end=span.end, kind="K", group="g", member=False
        )
        for mail in mails
        for span in mail.spans
    ]
    found = carried_secrets(targets, mails, users.records, users.membership)
    assert len(found) > 0.95 * len(targets)
    secrets = {one.id: one.secret for one in targets}
    assert all(one.secret == secrets[one.id] for one in found)
    assert any(one.record.plain != mail.plain for one, mail in zip(found, (t.record for t in targets), strict=False))
