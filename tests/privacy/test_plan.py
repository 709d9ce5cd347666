# SPDX-License-Identifier: Apache-2.0
"""Sampler and accounting cannot disagree: what is drawn follows the distribution that is accounted for."""

import hashlib
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from dp_accounting import dp_event
from scipy.stats import binomtest, chisquare

from reticent.core.errors import BadInput
from reticent.privacy import accounting
from reticent.privacy.guarantee import EVERYTHING, PrivacyGuarantee, auroc_bound, covered_spans
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.plan import make_plan
from reticent.privacy.sampling import Population
from reticent.privacy.spec import PrivacySpec

KEY = hashlib.sha256(b"a key for tests").digest()
USERS, EACH = 20, 6
POPULATION = Population(
    users=tuple(f"u{record % USERS}" for record in range(USERS * EACH)),
    lengths=tuple(5 + record % 7 for record in range(USERS * EACH)),
    scores=tuple(10.0 + record % 5 for record in range(USERS * EACH)),
    max_tokens=12,
)


def plan(steps=30, batch_size=10, population=POPULATION, key=KEY, **settings):
    if "epsilon" not in settings:
        settings = {"noise_multiplier": 2.0, **settings}
    return make_plan(PrivacySpec(**settings), population, batch_size=batch_size, steps=steps, key=key)


def records(batch):
    return [piece.record for unit in batch for row in unit for piece in row]


def test_record_level():
    made = plan(batch_size=12)
    assert made.event == dp_event.PoissonSampledDpEvent(12 / 120, dp_event.GaussianDpEvent(2.0))
    assert (made.unit, made.units, made.sampler.units, made.expected_batch) == ("record", 120, 120, 12)
    assert (made.rows_per_unit, made.clip_norm, made.steps, made.key) == (1, 1.0, 30, KEY)
    for step in range(30):
        for ((piece,),) in made.sampler.batch(step):
            assert (piece.start, piece.stop) == (0, POPULATION.lengths[piece.record])


@pytest.mark.parametrize("rule", ["random", "longest", "shortest", "low_perplexity", "high_perplexity", "random_chunk"])
def test_users_sampled(rule):
    made = plan(unit="user", record_selection=rule, records_per_user=3)
    assert made.event == dp_event.PoissonSampledDpEvent(0.5, dp_event.GaussianDpEvent(2.0))
    assert (made.unit, made.units, made.sampler.units, made.rows_per_unit) == ("user", 20, 20, 3)
    for step in range(5):
        for unit in made.sampler.batch(step):
            assert 1 <= len(unit) <= 3
            assert len({POPULATION.users[piece.record] for row in unit for piece in row}) == 1


def test_longest_takes_the_longest_each_time():
    made = plan(unit="user", record_selection="longest", records_per_user=2)
    of_first = {unit for step in range(30) for unit in made.sampler.batch(step) if unit[0][0].record % USERS == 0}
    (unit,) = of_first
    lengths = sorted(POPULATION.lengths[record] for record in range(0, 120, USERS))
    assert sorted(POPULATION.lengths[row[0].record] for row in unit) == lengths[-2:]


@pytest.mark.parametrize("way", ["record", "group"])
@pytest.mark.parametrize("rule", ["random", "longest"])
def test_records_sampled_users_protected(way, rule):
    made = plan(unit="user", user_sampling=way, record_selection=rule, records_per_user=4, steps=200)
    assert (made.units, made.sampler.units, made.sampler.rate) == (20, 80, 10 / 80)
    seen = {record for step in range(200) for record in records(made.sampler.batch(step))}
    assert max(Counter(POPULATION.users[record] for record in seen).values()) == 4
    if way == "record":
        assert made.event.sensitivities == [0, 1, 2, 3, 4]
        assert sum(made.event.sampling_probs) == pytest.approx(1)
        assert made.mechanism.owned == 4
    else:
        assert made.event == dp_event.PoissonSampledDpEvent(10 / 80, dp_event.GaussianDpEvent(2.0))
        assert made.mechanism.black_box


def test_owners_are_drawn_as_the_mixture_says():
    """How many records of a user are in a step: chi-square against the event's own chances, one in a million."""
    made = plan(unit="user", user_sampling="record", records_per_user=4, batch_size=20, steps=300)
    times = np.zeros((300, USERS), dtype=int)
    for step in range(300):
        for record in records(made.sampler.batch(step)):
            times[step, record % USERS] += 1
    found = np.bincount(times.ravel(), minlength=5)
    assert chisquare(found, np.array(made.event.sampling_probs) * times.size).pvalue > 1e-6


def test_users_are_drawn_as_often_as_is_accounted_for():
    """Binomial test of 6,000 coins, one in a million."""
    made = plan(unit="user", batch_size=3, steps=300)
    sizes = [len(made.sampler.batch(step)) for step in range(300)]
    assert binomtest(sum(sizes), 300 * USERS, made.event.sampling_probability).pvalue > 1e-6


def test_owner_of_one_record_is_accounted_for_as_a_record():
    singles = Population(users=tuple(map(str, range(50))), lengths=(4,) * 50)
    by_record = plan(population=singles, delta=1e-3)
    by_user = plan(population=singles, delta=1e-3, unit="user", user_sampling="record", records_per_user=1)
    assert by_user.event == by_record.event
    assert by_user.spent().epsilon == by_record.spent().epsilon
    assert plan(population=singles, delta=1e-3, unit="user").spent().epsilon == by_record.spent().epsilon


def test_the_event_follows_the_sampler():
    """There is no second place where a rate could be written down."""
    made = plan(batch_size=12)
    other = replace(made, sampler=replace(made.sampler, rate=0.9))
    assert other.event.sampling_probability == 0.9
    assert other.spent().epsilon > made.spent().epsilon


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"unit": "user"},
        {"unit": "user", "user_sampling": "record", "records_per_user": 3},
        {"unit": "user", "user_sampling": "group", "records_per_user": 3},
        {"relation": "zero_out"},
        {"relation": "replace_one"},
        {"unit": "user", "relation": "replace_one"},
        {"unit": "user", "user_sampling": "group", "records_per_user": 3, "relation": "replace_one"},
    ],
)
def test_epsilon_given_is_kept(settings):
    made = plan(epsilon=4.0, **settings)
    promise = made.spent()
    assert 3.9 <= promise.epsilon <= 4.0
    assert promise.check >= promise.epsilon
    assert promise.unit == settings.get("unit", "record")
    done = {"zero_out": "zero out", "replace_one": "replace"}.get(settings.get("relation"), "add or remove")
    assert promise.neighbouring == f"{done} one {promise.unit}"
    assert promise.relation == made.mechanism.relation == settings.get("relation", "add_or_remove")
    assert promise.allowed is not None
    assert 0.5 < promise.auroc < auroc_bound(promise.epsilon, promise.delta)
    assert promise.delta == made.delta < 1 / promise.units
    fewer = made.spent(10)
    assert fewer.epsilon < promise.epsilon
    assert fewer.steps == 10
    assert made.spent(0).epsilon == 0.0
    with pytest.raises(BadInput, match="the plan has 30"):
        made.spent(31)


def test_full_batch_has_no_amplification():
    made = plan(batch_size=120, noise_multiplier=10.0)
    assert made.event == dp_event.GaussianDpEvent(10.0)
    assert len(made.sampler.batch(0)) == 120


def test_implied_epsilon_of_users():
    made = plan()
    promise = made.spent()
    assert promise.implied == tuple(
        (records, accounting.implied_user_epsilon(made.mechanism, records=records, steps=30, delta=promise.delta))
        for records in (2, 10)
    )
    assert promise.epsilon < promise.implied[0][1] < promise.implied[1][1]
    nobody = Population(users=(None,) * 30, lengths=(4,) * 30)
    assert plan(population=nobody).spent().implied == ()
    assert plan(unit="user").spent().implied == ()
    assert plan(relation="replace_one").spent().implied == ()


def test_the_statement_does_not_tell_who_has_how_many_records():
    """The users of one record each, or one of all: as many records and users with a name, the same statement."""
    alone = Population(users=tuple(map(str, range(60))), lengths=(4,) * 60)
    crowd = Population(users=("0",) * 59 + ("1",), lengths=(4,) * 60)
    assert plan(population=alone).spent().to_json() == plan(population=crowd).spent().to_json()


@pytest.mark.parametrize(
    "settings",
    [{"unit": "record"}, {"unit": "user"}, {"unit": "user", "user_sampling": "record"},
     {"unit": "user", "user_sampling": "group"}],
    ids=str,
)  # fmt: skip
def test_a_promise_tells_all_of_its_mechanism(settings):
    """So that its ε can be counted again, and added to that of others, from the file alone."""
    made = plan(noise_multiplier=3.0, delta=1e-3, **settings)
    told = PrivacyGuarantee.from_json(made.spent(20).to_json())
    mechanism = Mechanism(
        noise_multiplier=told.noise_multiplier, rate=told.rate, owned=told.owned, black_box=told.black_box
    )
    assert mechanism == made.mechanism
    assert accounting.spent(mechanism, steps=told.steps, delta=told.delta).epsilon == told.epsilon


def test_what_is_covered():
    assert plan().spent().covers == EVERYTHING
    spans = plan(protect="spans", detector_recall=0.9).spent()
    assert spans.covers == covered_spans(0.9)
    assert spans.neighbouring == "add or remove what the marked spans of one record hold"
    assert replace(plan(), covers="less").spent().covers == "less"


def test_fingerprint_tells_plans_apart_and_not_the_key():
    made = plan()
    assert made.fingerprint == plan().fingerprint
    changes = [
        plan(steps=31),
        plan(batch_size=11),
        plan(noise_multiplier=2.1),
        plan(clip_norm=0.5),
        plan(key=hashlib.sha256(b"another").digest()),
        plan(unit="user"),
        plan(population=Population(**{**asdict(POPULATION), "lengths": (9,) * 120})),
    ]
    assert len({made.fingerprint, *(other.fingerprint for other in changes)}) == 8
    assert repr(KEY) not in repr(made)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_size": 121}, "the 120 records that are sampled"),
        ({"batch_size": 21, "unit": "user"}, "the 20 users that are sampled"),
        ({"batch_size": 61, "unit": "user", "user_sampling": "record", "records_per_user": 3}, "the 60 records"),
        ({"batch_size": 0}, "must be between 1"),
        ({"steps": 0}, "steps"),
        ({"delta": 1 / 120}, "publishing one of them whole"),
        ({"delta": 0.05, "unit": "user"}, "publishing one of them whole"),
        ({"key": b"short"}, "a key of 5 bytes"),
        ({"population": Population(users=(), lengths=())}, "no records"),
        ({"population": Population(users=("a",), lengths=(3,)), "batch_size": 1}, "cannot hide among others"),
        (
            {"population": Population(users=("a",) * 9, lengths=(3,) * 9), "batch_size": 1, "unit": "user"},
            "cannot hide among others",
        ),
        ({"population": Population(users=(None, "a"), lengths=(3, 3)), "unit": "user"}, "have no user"),
        (
            {
                "population": Population(users=("a", "b"), lengths=(3, 3)),
                "batch_size": 1,
                "unit": "user",
                "record_selection": "random_chunk",
            },
            "does not tell its context",
        ),
        (
            {
                "population": Population(users=("a", "b"), lengths=(3, 3)),
                "batch_size": 1,
                "unit": "user",
                "record_selection": "low_perplexity",
            },
            "perplexity of each record",
        ),
    ],
)
def test_refusals(settings, match):
    with pytest.raises(BadInput, match=match):
        plan(**settings)
