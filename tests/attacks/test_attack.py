# SPDX-License-Identifier: Apache-2.0
"""Registration and the streaming runner."""

import importlib
import subprocess
import sys
from dataclasses import replace
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import pytest

from reticent.attacks.attack import ATTACKS, attack
from reticent.attacks.parameter import Within
from reticent.attacks.run import run_attack, run_attacks
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.registry import Registry
from reticent.score.requests import Request, Variant


@pytest.fixture
def register(monkeypatch):
    """Register into a registry of its own, and hand out what came out of it."""
    module = importlib.import_module("reticent.attacks.attack")  # the package's attribute is the decorator
    registry = Registry("attack", "reticent.attacks")
    monkeypatch.setattr(module, "ATTACKS", registry)
    variants = {}
    for holder in (module, importlib.import_module("reticent.attacks.signature")):
        monkeypatch.setattr(holder, "VARIANTS", variants)

    def made(function, **options):
        settings = {"unit": "record", "returns": "score", "access": "logprob", "paper": "arXiv:2310.16789"}
        settings |= {"needs": ("logp",), **options}
        attack(function.__name__, **settings)(function)
        return registry._things[function.__name__]

    return made


def shout(record, context):
    return [replace(record, text=record.text.upper())] * 2


SHOUT = Variant(name="shout", copies=2, render=shout)


def first(table, ref, known, shout, shout_ref, *, k=0.2):
    """Sum of one thing and another.

    higher = member
    """
    loud = shout.mean(shout["logp"]).reshape(len(table), 2).sum(axis=1)
    loud -= shout_ref.mean(shout_ref["logp"]).reshape(len(table), 2).sum(axis=1)
    return table.sum(table["logp"]) + k * ref.sum(ref["logp"]) + len(known) + loud


def test_parameters_declare_evidence_and_hyper_parameters(register):
    made = register(first, variants={"shout": SHOUT})
    assert made.evidence == ("table", "ref", "known", "shout", "shout_ref")
    assert made.requests == (
        Request(name="table"),
        Request(name="ref", model="reference"),
        Request(name="shout", variant=SHOUT),
        Request(name="shout_ref", model="reference", variant=SHOUT),
    )
    assert (made.params, made.unit, made.summary) == ({"k": 0.2}, "record", "Sum of one thing and another.")
    assert (made.source, made.family, made.optional) == ("tables", "membership", ())
    assert made.paper.url == "https://arxiv.org/abs/2310.16789"
    assert made.with_params(k=0.5).params == {"k": 0.5}
    assert made.with_params(k=0.5).described.endswith("another. With k = 0.5 in place of 0.2.")
    assert made.described == made.summary
    with pytest.raises(BadInput, match=r"'kk'.*It has: k"):
        made.with_params(kk=1)


def unknown_evidence(table, referense):
    """Sum."""


def no_default(table, *, k):
    """Sum."""


def star(*tables):
    """Sum."""


def nothing_attacked(known):
    """Sum."""


def undocumented(table):
    return None


def mixed(table, shadow):
    """Sum."""


def mixed_units(forced, whole):
    """Sum."""


def labels_only(member):
    """Sum."""


def labels_beside_a_table(table, member):
    """Sum."""


def out_of_range(table, *, k: Annotated[float, Within("(0, 1]")] = 2.0):
    """Sum."""


@pytest.mark.parametrize(
    ("function", "options", "error", "match"),
    [
        (unknown_evidence, {}, TypeError, "'referense', which is none of: table, ref, known, known_ref"),
        (first, {}, TypeError, "'shout'.*Declare a variant"),
        (no_default, {}, TypeError, "'k' needs a default"),
        (star, {}, TypeError, "neither evidence nor"),
        (nothing_attacked, {}, TypeError, "first parameter is `table`"),
        (first, {"variants": {"loud": SHOUT}}, TypeError, "use its own name"),
        (first, {"variants": {"shout": SHOUT}, "edge_cases": no_default}, TypeError, "needs a default"),
        (first, {"variants": {"shout": SHOUT}, "edge_cases": unknown_evidence}, TypeError, "same parameters"),
        (undocumented, {}, ValueError, "docstring"),
        (first, {"needs": ("logits",)}, ValueError, "logits"),
        (first, {"access": "root"}, ValueError, "root"),
        (first, {"paper": "somewhere"}, ValueError, "somewhere"),
        (first, {"unit": "text"}, ValueError, "unit 'text'"),
        (first, {"returns": "guess"}, ValueError, "returns 'guess'"),
        (first, {"variants": {"shout": SHOUT}, "unit": "secret"}, TypeError, "about secrets, and .* about records"),
        (mixed, {}, TypeError, "one source"),
        (mixed_units, {"unit": "secret"}, TypeError, "same unit"),
        (labels_only, {}, TypeError, "one source"),
        (labels_beside_a_table, {}, TypeError, "learn from labels"),
        (out_of_range, {}, BadInput, r"k=2: must be a number in \(0, 1\]"),
    ],
)
def test_registration_refuses_what_cannot_be(register, function, options, error, match):
    with pytest.raises(error, match=match):
        register(function, **options)


def test_one_name_never_means_two_renderings(register):
    register(first, variants={"shout": SHOUT})
    with pytest.raises(TypeError, match="another attack uses the name 'shout'"):
        attack(
            "second",
            unit="record",
            returns="score",
            access="logprob",
            paper="https://example.org",
            variants={"shout": replace(SHOUT, version=2)},
        )(first)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(BadInput, match="Did you mean 'min_k'"):
        ATTACKS.get("min-k")


@pytest.fixture
def files(table_of, rows_of, tmp_path):
    """Tables of 20 records for the evidence of ``first``, in row groups of 3, with prompts that are not trained on."""
    lengths = np.random.default_rng(0).integers(1, 9, 20)
    rng = np.random.default_rng(1)
    tables = {}
    masks = [list(rng.random(n) < 0.7) for n in lengths]
    for i, (name, copies) in enumerate({"table": 1, "ref": 1, "known": 1, "shout": 2, "shout_ref": 2}.items()):
        mask = [m for m in masks for _ in range(copies)]
        tables[name] = table_of(rows_of(np.repeat(lengths, copies), i), copies=copies, loss_mask=mask)
    paths = {}
    for name, table in tables.items():
        paths[name] = tmp_path / f"{name}.parquet"
        pq.write_table(table.to_arrow(), paths[name], row_group_size=3)
    return tables, paths


def test_streaming_equals_the_whole_and_empty_rows_are_nan(register, files, monkeypatch):
    made = register(first, variants={"shout": SHOUT})
    tables, paths = files
    trained = {name: table.trained() for name, table in tables.items()}
    known = trained["known"].take(trained["known"].lengths > 0)
    whole = first(*(trained[name] for name in ("table", "ref")), known, trained["shout"], trained["shout_ref"])
    empty = trained["table"].lengths == 0
    assert 0 < empty.sum() < 5
    for rows_at_once in (4096, 7, 2, 1):
        monkeypatch.setattr("reticent.attacks.stream.PORTION", rows_at_once)
        np.testing.assert_array_equal(run_attack(made, paths), np.where(empty, np.nan, whole))


def test_only_needed_columns_are_read(register, files, monkeypatch):
    read = {}

    def spy(path, columns):
        read[path.stem] = columns
        return iter_tables(path, columns)

    from reticent.attacks.stream import iter_tables

    monkeypatch.setattr("reticent.attacks.stream.iter_tables", spy)
    run_attacks([register(first, variants={"shout": SHOUT})], files[1])
    assert read == {name: ["logp", "loss_mask", "token_id"] for name in ("table", "ref", "shout", "shout_ref")}
    read.clear()
    run_attacks([ATTACKS.get("min_k_plus")], files[1])
    assert read == {"table": ["logp", "loss_mask", "mu", "sigma"]}


def test_many_attacks_in_one_pass_give_what_each_gives_alone(files):
    attacks = [ATTACKS.get(name) for name in ("loss", "min_k", "ez_mia", "wbc", "user_inference")]
    together = run_attacks(attacks, files[1])
    for one in attacks:
        np.testing.assert_array_equal(together.scores[one.name], run_attack(one, files[1]))


def test_edge_cases_become_notes_with_the_rows_counted(files):
    outcome = run_attacks([ATTACKS.get("wbc"), ATTACKS.get("loss")], files[1])
    seen = int((files[0]["table"].trained().lengths > 0).sum())
    assert outcome.notes == {
        "wbc": (f"fewer than 40 tokens, wider windows are cut to the text's length: {seen} of 20 rows",),
        "loss": (),
    }


def rewritten(path, table):
    pq.write_table(table.to_arrow(), path)
    return path


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.take(np.arange(19)), "not about the same records"),
        (lambda t: t.take(np.arange(20)[::-1]), "has record 'r19' where 'table' has 'r0'"),
        (lambda t: replace(t, tokens={**t.tokens, "token_id": t["token_id"] + 1}), "other tokens or masks"),
        (lambda t: replace(t, tokens={**t.tokens, "loss_mask": ~t["loss_mask"]}), "other tokens or masks"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(files, tmp_path, change, match):
    tables, paths = files
    wrong = rewritten(tmp_path / "wrong.parquet", change(tables["ref"]))
    with pytest.raises(BadInput, match=match):
        run_attack(ATTACKS.get("ref_diff"), {**paths, "ref": wrong})
    if "records" in match or "token" in match:
        known = {"known": paths["table"], "known_ref": wrong}
        with pytest.raises(BadInput, match="known"):
            run_attack(ATTACKS.get("rmia"), {**paths, **known})


def test_missing_evidence_and_an_empty_population_are_refused(files, tmp_path, table_of):
    with pytest.raises(BadInput, match=r"'rmia'.*'known_ref'"):
        run_attack(ATTACKS.get("rmia"), files[1])
    nothing = rewritten(tmp_path / "nothing.parquet", table_of([[-1.0]], loss_mask=[[False]]))
    with pytest.raises(BadInput, match="known non-members"):
        run_attack(ATTACKS.get("rmia"), {**files[1], "known": nothing, "known_ref": nothing})


def wrong_shape(table):
    """Sum."""
    return np.zeros(3)


def not_a_number(table):
    """Sum."""
    return np.full(len(table), np.nan)


@pytest.mark.parametrize("function", [wrong_shape, not_a_number])
def test_an_attack_that_gives_no_number_for_a_record_is_refused(register, files, function):
    with pytest.raises(BadInput, match=function.__name__):
        run_attack(register(function), files[1])


def test_no_attacks_and_no_records(tmp_path, table_of):
    assert run_attacks([], {}).scores == {}
    path = rewritten(tmp_path / "table.parquet", table_of([]))
    assert run_attack(ATTACKS.get("loss"), {"table": path}).shape == (0,)


def test_variants_render_through_the_contract():
    from reticent.score.requests import RenderContext, rendered

    copies = rendered(Record(id="a", text="hey"), SHOUT, RenderContext(rng=np.random.default_rng(0)))
    assert [copy.text for copy in copies] == ["HEY", "HEY"]


IMPORT = """
import sys, time
start = time.process_time()  # not by the clock: other work on the machine must not fail a test
import reticent.attacks
spent = time.process_time() - start
assert {attack.unit for attack in reticent.attacks.ATTACKS} == {"record", "user", "secret", "generation"}
heavy = {"torch", "transformers", "peft", "scipy", "sklearn", "pandas"} & set(sys.modules)
assert not heavy, heavy
print(spent)
"""


def test_import_takes_less_than_half_a_second_and_never_torch():
    spent = [float(subprocess.check_output([sys.executable, "-c", IMPORT], text=True)) for _ in range(3)]
    assert min(spent) < 0.5
