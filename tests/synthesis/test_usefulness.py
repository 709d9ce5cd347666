# SPDX-License-Identifier: Apache-2.0
"""Numbers of usefulness: against naive twins, against what is known to be true, and where nothing is to be seen."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Record
from reticent.core.text_utility import HALF, REAL, SYNTHETIC, TextUtility
from reticent.stats.means import ratio_of_sums
from reticent.synthesis.usefulness.frontier_area import MIXTURES, SCALE, covered, frontier_area, overlap, smoothed
from reticent.synthesis.usefulness.judged_losses import JudgedLosses, losses_on_record
from reticent.synthesis.usefulness.text_groups import grouped
from reticent.synthesis.usefulness.text_likeness import TextSample, corrected, counts_of, likeness_of
from reticent.synthesis.usefulness.text_sources import WrittenText, as_judged, as_learned, labels_of, lessons
from reticent.synthesis.usefulness.utility_rows import Yardstick, judged_whole
from reticent.synthesis.usefulness.utility_sentences import headline_of
from reticent.synthesis.usefulness.utility_spec import UtilitySpec


def naive_area(p: list[float], q: list[float]) -> float:
    """The area by its definition, one mixture and one group at a time."""
    points = [(1.0, 0.0)]
    for step in range(1, MIXTURES + 1):
        part = step / (MIXTURES + 1)
        r = [part * a + (1 - part) * b for a, b in zip(p, q, strict=True)]
        to_q = sum(b * math.log(b / c) for b, c in zip(q, r, strict=True) if b > 0)
        to_p = sum(a * math.log(a / c) for a, c in zip(p, r, strict=True) if a > 0)
        points.append((math.exp(-SCALE * to_q), math.exp(-SCALE * to_p)))
    points.append((0.0, 1.0))
    return sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))


def test_the_area_is_that_of_its_definition_and_falls_with_distance() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(7), size=5), rng.dirichlet(np.ones(7), size=5)
    q[0, 0], p[1] = 0.0, q[1]
    q[0] /= q[0].sum()
    fast = frontier_area(p, q)
    assert fast == pytest.approx([naive_area(list(a), list(b)) for a, b in zip(p, q, strict=True)], abs=1e-12)
    assert fast == pytest.approx(frontier_area(q, p), abs=1e-12)
    assert fast[1] == pytest.approx(1.0)
    nearer = [float(frontier_area(p[:1], (1 - t) * p[:1] + t * q[:1])[0]) for t in (0.0, 0.3, 0.6, 1.0)]
    assert nearer == sorted(nearer, reverse=True)


def test_overlap_and_cover_by_hand() -> None:
    p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.75, 0.0]])
    assert overlap(p, q)[0] == pytest.approx(0.5)
    assert covered(p, q)[0] == pytest.approx(0.75)
    assert smoothed(np.array([[3.0, 0.0]]))[0] == pytest.approx([3.5 / 4, 0.5 / 4])


def sample(group: np.ndarray, rng: np.random.Generator, *, words: int = 12) -> TextSample:
    return TextSample(group=group, words=rng.poisson(words, len(group)), label=(group % 2).astype(np.int64), users=None)


def test_intervals_of_likeness_hold_the_truth_and_see_what_is_planted() -> None:
    rng = np.random.default_rng(3)
    even, uneven = np.full(8, 1 / 8), np.array([4, 4, 2, 2, 1, 1, 1, 1]) / 16
    halves = [np.array([[p[::2].sum(), p[1::2].sum()]]) for p in (even, uneven)]
    truth = {"likeness": float(frontier_area(even[None], uneven[None])[0]), "labels": float(overlap(*halves)[0])}
    missed = dict.fromkeys(truth, 0)
    for _ in range(25):
        real, other = (sample(rng.choice(8, 160, p=p), rng) for p in (even, uneven))
        found = likeness_of(real, other)
        for name in truth:
            estimate = getattr(found, name)
            missed[name] += not estimate.lo <= truth[name] <= estimate.hi
    assert max(missed.values()) <= 3
    alike, apart = likeness_of(real, sample(rng.choice(8, 160), rng)), likeness_of(real, sample(
        np.zeros(160, dtype=np.int64), rng, words=40))  # fmt: skip
    assert alike.likeness.hi > 0.98
    assert alike.lengths.value > 0.85
    assert apart.likeness.hi < 0.2
    assert apart.lengths.hi < 0.3
    assert apart.topics.hi < 0.4


def test_no_spread_is_no_certainty_and_one_user_is_refused() -> None:
    flat = corrected(np.ones(50), users=20, n=40)
    assert (flat.value, flat.hi) == (1.0, 1.0)
    assert flat.lo < 0.85
    one = TextSample(group=np.zeros(9, int), words=np.ones(9, int), label=np.zeros(0, int), users=["ana"] * 9)
    with pytest.raises(Underpowered, match="1 users"):
        likeness_of(one, one)


def test_texts_of_one_user_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(rng.integers(0, 4, 20), 8)  # each user writes about one thing
    other = sample(rng.integers(0, 4, 160), rng)
    widths = []
    for users in (None, [str(n // 8) for n in range(160)]):
        real = TextSample(group=group, words=np.arange(160) % 9, label=np.zeros(0, int), users=users)
        estimate = likeness_of(real, other).likeness
        widths.append(estimate.hi - estimate.lo)
    assert widths[1] > 1.5 * widths[0]
    weight = np.stack([np.ones(3), np.array([2.0, 0.0, 1.0])], axis=1)
    assert counts_of(np.array([0, 1, 0]), weight, 2).tolist() == [[2.0, 1.0], [3.0, 0.0]]


def test_groups_are_those_that_were_planted_and_directions_alone_count() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(5)[[0, 1, 2]] * 4
    points = np.concatenate([centre + 0.05 * rng.normal(size=(30, 5)) for centre in centres])
    points *= rng.uniform(0.5, 20, size=(90, 1))
    group = grouped(points, groups=3, seed=1)
    assert [len(set(group[start : start + 30])) for start in (0, 30, 60)] == [1, 1, 1]
    assert len(set(group)) == 3
    assert (grouped(points, groups=3, seed=1) == group).all()
    assert len(set(grouped(np.ones((6, 2)), groups=3))) == 1
    assert grouped(np.zeros((4, 2)), groups=3).tolist() == [0, 0, 0, 0]


# ---- losses ---------------------------------------------------------------------------------------------------------


def losses(nats: np.ndarray, by_label: np.ndarray | None = None) -> JudgedLosses:
    by_label = np.zeros((len(nats), 0)) if by_label is None else by_label
    return JudgedLosses(nats=nats, tokens=np.full(len(nats), 10.0), by_label=by_label)


@pytest.fixture
def base_nats() -> np.ndarray:
    return 30 + np.random.default_rng(2).normal(size=80)


def yardstick(base: np.ndarray, gain: float, **more: object) -> Yardstick:
    real = losses(base - gain + 0.5 * np.random.default_rng(4).normal(size=len(base)))
    given = {"users": None, "own_label": np.zeros(0, dtype=np.int64)} | more
    return Yardstick(untrained=losses(base), real=real, **given)  # type: ignore[arg-type]


def test_what_is_kept_is_the_share_of_the_gain_of_real_text(base_nats: np.ndarray) -> None:
    by = yardstick(base_nats, gain=10.0)
    kept = by.kept(losses(base_nats - 4.0))
    assert kept is not None
    assert kept.lo < 0.4 < kept.hi
    assert kept.hi - kept.lo < 0.05
    assert by.kept(losses(base_nats)).value == 0  # type: ignore[union-attr]
    assert by.kept(by.real).value == 1  # type: ignore[union-attr]
    over = by.over_real(losses(base_nats - 4.0))
    assert over.lo < 0.6 < over.hi
    assert over.value == pytest.approx(float((base_nats - 4 - by.real.nats).sum()) / 800)
    assert by.loss(by.untrained).value == pytest.approx(ratio_of_sums(base_nats, np.full(80, 10.0)).value)


def test_where_real_text_teaches_nothing_no_share_of_it_is_stated(base_nats: np.ndarray) -> None:
    by = yardstick(base_nats, gain=0.0)
    assert by.kept(losses(base_nats - 4.0)) is None
    row = TextUtility(name="made", source=SYNTHETIC, loss=by.loss(by.real))
    assert headline_of([row]).startswith("Real text teaches this model nothing beyond doubt")


def test_accuracy_counts_a_text_whose_own_label_is_the_likeliest_alone() -> None:
    own = np.array([0, 1, 0, 1])
    by_label = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 3.0], [9.0, 2.0]])  # right, wrong, a tie, right
    by = yardstick(np.full(4, 30.0), gain=1.0, own_label=own)
    assert by.accuracy(losses(np.ones(4), by_label)).value == 0.5  # type: ignore[union-attr]
    assert yardstick(np.full(4, 30.0), gain=1.0).accuracy(losses(np.ones(4))) is None


def test_losses_come_back_from_their_file_and_broken_ones_are_told() -> None:
    there = losses(np.array([0.1, 0.2]), np.array([[1.0], [2.0]]))
    back = losses_on_record(there.on_record)
    assert back.nats.tolist() == there.nats.tolist()
    assert back.by_label.tolist() == there.by_label.tolist()
    with pytest.raises((KeyError, TypeError, ValueError)):
        losses_on_record({"nats": [1.0], "tokens": [2.0]})
    unread = JudgedLosses(nats=np.zeros(3), tokens=np.array([0.0, 4.0, 0.0]), by_label=np.zeros((3, 0)))
    with pytest.raises(Underpowered, match="1 of 3 held-out texts"):
        judged_whole([unread])


# ---- what is learned from -------------------------------------------------------------------------------------------

FILMS = [Record(id=f"f{n}", prompt=(" bad", "good ")[n % 2], completion=f"a film {n}", user=f"u{n % 9}")
         for n in range(40)]  # fmt: skip


def test_each_lesson_has_as_many_texts_and_a_half_has_half_of_each() -> None:
    labels = labels_of(FILMS, [[WrittenText(text="fine", topic="good")]])
    assert labels == ("bad", "good")
    real = as_judged(FILMS, labels)
    made = as_learned([WrittenText(text=f"made {n}", topic="bad") for n in range(30)] + [WrittenText(text=" ")], labels)
    taught = lessons(real, [("mine", made)], texts=21, seed=0)
    assert [(lesson.source, len(lesson.records)) for lesson in taught] == [(REAL, 21), (SYNTHETIC, 21), (HALF, 21)]
    assert {record.prompt for lesson in taught for record in lesson.records} <= set(labels)
    half = taught[2].records
    assert sum(record in taught[0].records for record in half) == 10
    assert sum(record in taught[1].records for record in half) == 11
    assert lessons(real[::-1], [("mine", made[::-1])], texts=21, seed=0) == taught
    assert lessons(real, [("mine", made)], texts=21, seed=1) != taught
    assert len({lesson.key("") for lesson in taught} | {taught[0].key("other")}) == 4


@pytest.mark.parametrize(
    ("records", "topic"),
    [
        (FILMS, ""),
        (FILMS, "unknown"),
        ([Record(id=str(n), prompt=f"p{n}", completion="x") for n in range(40)], "p0"),
        ([Record(id=str(n), text="a film") for n in range(40)], "good"),
        (FILMS[::2], "bad"),
    ],
)
def test_what_is_no_label_is_taken_for_none(records: list[Record], topic: str) -> None:
    assert labels_of(records, [[WrittenText(text="fine", topic=topic)]]) == ()
    assert all(record.text is not None and record.prompt is None for record in as_judged(records, ()))


@pytest.mark.parametrize(
    "given", [{"texts": 7}, {"judged_on": 1}, {"utility_seed": -1}, {"judged_on": 0}, {"utility_seed": 2**40}]
)
def test_settings_out_of_range_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        UtilitySpec(**given)
