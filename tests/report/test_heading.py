# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from reticent.report.audit_page import render
from reticent.report.heading import base_name, facts, model_name, version

PROVENANCE = {
    "models": {"target": "mails/model", "reference": "smollm2-135m"},
    "training": {"base": "../../smollm2-135m", "title": "mails.jsonl", "training": {"method": "lora"}},
    "data": {"fingerprint": "4ed49ffbfe0965dd00de", "unit": "user"},
    "environment": {"packages": {"reticent": "9.8.7"}},
}
COUNTS = {"records": 480, "trained_on": 131, "evaluated_held_out": 259, "users": 60, "member_users": 34,
          "held_out_users": 26}  # fmt: skip


def test_the_top_says_which_model_whose_data_when_and_with_what(sample: ModuleType) -> None:
    results = replace(sample.leaking(), provenance=PROVENANCE, counts=COUNTS)
    assert dict(facts(results)) == {
        "Model": "mails/model, fine-tuned (lora) from smollm2-135m",
        "Data": "mails.jsonl, fingerprint 4ed49ffbfe09",
        "Records": "480: 131 trained on and 259 held out and looked at",
        "People": "60: 34 trained on and 26 held out and looked at",
        "Audited": "2026-03-02 09:41 UTC",
        "Made with": "reticent 9.8.7; who ran it is not recorded",
    }
    page = render(results)
    assert page.index("mails/model, fine-tuned") < page.index('id="verdict"') < page.index('id="numbers"')


def test_what_the_results_do_not_say_is_left_out(sample: ModuleType) -> None:
    bare = replace(sample.underpowered(), created="")
    assert facts(bare) == [("Model", "model without a name")]
    odd = replace(bare, provenance={"models": "x", "training": 3, "environment": {"packages": None}})
    assert (model_name(odd), base_name(odd), version(odd)) == ("model without a name", "", "")
    assert model_name(sample.leaking()) == "runs/demo/model"
    assert facts(replace(bare, counts={"trained_on": 7}))[1] == ("Records", "7 trained on")
