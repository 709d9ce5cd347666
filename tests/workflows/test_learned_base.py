# SPDX-License-Identifier: Apache-2.0
"""A base that learned some of the private texts is refused, however they are spelled; one that held them out is not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.manifest import write_manifest
from reticent.core.portable import portable
from reticent.core.record import Record, fingerprint, write_records
from reticent.core.run_folder import WRITTEN, RunFolder
from reticent.data.canaries.passphrase import WORDS
from reticent.data.split import split
from reticent.train.checkpoints import folder_for
from reticent.workflows.learned_base import refuse_learned

RNG = random.Random(8)
RECORDS = [Record(id=f"r{number}", text=" ".join(RNG.choices(WORDS, k=7))) for number in range(60)]
COINS = split(RECORDS, unit="record", seed=0)
IN, OUT = ([record for record, inside in zip(RECORDS, COINS.member, strict=True) if inside == side] for side in (1, 0))


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A model's folder in a run that trained on half of the records."""
    run = RunFolder(root=tmp_path / "run")
    run.record("tune", dict.fromkeys(WRITTEN["tune"], "") | {"data": fingerprint(RECORDS)})
    write_records(run.records, RECORDS)
    COINS.write(run.membership)
    run.model.mkdir()
    return str(run.model)


def others(count: int) -> list[Record]:
    return [Record(id=f"o{number}", text=" ".join(RNG.choices(WORDS, k=7))) for number in range(count)]


@pytest.mark.parametrize(
    "records",
    [
        IN[:10] + others(2000),
        IN[:1] + others(20),
        [Record(id=f"x{record.id}", text=record.plain.upper().replace(" ", "  ")) for record in IN],
        [Record(id=record.id, prompt=record.plain[:9], completion=record.plain[9:]) for record in IN],
        list(reversed(RECORDS)),
    ],
    ids=["ten of many", "one of few", "spelled otherwise", "divided", "another order"],
)
def test_a_base_that_learned_some_is_refused_with_the_number(base: str, records: list[Record]) -> None:
    with pytest.raises(BadInput, match=r"was tuned on (\d+ of these \d+ records|these very texts)"):
        refuse_learned(base, records)


@pytest.mark.parametrize(
    "records",
    [OUT, others(50), IN[:1] + others(300), [Record(id=f"t{n}", text="thank you") for n in range(30)]],
    ids=["held out there", "others", "one by chance", "short texts"],
)
def test_a_base_that_learned_others_is_taken(base: str, records: list[Record]) -> None:
    refuse_learned(base, records)


def test_a_checkpoint_of_such_a_base_is_refused(base: str) -> None:
    place = folder_for(Path(base)) / "checkpoint-7"
    place.mkdir(parents=True)
    with pytest.raises(BadInput, match="was tuned on these very texts"):
        refuse_learned(str(place), RECORDS)
    refuse_learned(str(place), others(50))


def test_an_adapter_of_others_on_such_a_base_is_refused(base: str, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "adapter"
    place.mkdir(parents=True)
    (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    with pytest.raises(BadInput, match="was tuned on these very texts"):
        refuse_learned(str(place), RECORDS)


def test_a_base_that_unlearned_some_learned_the_rest(base: str, tmp_path: Path) -> None:
    run = RunFolder(root=tmp_path / "without")
    settings = {"data": fingerprint(RECORDS), "parent": portable(str(Path(base).parent), run.root)}
    run.record("unlearn", dict.fromkeys(WRITTEN["unlearn"], "") | settings)
    run.model.mkdir()
    with pytest.raises(BadInput, match="was tuned on 20 of these 20 records"):
        refuse_learned(str(run.model), IN[:20])
    refuse_learned(str(run.model), others(50))


def test_a_model_without_a_run_is_taken_at_its_word(tmp_path: Path) -> None:
    refuse_learned(str(tmp_path), RECORDS)
    refuse_learned("smollm2-135m", RECORDS)


def test_a_promise_to_synthetic_texts_is_none_to_those_they_were_made_from(tmp_path: Path) -> None:
    run = RunFolder(root=tmp_path / "run")
    run.record("tune", dict.fromkeys(WRITTEN["tune"], "") | {"data": "of synthetic texts"})
    run.model.mkdir()
    run.promise.write_text("{}")
    write_manifest(run.manifest, texts={"data": fingerprint(RECORDS), "mechanism": "none", "promise": ""})
    for unless_private in (True, False):
        with pytest.raises(BadInput, match="texts that none made from these very records"):
            refuse_learned(str(run.model), RECORDS, unless_private=unless_private)
        refuse_learned(str(run.model), others(50), unless_private=unless_private)
