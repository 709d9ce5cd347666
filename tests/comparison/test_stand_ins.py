# SPDX-License-Identifier: Apache-2.0
"""What stands in for private text is compared with ordinary tuning: same coins, looks, audits; resumed; refused."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reticent.auditing.config import AuditConfig
from reticent.auditing.synthetic.synthetic_file import read_rows
from reticent.comparison import stand_ins, trial
from reticent.comparison.config import CompareConfig
from reticent.comparison.defences import DEFENCES, Defence
from reticent.comparison.grid import Grid, Method
from reticent.comparison.presets.instead_of_text import NAMES
from reticent.comparison.resolve import resolve
from reticent.comparison.run import compare
from reticent.comparison.stand_in_audit import FOLDER, audited_settings
from reticent.comparison.trial import TrialSettings, read_job, write_job
from reticent.core.atomic import write_text
from reticent.core.comparison import Comparison
from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.canaries.passphrase import WORDS
from reticent.data.split_config import SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.report.comparison_console import print_comparison
from reticent.report.comparison_file import read_comparison
from reticent.synthesis.step_store import SPENT
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig

FEW = ("none", "scrub", "synthetic_none", "user_synthetic_prediction8", "emulate1", "emulate2")
RATES = (1e-3, 1e-2)


def mails() -> list[Record]:
    rng = random.Random(0)
    return [
        Record(id=f"u{user}m{mail}", user=f"u{user}",
               text=f"{' '.join(rng.choices(WORDS[:12], k=5))} by ann{user}@example.org")
        for user in range(48) for mail in range(3)
    ]  # fmt: skip


def grid_of(*names: str) -> Grid:
    return Grid(
        methods=(Method(method="full", learning_rates=RATES),),
        defences=tuple(DEFENCES[name] for name in names),
        seeds=(0,),
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TrialSettings:
    root = tmp_path_factory.mktemp("models")
    return TrialSettings(
        base=str(save_tiny(root / "large", arch="gpt2")),
        small_base=str(save_tiny(root / "small", arch="gpt2", seed=5)),
        split=SplitConfig(),
        canaries=CanaryConfig(),
        training=TuneConfig(epochs=2, max_tokens=24, dtype="float32"),
        monitor=MonitorConfig(monitor=True, monitor_panel=40),
        audit=AuditConfig(attacks="loss,ref_diff,user_inference", dtype="float32"),
    )


@pytest.fixture(scope="module")
def done(shared: TrialSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    root = tmp_path_factory.mktemp("grid") / "out"
    return root, compare(mails(), grid=grid_of(*FEW), shared=shared, out=root, title="mails", jobs=1, n_boot=60)


def test_each_setting_is_a_row_with_an_audit_of_one_of_its_models(done: tuple[Path, Comparison]) -> None:
    root, outcome = done
    assert [(cell.name, cell.status, cell.why) for cell in outcome.cells if cell.status != "done"] == []
    assert [setting.defence for setting in outcome.settings] == list(FEW)
    assert [row.setting for row in outcome.audited] == list(range(len(FEW)))
    assert all(row.record_auc is not None and row.learning_rate in RATES for row in outcome.audited)
    promised = {outcome.settings[row.setting].defence: row.promise for row in outcome.audited}
    assert promised.pop("user_synthetic_prediction8").sentence.startswith("ε = 8.00 per user at δ = ")
    assert set(promised.values()) == {None}
    target = next((setting.matched.loss for setting in outcome.settings if setting.matched), None)
    assert target is not None
    page = (root / "report.html").read_text(encoding="utf-8")
    assert 'id="audited"' in page
    assert "8 per user" in page
    assert not any(record.text in page for record in mails())
    assert read_comparison(root / "comparison.json").audited == outcome.audited


def test_all_have_the_same_coins_and_panel_and_private_text_is_seen_by_none_but_the_ordinary_ones(
    done: tuple[Path, Comparison],
) -> None:
    root, outcome = done
    folders = [RunFolder(root=root / "cells" / cell.name) for cell in outcome.cells]
    coins = [read_membership(run.membership) for run in folders]
    assert all(np.array_equal(coin.member, coins[0].member) for coin in coins)
    assert all(np.array_equal(coin.record_id, coins[0].record_id) for coin in coins)
    written = RunFolder(root=root / "stand_ins" / "synthetic_none" / "training")
    inner = read_membership(written.membership)
    assert np.array_equal(inner.member, coins[0].member)  # the mechanism reads those who are members elsewhere
    small = [path.name for path in (root / "stand_ins").iterdir() if path.name.startswith("small_")]
    assert sorted(small) == ["small_full_0.001_tuned_seed0", "small_full_0.01_tuned_seed0"]  # one for both β
    assert not list(root.glob("**/model/*.safetensors"))  # nor shared ones


def test_scrubbed_text_holds_no_address_and_the_looks_are_at_the_real_ones(done: tuple[Path, Comparison]) -> None:
    assert not any("@" in (record.text or "") for record in stand_ins.scrubbed(mails()))
    assert [record.id for record in stand_ins.scrubbed(mails())] == [record.id for record in mails()]
    _, outcome = done
    ends = {}
    for setting, name in enumerate(FEW[:2]):
        looks = [point for point in outcome.points if point.setting == setting and point.learning_rate == RATES[1]]
        ends[name] = max(looks, key=lambda point: point.step).loss.value
        assert len(looks) >= 2
    assert ends["scrub"] > ends["none"]  # addresses that it never saw


def test_again_nothing_is_done_and_no_promise_is_spent_twice(
    done: tuple[Path, Comparison], shared: TrialSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outcome = done
    ledger = next((root / "stand_ins" / "user_synthetic_prediction8").rglob(SPENT))
    before = ledger.read_bytes()
    monkeypatch.setattr(trial, "_train", lambda *given: pytest.fail("trained again"))
    again = compare(mails(), grid=grid_of(*FEW), shared=shared, out=root, title="mails", jobs=1, n_boot=60)
    assert again.audited == outcome.audited
    assert ledger.read_bytes() == before


def test_a_killed_audit_and_a_killed_synthesis_go_on(
    shared: TrialSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = replace(grid_of("synthetic_none"), methods=(Method(method="full", learning_rates=RATES[1:]),))
    given = {"grid": grid, "shared": shared, "out": tmp_path / "out", "jobs": 1, "n_boot": 20}
    with monkeypatch.context() as patch:
        patch.setattr(trial, "audit_trial", lambda *given, **more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compare(mails(), **given)  # type: ignore[arg-type]
    made = (tmp_path / "out" / "stand_ins" / "synthetic_none" / "synthetic.jsonl").read_bytes()
    outcome = compare(mails(), **given)  # type: ignore[arg-type]
    assert len(outcome.audited) == 1
    assert (tmp_path / "out" / "stand_ins" / "synthetic_none" / "synthetic.jsonl").read_bytes() == made
    (results,) = (tmp_path / "out" / "cells").glob(f"*/{FOLDER}/results.json")
    assert json.loads(results.read_text(encoding="utf-8"))["provenance"]["models"]


# ---- settings -------------------------------------------------------------------------------------------------------


def settled(**flags: object) -> tuple[Grid, TrialSettings]:
    return resolve(CompareConfig(**flags), model="m", split=SplitConfig(), canaries=CanaryConfig())  # type: ignore


def test_the_preset_has_every_way_and_leaves_out_what_has_no_small_model() -> None:
    grid, shared = settled(preset="stand-ins", small_base="s")
    assert tuple(defence.name for defence in grid.defences) == NAMES
    assert {defence.stand_in.get("mechanism") for defence in grid.defences} >= {
        "none", "dp_tune", "private_evolution", "private_prediction"
    }  # fmt: skip
    assert [defence.stand_in["beta"] for defence in grid.defences if defence.emulates] == [0.3, 1.0, 2.0]
    assert shared.audit is not None
    assert shared.audit.extraction
    assert (shared.small_base, shared.left_out) == ("s", ())
    grid, shared = settled(preset="stand-ins")
    assert not any(defence.emulates for defence in grid.defences)
    assert "Emulation was left out" in shared.left_out[0]
    plain = settled(methods="full", defences="none")[1]
    assert (plain.audit, plain.further) == (None, {})


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"defences": "none,emulate1"}, "none is given"),
        ({"defences": "none", "small_base": "s"}, "tuned by no defence"),
    ],
)
def test_a_small_model_is_where_it_is_used_and_nowhere_else(flags: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        settled(**flags)


def test_folders_of_earlier_versions_keep_their_keys_and_jobs_come_back(tmp_path: Path) -> None:
    assert "stand_in" not in DEFENCES["goldfish"].on_record
    assert "objectives" not in DEFENCES["none"].on_record
    _, shared = settled(preset="stand-ins", small_base="s")
    cell = grid_of("emulate2").cells[0]
    write_job(tmp_path, cell, shared, "key")
    assert read_job(tmp_path)[:2] == (cell, replace(shared, left_out=()))


@pytest.mark.parametrize(
    ("name", "count"),
    [("synthetic_none", 60), ("synthetic_prediction8", 7), ("user_synthetic_prediction8", 2),
     ("user_synthetic_evolution8", 80), ("synthetic_evolution1", 60)],
)  # fmt: skip
def test_the_number_of_texts_follows_from_public_numbers_alone(name: str, count: int) -> None:
    records = [Record(id=str(n), text="a note", user=f"u{n % 20}") for n in range(60)]
    spec = stand_ins.spec_of(DEFENCES[name], records, max_tokens=32)
    assert (spec.count, spec.hold_out, spec.reference_tokens) == (count, True, 32)


def test_promises_of_texts_are_promises_of_the_grid() -> None:
    texts, plain = DEFENCES["user_synthetic_dp_tune8"], DEFENCES["synthetic_none"]
    assert texts.is_private
    assert (texts.promise.epsilon, texts.promise.unit) == (8.0, "user")
    assert not plain.is_private
    assert not plain.promise.is_private
    assert DEFENCES["epsilon8"].promise.epsilon == 8.0
    assert not Defence(name="a", about="b").emulates


def test_without_an_audit_there_is_no_row_and_the_console_shows_those_that_are(
    done: tuple[Path, Comparison], capsys: pytest.CaptureFixture
) -> None:
    assert audited_settings(done[1].settings, done[1].points, []) == ()
    print_comparison(done[1])
    assert "One audited model of each setting" in capsys.readouterr().err


def test_signs_that_part_lines_elsewhere_are_part_of_a_text(tmp_path: Path) -> None:
    texts = [f"two{sign}words" for sign in ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n")]
    place = tmp_path / "synthetic.jsonl"
    rows = ({"id": f"s{number}", "text": text} for number, text in enumerate([*texts, " ", "..."]))
    write_text(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assert [record.text for record in stand_ins.texts_in(place)] == texts
    assert [row.text for row in read_rows(str(place))][: len(texts)] == texts
