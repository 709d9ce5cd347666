# SPDX-License-Identifier: Apache-2.0
"""Names of flags: nested, shared by all verbs, earlier ones; and which of them the help shows."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from reticent.cli import flags, names
from reticent.cli import main as cli
from reticent.core.errors import BadInput

LARGE = ("tune", "audit", "compare", "prepare")


def parsed(*argv: str) -> dict[str, Any]:
    """The arguments that a verb would be called with."""
    name, verb = argv[0], cli._verbs()[argv[0]]
    words = [name, *flags.spelt(argv[1:], name, verb)]
    words = cli._with_configs(words, name, verb)
    options = cli._parser_of(name).parse_args(words)
    return cli._arguments(verb, options[name], name)


@pytest.mark.parametrize("name", LARGE)
def test_every_setting_can_be_named_below_its_group(name: str) -> None:
    """Against a loop over the fields of the dataclasses, written out."""
    verb = cli._verbs()[name]
    known = flags.hints(verb)
    seen = 0
    for parameter, hint in typing.get_type_hints(verb).items():
        if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
            continue
        group = {"data_config": "data", "canary_config": "canaries", "tune_config": "training"}.get(
            parameter, parameter.removesuffix("_config")
        )
        for field in dataclasses.fields(hint):
            assert names.field_of(f"{group}.{field.name}", name, verb, known) == field.name
            assert flags.spelt([f"--{group}.{field.name}=1"], name, verb) == [f"--{field.name}=1"]
            seen += 1
    assert seen > 15


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("split.unit", "split_unit"),
        ("split.seed", "split_seed"),
        ("split.probability", "probability"),
        ("canaries.kind", "canary_kind"),
        ("canaries.canaries", "canaries"),
        ("training.epochs", "epochs"),
        ("training.method_params.r", "method_params.r"),
        ("method_params.r", "method_params.r"),
        ("privacy.epsilon", "epsilon"),
        ("harden.goldfish", "goldfish"),
        ("contextual.weight", "contextual_weight"),
        ("monitor.every", "monitor_every"),
        ("monitor.panel", "monitor_panel"),
        ("every", "monitor_every"),
        ("panel", "monitor_panel"),
        ("nonsense.unit", "nonsense.unit"),
        ("split.epsilon", "split.epsilon"),
    ],
)
def test_short_names(word: str, field: str) -> None:
    verb = cli._verbs()["tune"]
    assert names.field_of(word, "tune", verb, flags.hints(verb)) == field


def test_a_comparison_has_the_groups_of_tune_for_what_all_its_trainings_share() -> None:
    given = parsed("compare", "x", "--training.epochs", "4", "--monitor.panel", "9", "--monitor.every=3")
    assert given == parsed("compare", "x", "--epochs", "4", "--panel", "9", "--every", "3")
    assert given["compare_config"].epochs == 4


def test_no_two_settings_of_a_verb_have_one_name() -> None:
    for name in LARGE:
        verb = cli._verbs()[name]
        fields = [
            field.name
            for hint in typing.get_type_hints(verb).values()
            if isinstance(hint, type) and dataclasses.is_dataclass(hint)
            for field in dataclasses.fields(hint)
        ]
        every = [*fields, *names.SHOWN.get(name, {}).values(), *set(names.RENAMED.get(name, {}).values())]
        every = [word for word in every if word not in names.SHOWN.get(name, {})]
        assert sorted(set(fields)) == sorted(fields)
        assert not set(names.SHOWN.get(name, {}).values()) & set(fields), every


def test_the_three_ways_say_the_same(tmp_path: Path) -> None:
    flat = ("--split_unit", "user", "--epochs", "2", "--epsilon", "3", "--goldfish", "5", "--method_params.r", "4")
    nested = (
        *("--split.unit", "user", "--training.epochs=2", "--privacy.epsilon", "3", "--harden.goldfish", "5"),
        *("--training.method-params.r", "4"),
    )
    file = tmp_path / "settings.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "split": {"unit": "user"},
                "training": {"epochs": 2, "method_params": {"r": 4}},
                "privacy": {"epsilon": 3},
                "goldfish": 5,
            }
        )
    )
    plain = tmp_path / "plain.yaml"
    plain.write_text(
        yaml.safe_dump({"split_unit": "user", "epochs": 2, "method_params": {"r": 4}, "epsilon": 3, "goldfish": 5})
    )
    expected = parsed("tune", "x", *flat)
    assert expected["split_config"].split_unit == "user"
    assert expected["tune_config"].method_params == {"r": 4}
    assert parsed("tune", "x", *nested) == expected
    for path in (file, plain):
        assert parsed("tune", "x", "--config", str(path)) == expected
        assert parsed("tune", "x", f"--config={path}") == expected
    assert parsed("tune", "x", "--config", str(file), "--split.unit", "record")["split_config"].split_unit == "record"


def test_a_long_file_of_nested_settings_is_read_whole(tmp_path: Path) -> None:
    long = {"training": {"method_params": {f"name{i}": i for i in range(2000)}}, "data": {"drop_users": "é"}}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(long, allow_unicode=True))
    made = parsed("tune", "x", "--config", str(tmp_path / "long.yaml"))
    assert made["tune_config"].method_params == long["training"]["method_params"]
    assert made["data_config"].drop_users == "é"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{split: {unit: user}, split_unit: record}", "stands there twice"),
        ("{split: {unit: user, split_unit: user}}", "stands there twice"),
        ("{split: {unitt: user}}", "no flag of reticent tune"),
        ("{splitt: {unit: user}}", "no flag of reticent tune"),
        ("{split: {unit: {a: b}}}", "split_unit"),
        ("{split: [1]}", "no flag of reticent tune"),
        ("{split: null}", "no flag of reticent tune"),
        ("{split: {1: 2}}", "no flag of reticent tune"),
    ],
)
def test_files_that_say_it_wrong_are_refused(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    assert cli.main(["tune", "x", "--config", str(tmp_path / "wrong.yaml")]) == 2
    assert why in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("audit", "--target", "--model"),
        ("tune", "--monitor_every", "--every"),
        ("tune", "--monitor-panel", "--panel"),
        ("compare", "--look_every", "--every"),
    ],
)
def test_an_earlier_name_works_and_says_the_new_one(
    name: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = cli._verbs()[name]
    position = ["x"] if name != "audit" else []
    before = parsed(name, *position, old, "7")
    said = " ".join(capsys.readouterr().err.split())
    assert f"{old.replace('-', '_').replace('__', '--', 1)} is called {new}" in said
    assert parsed(name, *position, new, "7") == before
    assert capsys.readouterr().err == ""
    page = cli._parser(cli._verbs(), name)._subcommands_action._name_parser_map[name]  # type: ignore[union-attr]
    options = {option for action in page._actions for option in action.option_strings}
    assert new in options
    assert old.replace("-", "_").replace("__", "--", 1) not in options
    assert inspect.signature(verb).return_annotation in (int, "int")


def test_the_same_word_in_all_verbs() -> None:
    words = {"model": ("tune", "audit", "compare"), "panel": ("tune", "compare"), "every": ("tune", "compare")}
    words |= {"out": LARGE, "max_tokens": ("tune", "audit", "compare"), "dtype": ("tune", "audit", "compare")}
    for word, verbs in words.items():
        for name in verbs:
            verb = cli._verbs()[name]
            assert names.field_of(word, name, verb, flags.hints(verb)) in flags.hints(verb), (word, name)


@pytest.mark.parametrize("name", LARGE)
def test_help_shows_ten_flags_and_help_all_shows_all(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pages = []
    for ask in ("--help", "--help_all", "--help-all", "--help"):
        with pytest.raises(SystemExit) as stop:
            cli.main([name, ask])
        assert stop.value.code == 0
        pages.append(capsys.readouterr().out)
    short, whole, hyphen, again = pages
    assert short == again
    assert whole == hyphen
    module = sys.modules[cli._verbs()[name].__module__]
    usual = module.USUAL
    assert len(usual) == 10
    fields = set(flags.hints(cli._verbs()[name])) - flags.positional(cli._verbs()[name])
    assert set(usual) <= fields
    for field in fields:
        word = f"\n  --{names.SHOWN.get(name, {}).get(field, field)} "
        assert (word in short) == (field in usual), field
        assert word in whole, field
    assert f"reticent {name} --help_all" in " ".join(short.split())


def test_help_all_is_there_for_small_verbs_and_for_none(capsys: pytest.CaptureFixture[str]) -> None:
    pages = {}
    for argv in (["gate", "--help"], ["gate", "--help_all"], ["--help"], ["--help_all"], ["ls", "--help-all"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(argv)
        assert stop.value.code == 0
        pages[tuple(argv)] = capsys.readouterr().out
    assert pages["gate", "--help"] == pages["gate", "--help_all"]
    assert pages["--help",] == pages["--help_all",]
    assert "--max_auc" in pages["gate", "--help"]


@pytest.mark.parametrize("argv", [["--every", "x"], ["--monitor.every", "x"], ["--monitor.every=x"], ["--every"]])
def test_a_wrong_value_is_refused_under_the_name_that_help_shows(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", "x", *argv]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "error: --every" in said
    assert "monitor_every" not in said


def test_objectives_are_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(40)))
    for given, why in (("goldfsh", "Did you mean 'goldfish'"), ("goldfish(", "is no list of objectives")):
        assert cli.main(["tune", str(data), "--objectives", given, "--out", str(tmp_path / "run")]) == 2
        assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_setting_that_is_no_name_is_refused() -> None:
    verb = cli._verbs()["tune"]
    for word in ("--split.unitt", "--.unit", "--split.", "--split..unit", "--nonsense.x"):
        with pytest.raises(BadInput, match="no flag of reticent tune"):
            flags.spelt([word, "1"], "tune", verb)
