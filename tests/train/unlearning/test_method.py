# SPDX-License-Identifier: Apache-2.0
"""The registry: what each method declares, what is refused, and what can be listed without torch."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.testing.unlearners import planted_rows
from reticent.train.unlearning.method import UNLEARNERS, Unlearner, check_unlearning, method_names, unlearner
from reticent.train.unlearning.methods.negation import negation
from reticent.train.unlearning.parts import Collapse, Dual, FisherLora, HiddenLayer, TokenTail
from reticent.train.unlearning.rows import Rows

AUTHORS: dict[str, tuple[float, float, str, float | None, int | None, dict[str, Any]]] = {
    # γ, α, retain term, learning rate, epochs, settings: from the authors' configurations
    "altpo": (1, 1, "nll", 2e-5, 10, {"beta": 0.1}),
    "ce_u": (1, 1, "none", 1e-5, 10, {"ignored": 1}),
    "dpo": (1, 1, "nll", 1e-5, 10, {"beta": 0.1}),
    "gradient_ascent": (1, 1, "none", 1e-5, 10, {}),
    "gradient_difference": (1, 1, "nll", 1e-5, 10, {}),
    "kl_ascent": (1, 1, "kl", 1e-5, 10, {}),
    "loku": (1, 1, "nll", 1e-5, 5, {"rank": 16, "alpha": 32.0, "dropout": 0.05}),
    "negation": (1, 1, "none", 1e-5, 5, {"alpha": 1.0}),
    "npo": (1, 1, "nll", 1e-5, 10, {"beta": 0.1}),
    "pdu": (1, 50, "nll", 1e-5, 10, {"dual_step": 1.0, "dual_warmup_epochs": 5, "retain_slack": 0.3}),
    "repselect": (1, 1, "none", 0.05, 10, {"components": 512, "elicit_rate": 0.01}),
    "retrain": (1, 1, "none", None, None, {}),
    "rmu": (1, 1, "hidden", 1e-5, 10, {"coefficient": 2.0, "seed": 0, "layer": 7}),
    "satimp": (0.1, 1, "nll", 1e-5, 5, {"beta1": 5.0, "beta2": 1.0}),
    "shards": (1, 1, "none", None, None, {}),
    "simnpo": (0.125, 1, "nll", 1e-5, 10, {"beta": 4.5, "delta": 0.0}),
    "token_local": (1, 1, "nll", 1e-5, 10, {"beta": 0.1, "tail_quantile": 0.95}),
    "undial": (1, 0, "nll", 1e-4, 10, {"beta": 10.0}),
    "wga": (1, 1, "nll", 1e-5, 5, {"beta": 1.0}),
}


def test_defaults_are_the_authors() -> None:
    for name, expected in AUTHORS.items():
        method = UNLEARNERS.get(name)
        weights = (method.forget_weight, method.retain_weight)
        given = (*weights, method.retain, method.learning_rate, method.epochs, method.defaults)
        assert given == expected, name
    assert UNLEARNERS.get("satimp").presets["readme"] == {"forget_weight": 1.0, "retain_weight": 0.1}


def test_names_are_those_of_files_and_there_are_enough() -> None:
    assert set(AUTHORS) <= set(method_names())
    assert method_names() == UNLEARNERS.names()
    assert len(AUTHORS) >= 16


def test_kinds_and_needs() -> None:
    kinds = {kind: {method.name for method in UNLEARNERS.select(kind=kind)} for kind in ("weights", "exact")}
    assert kinds["weights"] >= {"negation"}
    assert kinds["exact"] >= {"retrain", "shards"}
    assert all(method.function is None for method in UNLEARNERS.select(kind="exact"))
    assert UNLEARNERS.get("kl_ascent").all_needs == {"reference_logits"}
    assert UNLEARNERS.get("rmu").all_needs == {"hidden", "reference_hidden"}
    assert UNLEARNERS.get("npo").all_needs == {"reference_logp"}
    assert {m.name for m in UNLEARNERS if m.needs_all_weights} >= {"loku", "repselect"}
    assert not UNLEARNERS.get("npo").needs_all_weights


def test_parts_get_their_settings() -> None:
    assert UNLEARNERS.get("pdu").part("dual", {"dual_step": 5.0}) == Dual(dual_step=5.0)
    assert UNLEARNERS.get("token_local").part("tail", {"beta": 0.5}) == TokenTail()
    assert UNLEARNERS.get("rmu").part("hidden", {"layer": 0, "seed": 4}) == HiddenLayer(layer=0)
    assert UNLEARNERS.get("repselect").part("collapse", {"components": 9}) == Collapse(components=9)
    assert UNLEARNERS.get("loku").part("start", {"rank": 2, "dropout": 0.0}) == FisherLora(rank=2, dropout=0.0)
    assert UNLEARNERS.get("npo").part("dual", {}) is None
    with pytest.raises(BadInput, match="tail_quantile=1"):
        UNLEARNERS.get("token_local").part("tail", {"tail_quantile": 1})


def test_settings_of_parts_do_not_reach_the_loss() -> None:
    rows = planted_rows("hidden")
    method = UNLEARNERS.get("rmu")
    assert torch.equal(method(rows, layer=3), method(rows))
    assert not torch.equal(method(rows, seed=3), method(rows))


@pytest.mark.parametrize(
    ("name", "params", "why"),
    [
        ("npo", {"betta": 0.1}, "is no setting of this unlearning method. It has: beta"),
        ("gradient_ascent", {"beta": 0.1}, "It has: none"),
        ("npo", {"beta": 0}, "must be a number greater than 0"),
        ("npo", {"beta": -0.1}, "must be a number greater than 0"),
        ("npo", {"beta": math.nan}, "must be a number greater than 0"),
        ("npo", {"beta": True}, "must be a number greater than 0"),
        ("npo", {"beta": "0.1"}, "must be a number greater than 0"),
        ("npo", {"beta": 10**400}, "beta=a long value: must be"),
        ("simnpo", {"delta": math.inf}, "must be a finite number"),
        ("wga", {"beta": -1}, "must be a number of at least 0"),
        ("ce_u", {"ignored": -1}, "must be a whole number of at least 0"),
        ("ce_u", {"ignored": 1.0}, "must be a whole number of at least 0"),
        ("rmu", {"seed": 2**40}, "must be a whole number"),
        ("rmu", {"layer": -1}, "must be a whole number"),
        ("token_local", {"tail_quantile": 1.0}, "must be a number between 0 and 1"),
        ("repselect", {"components": 0}, "must be a whole number of at least 1"),
        ("nppo", {}, "Did you mean 'npo'"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, params: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        check_unlearning(name, params)


def test_a_call_refuses_what_check_refuses_and_rows_that_lack_something() -> None:
    rows = planted_rows("reference_logp")
    npo = UNLEARNERS.get("npo")
    npo(rows, beta=1)
    with pytest.raises(BadInput, match="beta=0"):
        npo(rows, beta=0)
    with pytest.raises(BadInput, match="needs reference_logp"):
        npo(planted_rows())
    with pytest.raises(ValueError, match="need"):
        UNLEARNERS.get("dpo")(replace(rows, alternative=planted_rows()))
    for name in ("negation", "retrain"):
        with pytest.raises(BadInput, match="no loss"):
            UNLEARNERS.get(name)(rows)


def loss(forget: Rows, *, beta: float = 1.0) -> torch.Tensor:
    """A loss."""
    return forget.logp.sum()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"paper": "somewhere"}, "is not arXiv"),
        ({"function": None}, "a function where there is none"),
        ({"kind": "exact"}, "a function where there is none"),
        ({"needs": frozenset({"logits"})}, "needs outside of"),
        ({"needs": frozenset({"hidden"})}, "without a layer"),
        ({"hidden": HiddenLayer()}, "without a layer"),
        ({"retain": "hidden"}, "without a layer"),
        ({"alternative": "refusal"}, "an alternative that it does not read"),
        ({"needs": frozenset({"alternative"})}, "an alternative that it does not read"),
        ({"dual": Dual(), "retain": "none"}, "a learned weight"),
        ({"kind": "weights", "retain": "nll"}, "a retain term without a loss"),
        ({"forget_weight": -1.0}, "a weight below 0"),
        ({"presets": {"paper": {"gamma": 1.0}}}, "a preset has 'gamma'"),
        ({"function": lambda forget, *, beta: forget}, "needs a default"),
        ({"function": lambda forget, *, retain_slack=1.0: forget, "dual": Dual()}, "'retain_slack' is declared twice"),
        ({"function": lambda forget, *, forget_weight=1.0: forget}, "'forget_weight' is declared twice"),
    ],
)
def test_declarations_that_contradict_themselves_are_refused(change: dict[str, Any], why: str) -> None:
    right = {"name": "x", "summary": "A loss.", "paper": "arXiv:2404.05868", "function": loss, "retain": "nll"}
    Unlearner(**right)
    with pytest.raises(ValueError, match=why):
        Unlearner(**(right | change))


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        unlearner("npo", paper="arXiv:2404.05868")(loss)


def test_names_are_listed_without_torch() -> None:
    code = (
        "import sys\n"
        "from reticent.train.unlearning.method import NEEDS, method_names\n"
        "from reticent.train.unlearning import parts, ranges\n"
        "assert 'npo' in method_names()\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_negation_goes_the_other_way() -> None:
    weight, overfitted = torch.tensor([1.0, -2.0]), torch.tensor([1.25, -2.0])
    assert negation(weight, overfitted).tolist() == [0.75, -2.0]
    assert negation(weight, overfitted, alpha=4.0).tolist() == [0.0, -2.0]
    steps = torch.arange(3)
    assert negation(steps, steps + 1) is steps
    # a step that bfloat16 could not hold on its own
    fine = torch.tensor([1.0], dtype=torch.bfloat16)
    assert negation(fine, torch.tensor([1.001]), alpha=16.0).item() == pytest.approx(1 - 0.016, abs=4e-3)
