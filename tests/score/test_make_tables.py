# SPDX-License-Identifier: Apache-2.0
"""Tables: merged, aligned, cached, resumed after a kill with the same bytes."""

from __future__ import annotations

import os
import signal
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.core.schema import RECORD_COLUMNS, TOKEN_COLUMNS
from reticent.core.table import read_table
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.score import make_tables as plan
from reticent.score import render
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import describe, make_tables
from reticent.score.requests import PLAIN, Request, Variant
from reticent.testing.tiny import save_tiny, tiny_model

TARGET, REFERENCE = Request(name="table"), Request(name="ref", model="reference")
RECORDS = [
    Record(id="long", text="the order is in the mail, and the mail is on the train " * 30),
    Record(id="empty", text=""),
    Record(id="one", text="x"),
    Record(id="pair", prompt="Where is the order?", completion="It left an hour ago!!"),
    Record(id="chat", messages=(Message(role="user", content="hi"), Message(role="assistant", content="hello there"))),
    *(Record(id=f"r{i}", text=f"record {i} " * (1 + i % 5)) for i in range(20)),
]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return load(str(save_tiny(tmp_path_factory.mktemp("models") / "target", seed=1)), dtype="float32")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return load(str(save_tiny(tmp_path_factory.mktemp("models") / "base", seed=2)), dtype="float32")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA adapter that changes a lot, on the model of ``reference``."""
    folder = tmp_path_factory.mktemp("models")
    base = save_tiny(folder / "base", seed=2)
    model = get_peft_model(tiny_model(seed=2), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(folder / "adapter")
    return load(str(folder / "adapter"), base=str(base), dtype="float32")


def shout(record, context):
    if record.text is None:
        return [record, record]
    start = int(context.rng.integers(0, 9))
    return [replace(record, text=record.text.upper()), replace(record, text=f"{start} {record.text}")]


SHOUT = Variant(name="shout", copies=2, render=shout)


def test_rows_are_those_of_the_records_and_merged(target, reference, tmp_path):
    requests = [TARGET, REFERENCE, Request(name="again"), Request(name="loud", variant=SHOUT)]
    paths = make_tables(requests, RECORDS, target=target, reference=reference, cache=tmp_path)
    assert list(paths) == requests
    assert paths[requests[2]] == paths[TARGET] != paths[REFERENCE]
    assert len(list((tmp_path / "tables").glob("*.parquet"))) == 3
    assert not list((tmp_path / "shards").iterdir())
    table, loud = read_table(paths[TARGET]), read_table(paths[requests[3]])
    assert set(table.rows) == set(RECORD_COLUMNS)
    assert set(table.tokens) == set(TOKEN_COLUMNS)
    assert list(table.record_id) == [record.id for record in RECORDS]
    assert list(table.lengths) == [encode(record, target.tokenizer).trained[1:].sum() for record in RECORDS]
    assert list(table.lengths[1:3]) == [0, 0]
    assert list(loud.record_id) == [record.id for record in RECORDS for _ in range(2)]
    assert list(loud["copy"]) == [0, 1] * len(RECORDS)
    for i, record in enumerate(RECORDS):
        trained = record.trained_text.encode()
        assert (table["text_bytes"][i], table["zlib_bytes"][i]) == (len(trained), len(zlib.compress(trained)))
    np.testing.assert_array_equal(table["token_id"], read_table(paths[REFERENCE])["token_id"])
    assert np.abs(table["logp"] - read_table(paths[REFERENCE])["logp"]).max() > 0.1


def test_a_second_call_runs_no_model_and_changes_no_byte(target, tmp_path, monkeypatch):
    (path,) = make_tables([TARGET], RECORDS, target=target, cache=tmp_path).values()
    before = path.read_bytes()
    monkeypatch.setattr(target.model, "forward", None)
    assert list(make_tables([TARGET], RECORDS, target=target, cache=tmp_path).values()) == [path]
    assert path.read_bytes() == before


def test_what_changes_the_numbers_changes_the_file(target, tmp_path):
    def made(records=RECORDS, model=target, **options):
        options = ScoreOptions(**({"impl": "torch"} | options))
        return next(iter(make_tables([TARGET], records, target=model, cache=tmp_path, options=options).values()))

    others = [
        made(),
        made(RECORDS[:-1]),
        made([replace(RECORDS[0], text="other"), *RECORDS[1:]]),
        made([replace(RECORDS[0], id="other"), *RECORDS[1:]]),
        made(max_tokens=9),
        made(window=16),
        made(tokens_per_batch=64),
        made(impl="reference"),
        made(model=replace(target, fingerprint="other")),
        made(model=replace(target, dtype="bfloat16")),
    ]
    assert len(set(others)) == len(others)
    assert made() == others[0]


def test_shards_change_no_row(target, tmp_path, monkeypatch):
    (whole,) = make_tables([TARGET], RECORDS, target=target, cache=tmp_path / "a").values()
    monkeypatch.setattr(render, "_SHARD_TOKENS", 50)
    (split,) = make_tables([TARGET], RECORDS, target=target, cache=tmp_path / "b").values()
    one, other = read_table(whole), read_table(split)
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.record_id, other.record_id)
    np.testing.assert_allclose(one["logp"], other["logp"], atol=1e-5)


def test_the_base_of_an_adapter_is_the_base(adapter, reference, tmp_path):
    paths = make_tables([TARGET, REFERENCE], RECORDS, target=adapter, cache=tmp_path / "a")
    (base,) = make_tables([TARGET], RECORDS, target=reference, cache=tmp_path / "b").values()
    np.testing.assert_allclose(read_table(paths[REFERENCE])["logp"], read_table(base)["logp"], atol=1e-5)
    with torch.inference_mode():
        ids = torch.tensor([adapter.tokenizer(RECORDS[-1].text)["input_ids"]])
        logp = adapter.model(input_ids=ids).logits[0, :-1].log_softmax(1).gather(1, ids[0, 1:, None])[:, 0]
    np.testing.assert_allclose(read_table(paths[TARGET])["logp"][-len(logp) :], logp, atol=1e-4)
    assert np.abs(read_table(paths[TARGET])["logp"] - read_table(base)["logp"]).max() > 0.1


def test_no_reference_is_refused(target, tmp_path):
    with pytest.raises(BadInput, match="needs a reference model"):
        make_tables([REFERENCE], RECORDS, target=target, cache=tmp_path)


def test_no_records_make_an_empty_table(target, tmp_path):
    (path,) = make_tables([TARGET], [], target=target, cache=tmp_path).values()
    table = read_table(path)
    assert len(table) == 0
    assert set(table.tokens) == set(TOKEN_COLUMNS)


def test_numbers_that_are_not_finite_are_refused(target, tmp_path, monkeypatch):
    original = plan.score

    def broken(*args):
        columns, offsets = original(*args)
        columns["logp"][3] = -np.inf
        return columns, offsets

    monkeypatch.setattr(plan, "score", broken)
    with pytest.raises(BadInput, match="record 'long': the model gives a logp that is not finite"):
        make_tables([TARGET], RECORDS, target=target, cache=tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_cache_that_cannot_be_made_is_refused(target, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be made"):
        make_tables([TARGET], RECORDS, target=target, cache=tmp_path / "file" / "cache")


def test_a_damaged_table_is_made_again(target, tmp_path):
    (path,) = make_tables([TARGET], RECORDS, target=target, cache=tmp_path).values()
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:200] + b"x" + whole[201:], b""):
        path.write_bytes(damaged)
        assert next(iter(make_tables([TARGET], RECORDS, target=target, cache=tmp_path).values())) == path
        assert path.read_bytes() == whole


def killed_at_third_shard(call):
    """The call in a process of its own, which is killed once three shards are written."""
    process = os.fork()
    if process == 0:
        try:
            keep, written = plan.keep, []

            def dying(table, path):
                keep(table, path)
                written.append(path)
                if len(written) == 3:
                    os.kill(os.getpid(), signal.SIGKILL)

            plan.keep = dying
            call()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL


@pytest.mark.usefixtures("one_thread")
def test_killed_and_called_again_gives_the_same_bytes_and_repeats_no_shard(target, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "_SHARD_TOKENS", 50)
    (path,) = make_tables([TARGET], RECORDS, target=target, cache=tmp_path / "whole").values()
    killed_at_third_shard(lambda: make_tables([TARGET], RECORDS, target=target, cache=tmp_path / "cut"))
    shards = sorted((tmp_path / "cut" / "shards").glob("*.parquet"))
    assert len(shards) == 3
    shards[0].write_bytes(shards[0].read_bytes()[:-20])
    scored = []
    monkeypatch.setattr(plan, "score", lambda *args, original=plan.score: scored.append(1) or original(*args))
    (again,) = make_tables([TARGET], RECORDS, target=target, cache=tmp_path / "cut").values()
    assert again.name == path.name
    assert again.read_bytes() == path.read_bytes()
    total = len(render.render(RECORDS, PLAIN, tokenizer=target.tokenizer, max_tokens=None).shards())
    assert len(scored) == total - 2


def test_describe_names_every_choice(target):
    said = describe(target, ScoreOptions(impl="torch", max_tokens=7))
    assert said == {
        "impl": "torch",
        "why": "as asked",
        "window": 512,
        "tokens_per_batch": 2048,
        "logits": "output layer in chunks",
        "max_tokens": 7,
    }
