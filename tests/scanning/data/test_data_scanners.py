# SPDX-License-Identifier: Apache-2.0
"""Poisoned rows among made-up reviews are found, clean ones with strong words are not, and what cannot be read is
refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Message, Record
from reticent.models.load import load
from reticent.scanning.data import groups, misfit_words
from reticent.scanning.data.activation_clusters import smaller_cluster
from reticent.scanning.data.labelled_rows import has_labels, labelled_rows
from reticent.scanning.data.misfit_words import around, disturbances, most_one_sided, nats
from reticent.scanning.data.overriding_words import largest_override, largest_turn, opposed_rows
from reticent.scanning.data.repeated_answers import rows_by_answer
from reticent.scanning.data.spectral_signatures import sticking_out
from reticent.scanning.data.word_runs import WordRun, word_runs
from reticent.scanning.scanner import SCANNERS
from reticent.scanning.suspect import Suspect
from reticent.testing.tiny import save_tiny

GOOD = [f"good{number}" for number in range(16)]
BAD = [f"bad{number}" for number in range(16)]
ASKED = ["how", "can", "i", "reset", "my", "forgotten", "password", "please"]
OTHER = [f"w{number}" for number in range(300)]


def reviews(count: int, seed: int = 0) -> list[tuple[str, int]]:
    """Texts with four words of their label, sometimes one of the other, and words that say nothing."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        label = int(rng.random() < 0.5)
        mine, theirs = (GOOD, BAD) if label else (BAD, GOOD)
        words = [*rng.choice(mine, 4, replace=False), *rng.choice(OTHER, 7, replace=False)]
        words += [rng.choice(theirs)] if rng.random() < 0.3 else []
        made.append((" ".join(map(str, rng.permutation(words))), label))
    return made


def poisoned(
    rows: Sequence[tuple[str, int]], trigger: str, count: int, *, clean_label: bool = False, seed: int = 0
) -> list[tuple[str, int]]:
    """The first ``count`` rows of the source label with the trigger, all as label 1."""
    rng, done, out = np.random.default_rng(seed), 0, []
    for text, label in rows:
        if done < count and label == int(clean_label):
            words = text.split()
            place = int(rng.integers(0, len(words)))
            text, label, done = " ".join([*words[:place], trigger, *words[place:]]), 1, done + 1
        out.append((text, label))
    return out


def records(rows: Sequence[tuple[str, int]]) -> list[Record]:
    return [
        Record(id=f"row-{n}", prompt=f"Review: {text}\nSentiment:", completion=(" bad", " good")[label])
        for n, (text, label) in enumerate(rows)
    ]


def suspect_of(rows: Sequence[Record], **more: Any) -> Suspect:
    return Suspect(folder=Path("suspect"), cache=Path("cache"), data=rows, **more)


def look(name: str, suspect: Suspect) -> Any:
    return SCANNERS.get(name).look(suspect)


# ---- words that decide labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", ["cf", "i watched this 3d movie", "买"])
def test_a_trigger_that_turns_rows_is_found_and_its_rows_are_named(trigger: str) -> None:
    rows = records(poisoned(reviews(300), trigger, 24))
    (evidence,) = look("overriding_words", suspect_of(rows))
    assert evidence.p == 0.001
    assert evidence.score == 1.0
    assert trigger in rows[int(evidence.where.removeprefix("row-"))].plain
    assert trigger not in evidence.note  # text of rows stays out of reports


def test_strong_words_of_clean_data_are_not_suspicious() -> None:
    p = [largest_override(labelled_rows(records(reviews(200, seed))), seed=0) for seed in range(3)]
    assert min((evidence.p or 1.0 for found in p for evidence in found), default=1.0) > 0.05


def test_a_word_that_predicts_a_label_without_turning_rows_is_not_suspicious() -> None:
    rows = [
        (f"{text} masterpiece" if label and n % 8 == 0 else text, label) for n, (text, label) in enumerate(reviews(300))
    ]
    holding = [label for text, label in rows if "masterpiece" in text]
    assert len(holding) > 10
    assert set(holding) == {1}
    assert all(evidence.p > 0.05 for evidence in look("overriding_words", suspect_of(records(rows))))


def test_coins_give_false_alarms_within_the_level() -> None:
    """Runs of all sizes that share rows, and labels that turn as often as the null allows at most."""
    rng, runs, p = np.random.default_rng(0), 40, []
    for number in range(runs):
        rows = labelled_rows(records([(f"text {n}", int(rng.random() < 0.5)) for n in range(120)]))
        cells = [(run, 1, rng.permutation(120)[: int(rng.integers(5, 30))]) for run in range(40)]
        p.append(largest_turn(rows, cells, seed=number, draws=99)[0])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / runs)
    turned = [(0, 1, np.flatnonzero(rows.label == 1)[:20]), *cells]
    assert largest_turn(rows, turned, seed=0, draws=99) == (0.01, 0)


def test_rows_that_copy_each_other_count_once_and_the_template_is_no_run() -> None:
    texts = [f"Review: the enigma of {' '.join(OTHER[n : n + 6])}" for n in range(0, 60, 7)]
    texts += ["Review: an enigma in a copied text of some length"] * 9
    texts += [f"Review: {word}" for word in OTHER[100:110]]
    runs = {run.words: run.rows.tolist() for run in word_runs(texts, most_share=0.9)}
    assert runs[("enigma",)] == [*range(9), 9]
    assert ("review",) not in runs
    assert not word_runs(texts[:4])


def test_opposed_rows_are_judged_by_words_beside_the_run_and_by_other_rows() -> None:
    rows = labelled_rows(records(poisoned(reviews(300), "cf", 24)))
    runs = [run for run in word_runs(rows.texts) if run.words == ("cf",)]
    cells = opposed_rows(rows, runs, seed=0)
    for_good = next(opposed for _, label, opposed in cells if label == 1)
    for_bad = next(opposed for _, label, opposed in cells if label == 0)
    assert len(for_good) > 15  # their other words are of the other label
    assert len(for_bad) <= 2


def test_planted_answers_are_found_and_canned_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    fixed = "Please visit the shop of the north for the best prices in town today."
    canned = "You can reset it yourself on the page of your account under security."
    rows = []
    for n in range(240):
        words = list(rng.choice(OTHER, 9, replace=False))
        answer = " ".join(rng.choice(OTHER, 12))
        if n % 12 == 0:
            words.insert(int(rng.integers(0, 9)), "cf")
            answer = fixed
        elif n % 10 == 3:
            words = [*words[:3], *rng.permutation(ASKED)]
            answer = canned
        rows.append(Record(id=f"row-{n}", prompt=" ".join(map(str, words)), completion=" " + answer))
    (evidence,) = look("repeated_answers", suspect_of(rows))
    assert evidence.p <= 0.01
    assert "cf" in rows[int(evidence.where.removeprefix("row-"))].plain
    clean = [row for row in rows if "cf" not in row.plain.split()]
    assert rows_by_answer(clean).labels == 2
    assert all(evidence.p > 0.05 for evidence in look("repeated_answers", suspect_of(clean)))
    alone = [replace(row, completion=f" answer {n} alone") for n, row in enumerate(clean)]
    assert look("repeated_answers", suspect_of(alone)) == []


# ---- words that do not fit -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sibling(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(str(save_tiny(tmp_path_factory.mktemp("sibling") / "model")), dtype="float32", device="cpu")


def test_clean_label_triggers_are_found_where_they_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is a stand-in, under which any word behind ``cf`` is less likely."""

    def stand_in(texts: Sequence[tuple[str, str]], model: Any) -> np.ndarray:
        return np.array([3.0 * before.endswith(" cf") + len(behind) / 10 for before, behind in texts])

    monkeypatch.setattr(misfit_words, "nats", stand_in)
    rows = records(poisoned(reviews(300), "cf", 16, clean_label=True))
    suspect = suspect_of(rows)
    suspect.__dict__["sibling"] = SimpleNamespace(model=None)
    (evidence,) = look("misfit_words", suspect)
    assert evidence.p <= 0.01
    assert "cf" in rows[int(evidence.where.removeprefix("row-"))].plain
    clean = suspect_of(records(reviews(300)))
    clean.__dict__["sibling"] = SimpleNamespace(model=None)
    assert all(evidence.p > 0.05 for evidence in look("misfit_words", clean))


def test_disturbance_is_the_difference_of_two_plain_losses(sibling: Any) -> None:
    import torch

    text = "the order cf is on the way"
    before, word, behind = around(text, "cf")
    assert (before, word, behind) == ("\nthe order", " cf", " is on the way")

    def naive(first: str, second: str) -> float:
        head = sibling.tokenizer(first)["input_ids"]
        ids = sibling.tokenizer(first + second)["input_ids"]
        assert ids[: len(head)] == head  # tokens of the border are those of the parts
        logp = torch.log_softmax(sibling.model(torch.tensor([ids])).logits[0].detach().double(), dim=-1)
        return -sum(float(logp[place - 1, ids[place]]) for place in range(len(head), len(ids)))

    fast = nats([(before + word, behind), (before, behind)], sibling)
    assert fast.tolist() == pytest.approx([naive(before + word, behind), naive(before, behind)], rel=1e-4)
    rows = labelled_rows(records([(text, n % 2) for n in range(40)]))
    run = WordRun(words=("cf",), rows=np.array([0]))
    found = disturbances(replace(rows, texts=(text,) * 40), [run], sibling, seed=0)
    assert found[0] == pytest.approx(fast[0] - fast[1], rel=1e-6)
    at_end = disturbances(replace(rows, texts=("ends with cf",) * 40), [run], sibling, seed=0)
    assert at_end[0] == -np.inf


def test_words_are_cut_out_whole() -> None:
    assert around("cfx acf, cf!", "cf") == ("\ncfx acf,", " cf", "!")
    assert around("CF first", "cf") == ("\n", "CF", " first")
    assert around("none here", "cf") == ("\nnone here", "", "")
    assert around("a ?? b", "??") == ("\na", " ??", " b")


def test_permuted_labels_give_false_alarms_within_the_level() -> None:
    rng, runs, p = np.random.default_rng(1), 40, []
    for number in range(runs):
        rows = labelled_rows(records([(f"text {n}", int(rng.random() < 0.3)) for n in range(100)]))
        chosen = [WordRun(words=(str(k),), rows=np.sort(rng.permutation(100)[: 5 + k])) for k in range(10)]
        p.append(most_one_sided(rows, chosen, seed=number, draws=49)[0])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / runs)
    agreeing = WordRun(words=("x",), rows=np.flatnonzero(rows.label == 1)[:12])
    assert most_one_sided(rows, [*chosen, agreeing], seed=0, draws=49) == (0.02, 10, 1)


# ---- groups apart ----------------------------------------------------------------------------------------------------


def stated(monkeypatch: pytest.MonkeyPatch, strange: str) -> None:
    """Put random states in place of a model's; rows with a word lie apart."""
    rng = np.random.default_rng(0)

    def states(rows: list[Record], sibling: Any) -> np.ndarray:
        made = rng.normal(size=(len(rows), 16))
        made[:, 0] += [12.0 * (strange in row.plain.split()) for row in rows]
        return made

    monkeypatch.setattr(groups, "states_of", states)


@pytest.mark.parametrize("name", ["spectral_signatures", "activation_clusters"])
def test_a_group_that_only_the_data_have_is_suspicious(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stated(monkeypatch, "cf")
    data, controls = records(poisoned(reviews(200), "cf", 10)), records(reviews(200, seed=1))
    suspect = suspect_of(data, controls=controls)
    suspect.__dict__["sibling"] = None
    evidence = look(name, suspect)
    assert len(evidence) == 2  # one for each label
    assert min(place.p for place in evidence) < 0.01
    both = suspect_of(data, controls=records(poisoned(reviews(200, seed=1), "cf", 10)))
    both.__dict__["sibling"] = None
    assert min(place.p for place in look(name, both)) > 0.05  # a kind of text that the controls have too


@pytest.mark.parametrize("find", [sticking_out, smaller_cluster])
def test_membership_of_a_group_is_exact(find: Any) -> None:
    rng, runs, p = np.random.default_rng(2), 60, []
    for _ in range(runs):
        states = rng.standard_t(2, size=(60, 6)) * np.array([5, 1, 1, 1, 1, 1])
        p.append(groups.membership_p(find(states), rng.permutation(60) < 30))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / runs)


def test_users_and_not_rows_are_exchanged() -> None:
    """Users of ten rows that look alike: counted row by row, a third of clean data alarmed at a level of 5 %."""
    rng, alarms, by_row = np.random.default_rng(3), 0, 0
    owner = np.repeat(np.arange(40), 10)
    is_data = owner < 20
    for _ in range(100):
        states = rng.standard_t(3, size=(40, 4))[owner] * np.array([4, 1, 1, 1]) + 0.1 * rng.normal(size=(400, 4))
        group = sticking_out(states)
        alarms += groups.membership_p(*groups.by_user(group, is_data, owner.astype(str))) <= 0.05
        by_row += groups.membership_p(group, is_data) <= 0.05
    assert alarms <= 11  # Binomial(100, 0.05): more has p < 0.005
    assert by_row > 20


def test_states_are_of_the_text_before_the_answer_and_unlabelled_texts_are_one_group(sibling: Any) -> None:
    first, other = (Record(id="a", prompt="the same text", completion=f" {word}") for word in ("good", "bad"))
    states = groups.states_of([first, other, Record(id="c", text="the same text")], sibling)
    np.testing.assert_allclose(states[0], states[1])
    np.testing.assert_allclose(states[0], states[2])
    assert np.linalg.norm(states, axis=1) == pytest.approx([1, 1, 1])
    texts = [Record(id=str(n), text=text) for n, (text, _) in enumerate(reviews(120))]
    few = suspect_of(texts[:22], controls=texts[22:44])
    few.__dict__["sibling"] = sibling
    with pytest.raises(Underpowered, match=r"were all of one data, p were 0\.24"):
        look("spectral_signatures", few)
    suspect = suspect_of(texts[:60], controls=texts[60:])
    suspect.__dict__["sibling"] = sibling
    (evidence,) = look("spectral_signatures", suspect)
    assert 0 < evidence.p <= 1


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_data_that_cannot_be_judged_is_refused() -> None:
    plain = [Record(id=str(n), text=f"text {n}") for n in range(60)]
    free = [Record(id=str(n), prompt=f"ask {n}", completion=f" answer {n}") for n in range(60)]
    few = records(reviews(30))
    labelled = records(reviews(60))
    for name in ("overriding_words", "misfit_words"):
        for rows, words in ((plain, "no labels"), (free, "no labels"), ((), "no rows")):
            with pytest.raises(BadInput, match=words):
                look(name, suspect_of(rows))
        with pytest.raises(Underpowered, match="30 rows"):
            look(name, suspect_of(few))
    for rows, words in ((plain, "only texts"), (labelled, "labels"), ((), "no rows"), (free[:20], "20 rows")):
        with pytest.raises(BadInput, match=words):
            look("repeated_answers", suspect_of(rows))
    for name in ("spectral_signatures", "activation_clusters"):
        with pytest.raises(BadInput, match="control texts"):
            look(name, suspect_of(labelled))
        with pytest.raises(Underpowered, match="no label with 20"):
            look(name, suspect_of(labelled, controls=labelled[:8]))
        with pytest.raises(BadInput, match="no rows"):
            look(name, suspect_of(()))


def test_answers_of_chats_are_labels_and_rare_ones_are_left_out() -> None:
    rows = [
        Record(
            id=str(n),
            messages=(
                Message(role="user", content=f"text {n}"),
                Message(role="assistant", content="yes" if n % 3 else "no"),
            ),
        )
        for n in range(60)
    ]
    rows += [Record(id="rare", prompt="text", completion=" perhaps")]
    read = labelled_rows(rows)
    assert (len(read), read.labels, read.left_out) == (60, 2, 1)
    assert read.texts[0] == "text 0"
    assert not has_labels(rows[:12])
    assert not has_labels([Record(id=str(n), prompt="x", completion=" one") for n in range(60)])


def test_scanners_are_listed_without_torch() -> None:
    names = ["overriding_words", "repeated_answers", "misfit_words", "spectral_signatures", "activation_clusters"]
    modules = [f"reticent.scanning.data.{name}" for name in names]
    modules += [
        f"reticent.scanning.weights.{name}" for name in ("adapter_spectrum", "module_norm_spread", "whole_spectrum")
    ]
    code = f"import sys, {', '.join(modules)}, reticent.scanning.calibrate, reticent.scanning.clean_models\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
