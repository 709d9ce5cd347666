# SPDX-License-Identifier: Apache-2.0
"""The frame of a scan: who can look, what a crash means, levels that few models cannot support, words."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Record
from reticent.core.scan_results import ScanEvidence
from reticent.core.scan_words import WORDS
from reticent.scanning.run import chosen_scanners, plan_scan, run_scanners
from reticent.scanning.scanner import Scanner
from reticent.scanning.suspect import Suspect
from reticent.scanning.verdict import outcomes_of, verdict_of


class Loaded:
    """A model in memory, as far as a count of them goes."""

    def __init__(self, source: str) -> None:
        self.source = source


def entry(name: str, look: Any, *, null: str = "rule", **more: Any) -> Scanner:
    return Scanner(
        name=name, title=name.capitalize(), kind=more.pop("kind", "files"), null=null, look=look, order=10,
        blind_to="Everything that it does not look at.", **more,
    )  # fmt: skip


def row(score: float, *, certain: bool = False, p: float | None = None) -> ScanEvidence:
    return ScanEvidence(score=score, where="model.bin", note="is odd", certain=certain, p=p)


def scored(folder: Path) -> float:
    return float((folder / "score").read_text())


def model(folder: Path, score: float) -> Suspect:
    folder.mkdir()
    (folder / "score").write_text(str(score))
    return Suspect(folder=folder, cache=folder)


@pytest.fixture
def suspect(tmp_path: Path) -> Suspect:
    return model(tmp_path / "suspect", 9.0)


def run(suspect: Suspect, scanners: Sequence[Scanner], clean: Sequence[Suspect] = (), level: float = 0.05) -> Any:
    plan = plan_scan(suspect, scanners, clean=len(clean), level=level)
    outcomes = outcomes_of(run_scanners(suspect, plan, clean), level)
    return {outcome.name: outcome for outcome in outcomes}, verdict_of(outcomes)


def crash(_: Suspect) -> list[ScanEvidence]:
    raise ZeroDivisionError("secret text")


def refuse(_: Suspect) -> list[ScanEvidence]:
    raise BadInput("model.bin", "is cut", "Get it again.")


@pytest.mark.parametrize("fault", [crash, refuse])
def test_a_scanner_that_fails_could_not_look_and_the_others_go_on(fault: Any, suspect: Suspect) -> None:
    outcomes, verdict = run(suspect, [entry("broken", fault), entry("calm", lambda _: [])])
    assert (outcomes["broken"].word, outcomes["broken"].failed) == ("could not look", True)
    assert "secret text" not in outcomes["broken"].sentence
    assert outcomes["calm"].word == "nothing found"
    assert verdict.word == "could not look"
    _, verdict = run(suspect, [entry("broken", fault), entry("loud", lambda _: [row(1.0)])])
    assert verdict.word == "suspicious"


def test_a_refusal_of_data_that_a_scanner_is_not_for_is_no_failure(suspect: Suspect) -> None:
    scanners = [entry("other", refuse, kind="data"), entry("calm", lambda _: [])]
    outcomes, verdict = run(suspect, scanners)
    assert (outcomes["other"].word, outcomes["other"].failed) == ("could not look", False)
    assert "is cut" in verdict.sentences[1]
    assert verdict.word == "nothing found"
    assert run(suspect, scanners[:1])[1].word == "could not look"
    assert run(suspect, [entry("other", crash, kind="data"), scanners[1]])[1].word == "could not look"


def test_what_a_scanner_lacks_is_said_and_is_no_failure(suspect: Suspect) -> None:
    outcomes, verdict = run(suspect, [entry("needy", lambda _: [], needs=("base",)), entry("calm", lambda _: [])])
    assert (outcomes["needy"].word, outcomes["needy"].failed) == ("could not look", False)
    assert "--base" in outcomes["needy"].why_not
    assert verdict.word == "nothing found"
    assert run(suspect, [entry("needy", lambda _: [], needs=("base",))])[1].word == "could not look"


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        ([], "nothing found"),
        ([row(0.5)], "nothing found"),
        ([row(0.9, certain=True)], "nothing found"),
        ([row(1.0)], "suspicious"),
        ([row(1.0), row(1.0, certain=True)], "found"),
    ],
)
def test_words_by_rule(evidence: list[ScanEvidence], word: str, suspect: Suspect) -> None:
    outcomes, verdict = run(suspect, [entry("rule", lambda _: evidence)])
    assert outcomes["rule"].word == verdict.word == word
    assert outcomes["rule"].p is None


@pytest.mark.parametrize(
    ("ps", "word", "p"),
    [
        ([], "nothing found", 1.0),
        ([0.04], "suspicious", 0.04),
        ([0.04, 0.9], "nothing found", 0.08),
        ([0.5, 0.9], "nothing found", 1.0),
    ],
)
def test_a_made_null_pays_for_all_its_places(ps: list[float], word: str, p: float, suspect: Suspect) -> None:
    outcomes, _ = run(suspect, [entry("made", lambda _: [row(1.0, p=value) for value in ps], null="made")])
    assert (outcomes["made"].word, outcomes["made"].p) == (word, pytest.approx(p))


def test_p_values_are_corrected_for_all_tests(suspect: Suspect) -> None:
    scanners = [entry(name, lambda _: [row(1.0, p=0.03)], null="made") for name in ("one", "two")]
    outcomes, verdict = run(suspect, scanners)
    assert [outcome.p_adjusted for outcome in outcomes.values()] == [0.06, 0.06]
    assert verdict.word == "nothing found"
    assert run(suspect, scanners[:1])[1].word == "suspicious"


def test_a_verified_trigger_is_found_whatever_its_p(suspect: Suspect) -> None:
    outcomes, _ = run(suspect, [entry("made", lambda _: [row(1.0, certain=True, p=0.2)], null="made")])
    assert outcomes["made"].word == "found"


def searching(seen: list[str]) -> Scanner:
    """A search that finds whatever scores above .3, as no clean model of its maker did."""

    def look(suspect: Suspect) -> list[ScanEvidence]:
        seen.append(suspect.folder.name)
        score = scored(suspect.folder)
        if score < 0:
            raise BadInput("the prompts", "are of no label task", "Give others.")
        return [row(score, certain=score > 0.3, p=1e-6 if score > 0.3 else 0.9)]

    return entry("search", look, null="made", kind="behaviour", clean_limits=True)


def test_clean_models_set_the_threshold_of_a_search_that_would_raise_an_alarm(tmp_path: Path) -> None:
    suspect, seen = model(tmp_path / "suspect", 0.6), []
    alone, _ = run(suspect, [searching(seen)])
    assert (alone["search"].word, alone["search"].p) == ("found", 1e-6)
    strong = [model(tmp_path / f"strong {n}", 0.5 + n / 100) for n in range(19)]  # natural words that turn as much
    beside, _ = run(suspect, [searching(seen)], strong)
    assert (beside["search"].word, beside["search"].p) == ("nothing found", 0.5)
    assert not any(line.certain for line in beside["search"].evidence)
    assert len(beside["search"].clean_scores) == 19
    calm = [model(tmp_path / f"calm {n}", n / 100) for n in range(19)]
    above, _ = run(suspect, [searching(seen)], calm)
    assert (above["search"].word, above["search"].p, above["search"].smallest_p) == ("found", 0.05, 0.05)
    # a clean model that it cannot look at says nothing, and without an alarm none is looked at
    odd, _ = run(suspect, [searching(seen)], [*calm[:18], model(tmp_path / "odd", -1.0)])
    assert (odd["search"].word, len(odd["search"].clean_scores)) == ("found", 18)
    seen.clear()
    quiet, _ = run(model(tmp_path / "quiet", 0.2), [searching(seen)], strong)
    assert (quiet["search"].word, quiet["search"].p, seen) == ("nothing found", 0.9, ["quiet"])


def clean_scanner() -> Scanner:
    return entry("beside", lambda suspect: [row(scored(suspect.folder))], null="clean", kind="weights")


def test_scores_are_ranked_among_clean_models(suspect: Suspect, tmp_path: Path) -> None:
    clean = [model(tmp_path / f"clean {number}", number / 10) for number in range(19)]
    outcomes, verdict = run(suspect, [clean_scanner()], clean)
    outcome = outcomes["beside"]
    assert (outcome.score, outcome.p, outcome.smallest_p, len(outcome.clean_scores)) == (9.0, 0.05, 0.05, 19)
    assert verdict.word == "suspicious"
    calm, _ = run(model(tmp_path / "calm", 0.45), [clean_scanner()], clean)
    assert (calm["beside"].p, calm["beside"].word) == (0.75, "nothing found")


def test_one_sibling_and_one_clean_model_at_a_time_are_in_memory(
    suspect: Suspect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Loaded] = weakref.WeakSet()
    loads: Counter[str] = Counter()
    most = 0

    def load(source: str, **_: Any) -> Loaded:
        nonlocal most
        loads[Path(source).name] += 1
        model = Loaded(source)
        alive.add(model)
        gc.collect()
        most = max(most, len(alive))
        return model

    def look(model: Suspect) -> list[ScanEvidence]:
        assert model.sibling.source.endswith("base")
        return [row(scored(Path(model.loaded.source)))]

    monkeypatch.setattr("reticent.models.load.load", load)
    clean = [model(tmp_path / f"clean {number}", number / 10) for number in range(59)]
    asked = replace(suspect, base=tmp_path / "base")
    both = [entry(name, look, null="clean", kind="behaviour") for name in ("one", "other")]
    outcomes, _ = run(asked, both, clean)
    assert [len(outcome.clean_scores) for outcome in outcomes.values()] == [59, 59]
    assert (loads["base"], loads["suspect"], loads["clean 0"]) == (1, 1, 2)
    assert most == 3, "the suspect, the sibling and one clean model"
    # another sibling is not taken for the same
    other = replace(asked.alike(clean[0].folder), base=tmp_path / "other base")
    assert other.sibling.source.endswith("other base")


def test_clean_models_are_asked_about_the_same_texts(suspect: Suspect, tmp_path: Path) -> None:
    """Else they would be no null: a scanner that asks about the user's texts would ask others about others."""
    texts = [Record(id=str(n), text="a text") for n in range(3)]
    asked = replace(suspect, base=tmp_path, data=texts, controls=texts[:2], prompts=texts[:1], seed=7)
    seen: list[tuple[Any, ...]] = []

    def look(model: Suspect) -> list[ScanEvidence]:
        seen.append((model.base, model.data, model.controls, model.prompts, model.seed))
        return [row(scored(model.folder))]

    clean = [model(tmp_path / f"clean {number}", 0.0) for number in range(19)]
    outcomes, _ = run(asked, [entry("beside", look, null="clean", kind="behaviour")], clean)
    assert len(seen) == 20
    assert all(parts == seen[0] for parts in seen)
    assert "among 19 clean models" in outcomes["beside"].sentence


def test_a_level_that_so_few_models_cannot_support_is_refused_before_anything_is_read(
    suspect: Suspect, tmp_path: Path
) -> None:
    with pytest.raises(Underpowered, match="19 clean models make it possible"):
        plan_scan(suspect, [clean_scanner()], clean=8, level=0.05)
    with pytest.raises(Underpowered, match="39 clean models"):
        plan_scan(suspect, [clean_scanner(), entry("made", crash, null="made")], clean=19, level=0.05)
    assert "0.111" in plan_scan(suspect, [clean_scanner()], clean=8, level=0.2).announcement
    without = plan_scan(suspect, [clean_scanner()], clean=0, level=0.05)
    assert "19 make a level of 0.05 possible" in without.missing["beside"]


def test_no_word_is_stronger_than_nothing_found(suspect: Suspect) -> None:
    _, verdict = run(suspect, [entry("calm", lambda _: [])])
    assert verdict.headline == "Nothing found by these scanners"
    assert "never says safe" in verdict.sentences[-1]
    assert {"safe", "clean"} & set(WORDS) == set()


def test_scanners_are_chosen_by_kind_or_name() -> None:
    assert {chosen.kind for chosen in chosen_scanners(["files"])} == {"files"}
    assert [chosen.name for chosen in chosen_scanners(["pickles"])] == ["pickles"]
    assert len(chosen_scanners()) >= len(chosen_scanners(["files", "weights"])) >= 7
    with pytest.raises(BadInput, match="neither a kind of scanner nor one"):
        chosen_scanners(["everything"])
