# SPDX-License-Identifier: Apache-2.0
"""Synthetic text from a file to a folder that says what is promised: by each mechanism, after a kill, and refused."""

from __future__ import annotations

import html
import json
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.line_ledger import append_line
from reticent.core.outputs import hash_of
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.example import help_desk
from reticent.models.emulation import EmulationConfig, EmulationInfo, EmulationPart
from reticent.report.make_schemas import schemas
from reticent.report.synthesis_file import DIGEST, read_synthesis, synthesis_schema
from reticent.report.synthesis_page import render_synthesis
from reticent.spending.recorded_training import trainings_in
from reticent.synthesis.step_store import SPENT, StepStore
from reticent.synthesis.synthesis_mechanism import MECHANISMS
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.workflows.learned_text import learned_text
from reticent.workflows.synthesize import SynthesisRecipe, synthesize

MAILS = help_desk(users=40, mails_per_user=2)
SPEC = SynthesisSpec(
    epsilon=6.0, unit="user", count=12, references=3, max_new_tokens=5, reference_tokens=24, long_texts="cut"
)
TRAINING = TuneConfig(method="head", epochs=1, max_tokens=24, learning_rate=1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny"))


def made(base: str, out: Path, *, records: Sequence[Record] = MAILS, **changes: object) -> RunFolder:
    spec = replace(SPEC, **changes)  # type: ignore[arg-type]
    recipe = SynthesisRecipe(synthesis=spec, training=TRAINING)
    return synthesize(records, base=base, out=out, recipe=recipe)


@pytest.fixture(scope="module")
def predicted(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made(base, tmp_path_factory.mktemp("predicted") / "run")


def test_the_folder_holds_texts_and_says_what_is_promised(predicted: RunFolder) -> None:
    rows = [json.loads(line) for line in predicted.synthetic.read_text(encoding="utf-8").splitlines()]
    names = [row["id"] for row in rows]
    assert names == [name for name in (f"s{number:06d}" for number in range(12)) if name in names]
    assert len(names) >= 9, "a text of five tokens is empty once in some hundred"
    content = json.loads(predicted.synthesis.read_text(encoding="utf-8"))
    jsonschema.validate(content, synthesis_schema())
    results = read_synthesis(predicted.synthesis)
    assert (results.texts, results.units, results.unit, results.relation) == (12, 40, "user", "add_or_remove")
    assert results.epsilon == pytest.approx(6.0)
    assert "ε = 6.00 per user at δ = 0.001 (add or remove one of N = 40 users" in results.promise
    assert "not anonymous" in " ".join(results.sentences)
    assert all(check.passed for check in results.checks)
    page = predicted.synthesis_page.read_text(encoding="utf-8")
    assert page == render_synthesis(results)
    assert results.promise in html.unescape(page)


def test_what_leaves_tells_nothing_that_is_not_covered(predicted: RunFolder) -> None:
    told = predicted.synthesis.read_text(encoding="utf-8") + predicted.synthesis_page.read_text(encoding="utf-8")
    secret = (predicted.settings("synthesize") or {})["data"]
    assert secret not in told
    assert not any(row["text"] in told for row in _rows(predicted) if len(row["text"]) > 3)
    assert not any(mail.user in told for mail in MAILS if mail.user)


def test_the_folder_is_its_owners_only_and_no_key_stays(predicted: RunFolder) -> None:
    assert stat.S_IMODE(predicted.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(predicted.synthetic.stat().st_mode) == 0o600
    left = sorted(path.name for path in predicted.synthesis_state.iterdir() if path.name != "_lock")
    assert left == [SPENT]
    assert not list(predicted.root.rglob("_noise.key"))


def test_the_schema_is_the_one_of_the_types() -> None:
    assert schemas()["synthesis.schema.json"] == synthesis_schema()


def test_again_it_is_done_already_and_other_settings_are_refused(predicted: RunFolder, base: str) -> None:
    before = predicted.synthetic.read_bytes(), predicted.synthesis.read_bytes()
    made(base, predicted.root)
    assert before == (predicted.synthetic.read_bytes(), predicted.synthesis.read_bytes())
    with pytest.raises(BadInput, match="other settings"):
        made(base, predicted.root, epsilon=3.0)
    with pytest.raises(BadInput, match="other settings"):
        made(base, predicted.root, records=MAILS[:-1])


def test_texts_that_are_gone_are_not_called_finished(predicted: RunFolder, base: str, tmp_path: Path) -> None:
    shutil.copytree(predicted.root, tmp_path / "run")
    texts = tmp_path / "run" / "synthetic.jsonl"
    texts.write_bytes(texts.read_bytes().partition(b"\n")[2])
    with pytest.raises(BadInput, match="was changed since"):
        made(base, tmp_path / "run")
    texts.unlink()
    with pytest.raises(BadInput, match=r"synthetic\.jsonl is no longer there"):
        made(base, tmp_path / "run")


@pytest.mark.parametrize("moment", ["before the line", "after the line", "before the end"])
def test_a_killed_run_goes_on_to_the_same_bytes_and_spends_once(
    moment: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps of four texts, as 16 prompts fit in one; the process dies at the second, or before all is written."""

    class Killed(BaseException):
        pass

    def steps() -> int:
        return len((tmp_path / "run" / ".synthesis" / SPENT).read_text().splitlines()) - 1

    with monkeypatch.context() as patch:
        patch.setattr("reticent.synthesis.mechanisms.private_prediction.ROWS", 16)
        whole_key = bytes(range(100, 132))
        patch.setattr("secrets.token_bytes", lambda count: whole_key[:count])
        whole = made(base, tmp_path / "whole")
        step = StepStore.step

        def killed_before(path: Path, line: dict[str, object]) -> None:
            if line.get("step") == 1:
                raise Killed
            append_line(path, line)

        def killed_after(path: Path, line: dict[str, object]) -> None:
            append_line(path, line)
            if line.get("step") == 1:
                raise Killed

        def killed_at_the_end(self: StepStore, number: int, make: object) -> list[str]:
            texts = step(self, number, make)  # type: ignore[arg-type]
            if number == 2:
                raise Killed
            return texts

        with monkeypatch.context() as kill:
            if moment == "before the end":
                kill.setattr(StepStore, "step", killed_at_the_end)
            else:
                killed = killed_before if moment == "before the line" else killed_after
                kill.setattr("reticent.synthesis.step_store.append_line", killed)
            with pytest.raises(Killed):
                made(base, tmp_path / "run")
        assert steps() == {"before the line": 1, "after the line": 2, "before the end": 3}[moment]
        assert not (tmp_path / "run" / "synthetic.jsonl").exists()
        run = made(base, tmp_path / "run")
        assert run.synthetic.read_bytes() == whole.synthetic.read_bytes()
        assert steps() == 3
        ledgers = [(place.synthesis_state / SPENT).read_bytes() for place in (run, whole)]
        assert ledgers[0] == ledgers[1]


def test_a_run_whose_key_is_gone_is_refused_and_gets_no_other(base: str, tmp_path: Path, predicted: RunFolder) -> None:
    run = RunFolder(root=Path(shutil.copytree(predicted.root, tmp_path / "run")))
    run.synthesis_page.unlink()  # as if somebody cleaned up, so that the run looks unfinished
    before = sorted(run.root.rglob("*"))
    with pytest.raises(BadInput, match="a secret key that is gone"):
        made(base, run.root)
    assert sorted(run.root.rglob("*")) == before


def test_two_runs_have_two_keys(base: str, tmp_path: Path, predicted: RunFolder) -> None:
    assert made(base, tmp_path / "other").synthetic.read_bytes() != predicted.synthetic.read_bytes()


def test_private_evolution_from_end_to_end(base: str, tmp_path: Path) -> None:
    topics = {"instruction": "A mail about {topic}:", "topics": "tea,toast"}
    run = made(base, tmp_path / "run", mechanism="private_evolution", count=4, rounds=2, variants=2, **topics)
    results = read_synthesis(run.synthesis)
    assert results.epsilon == pytest.approx(6.0)
    assert "2 rounds" in results.promise
    rows = _rows(run)
    assert 2 <= len(rows) <= 4
    assert {row["topic"] for row in rows} <= {"tea", "toast"}


def test_what_was_begun_without_room_for_texts_that_nobody_has_is_gone_on_with(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version began it: what was spent there must not be lost to a refusal."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    asked = {"mechanism": "private_evolution", "count": 2, "rounds": 1, "variants": 1, "reference_tokens": 600}
    with monkeypatch.context() as patch:
        patch.setattr("reticent.synthesis.public_writing.PublicWriter.refuse_no_room", lambda *_, **__: None)
        patch.setattr("reticent.workflows.synthesize._finish", killed)
        with pytest.raises(Killed):
            made(base, tmp_path / "run", **asked)
    assert made(base, tmp_path / "run", **asked).synthesis_page.exists()


def test_texts_behind_a_link_are_the_same_texts(predicted: RunFolder, tmp_path: Path) -> None:
    link = tmp_path / "texts.jsonl"
    link.symlink_to(predicted.synthetic)
    assert learned_text(link) == learned_text(predicted.synthetic)
    assert learned_text(link) is not None


@pytest.fixture(scope="module")
def tuned(base: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made(base, tmp_path_factory.mktemp("tuned") / "run", mechanism="dp_tune", count=3)


def test_a_training_that_begins_anew_behind_texts_is_refused() -> None:
    with pytest.raises(BadInput, match="trained again behind texts of the one before"):
        SynthesisRecipe(synthesis=SPEC, training=replace(TRAINING, resume=False))


def test_texts_of_a_model_that_is_gone_are_not_gone_on_with_by_another(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("reticent.workflows.synthesize._finish", killed)
        with pytest.raises(Killed):
            made(base, tmp_path / "run", mechanism="dp_tune", count=3)
    training = RunFolder(root=tmp_path / "run").synthesis_training
    training.rename(tmp_path / "aside")
    with pytest.raises(BadInput, match=r"texts of a model that is no longer there \(training/model\)"):
        made(base, tmp_path / "run", mechanism="dp_tune", count=3)
    assert not training.exists()
    (tmp_path / "aside").rename(training)
    assert made(base, tmp_path / "run", mechanism="dp_tune", count=3).synthesis_page.exists()


def test_dp_tune_carries_the_promise_of_its_training(tuned: RunFolder) -> None:
    results = read_synthesis(tuned.synthesis)
    training = RunFolder(root=tuned.synthesis_training)
    promise = json.loads(training.promise.read_text(encoding="utf-8"))
    assert results.epsilon == promise["epsilon"] <= 6.0
    assert promise["unit"] == "user"
    assert 1 <= len(_rows(tuned)) <= 3
    assert "sampled from the model" in results.promise


def test_none_says_everywhere_that_it_promises_nothing(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = made(base, tmp_path / "run", mechanism="none", epsilon=None, unit="record", count=2)
    results = read_synthesis(run.synthesis)
    assert (results.promise, results.epsilon, results.unit) == ("", None, "")
    page = run.synthesis_page.read_text(encoding="utf-8")
    printed = capsys.readouterr()
    for told in (results.headline, page, printed.out + printed.err):
        assert "no promise to anybody" in told
    assert "Nothing is promised" in results.sentences[0]
    assert "Nothing is promised" in page
    made(base, run.root, mechanism="none", epsilon=None, unit="record", count=2)
    again = capsys.readouterr()
    assert "is finished already" in again.out + again.err
    assert "Nothing is promised" in again.out + again.err, "and whoever asks again is told again"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"mechanism": "none"}, "promises nothing, so no ε holds"),
        ({"epsilon": None}, "keeps a promise, and none was given"),
        ({"epsilon": None, "mechanism": "dp_tune"}, "keeps a promise, and none was given"),
        ({"count": 14}, r"needs 42 units, and there are 40.*--count 13"),
        ({"references": 41, "count": 1}, "--references 40 or fewer"),
        ({"long_texts": "refuse"}, "longer than the 24 tokens"),
        ({"reference_tokens": 600}, "the model reads 512"),
        ({"mechanism": "private_evolution", "reference_tokens": 600}, "reference_tokens=600: .* model reads"),
        ({"mechanism": "private_evolution", "max_new_tokens": 512}, "max_new_tokens=512: .* before them"),
        ({"mechanism": "dp_tune", "max_new_tokens": 512}, "max_new_tokens=512: .* the model reads 512"),
        ({"mechanism": "dp_tune", "condition": "length", "max_new_tokens": 500}, "max_new_tokens=500: .* before them"),
        ({"delta": 0.1}, "publishing one of them whole"),
        ({"mechanism": "private_prediktion"}, "Did you mean 'private_prediction'"),
    ],
)
def test_impossible_asks_are_refused_and_leave_nothing(
    changes: dict[str, object], complaint: str, base: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=complaint):
        made(base, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"topics": "tea,,toast", "instruction": "On {topic}:"}, "empty topic"),
        ({"topics": " ,", "instruction": "On {topic}:"}, "empty topic"),
        ({"topics": "tea"}, "would be read by nobody"),
        ({"instruction": "On {topic}:"}, "no topics are given"),
        ({"instruction": "  "}, "is empty"),
        ({"unit": "client"}, "federation"),
        ({"epsilon": 0.0}, "greater than 0"),
        ({"epsilon": float("nan")}, "greater than 0"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"temperature": 1e-300}, "temperature=1e-300: must be in"),
        ({"epsilon": 1e308}, "epsilon=1e.308: must be in"),
        ({"count": 0}, "greater than 0"),
        ({"count": 10**9}, "at most"),
        ({"count_share": 1.0}, "leaves nothing to train with"),
        ({"relation": "rename"}, "not a known choice"),
        ({"condition": "width"}, "not a known choice"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        SynthesisSpec(**settings)  # type: ignore[arg-type]


def test_a_model_that_learned_the_texts_is_refused(tuned: RunFolder, tmp_path: Path) -> None:
    learned = str(RunFolder(root=tuned.synthesis_training).model)
    with pytest.raises(BadInput, match="tuned on these very texts"):
        made(learned, tmp_path / "run")


def test_a_model_that_is_made_of_one_that_learned_the_texts_is_refused(
    tuned: RunFolder, base: str, tmp_path: Path
) -> None:
    """An ensemble whose small model learned them, and a model that was tuned further on other texts."""
    learned = str(RunFolder(root=tuned.synthesis_training).model)
    public = EmulationPart(source=base, fingerprint="0")
    ensemble, further = tmp_path / "ensemble", tmp_path / "further"
    for folder in (ensemble, further):
        folder.mkdir()
    EmulationInfo(
        large=public,
        small_tuned=EmulationPart(source=learned, fingerprint="1"),
        small_base=public,
        settings=EmulationConfig(),
    ).write(ensemble, place=ensemble)
    about = {"base": learned, "base_fingerprint": "1", "method": "full", "params": {}, "storage": "weights"}
    (further / "reticent_tuning.json").write_text(json.dumps(about))
    for model in (ensemble, further):
        with pytest.raises(BadInput, match="tuned on these very texts"):
            made(str(model), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("maker", ["none", "private_prediction", ""])
def test_whoever_learns_the_texts_is_told_what_they_promise_and_is_no_public_model(
    maker: str, predicted: RunFolder, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts of a mechanism, of none, and those of a mechanism from which somebody chose."""
    run = RunFolder(root=tmp_path / "texts")
    shutil.copytree(predicted.root, run.root)
    longer = [json.dumps({"text": f"{number} words that are enough to be tuned on"}) for number in range(24)]
    run.synthetic.write_text("\n".join(longer) + "\n", encoding="utf-8")
    about = json.loads(run.synthesis.read_text(encoding="utf-8"))
    about["provenance"][DIGEST] = hash_of(run.synthetic) if maker else "another"
    if maker == "none":
        about |= {"mechanism": "none", "epsilon": None, "delta": None, "unit": "", "relation": "", "promise": ""}
    run.synthesis.write_text(json.dumps(about), encoding="utf-8")
    out = tmp_path / "further"
    flags = ["--method", "head", "--epochs", "1", "--max_tokens", "24"]
    assert main(["tune", str(run.synthetic), "--model", base, "--out", str(out), *flags]) == 0
    printed = capsys.readouterr()
    told = " ".join((printed.out + printed.err).split())
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["texts"]
    assert manifest["mechanism"] == maker
    assert {
        "none": "made by none, which promises nothing",
        "private_prediction": "carry ε = 6.00 per user at δ = 0.001 (add or remove",
        "": "were changed since they were made, so no promise",
    }[maker] in told
    assert "to nobody whose texts they were made from" in told
    with pytest.raises(BadInput, match="made from these very records"):
        made(str(out / "model"), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_ledger_of_trainings_does_not_pass_texts_over(predicted: RunFolder, tuned: RunFolder) -> None:
    (texts,) = trainings_in([predicted.root])
    assert not texts.is_counted
    assert "ε = 6.0 per user at δ = 0.001 (add or remove) for all texts together" in texts.why_not
    (training,) = trainings_in([tuned.root])
    assert training.is_counted
    assert training.promise is not None
    assert training.promise.epsilon == read_synthesis(tuned.synthesis).epsilon


def test_the_page_of_the_docs_names_every_mechanism() -> None:
    page = (Path(__file__).parents[2] / "docs" / "synthetic.md").read_text(encoding="utf-8")
    for name in MECHANISMS.names():
        assert f"| `{name}` |" in page


def test_users_who_may_be_one_person_are_told_of(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reticent.workflows.synthesize._made", lambda *_: pytest.fail("nothing is made"))
    twice = [replace(mail, id=f"x{mail.id}", user=f" {mail.user}".upper()) for mail in MAILS[:2]]
    for unit, told in (("user", True), ("record", False)):
        with pytest.raises(pytest.fail.Exception):
            made(base, tmp_path / unit, records=[*MAILS, *twice], unit=unit)
        printed = capsys.readouterr()
        assert ("2 users differ from another in their spelling alone" in printed.out + printed.err) == told


def test_users_are_needed_to_hide_users(base: str, tmp_path: Path) -> None:
    nobody = [replace(mail, user=None) for mail in MAILS]
    with pytest.raises(BadInput, match="no user can be hidden"):
        made(base, tmp_path / "run", records=nobody)


def test_nothing_of_yours_is_overwritten(base: str, tmp_path: Path) -> None:
    mine = tmp_path / "run" / "synthetic.jsonl"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(BadInput, match="no run of reticent"):
        made(base, tmp_path / "run")
    assert mine.read_text() == "mine"


def test_the_command_makes_texts_and_says_where_they_are(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "mails.jsonl"
    data.write_text("".join(json.dumps({"body": mail.plain, "who": mail.user}) + "\n" for mail in MAILS))
    out = tmp_path / "out"
    flags = ["--text_field", "body", "--user_field", "who", "--unit", "user", "--epsilon", "8", "--count", "4"]
    flags += ["--references", "4", "--max_new_tokens", "4", "--reference_tokens", "16", "--long_texts", "cut"]
    monkeypatch.setitem(os.environ, "COLUMNS", "200")
    assert main(["synthesize", str(data), "--model", base, "--out", str(out), *flags]) == 0
    said = capsys.readouterr()
    printed = said.out + said.err
    assert "ε = 8.00 per user" in printed
    assert str(out / "synthetic.jsonl") in printed
    assert len((out / "synthetic.jsonl").read_text(encoding="utf-8").splitlines()) in (2, 3, 4)
    assert main(["synthesize", str(data), "--model", base, "--out", str(data), *flags]) == 2
    assert main(["synthesize", str(data), "--model", base, "--out", str(out / "x"), "--mechanism", "none", *flags]) == 2
    unstable = [*flags, "--max_records", "20"]
    assert main(["synthesize", str(data), "--model", base, "--out", str(tmp_path / "y"), *unstable]) == 2


def _rows(run: RunFolder) -> list[dict[str, str]]:
    return [json.loads(line) for line in run.synthetic.read_text(encoding="utf-8").splitlines()]


def test_texts_that_came_out_empty_are_no_rows(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb refuses a row without text, so a file with one could not be used."""
    from reticent.workflows import synthesize as workflow

    make = workflow._made

    def with_empty(*given: object) -> object:
        outcome, plan = make(*given)  # type: ignore[arg-type]
        return replace(outcome, texts=("", " \n", *outcome.texts[2:])), plan

    monkeypatch.setattr(workflow, "_made", with_empty)
    run = made(base, tmp_path / "run")
    rows = [json.loads(line) for line in run.synthetic.read_text(encoding="utf-8").splitlines()]
    assert next(row["id"] for row in rows) == "s000002"
    assert all(row["text"].strip() for row in rows)
    results = read_synthesis(run.synthesis)
    assert results.texts == 12
    assert any("2 of them came out empty" in sentence or "3 of them" in sentence for sentence in results.sentences)
    assert "came out empty" in run.synthesis_page.read_text(encoding="utf-8")
