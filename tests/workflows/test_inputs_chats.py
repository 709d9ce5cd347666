# SPDX-License-Identifier: Apache-2.0
"""Chats that a model's template refuses are bad rows, found before any coin is thrown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.workflows.inputs import DataConfig, given_data, read_data
from reticent.workflows.training_rows import CanaryConfig, SplitConfig, training_rows

TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = save_tiny(tmp_path_factory.mktemp("chats") / "base")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


def chats(path: Path, n: int = 60, *, system: tuple[int, ...] = (7, 30), without: int | None = None) -> str:
    lines = []
    for number in range(n):
        turns = [{"role": "user", "content": "say"}, {"role": "assistant", "content": f"answer {number}"}]
        if number in system:
            turns.insert(0, {"role": "system", "content": "be short"})
        if number != without:
            lines.append(json.dumps({"user": f"u{number % 6}", "messages": turns}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_refused_row_stops_with_its_place_or_is_skipped_and_listed(base: str, tmp_path: Path) -> None:
    source = chats(tmp_path / "c.jsonl")
    with pytest.raises(BadInput, match="System role not supported") as error:
        read_data(source, DataConfig(), model=base)
    assert error.value.given == f"{source}:8"
    assert "--on_bad_row skip" in error.value.fix
    found = read_data(source, DataConfig(on_bad_row="skip"), model=base)
    assert len(found.records) == 58
    assert [json.loads(line)["place"] for line in found.rejects.splitlines()] == [f"{source}:8", f"{source}:31"]
    assert "be short" not in found.rejects
    assert len(read_data(source, DataConfig()).records) == 60  # nobody asked a model


def test_so_it_is_with_lists_that_are_given(base: str, tmp_path: Path) -> None:
    inside, outside = chats(tmp_path / "m.jsonl"), chats(tmp_path / "h.jsonl", 50, system=(2,))
    config = DataConfig(on_bad_row="skip")
    both = {"data": None, "membership": None, "model": base}
    found = given_data(config, members=inside, held_out=outside, **both)
    assert found.rejects.count("\n") == 3
    with pytest.raises(BadInput, match="System role not supported"):
        given_data(DataConfig(), members=inside, held_out=outside, **both)


def test_a_model_that_is_not_there_is_no_fault_of_a_row(tmp_path: Path) -> None:
    source = chats(tmp_path / "c.jsonl")
    with pytest.raises(BadInput) as error:
        read_data(source, DataConfig(on_bad_row="skip"), model=str(tmp_path / "nowhere"))
    assert "nowhere" in str(error.value)
    plain = tmp_path / "t.jsonl"
    plain.write_text('{"text": "a"}\n', encoding="utf-8")
    assert read_data(str(plain), DataConfig(), model=str(tmp_path / "nowhere")).records  # texts need no template


@pytest.mark.parametrize("unit", ["record", "user"])
def test_skipping_them_changes_no_other_units_rows(base: str, tmp_path: Path, unit: str) -> None:
    """`data.stability`: each row is judged alone, so one more or less, refused or not, moves no coin of another."""

    def trained(without: int | None) -> dict[str, Record]:
        source = chats(tmp_path / f"{unit}-{without}.jsonl", without=without)
        records, _ = read_data(source, DataConfig(on_bad_row="skip"), each_alone=True, model=base)
        rows = training_rows(
            records,
            base=base,
            split_config=SplitConfig(),
            canary_config=CanaryConfig(),
            privacy=PrivacySpec(epsilon=8, unit=unit),
            max_tokens=64,
        )
        return {record.plain: record for record in rows.trained}

    whole = trained(None)
    assert not any("be short" in plain for plain in whole)
    for gone in (7, 30, 0, 11, 45):  # the first two are refused
        left = trained(gone)
        changed = set(whole) ^ set(left)
        assert changed <= {f"say\nanswer {gone}"}
