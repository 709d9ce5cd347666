# SPDX-License-Identifier: Apache-2.0
"""One folder holds one run: which steps go together in it, and what is taken away of one that came to nothing."""

import pytest

from reticent.core.errors import BadInput
from reticent.core.run_folder import FIRST, MADE, WRITTEN, RunFolder


def folder(tmp_path, *steps):
    run = RunFolder(root=tmp_path / "run")
    for step in steps:
        run.record(step, dict.fromkeys(WRITTEN[step], "x"))
    return run


@pytest.mark.parametrize(
    ("there", "step"),
    [
        (["tune"], "unlearn"),
        (["unlearn"], "tune"),
        (["unlearn", "audit"], "tune"),
        (["unlearn", "audit"], "compare"),
        (["audit"], "unlearn"),
        (["compare"], "unlearn"),
        (["compare"], "audit"),
    ],
)
def test_steps_that_do_not_go_together(tmp_path, there, step):
    with pytest.raises(BadInput, match="would mix its own with it"):
        folder(tmp_path, *there).refuse_foreign(step)


@pytest.mark.parametrize(
    ("there", "step"),
    [
        ([], "unlearn"),
        (["unlearn"], "unlearn"),
        (["unlearn"], "audit"),
        (["unlearn", "audit"], "audit"),
        (["unlearn", "audit"], "unlearn"),
        (["tune"], "audit"),
    ],
)
def test_steps_that_do(tmp_path, there, step):
    folder(tmp_path, *there).refuse_foreign(step)


def test_settings_of_somebody_else_are_no_unlearning(tmp_path):
    (tmp_path / "unlearn.yaml").write_text("parent: mine")
    run = RunFolder(root=tmp_path)
    assert run.settings("unlearn") is None
    with pytest.raises(BadInput, match="is no run of reticent"):
        run.refuse_foreign("unlearn")


def test_another_request_in_a_folder_that_is_taken(tmp_path):
    run = folder(tmp_path, "unlearn")
    same = dict.fromkeys(WRITTEN["unlearn"], "x")
    run.refuse_other("unlearn", same)
    run.request.write_text("ids")
    with pytest.raises(BadInput, match=r"other settings \(request\)"):
        run.refuse_other("unlearn", same | {"request": "another"})
    run.refuse_other("unlearn", same | {"request": "another"}, begun=lambda: False)
    assert not run.request.exists()


def test_what_an_unlearning_that_failed_wrote_is_taken_away(tmp_path):
    run = RunFolder(root=tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RuntimeError), run.kept_if(lambda: False, step="unlearn"):
        run.record("unlearn", dict.fromkeys(WRITTEN["unlearn"], "x"))
        for path in (run.request, run.unlearning, run.certificate, run.certificate_page, run.report):
            path.write_text("half")
        raise RuntimeError
    assert [path.name for path in run.root.iterdir()] == ["notes.txt"]


def test_the_lists_fit_each_other():
    assert WRITTEN.keys() == FIRST.keys()
    assert all(files <= MADE for files in FIRST.values())
