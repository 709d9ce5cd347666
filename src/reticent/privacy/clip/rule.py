# SPDX-License-Identifier: Apache-2.0
"""Layer rules: a forward pass that does as the layer does, and whose backward pass writes into the tape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate

import torch
from torch import nn

from reticent.core.registry import Registry
from reticent.privacy.clip.tape import Tape

_HOLDERS = (nn.ParameterDict, nn.ParameterList)

Forward = Callable[Concatenate[Any, Tape, ...], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class LayerRule:
    """How one kind of layer is run.

    Args:
        name: of the rule; that of its file.
        matches: whether the rule is right for a module. It must refuse subclasses that compute something else.
        parameters: names of the module's own parameters, or of its dictionaries and lists of them, that the rule
            records.
        forward: ``forward(module, tape, *args, **kwargs)``, in place of the module's.
        example: makes a module that the rule is for, from ``[…, 8]`` to ``[…, 8]`` or from ids below 20 to ``[…, 8]``:
            `reticent.testing.layer_rules` trains it in a tiny model.
    """

    name: str
    matches: Callable[[nn.Module], bool]
    parameters: tuple[str, ...]
    forward: Forward
    example: Callable[[], nn.Module] | None = None


LAYER_RULES: Registry[LayerRule] = Registry("layer rule", "reticent.privacy.clip.layers")


def layer_rule(
    name: str,
    *,
    matches: Callable[[nn.Module], bool],
    parameters: tuple[str, ...],
    example: Callable[[], nn.Module] | None = None,
) -> Callable[[Forward], Forward]:
    """Register the forward pass of a layer type."""

    def register(forward: Forward) -> Forward:
        rule = LayerRule(name=name, matches=matches, parameters=parameters, forward=forward, example=example)
        LAYER_RULES.add(name, rule)
        return forward

    return register


def rule_for(module: nn.Module) -> LayerRule | None:
    """The rule of a module whose own trained parameters it all records, or None.

    None too where something has replaced the module's forward (offloading, fused kernels), as the rule would undo it.
    """
    if "forward" in vars(module):
        return None
    trained = {name.split(".")[0] for name in own_trained(module)}
    return next((rule for rule in LAYER_RULES if trained <= set(rule.parameters) and rule.matches(module)), None)


def own_trained(module: nn.Module) -> list[str]:
    """Names of the trained parameters that ``module`` itself computes with.

    Those in a dictionary or list of parameters belong to the module that holds it.
    """
    if isinstance(module, _HOLDERS):
        return []
    held = [(f"{name}.", child) for name, child in module.named_children() if isinstance(child, _HOLDERS)]
    return [
        prefix + name
        for prefix, owner in [("", module), *held]
        for name, parameter in owner.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
