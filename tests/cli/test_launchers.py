# SPDX-License-Identifier: Apache-2.0
"""Launchers read flags too: which of ours they would take for their own."""

from __future__ import annotations

import pytest
from torch.distributed.run import get_args_parser

from reticent.cli import flags, names
from reticent.cli.main import _verbs, main
from reticent.core.processes import SHARED

WORDS = {
    verb: {*flags.hints(_verbs()[verb]), *flags.ALIASES.get(verb, {}), *names.SHOWN.get(verb, {}).values(), "config"}
    for verb in SHARED
}


@pytest.mark.parametrize("verb", sorted(SHARED))
def test_torchrun_takes_one_flag_alone_for_its_own_and_that_has_another_name(verb: str) -> None:
    theirs = [option for action in get_args_parser()._actions for option in action.option_strings]
    words = WORDS[verb] - set(flags.positional(_verbs()[verb]))
    taken = {word for word in words if any(option.startswith(f"--{word}") for option in theirs)}
    assert taken <= {"monitor"}
    assert flags.ALIASES["tune"]["watch"] == "monitor"


def test_torchrun_leaves_the_words_of_a_command_alone() -> None:
    command = ["--nproc_per_node", "2", "-m", "reticent", "tune", "mails.jsonl"]
    told = [f"--{word}" for word in sorted(WORDS["tune"] - {"monitor"})]
    assert get_args_parser().parse_args([*command, *told]).training_script_args == ["tune", "mails.jsonl", *told]


def test_a_step_of_slurm_is_known(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["gate", "results.json"]) == 2
    assert "SLURM_STEP_NUM_TASKS=2: reticent gate was started as one of 2 processes" in capsys.readouterr().err
    assert main(["tune", "mails.jsonl"]) == 2
    assert "nothing says where the first of 2 processes listens" in capsys.readouterr().err
