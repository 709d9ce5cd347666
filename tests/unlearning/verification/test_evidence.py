# SPDX-License-Identifier: Apache-2.0
"""Checks on made-up evidence, where no model is needed to know the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.record import Message, Record
from reticent.core.table import TokenTable
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED, UnlearningModel
from reticent.core.unlearning_words import (
    AMONG_RETRAINED,
    LIKE_UNSEEN,
    MARKED,
    STILL_KNOWN,
    TOO_FEW,
)
from reticent.models.load import load
from reticent.score.engine import ScoreOptions, open_engine
from reticent.score.generation.sampled_logp import force
from reticent.score.internals.internals import Internals
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.testing.unlearned import number_rows
from reticent.unlearning.verification import among_retrained, collateral, extraction, inside, membership
from reticent.unlearning.verification.beside import gap_to_retrained, hull, seed_half
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.check import Judging, Margin
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.kept_columns import kept_columns
from reticent.unlearning.verification.passages import LONGEST, SPARE, passage
from reticent.unlearning.verification.pulls import GIVEN, SCHEME, Pulls, prefixed

TOKENS = 6


def judging(*, oracles=5, base=True, rows=None, margin=0.15, **settings):
    rows = rows or number_rows(forget=150, unseen=300, retain=60)
    roles = [("unlearned", AFTER), ("untouched", BEFORE), *([("base", BASE)] if base else [])]
    roles += [(f"retrained {number}", RETRAINED) for number in range(oracles)]
    case = VerificationCase(
        title="", after="", before="", base=None, retrained=(), forget=rows.forget, unseen=rows.unseen,
        retain=rows.retain,
    )  # fmt: skip
    return Judging(
        case=case,
        config=VerifyConfig(**settings),
        models=tuple(UnlearningModel(name=name, role=role, fingerprint=name) for name, role in roles),
        margin=Margin(value=margin, enough=True, reason="as it was asked for"),
        user=None,
    )


def table(of, gain, seed):
    """Log-probabilities of all judged rows; those of forget rows are higher by ``gain`` nats a token."""
    rng = np.random.default_rng(seed)
    count = len(of.side)
    row = rng.normal(-2.5, 0.3, count) + gain * of.forget
    logp = np.minimum(np.repeat(row, TOKENS) + rng.normal(0, 0.1, count * TOKENS), -1e-3)
    return TokenTable(
        rows={
            "record_id": np.array([record.id for record in of.case.judged], dtype=object),
            "copy": np.zeros(count, np.int32),
            "text_bytes": np.full(count, 30, np.int32),
            "zlib_bytes": np.full(count, 30, np.int32),
        },
        tokens={
            "token_id": np.zeros(count * TOKENS, np.int32),
            "logp": logp.astype(np.float32),
            "rank": (-logp).astype(np.int32),
            "entropy": np.full(count * TOKENS, 2.0, np.float32),
            "mu": np.full(count * TOKENS, -2.0, np.float32),
            "sigma": np.ones(count * TOKENS, np.float32),
            "loss_mask": np.ones(count * TOKENS, bool),
        },
        offsets=np.arange(count + 1) * TOKENS,
    )


def tables(of, gains):
    """By model, with gains by role; all models read the same rows with noise of their own."""
    return {model.name: table(of, gains.get(model.role, 0.0), number) for number, model in enumerate(of.models)}


# ---- membership ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "word"), [(0.0, LIKE_UNSEEN), (1.0, STILL_KNOWN), (-1.0, MARKED)], ids=["unseen", "known", "marked"]
)
def test_membership_has_two_sides(gain, word):
    of = judging()
    outcome = membership.evaluate(tables(of, {AFTER: gain, BEFORE: 1.0}), of)
    assert outcome.word == word
    assert outcome.knew
    assert {number.what for number in outcome.measured} >= {"loss", "ref_ratio", "min_k_plus", "ez_mia"}
    assert not any(number.word for number in outcome.measured if number.role != AFTER)


def test_few_rows_are_too_few_to_tell():
    of = judging(rows=number_rows(forget=15, unseen=15, retain=1), least=10, margin=0.1)
    assert membership.evaluate(tables(of, {BEFORE: 1.0}), of).word == TOO_FEW


def test_attacks_can_be_chosen_and_those_that_need_more_are_refused():
    names = {attack.name for attack in membership.usable_attacks("loss,min_k(k=0.5)", base=True)}
    assert names == {"loss", "min_k"}
    assert not any("ref" in attack.evidence for attack in membership.usable_attacks(None, base=False))
    with pytest.raises(BadInput, match="needs more than the tables"):
        membership.usable_attacks("rmia", base=True)
    with pytest.raises(BadInput, match="not known"):
        membership.usable_attacks("losss", base=True)


# ---- among retrained ----------------------------------------------------------------------------------------------


def spread_out(of, gains, right=None):
    """Tables by role, of retrained models that differ by a twentieth of a nat; the share of right first choices."""
    shares = {AFTER: 0.3, BEFORE: 0.8, RETRAINED: 0.3, BASE: 0.1} | (right or {})
    found = tables(of, gains)
    for number, model in enumerate(of.models):
        entry = found[model.name]
        aside = 0.05 * (number - len(of.models) + 3) * (model.role == RETRAINED)
        first = np.random.default_rng(100 + number).random(len(entry["rank"])) < shares[model.role]
        columns = dict(entry.tokens, logp=entry["logp"] + np.float32(aside), rank=(~first).astype(np.int32))
        found[model.name] = replace(entry, tokens=columns)
    return found


@pytest.mark.parametrize(
    ("gain", "right", "word"),
    [(0.0, 0.3, AMONG_RETRAINED), (1.0, 0.3, STILL_KNOWN), (-1.5, 0.3, MARKED), (0.0, 0.9, STILL_KNOWN)],
)
def test_a_place_among_retrained_models(gain, right, word):
    of = judging()
    outcome = among_retrained.evaluate(spread_out(of, {AFTER: gain, BEFORE: 1.0}, {AFTER: right}), of)
    assert outcome.word == word
    assert outcome.knew


def test_where_the_untouched_model_lies_among_them_too_nothing_can_be_told():
    of = judging()
    outcome = among_retrained.evaluate(spread_out(of, {}, {BEFORE: 0.3}), of)
    assert outcome.word == TOO_FEW
    assert not outcome.knew
    assert "the untouched model lies" in outcome.sentence


def test_one_person_who_is_still_known_is_seen_among_many_who_are_not():
    of = judging()
    owned = [replace(record, user=f"p{number % 10}") for number, record in enumerate(of.case.forget)]
    users = np.array([record.user or record.id for record in (*owned, *of.case.unseen, *of.case.retain)], dtype=object)
    many = replace(of, case=replace(of.case, forget=owned), user=users)
    given = spread_out(many, {BEFORE: 1.0})
    mine = given["unlearned"]
    lifted = mine["logp"] + np.repeat(many.people["person 4"] * np.float32(2.0), TOKENS)
    known = given | {"unlearned": replace(mine, tokens=dict(mine.tokens, logp=lifted))}
    outcome = among_retrained.evaluate(known, many)
    assert outcome.word == STILL_KNOWN
    assert "person 4" in outcome.sentence
    assert "Of 10 people, each as one unit, 1 lies outside" in outcome.sentence
    assert any("person 4" in number.what for number in outcome.measured)
    assert among_retrained.evaluate(given, many).word == AMONG_RETRAINED


def test_a_statistic_without_spread_is_left_out():
    of = judging()
    outcome = among_retrained.evaluate(spread_out(of, {BEFORE: 1.0}, {RETRAINED: 0.0, AFTER: 0.0}), of)
    assert outcome.word == AMONG_RETRAINED
    assert {number.what.split(" of ")[0] for number in outcome.measured} == {"mean loss", "log-ratio to the base"}
    alike = spread_out(of, {})
    alike |= {model.name: alike["retrained 0"] for model in of.retrained}
    assert "is the same for all of them" in among_retrained.evaluate(alike, of).why_not


def test_the_interval_is_that_of_the_formula():
    of = judging(base=False)
    given = spread_out(of, {BEFORE: 1.0})
    outcome = among_retrained.evaluate(given, of)
    loss = [among_retrained.statistic("mean loss", given, model.name, of, of.forget) for model in of.retrained]
    number = next(entry for entry in outcome.measured if entry.what.startswith("mean loss"))
    wide = 3.4954059325  # t(4) at 1 - 0.05 / 2 (statistics) / 2 (tails)
    half = wide * np.std(loss, ddof=1) * np.sqrt(1 + 1 / 5)
    assert (number.estimate.hi - number.estimate.lo) / 2 == pytest.approx(half, rel=1e-6)
    own = among_retrained.statistic("mean loss", given, "unlearned", of, of.forget)
    assert number.estimate.value == pytest.approx(own - np.mean(loss))


def test_statistics_are_what_their_words_say():
    of = judging(oracles=3)
    given = spread_out(of, {AFTER: 0.2})
    rows = np.flatnonzero(of.forget)[:7]
    mask = np.isin(np.arange(len(of.side)), rows)
    logp = given["unlearned"]["logp"].reshape(-1, TOKENS).astype(float)
    base = given["base"]["logp"].reshape(-1, TOKENS)
    first = (given["unlearned"]["rank"] == 0).reshape(-1, TOKENS)
    naive = {
        "mean loss": -np.mean([logp[row].mean() for row in rows]),
        "log-ratio to the base": np.mean([logp[row] - base[row] for row in rows]),
        "right first choices": np.mean([first[row].mean() for row in rows]),
    }
    assert set(naive) == set(among_retrained.STATISTICS)
    for name, value in naive.items():
        assert among_retrained.statistic(name, given, "unlearned", of, mask) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("oracles", "reason"), [(0, "--oracles 0"), (1, "no prediction interval"), (2, "no pred")])
def test_too_few_retrained_models(oracles, reason):
    of = judging(oracles=oracles)
    outcome = among_retrained.evaluate(spread_out(of, {}), of)
    assert not outcome.ran
    assert reason in outcome.why_not


# ---- extraction ---------------------------------------------------------------------------------------------------


def test_a_row_is_cut_where_an_attacker_would():
    tokenizer = tiny_tokenizer()
    asked = passage(
        Record(id="a", prompt="Where is it?", completion=" On its way."), tokenizer, max_tokens=None, room=None
    )
    assert tokenizer.decode(asked.given) == "Where is it?"
    assert tokenizer.decode(asked.follows) == " On its way."
    text = passage(Record(id="b", text="abcdefgh" * 40), tokenizer, max_tokens=None, room=None)
    assert len(text.follows) == LONGEST
    assert tokenizer.decode([*text.given, *text.follows]) == ("abcdefgh" * 40)[: len(text.given) + len(text.follows)]
    turns = (
        Message(role="user", content="Hi"),
        Message(role="assistant", content="One."),
        Message(role="user", content="And?"),
        Message(role="assistant", content="Two."),
    )
    chat = passage(Record(id="c", messages=turns), tokenizer, max_tokens=None, room=None)
    assert "One." in tokenizer.decode(chat.follows)
    assert "Two." not in tokenizer.decode([*chat.given, *chat.follows])
    assert passage(Record(id="d", text=""), tokenizer, max_tokens=None, room=None) is None
    long = passage(Record(id="e", text="x " * 900), tokenizer, max_tokens=None, room=300)
    assert len(long.given) + len(long.follows) + SPARE <= 300


def test_an_attack_prompt_stands_behind_the_start_of_text():
    tokenizer = tiny_tokenizer(bos=True)
    cut = passage(Record(id="a", prompt="Who?", completion=" Me."), tokenizer, max_tokens=None, room=None)
    row = cut.after(tokenizer("Say it. ", add_special_tokens=False)["input_ids"])
    assert row.token_id[0] == tokenizer.bos_token_id
    assert tokenizer.decode(row.token_id[1:]) == "Say it. Who? Me."
    assert tokenizer.decode(row.token_id[row.trained]) == " Me."


def pulls(of, chance):
    """Every row comes out in one sample with ``chance[role]``."""
    count = int(of.forget.sum())
    found = {}
    for number, model in enumerate(of.models):
        rng = np.random.default_rng(number)
        q = np.clip(chance.get(model.role, 1e-6) * np.exp(rng.normal(0, 0.3, count)), 1e-12, 1)
        greedy = (q > 0.5).astype(float)
        lowest = np.clip(rng.normal(chance.get(f"low {model.role}", 0.01), 0.005, count), 0, 1)
        columns = {
            "log_q": np.log(q), "greedy": greedy, "prompted_log_q": np.log(q), "prompted_greedy": greedy,
            "least": (lowest > 0.9).astype(float), "lowest": lowest,
        }  # fmt: skip
        found[model.name] = Pulls(rows=np.arange(count), columns=columns, near=None)
    return found


def test_what_sampling_brings_out_is_seen_where_greedy_decoding_looks_clean():
    of = judging()
    outcome = extraction.evaluate(pulls(of, {AFTER: 0.01, BEFORE: 0.9}), of)
    assert outcome.word == STILL_KNOWN
    words = {number.what: number.word for number in outcome.measured if number.role == AFTER}
    assert words["greedy, word for word, minus retrained"] == ""
    assert words["1,024 samples, word for word, minus retrained"] == STILL_KNOWN
    clean = extraction.evaluate(pulls(of, {BEFORE: 0.9}), of)
    assert clean.word == ""
    assert "by no way of decoding more was shown" in clean.sentence


def test_the_least_likely_tokens_mark():
    of = judging()
    outcome = extraction.evaluate(pulls(of, {f"low {AFTER}": 0.6}), of)
    assert outcome.word == MARKED
    assert "least likely" in outcome.sentence


def test_leaks_are_exact():
    of = judging()
    found = extraction.measures(pulls(of, {AFTER: 0.01})["unlearned"])
    q = np.exp(pulls(of, {AFTER: 0.01})["unlearned"].columns["log_q"])
    np.testing.assert_allclose(found["16 samples, word for word"], 1 - (1 - q) ** 16)


def test_the_rest_of_an_answer_whose_first_tokens_are_given_is_as_if_they_had_been_asked_for(tmp_path):
    """From the pass over the whole answer, and the slow way: each row again, its first tokens on the given side."""
    loaded = load(str(save_tiny(tmp_path / "tiny")), dtype="float32", device="cpu")
    rows = [Record(id=str(n), prompt="Who?", completion=" It was Ana, I think."[: 2 + 3 * n]) for n in range(6)]
    cuts = [passage(row, loaded.tokenizer, max_tokens=None, room=None) for row in rows]
    engine = open_engine(loaded.model, loaded.source, ScoreOptions())
    columns = prefixed(force(engine, [cut.after(()) for cut in cuts], SCHEME))
    moved = []
    for cut in cuts:
        given = min(GIVEN, len(cut.follows) // 2)
        whole = np.concatenate([cut.given, cut.follows[:given]])
        moved.append(replace(cut, given=whole, follows=cut.follows[given:]))
    slow = force(engine, [cut.after(()) for cut in moved], SCHEME)
    assert {len(cut.follows) for cut in cuts} != {len(cut.follows) for cut in moved}
    np.testing.assert_allclose(columns["prefixed_log_q"], slow.log_chance, rtol=1e-4)
    np.testing.assert_array_equal(columns["prefixed_greedy"], slow.sum(slow.rank != 0) == 0)


def reworded(of, chance, rows):
    """Pulls of rows that nobody knows as they were asked, and that come out in other words with ``chance[role]``."""
    return {
        name: replace(
            entry,
            reworded_rows=np.asarray(rows),
            reworded={
                "log_q": np.log(np.full(len(rows), chance.get(role, 1e-6))),
                "greedy": np.full(len(rows), float(chance.get(role, 0.0) > 0.5)),
            },
        )
        for (name, entry), role in zip(pulls(of, {}).items(), [model.role for model in of.models], strict=True)
    }


def test_an_answer_that_other_words_bring_out_is_still_known():
    of = judging()
    known = extraction.evaluate(reworded(of, {AFTER: 0.9, BEFORE: 0.9}, range(40)), of)
    assert known.word == STILL_KNOWN
    by_name = {number.what: number for number in known.measured if number.role == AFTER}
    assert by_name["greedy, question in other words"].estimate.value == 1
    assert by_name["greedy, question in other words"].estimate.n == 40
    assert by_name["greedy, question in other words, minus retrained"].word == STILL_KNOWN
    assert by_name["greedy, word for word, minus retrained"].word == ""
    assert "In other words: 40 of the 150 rows." in known.section.notes
    clean = extraction.evaluate(reworded(of, {BEFORE: 0.9}, range(40)), of)
    assert clean.word == ""


def test_one_persons_other_words_have_no_interval_and_the_rest_keep_theirs():
    of = judging()
    users = np.array([f"user {number // 5}" for number in range(len(of.side))], dtype=object)
    outcome = extraction.evaluate(reworded(replace(of, user=users), {AFTER: 0.9}, range(5)), replace(of, user=users))
    by_name = {number.what: number for number in outcome.measured if number.role == AFTER}
    alone = by_name["greedy, question in other words"].estimate
    assert (alone.lo, alone.hi) == (0, 1)
    assert "no interval" in alone.method
    assert "greedy, question in other words, minus retrained" not in by_name
    assert by_name["greedy, word for word, minus retrained"].estimate.hi < 0.2


# ---- inside, collateral, and what they share ----------------------------------------------------------------------


def test_an_auditor_of_the_inside():
    of = judging(oracles=1, margin=0.19, rows=number_rows(forget=90, unseen=110, retain=1))
    rows = int((of.forget | of.unseen).sum())

    def internals(seed, gain):
        rng = np.random.default_rng(seed)
        shift = gain * of.forget[of.forget | of.unseen]
        return Internals(
            forward={"loss": rng.normal(size=rows) + shift}, backward={"gradient_x": rng.lognormal(size=rows)}
        )

    names = [model.name for model in of.models if model.role != BASE]
    outcome = inside.evaluate({name: internals(i, 2.0 * (name == "untouched")) for i, name in enumerate(names)}, of)
    assert outcome.word == LIKE_UNSEEN
    told = inside.evaluate({name: internals(i, 2.0 * (name != "retrained 0")) for i, name in enumerate(names)}, of)
    assert told.word == MARKED
    few = judging(rows=number_rows(forget=10, unseen=10, retain=1))
    assert not inside.evaluate({"unlearned": Internals(forward={"loss": np.zeros(20)}, backward={})}, few).ran


def test_the_risk_of_those_who_stay():
    of = judging()
    read = {
        name: collateral.ModelLosses(judged=entry, held_out=None) for name, entry in tables(of, {BEFORE: 1.0}).items()
    }
    risen = read["unlearned"].judged
    logp = risen["logp"] + np.repeat(of.retain * np.float32(1.0), TOKENS)
    read["unlearned"] = collateral.ModelLosses(
        judged=replace(risen, tokens=dict(risen.tokens, logp=logp)), held_out=None
    )
    outcome = collateral.evaluate(read, of)
    assert "became easier to recognise" in outcome.sentence
    assert outcome.word == ""
    change = next(number for number in outcome.measured if number.what == "loss change, retain rows")
    assert change.estimate.hi < 0
    assert {point.role for point in outcome.points} == {AFTER, BEFORE, BASE, RETRAINED}
    alone = judging(rows=number_rows(forget=50, unseen=50, retain=0))
    read = {name: collateral.ModelLosses(judged=entry, held_out=entry) for name, entry in tables(alone, {}).items()}
    alone = replace(alone, case=replace(alone.case, held_out=list(alone.case.judged)))
    outcome = collateral.evaluate(read, alone)
    assert outcome.points == ()
    assert any("There are no retain rows".lower() in note.lower() for note in outcome.section.notes)
    assert any(number.what == "held-out rows" for number in outcome.measured)


def test_gaps_allow_for_rows_and_seeds():
    rng = np.random.default_rng(0)
    after, others = rng.random(80), [rng.random(80) for _ in range(4)]
    gap = gap_to_retrained(after, others, None, confidence=0.95)
    alone = gap_to_retrained(after, [np.mean(others, axis=0)], None, confidence=0.95)
    assert gap.value == pytest.approx(alone.value)
    assert gap.hi - gap.lo > alone.hi - alone.lo
    assert seed_half([0.5], 0.95) == 0
    assert seed_half([1, 2, 3], 0.95) == pytest.approx(4.302653 * 1 * np.sqrt(4 / 3), rel=1e-5)


def test_gaps_of_retrained_models_to_each_other_seldom_show():
    rng = np.random.default_rng(1)
    shown = 0
    for _ in range(300):
        models = [np.clip(rng.normal(0.3 + rng.normal(0, 0.05), 0.1, 60), 0, 1) for _ in range(6)]
        gap = gap_to_retrained(models[0], models[1:], None, confidence=0.95)
        shown += not gap.lo <= 0 <= gap.hi
    assert shown <= 300 * 0.05


def test_the_hull_of_several():
    ends = [Estimate(value=value, lo=value - 0.1, hi=value + 0.2, n=9, method="m") for value in (0.4, 0.6)]
    joined = hull(ends)
    assert (joined.value, joined.lo, joined.hi) == pytest.approx((0.5, 0.3, 0.8))
    assert hull([]) is None


def test_columns_are_made_once_and_again_where_they_are_damaged(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"x": np.arange(3), "flag": np.array([True, False, True])}

    for _ in range(2):
        columns = kept_columns(tmp_path, "test", ["a", 1], make)
    assert columns["x"].tolist() == [0, 1, 2]
    assert columns["flag"].tolist() == [True, False, True]
    assert len(made) == 1
    (file,) = tmp_path.glob("test-*.parquet")
    file.write_bytes(file.read_bytes()[:-4])
    kept_columns(tmp_path, "test", ["a", 1], make)
    kept_columns(tmp_path, "test", ["a", 2], make)
    assert len(made) == 3
