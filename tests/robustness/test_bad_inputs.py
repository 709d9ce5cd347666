# SPDX-License-Identifier: Apache-2.0
"""Hundreds of bad inputs over all verbs: exit code 2, one message, no traceback, nothing left, nothing touched.

Around each command lies a tree of the user's own files, and every path that the command names lies in it. Contents,
modes and times of all of them are compared before and after.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from reticent.cli import flags
from reticent.cli.main import FRAME, _verbs

NEEDLE = "zebra-7731"
"""Stands in every record; no message may quote it."""


def rows(n: int = 40) -> list[dict[str, str]]:
    return [{"id": f"i{k}", "user": f"u{k % 8}", "text": f"{NEEDLE} wrote line {k} about {k * k}"} for k in range(n)]


def lines(found: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in found)


@pytest.fixture(scope="session")
def world(shared: Path, base: Path, mails: Path, tuned: Path, audited: Path) -> SimpleNamespace:
    """A folder as people have them: data, models, runs, and things that are none of ours."""
    root = shared / "world"
    root.mkdir()
    data = root / "data.jsonl"
    data.write_text(lines(rows()))
    (root / "members.jsonl").write_text(lines(rows()[::2]))
    (root / "held_out.jsonl").write_text(lines(rows()[1::2]))
    thesis = root / "thesis"
    (thesis / "chapters").mkdir(parents=True)
    (thesis / "thesis.tex").write_text("years of work")
    (thesis / "chapters" / "one.tex").write_text("a chapter")
    (root / "page.html").write_text("<html>a page of mine</html>")
    (root / "junit.xml").write_text("<testsuites><testsuite name='mine'/></testsuites>")
    (root / "table.parquet").mkdir()
    (root / "table.parquet" / "part-0.parquet").write_text("a folder, as Spark writes them")
    (root / "mine.parquet").write_text("not yours")
    (root / "mine.jsonl").write_text(lines(rows(3)))
    (root / "loop").symlink_to(root / "loop")
    (root / "dangling").symlink_to(root / "nowhere" / "x")
    (root / "link.jsonl").symlink_to(data)
    os.link(data, root / "hard.jsonl")
    os.mkfifo(root / "pipe")
    shutil.copytree(base, root / "base")
    shutil.copytree(tuned, root / "tuned")
    shutil.copytree(audited, root / "audited")
    config = root / "settings"
    config.mkdir()
    (config / "tune.yaml").write_text("epochs: 3\nmodel: smollm2-135m\n")
    return SimpleNamespace(root=root, data=data, base=root / "base", tuned=root / "tuned", audited=root / "audited")


@pytest.fixture
def check(
    world: SimpleNamespace,
    reticent: Callable[..., Any],
    tools: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., str]:
    """Run a command in an empty folder; it must be refused, and nothing anywhere may change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETICENT_TRACEBACK", raising=False)

    def run(*argv: Any, also: tuple[Path, ...] = (), codes: tuple[int, ...] = (2,)) -> str:
        before = tools.snapshot(world.root, tmp_path, *also)
        outcome = reticent(*argv)
        said = outcome.err + outcome.out
        assert outcome.code in codes, said
        assert "Traceback" not in said
        assert "failed where it should have said why" not in said, said
        errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, said
        assert len(outcome.err.strip().splitlines()) <= 4, said
        assert NEEDLE not in said
        assert tools.snapshot(world.root, tmp_path, *also) == before
        return str(outcome.err)

    return run


# ---- flags ----------------------------------------------------------------------------------------------------------

POSITIONAL = {
    **{verb: ["run"] for verb in ("audit", "export", "report", "unlearn", "utility", "verify", "view")},
    **{verb: ["data.jsonl"] for verb in ("compare", "federate", "join-federation", "prepare", "synthesize", "tune")},
    "diff": ["run", "run"],
    "fetch-model": ["no-model"],
    "gate": ["results.json"],
    "redteam": ["trigger", "data.jsonl"],
    **{verb: ["no-model"] for verb in ("scan", "serve-federation")},
}
VERBS = sorted(set(_verbs()) - {"demo", "env", "attacks"})
WORDS = {int: ("x", "1.5", "1e3x"), float: ("x", "1,5"), bool: ("=maybe",), dict: ("{a", "7", "x")}


def wrong_values() -> list[tuple[str, str, str]]:
    found = []
    for verb in VERBS:
        defaults = flags.defaults(_verbs()[verb])
        for flag, hint in flags.hints(_verbs()[verb]).items():
            if flag in flags.positional(_verbs()[verb]):
                continue
            text = flags.wanted(hint)
            kind = next((one for one, said in zip(WORDS, ("whole", "a number", "true", "an object"), strict=True)
                         if said in text), None)  # fmt: skip
            words = (",",) if defaults.get(flag) == "" else ("", ",")
            values = WORDS[kind] if kind else (words if "text" in text else ("zzz",))
            found += [(verb, flag, value) for value in values]
    return found


@pytest.mark.parametrize(("verb", "flag", "value"), wrong_values())
def test_a_value_of_the_wrong_kind_is_refused_by_its_flag(
    check: Callable[..., str], verb: str, flag: str, value: str
) -> None:
    word = [f"--{flag}{value}"] if value.startswith("=") else [f"--{flag}", value]
    said = check(verb, *POSITIONAL.get(verb, []), *word)
    assert f"--{flag}" in said


OUT_OF_RANGE = {
    "tune": [
        *[("--seed", value) for value in ("-1", str(2**32), str(2**70))],
        *[("--split-seed", value) for value in ("-1", str(2**70))],
        *[("--epochs", value) for value in ("0", "-3", str(10**20), "9" * 400)],
        *[("--batch-size", value) for value in ("0", "-1", str(10**20))],
        *[("--learning-rate", value) for value in ("0", "-1", "nan", "inf", "1e999")],
        *[("--device", value) for value in ("meta", "gpu", "cuda:x", "tpu0", "CPU")],
        *[("--dtype", value) for value in ("int8", "fp16", "float64")],
        *[("--method-params", value) for value in ('{"r": 0}', '{"r": 1}')],
        *[("--method", value) for value in ("lorra", "qlora", "FULL")],
        *[("--max-tokens", value) for value in ("0", "-1", str(10**30))],
        *[("--canaries", value) for value in ("-1", str(10**12))],
        ("--canary-repetitions", "1,x"),
        ("--canary-words", "0"),
        ("--warmup", "2"),
        ("--warmup", "nan"),
        ("--weight-decay", "-1"),
        ("--optimizer", "adam"),
        ("--probability", "2"),
        ("--probability", "nan"),
        ("--epsilon", "-1"),
        ("--epsilon", "nan"),
        ("--delta", "0.1"),
        ("--report-to", "nonsense"),
        ("--report-to", "wandb"),
        ("--goldfish", "1"),
        ("--dropout", "1.5"),
        ("--stop-at", "never"),
        ("--monitor-panel", "0"),
        ("--on-bad-row", "ignore"),
        ("--block-words", "0"),
        ("--split-unit", "group"),
        ("--clip-norm", "2"),
    ],
    "audit": [
        *[("--seed", value) for value in ("-1", str(2**32))],
        *[("--confidence", value) for value in ("0", "1", "nan", "95")],
        *[("--delta", value) for value in ("0", "1", "nan")],
        *[("--extraction-samples", value) for value in ("0", "-1", str(10**12))],
        *[("--device", value) for value in ("meta", "gpu")],
        *[("--dtype", value) for value in ("int8", "half")],
        *[("--attacks", value) for value in ("los", "loss,,x", "standard,all,x")],
    ],
    "compare": [
        *[("--learning-rates", value) for value in ("0", "-1", "nan", "inf", "1e-4,1e-4", "x", "1e-4;3e-4")],
        *[("--seeds", value) for value in ("0.5", "-1", "0,0", "x", "1e30", "nan")],
        *[("--methods", value) for value in ("lorra", "lora:r", "full,full", "lora:r=x", "lora:r=0", "lora:q=8", ":")],
        *[("--defences", value) for value in ("nonee", "none,none", "epsilon9")],
        *[("--jobs", value) for value in ("0", "-1")],
        ("--preset", "everything"),
        ("--device", "meta"),
        ("--panel", "0"),
    ],
    "gate": [
        *[("--max-auc", value) for value in ("-1", "0", "2", "nan", "inf")],
        *[("--max-extracted", value) for value in ("-1", "nan")],
        *[("--max-epsilon", value) for value in ("-1", "nan", "inf")],
    ],
    "prepare": [
        *[("--dedup", value) for value in ("exakt", "exact,x")],
        *[("--detectors", value) for value in ("emial", "email,x")],
        *[("--patterns", value) for value in ('{"A": "("}', '{"a b": "x"}')],
        ("--marks", "check"),
        ("--key-file", "new.key"),
    ],
    "view": [("--port", "-1"), ("--port", "70000")],
    "ls": [("--also", "x")],
}


@pytest.mark.parametrize(
    ("verb", "flag", "value"), [(verb, *pair) for verb, pairs in OUT_OF_RANGE.items() for pair in pairs]
)
def test_a_value_out_of_range_is_refused_before_any_work(
    check: Callable[..., str], world: SimpleNamespace, verb: str, flag: str, value: str
) -> None:
    given = {
        "tune": [world.data, "--model", world.base, "--out", "run"],
        "compare": [world.data, "--model", world.base, "--out", "run"],
        "prepare": [world.data, "--out", "out.parquet"],
        "audit": [world.tuned],
        "gate": [world.audited],
        "view": [world.audited],
        "ls": [world.root],
    }
    check(verb, *given[verb], flag, value)


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["tunee", "x"], "tune"),
        (["tune", "x", "--epoch", "1"], "--epochs"),
        (["tune", "x", "--learningrate", "1"], "--learning_rate"),
        (["tune", "x", "--methods", "full"], "--method"),
        (["audit", "x", "--atacks", "loss"], "--attacks"),
        (["gate", "x", "--max-acu", "1"], "--max_auc"),
        (["prepare", "x", "--srcub", "mask"], "--scrub"),
        (["compare", "x", "--method", "full"], "--methods"),
        (["report", "x", "--output", "y"], "--out"),
        (["tune", "x", "--gradient_accumulation_steps", "4"], "--batch_size"),
        (["tune", "x", "--lora_r", "8"], "--method lora"),
        (["tune", "x", "--bf16"], "--dtype"),
        (["tune", "x", "--overwrite_output_dir"], "--resume false"),
        (["tune", "x", "--trust_remote_code"], "No code"),
        (["tune", "x", "y"], "y"),
        (["tune", "x", "--epochs"], "--epochs"),
        (["tune"], "data is missing"),
        (["gate"], "results is missing"),
        (["tune", "x", "-x"], "-x"),
    ],
)
def test_a_slip_of_the_finger_gets_two_lines_and_the_near_one(
    check: Callable[..., str], argv: list[str], near: str
) -> None:
    said = check(*argv)
    assert near in said
    assert len(said.strip().splitlines()) <= 2


CONFIGS = {
    "missing": None,
    "list": "- a\n- b\n",
    "text": "just words",
    "broken": "a: [1, 2",
    "unknown key": "epoch: 3\n",
    "wrong type": "epochs: three\n",
    "empty": "",
    "binary": "\ud800",
    "deep": "[" * 20000,
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "null path": 'out: "a\\0b"\n',
    "empty out": 'out: ""\n',
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_file_of_settings_is_refused(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    path, text = tmp_path / "settings.yaml", CONFIGS[name]
    if text is not None:
        path.write_bytes(b"\xff\xfe\x00" if name == "binary" else text.encode())
    check("tune", world.data, "--model", world.base, "--config", path)


# ---- places ---------------------------------------------------------------------------------------------------------

FOLDERS = ("tune", "compare", "audit")


def places(world: SimpleNamespace) -> dict[str, Any]:
    return {
        "a folder of mine": world.root / "thesis",
        "all of mine": world.root,
        "a file of mine": world.root / "page.html",
        "the data": world.data,
        "the base": world.base,
        "inside the base": world.base / "run",
        "the base by another way": f"{world.base}/../base",
        "a loop": world.root / "loop",
        "below a file": world.data / "run",
        "a long name": "x" * 5000,
        "a long part": "y" * 300,
        "proc": "/proc/no/run",
        "empty": "",
        "blank": " ",
        "a folder with a tune.yaml of mine": world.root / "settings",
        "a folder named like data": world.root / "table.parquet",
        "a pipe": world.root / "pipe",
    }


PLACES = list(places(SimpleNamespace(root=Path(), data=Path(), base=Path())))


@pytest.mark.parametrize("verb", FOLDERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_run_goes_nowhere_where_something_else_is(
    check: Callable[..., str], world: SimpleNamespace, verb: str, place: str
) -> None:
    out = places(world)[place]
    given: list[Any] = [world.data, "--model", world.base]
    if verb == "audit":
        sides = ["--members", world.root / "members.jsonl", "--held-out", world.root / "held_out.jsonl"]
        given = ["--model", world.base, *sides]
        out = world.root / "members.jsonl" if place == "the data" else out
    check(verb, *given, "--out", out)


@pytest.mark.parametrize("kind", ["tune into compare", "compare into tune", "compare into audit", "tune into audit"])
def test_runs_of_two_kinds_do_not_share_a_folder(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path, kind: str
) -> None:
    verb, _, there = kind.split()
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {
        "compare": dict.fromkeys(("base", "data", "split", "canaries", "training", "monitor"), "x"),
        "tune": dict.fromkeys(("base", "data", "title", "split", "canaries", "training"), "x"),
        "audit": dict.fromkeys(("target", "reference", "data", "max_tokens", "audit"), "x"),
    }
    (folder / f"{there}.yaml").write_text(yaml.safe_dump(settings[there]))
    assert f"reticent {there}" in check(verb, world.data, "--model", world.base, "--out", folder)


FILES = [
    "thesis",
    "page.html",
    "junit.xml",
    "loop",
    "pipe",
    "table.parquet",
    "data.jsonl",
    "mine.jsonl",
    "mine.parquet",
]


@pytest.mark.parametrize("name", [*FILES, "data.jsonl/x", "audited/results.json", "audited", "", "long", "thesis/"])
@pytest.mark.parametrize("verb", ["report", "gate", "prepare"])
def test_a_file_takes_no_place_of_yours(
    check: Callable[..., str], world: SimpleNamespace, verb: str, name: str
) -> None:
    place = {"": "", "long": "z" * 5000}.get(name, f"{world.root}/{name}")
    given = {
        "report": ["report", world.audited, "--out", place],
        "gate": ["gate", world.audited, "--max-auc", "1", "--junit", place],
        "prepare": ["prepare", world.data, "--detectors", "email", "--out", place],
    }
    check(*given[verb])


@pytest.mark.parametrize("name", ["data.jsonl", "link.jsonl", "hard.jsonl", "./data.jsonl", "thesis/../data.jsonl"])
@pytest.mark.parametrize("scrub", ["mask", None])
def test_data_are_never_written_over_however_they_are_spelt(
    check: Callable[..., str], world: SimpleNamespace, name: str, scrub: str | None
) -> None:
    more = ["--scrub", scrub] if scrub else []
    said = check("prepare", world.data, "--out", f"{world.root}/{name}", "--detectors", "email", *more)
    assert "is the data, which is read" in said
    check("prepare", f"{world.root}/{name}", "--out", world.data, "--detectors", "email", *more)


@pytest.mark.parametrize("beside", ["out.card.json", "out.card.html", "out.dropped.jsonl", "out.rejects.jsonl"])
def test_files_of_yours_beside_the_records_stay(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path, beside: str
) -> None:
    (tmp_path / beside).write_text("mine")
    assert beside in check("prepare", world.data, "--out", "out.parquet", "--detectors", "email")


def test_a_list_that_is_read_is_not_taken_for_one_that_goes(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path
) -> None:
    data = shutil.copy(world.data, tmp_path / "out.dropped.jsonl")
    check("prepare", data, "--out", "out.parquet", "--detectors", "email")


# ---- data -----------------------------------------------------------------------------------------------------------

GOOD = lines(rows()).encode()
BAD_DATA: dict[str, bytes | None] = {
    "missing.jsonl": None,
    "empty.jsonl": b"",
    "blank.jsonl": b"\n \n\n",
    "cut.jsonl": GOOD[:-9],
    "list.jsonl": b"[1, 2]\n",
    "number.jsonl": b"7\n",
    "long_number.jsonl": b'{"text": ' + b"9" * 5000 + b"}\n",
    "deep.jsonl": b"[" * 100_000 + b"\n",
    "latin.jsonl": '{"text": "Grüße"}\n'.encode("latin-1"),
    "nul.jsonl": b"\0" * 100,
    "noise.jsonl": bytes(range(256)) * 4,
    "surrogate_text.jsonl": b'{"text": "\\ud800", "user": "u"}\n' * 20,
    "surrogate_user.jsonl": b'{"text": "a", "user": "\\ud800"}\n' * 20,
    "surrogate_key.jsonl": b'{"\\ud800": "a"}\n' * 20,
    "nothing_usual.jsonl": b'{"note": "a"}\n' * 20,
    "two_shapes.jsonl": b'{"text": "a", "messages": []}\n' * 20,
    "null.jsonl": b'{"text": null}\n' * 20,
    "list_text.jsonl": b'{"text": ["a"]}\n' * 20,
    "object_user.jsonl": b'{"text": "a", "user": {"a": 1}}\n' * 20,
    "empty_chat.jsonl": b'{"messages": []}\n' * 20,
    "odd_chat.jsonl": b'{"messages": [7]}\n' * 20,
    "no_assistant.jsonl": b'{"messages": [{"role": "user", "content": "a"}]}\n' * 20,
    "utf16_no_mark.jsonl": GOOD.decode().encode("utf-16-le"),
    "utf16_odd.jsonl": GOOD.decode().encode("utf-16")[:-1],
    "not.jsonl.gz": GOOD,
    "cut.jsonl.gz": gzip.compress(GOOD)[:-20],
    "flipped.jsonl.gz": gzip.compress(GOOD)[:30] + b"\xff" * 20 + gzip.compress(GOOD)[50:],
    "empty.jsonl.gz": b"",
    "not.txt.gz": b"plain",
    "cut.txt.gz": gzip.compress(GOOD)[:-20],
    "not.csv.gz": b"a,b\n1,2\n",
    "cut.csv.gz": gzip.compress(b"text,user\n" + b"a,b\n" * 500)[:-20],
    "cut.tsv.gz": gzip.compress(b"text\tuser\n" + b"a\tb\n" * 500)[:-9],
    "not.json.gz": b"[]",
    "deep.json": b"[" * 100_000,
    "deep_list.json": b"[" + b"[" * 100_000 + b"]" * 100_000 + b"]",
    "long_number.json": b'[{"text": ' + b"9" * 5000 + b"}]",
    "object.json": b'{"text": "a"}',
    "lines.json": GOOD,
    "cut.json": b'[{"text": "a"}, {"text',
    "numbers.json": b"[1, 2, 3]",
    "null.json": b"null",
    "empty.json": b"",
    "latin.json": '[{"text": "Grüße"}]'.encode("latin-1"),
    "noise.json": bytes(range(256)),
    "utf16_odd.json": '[{"text": "a"}]'.encode("utf-16")[:-1],
    "empty.csv": b"",
    "only_header.csv": b"text,user\n",
    "quotes.csv": b'text,user\n"a,b\n',
    "twice.csv": b"text,text\na,b\n",
    "ragged.csv": b"text,user\na\nb,c,d\n",
    "ragged_semicolon.csv": b"text;user\na\nb;c;d\n",
    "latin.csv": "text,user\nGrüße,u\n".encode("latin-1"),
    "latin_semicolon.csv": "text;user\nGrüße;u\n".encode("latin-1"),
    "no_text.csv": b"note,by\na,b\n",
    "noise.csv": bytes(range(256)) * 4,
    "utf16_no_mark.csv": "text,user\na,b\n".encode("utf-16-le"),
    "utf16_odd.csv": "text,user\na,b\n".encode("utf-16")[:-1],
    "utf32_odd.csv": "text,user\na,b\n".encode("utf-32")[:-2],
    "sep.csv": b"sep=;\n",
    "noise.tsv": b"\xff\xfe\xfd",
    "empty.txt": b"",
    "latin.txt": "Grüße".encode("latin-1"),
    "noise.txt": bytes(range(128, 256)),
    "empty.parquet": b"",
    "not.parquet": b"PAR1 no more",
    "cut.parquet": b"PAR1" + b"\0" * 100 + b"PAR1",
    "no.mbox": b"no mail at all\n",
    "empty.mbox": b"",
    "noise.mbox": b"From " + bytes(range(128, 256)) * 4,
    "unknown.docx": b"PK\x03\x04",
    "unknown.pdf": b"%PDF-1.4",
    "no_suffix": b"text",
}


@pytest.fixture(scope="session")
def bad_data(shared: Path) -> Path:
    folder = shared / "bad data"
    folder.mkdir()
    for name, content in BAD_DATA.items():
        if content is not None:
            (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "maildir" / "cur").mkdir(parents=True)
    (folder / "loop.jsonl").symlink_to(folder / "loop.jsonl")
    return folder


OTHER_SOURCES = ["folder", "maildir", "loop.jsonl", "long", "dev", "proc", "odd\udcff.jsonl"]


@pytest.mark.parametrize("name", [*BAD_DATA, *OTHER_SOURCES])
@pytest.mark.parametrize("verb", ["prepare", "tune", "audit", "compare", "labels"])
def test_bad_data_are_refused_by_place_and_reason(
    check: Callable[..., str], world: SimpleNamespace, bad_data: Path, verb: str, name: str
) -> None:
    source = {"long": "l" * 5000 + ".jsonl", "dev": "/dev/null", "proc": "/proc/self/mem"}.get(name, bad_data / name)
    given = {
        "prepare": ["prepare", source, "--out", "out.jsonl", "--detectors", "email"],
        "tune": ["tune", source, "--model", world.base, "--out", "run"],
        "compare": ["compare", source, "--model", world.base, "--out", "run"],
        "audit": ["audit", "--model", world.base, "--members", source, "--held-out", world.data, "--out", "run"],
        "labels": ["audit", "--model", world.base, "--data", world.data, "--membership", source, "--out", "run"],
    }
    check(*given[verb], also=(bad_data,))


# ---- results, run folders, models -----------------------------------------------------------------------------------


def damage(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def first_auc(value: float, name: str = "value") -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        row = next(row for row in content["findings"] if row["metric"] == "auc" and row["level"] == "record")
        row[name] = value

    return change


RESULTS: dict[str, Any] = {
    "auc of -3": first_auc(-3),
    "auc of 2": first_auc(2),
    "auc outside of its interval": first_auc(-0.5),
    "upside down": first_auc(9, "lo"),
    "no confidence": first_auc(0, "confidence"),
    "no findings": damage(None, "findings"),
    "another version": damage(99, "schema_version"),
    "another format": damage("lm-eval", "format"),
    "no verdict": damage({}, "verdict"),
    "numbers as text": damage("many", "counts"),
    "a list": b"[]",
    "nothing": b"",
    "cut": b'{"format": "reticent.results", ',
    "noise": bytes(range(128, 256)),
    "deep": b"[" * 100_000,
    "not a number": b'{"format": NaN}',
    "number": b"7",
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("verb", ["gate", "report", "view"])
def test_results_that_no_audit_gives_pass_no_gate(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path, verb: str, name: str
) -> None:
    run, change = tmp_path / "run", RESULTS[name]
    run.mkdir()
    if callable(change):
        content = json.loads((world.audited / "results.json").read_text())
        change(content)
        (run / "results.json").write_text(json.dumps(content))
    else:
        (run / "results.json").write_bytes(change)
    if verb == "gate":
        check("gate", run, "--max-auc", "1", "--junit", "out.xml")
    elif verb == "view":
        check("view", run)  # there is no page
    elif not name.startswith("auc"):  # a page may show what a gate refuses
        check("report", run, "--out", "out.html")


DAMAGED = {
    "manifest.json": (b"", b"[]", b"{", b"\xff\xfe", b'{"tune": 7}'),
    "records.parquet": (b"", b"PAR1", None),
    "membership.parquet": (b"", b"PAR1", None),
    "canaries.parquet": (b"", b"PAR1"),
    "targets.jsonl": (b"{", b"7\n", b"\xff"),
    "hash.key": (b"", b"abc", b"\xff\xfe", b"g" * 64, b"ab" * 16),
    "model/model.safetensors": (b"", b"x" * 64, None),
    "model/config.json": (b"", b"{}", b'{"model_type": "no-such"}', None),
    "model/reticent_tuning.json": (b"{", b"[]", b'{"method": 1}'),
    "audit.yaml": (b"{", b"\xff"),
}


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, all_ in DAMAGED.items() for n in range(len(all_))])
def test_a_damaged_run_folder_is_refused_and_stays_as_it_is(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path, name: str, number: int, base: Path
) -> None:
    run, content = shutil.copytree(world.tuned, tmp_path / "run"), DAMAGED[name][number]
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    check("audit", run, "--reference", base, "--dtype", "float32", "--attacks", "loss")


@pytest.mark.parametrize("drop", ["records.parquet", "membership.parquet"])
def test_halves_that_do_not_fit_are_refused(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path, base: Path, drop: str
) -> None:
    import pyarrow.parquet as pq

    run = shutil.copytree(world.tuned, tmp_path / "run")
    table = pq.read_table(run / drop)
    pq.write_table(table.slice(0, table.num_rows // 2), run / drop)
    check("audit", run, "--reference", base, "--dtype", "float32", "--attacks", "loss")


def edited(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


MODELS: dict[str, Callable[[Path], Any]] = {
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "empty weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "cut weights": lambda folder: os.truncate(folder / "model.safetensors", 2000),
    "noise for weights": lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 4000),
    "pickled": lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "broken config": lambda folder: (folder / "config.json").write_text("{"),
    "a list for a config": lambda folder: (folder / "config.json").write_text("[]"),
    "unknown type": lambda folder: edited(folder, model_type="no-such-model"),
    "layers in words": lambda folder: edited(folder, num_hidden_layers="two"),
    "no layers": lambda folder: edited(folder, num_hidden_layers=-1),
    "a layer too few": lambda folder: edited(folder, num_hidden_layers=1),
    "a layer too many": lambda folder: edited(folder, num_hidden_layers=9),
    "heads that do not fit": lambda folder: edited(folder, num_attention_heads=5),
    "another width": lambda folder: edited(folder, hidden_size=64),
    "a huge vocabulary": lambda folder: edited(folder, vocab_size=-5),
    "bitsandbytes": lambda folder: edited(
        folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
    ),
    "gptq": lambda folder: edited(folder, quantization_config={"quant_method": "gptq", "bits": 4}),
    "awq": lambda folder: edited(folder, quantization_config={"quant_method": "awq", "bits": 4}),
    "unknown quantisation": lambda folder: edited(folder, quantization_config={"quant_method": "no-such"}),
    "no tokenizer": lambda folder: [path.unlink() for path in folder.glob("token*")],
    "broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "noise for a tokenizer": lambda folder: (folder / "tokenizer.json").write_bytes(b"\xff" * 100),
    "not a folder": lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
    "gone": lambda folder: shutil.rmtree(folder),
    "empty": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("verb", ["tune", "audit"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_whole_is_refused(
    check: Callable[..., str], world: SimpleNamespace, tmp_path: Path, verb: str, name: str
) -> None:
    model = shutil.copytree(world.base, tmp_path / "model")
    MODELS[name](model)
    sides = ["--members", world.root / "members.jsonl", "--held-out", world.root / "held_out.jsonl"]
    given = {
        "tune": [world.data, "--model", model, "--device", "cpu"],
        "audit": ["--model", model, *sides, "--attacks", "loss", "--device", "cpu"],
    }
    check(verb, *given[verb], "--out", tmp_path / "run")


def test_there_are_enough_of_them(request: pytest.FixtureRequest) -> None:
    assert len([item for item in request.session.items if item.path == request.path]) >= 400


def test_every_module_of_the_command_line_is_a_verb_or_known_as_none() -> None:
    assert {"main", "flags", "names"} == FRAME
