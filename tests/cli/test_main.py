# SPDX-License-Identifier: Apache-2.0
"""The command line's frame: verbs, flags, exit codes."""

import pytest

from reticent.cli.main import main


def run(*argv):
    try:
        return main(list(argv))
    except SystemExit as stop:
        return stop.code


def test_help_lists_every_verb_with_a_line(capsys):
    assert run("--help") == 0
    page = capsys.readouterr().out
    for verb in ("attacks", "audit", "demo", "env", "fetch-model", "gate", "ls", "report", "tune", "view"):
        assert verb in page
    assert ">>>" not in page
    assert page.index("options:") < 300, "the verbs are what is looked for"


@pytest.mark.parametrize(
    "verb", ["audit", "demo", "env", "gate", "ls", "report", "tune", "view", "fetch-model", "attacks"]
)
def test_every_verb_explains_its_flags(verb, capsys):
    assert run(verb, "--help") == 0
    page = capsys.readouterr().out
    assert "<class" not in page
    assert "<function" not in page


def test_no_verb_prints_help_and_is_bad_input(capsys):
    assert run() == 2
    assert "VERB" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [["nonsense"], ["gate"], ["tune", "x", "--nonsense", "1"], ["gate", "x", "--max-auc", "y"]]
)
def test_bad_command_lines_exit_with_2(argv):
    assert run(*argv) == 2


@pytest.mark.parametrize("word", ["null", "~", "Null"])
def test_a_folder_may_have_a_name_that_yaml_reads_as_nothing(word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", word]) == 2
    assert f"{word}/manifest.json" in capsys.readouterr().err


def test_hyphens_and_underscores_are_the_same(tmp_path, capsys):
    for flag in ("--max-auc", "--max_auc"):
        assert run("gate", str(tmp_path / "no.json"), flag, "0.6") == 2
        assert "unrecognized" not in capsys.readouterr().err


def test_a_terminal_obeys_no_name_in_an_error(tmp_path, capsys):
    folder = tmp_path / "a\x1b[31mred\u202ex"
    folder.mkdir()
    assert main(["scan", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "\\x1b[31mred\\u202ex" in said.replace("\n", "")
    assert "\x1b[31mred" not in said
