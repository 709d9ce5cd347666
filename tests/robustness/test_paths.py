# SPDX-License-Identifier: Apache-2.0
"""Every way through the command line that ends well: what was trained on how, and what an audit is given."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from reticent.report.summary import STATUS_WORDS


@pytest.fixture
def halves(tuned, shared, tools):
    """What the tuned model saw and what it did not, as two files and as one with labels."""
    from reticent.core.membership import read_membership
    from reticent.core.record import read_records

    records = {record.id: record for record in read_records(tuned / "records.parquet")}
    coins = read_membership(tuned / "membership.parquet")
    rows = [{"id": id_, "user": records[id_].user, "text": records[id_].text} for id_ in coins.record_id]
    inside = [row for row, member in zip(rows, coins.member, strict=True) if member]
    outside = [row for row, member in zip(rows, coins.member, strict=True) if not member]
    labels = shared / "labels.jsonl"
    tools.write_rows(labels, [{"id": row["id"], "member": row in inside} for row in rows])
    return {
        "members": tools.write_rows(shared / "members.jsonl", inside),
        "held_out": tools.write_rows(shared / "held_out.jsonl", outside),
        "data": tools.write_rows(shared / "data.jsonl", rows),
        "labels": labels,
        "n": (len(inside), len(outside)),
    }


def results_of(run):
    return json.loads((run / "results.json").read_text(encoding="utf-8"))


def ran(results):
    return {attack["name"] for attack in results["attacks"] if attack["ran"]}


def by_record(results, metric="auc"):
    found = [row for row in results["findings"] if row["level"] == "record" and row["metric"] == metric]
    return {row["attack"]: row["value"] for row in found}


def test_a_target_with_two_files_is_compared_with_the_base_that_tuning_recorded(
    reticent, tuned, base, halves, tmp_path, tools
):
    outcome = reticent(
        "audit", "--model", tuned / "model", "--members", halves["members"], "--held-out", halves["held_out"],
        "--id-field", "id", "--max-tokens", "64", "--out", tmp_path / "run", *tools.audit,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    results = results_of(tmp_path / "run")
    assert results["provenance"]["models"]["reference"] == base.name
    assert results["provenance"]["models"]["target"] == f"{tuned.name}/model"
    assert {"ref_diff", "loss", "min_k"} <= ran(results)
    assert (results["counts"]["trained_on"], results["counts"]["records"]) == (halves["n"][0], sum(halves["n"]))
    assert not tools.litter(tmp_path / "run")
    assert f"report: {tmp_path / 'run' / 'report.html'}" in outcome.err


def test_one_file_with_labels_gives_the_same_scores_as_two_files(reticent, tuned, halves, tmp_path, tools):
    shared = ("--model", tuned / "model", "--id-field", "id", "--attacks", "loss,ref_diff", *tools.audit)
    two = ("--members", halves["members"], "--held-out", halves["held_out"])
    one = ("--data", halves["data"], "--membership", halves["labels"])
    for name, given in (("two", two), ("one", one)):
        outcome = reticent("audit", *shared, *given, "--out", tmp_path / name)
        assert outcome.code == 0, outcome.err
    found = [by_record(results_of(tmp_path / name)) for name in ("one", "two")]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0]


def test_without_any_reference_the_attacks_that_need_one_are_switched_off_by_name(
    reticent, tuned, base, halves, tmp_path, tools
):
    model = shutil.copytree(tuned / "model", tmp_path / "model")
    (model / "reticent_tuning.json").unlink()
    outcome = reticent(
        "audit", "--model", model, "--members", halves["members"], "--held-out", halves["held_out"],
        "--id-field", "id", "--out", tmp_path / "run", *tools.audit,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    results = results_of(tmp_path / "run")
    off = {attack["name"]: attack["why_not"] for attack in results["attacks"] if not attack["ran"]}
    assert {"loss", "zlib", "min_k"} <= ran(results)
    for name in ("ref_diff", "ref_ratio", "ez_mia", "wbc", "user_inference"):
        assert "no reference model; give --reference" in off[name]
        assert any(line.startswith(f"{name}: no reference model") for line in results["not_tested"])
    assert results["provenance"]["models"]["reference"] is None

    named = reticent(
        "audit", "--model", model, "--reference", base, "--members", halves["members"],
        "--held-out", halves["held_out"], "--id-field", "id", "--out", tmp_path / "run", *tools.audit,
    )  # fmt: skip
    assert named.code == 0, named.err
    assert "ref_diff" in ran(results_of(tmp_path / "run"))


def test_a_base_against_itself_leaks_nothing(reticent, base, halves, tmp_path, tools):
    outcome = reticent(
        "audit", "--model", base, "--reference", base, "--data", halves["data"], "--membership", halves["labels"],
        "--id-field", "id", "--out", tmp_path / "run", *tools.audit,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    results = results_of(tmp_path / "run")
    assert results["verdict"]["status"] in ("not_detected", "underpowered")
    assert by_record(results)["ref_diff"] == 0.5


# ---- shapes of data, and adapters -----------------------------------------------------------------------------------


def lines(n, seed=0):
    rng = random.Random(seed)
    words = ["late", "parcel", "refund", "card", "house", "garden", "letter", "doctor", "money", "train"]
    return [
        (" ".join(rng.choices(words, k=4)) + f" {rng.randrange(10**6)}", f"{rng.randrange(10**9)}") for _ in range(n)
    ]


def chats(n):
    """Turns of a user and an assistant, with the extra keys that real data have."""
    return [
        {
            "messages": [
                {"role": "system", "content": "You help."},
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"the code is {answer}"},
                {"role": "user", "content": "thanks"},
                {"role": "assistant", "content": f"welcome, {answer[:3]}"},
            ],
            "user_id": f"u{i // 4}",
        }
        for i, (question, answer) in enumerate(lines(n))
    ]


def pairs(n):
    return [
        {"prompt": f"{question}? ", "completion": f"it is {answer}", "author": f"u{i // 4}"}
        for i, (question, answer) in enumerate(lines(n))
    ]


@pytest.mark.parametrize("shape", [chats, pairs])
def test_chats_and_completions_are_tuned_and_audited_on_what_is_trained(reticent, base, tmp_path, tools, shape):
    data = tools.write_rows(tmp_path / "data.jsonl", shape(160))
    tuned = reticent("tune", data, "--model", base, "--out", tmp_path / "run", *tools.tune, "--max-tokens", "256")
    assert tuned.code == 0, tuned.err
    outcome = reticent("audit", tmp_path / "run", *tools.audit)
    assert outcome.code == 0, outcome.err
    results = results_of(tmp_path / "run")
    assert {"loss", "ref_diff", "user_inference"} <= ran(results)
    assert results["counts"]["users"] > 20
    assert "user" in {finding["level"] for finding in results["findings"]}

    from reticent.core.table import read_table

    table = read_table(tmp_path / "run" / "tables" / "evaluate.target.parquet")
    answers = [f"the code is {a}welcome, {a[:3]}" if shape is chats else f"it is {a}" for _, a in lines(160)]
    assert table.lengths.max() <= max(map(len, answers)), "the tiny tokenizer has at most one token a letter"
    assert table.lengths.min() > 0


def test_a_lora_adapter_is_compared_with_itself_switched_off(reticent, base, mails, tmp_path, tools):
    run = tmp_path / "run"
    tuned = reticent(
        "tune", mails, "--model", base, "--out", run, *tools.tune, "--method", "lora", "--method-params", '{"r": 4}'
    )
    assert tuned.code == 0, tuned.err
    assert (run / "model" / "adapter_model.safetensors").exists()
    assert not (run / "model" / "model.safetensors").exists()
    outcome = reticent("audit", run, *tools.audit)
    assert outcome.code == 0, outcome.err
    results = results_of(run)
    assert "ref_diff" in ran(results)
    assert results["provenance"]["models"]["reference"] == base.name

    from reticent.core.table import read_table

    off = read_table(run / "tables" / "evaluate.reference.parquet")
    on = read_table(run / "tables" / "evaluate.target.parquet")
    whole = reticent(
        "audit", run, "--reference", shutil.copytree(base, tmp_path / "copy"), "--out", tmp_path / "again", *tools.audit
    )
    assert whole.code == 0, whole.err
    alone = read_table(tmp_path / "again" / "tables" / "evaluate.reference.parquet")
    assert alone["logp"] == pytest.approx(off["logp"], abs=1e-4)
    assert abs(on["logp"] - off["logp"]).max() > 0.1


# ---- after the audit ------------------------------------------------------------------------------------------------


def test_the_page_is_made_again_from_the_results_alone(reticent, audited, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(audited / "results.json", run)
    assert reticent("report", run).code == 0
    assert (run / "report.html").read_bytes() == (audited / "report.html").read_bytes()
    assert reticent("report", run / "results.json", "--out", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").read_bytes() == (audited / "report.html").read_bytes()


def test_a_report_of_nothing_is_refused(refused, tmp_path):
    refused("report", tmp_path, given="results.json", why="cannot be read (No such file", fix="reticent audit")
    (tmp_path / "results.json").write_text('{"schema": 1, "half')
    refused("report", tmp_path, given="results.json", why="not valid JSON", fix="Give the results.json that")
    assert not (tmp_path / "report.html").exists()


def test_runs_are_listed_with_what_they_found(reticent, tuned, audited):
    outcome = reticent("ls", tuned.parent)
    assert outcome.code == 0
    rows = {line.split()[0]: line for line in outcome.out.splitlines() if line.split()}
    assert "unfinished" in rows["tuned"]
    status = results_of(audited)["verdict"]["status"]
    assert STATUS_WORDS[status] in rows["audited"]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--max-auc", "1.0"), 0, "PASS"),
        (("--max-auc", "0.01"), 1, "FAIL"),
        (("--max-tpr-at-1pct-fpr", "0.5"), 2, "CANNOT CHECK"),
        (("--max-auc", "0.01", "--max-tpr-at-1pct-fpr", "0.5"), 1, "FAIL"),
        ((), 2, "Give at least one of"),
        (("--max-auc", "7"), 2, "must be in"),
    ],
)
def test_the_gate_says_pass_fail_or_cannot_check(reticent, audited, tmp_path, flags, code, said):
    outcome = reticent("gate", audited, *flags, "--junit", tmp_path / "gate.xml")
    assert outcome.code == code, outcome.err
    assert said in outcome.err


def test_an_audit_records_its_settings(audited, base, tools):
    import yaml

    settings = yaml.safe_load((audited / "audit.yaml").read_text())
    assert settings["reference"] == f"../{base.name}"
    assert settings["audit"]["attacks"] == "standard"
    assert settings["audit"]["dtype"] == "float32"


def test_a_config_file_says_what_flags_say(reticent, base, mails, tuned, tmp_path, tools):
    import yaml

    flags = dict(zip(tools.tune[::2], tools.tune[1::2], strict=True))
    settings = {flag[2:].replace("-", "_"): yaml.safe_load(value) for flag, value in flags.items()}
    config = tmp_path / "tune.yaml"
    config.write_text(yaml.safe_dump(settings | {"data": str(mails), "model": str(base), "out": str(tmp_path / "run")}))
    outcome = reticent("tune", "--config", config)
    assert outcome.code == 0, outcome.err
    assert (
        tools.contents(tmp_path / "run" / "model")["model.safetensors"]
        == (tools.contents(tuned / "model")["model.safetensors"])
    )
