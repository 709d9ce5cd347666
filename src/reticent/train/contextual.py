# SPDX-License-Identifier: Apache-2.0
"""Flags of the objectives that learn the subject of private texts and not the people in them.

No torch, so that command lines can show their help at once; objectives are loaded once one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from reticent.core import validate
from reticent.core.errors import BadInput

if TYPE_CHECKING:
    from reticent.train.objectives.objective import Objective

METHODS = ("removal", "substitution", "unlikelihood", "classifier", "instruct_pn", "instruct_np", "dpo")
OWN_LOSS = ("unlikelihood", "dpo")
_PAIRS = "instruct_"


@dataclass(frozen=True, kw_only=True)
class ContextualConfig:
    """Train on texts without teaching what their spans mark (Xiao et al., "PrivacyMind", EMNLP 2024).

    It needs spans: reticent prepare marks them, or --spans_field names them. What no span marks is learned as ever, and
    nothing is promised: audit it.

    Args:
        contextual: removal or substitution take the spans out beforehand; unlikelihood makes what is in them unlikely;
            classifier learns beside the model which tokens are personal, to replace them in what it writes; instruct_pn
            and instruct_np show each text with and without them (the version without first, or last), and only that
            version is for readers; dpo prefers the text without. Left out, nothing is done.
        contextual_weight: weight of the term that unlikelihood and dpo add to the cross-entropy.
        dpo_beta: how far dpo may lead away from the base; smaller is further.

    Examples:
        >>> ContextualConfig().is_on, ContextualConfig(contextual="unlikelihood").is_on
        (False, True)
    """

    contextual: str | None = None
    contextual_weight: float = 1.0
    dpo_beta: float = 0.1

    def __post_init__(self) -> None:
        if self.contextual is not None:
            validate.one_of(METHODS, contextual=self.contextual)
        validate.positive(contextual_weight=self.contextual_weight, dpo_beta=self.dpo_beta)
        for name, methods in (("contextual_weight", OWN_LOSS), ("dpo_beta", ("dpo",))):
            if getattr(self, name) != getattr(ContextualConfig, name) and self.contextual not in methods:
                raise BadInput(
                    f"{name}={getattr(self, name)!r}", f"is only used with {' or '.join(methods)}", "Leave it out."
                )

    @property
    def is_on(self) -> bool:
        """True where anything is done at all."""
        return self.contextual is not None

    @property
    def changed(self) -> dict[str, Any]:
        """Settings that differ from the defaults."""
        return {name: value for name, value in asdict(self).items() if value != getattr(ContextualConfig, name)}

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives that the flags ask for."""
        if self.contextual is None:
            return ()
        from reticent.train.objectives.objective import make_objective

        if self.contextual.startswith(_PAIRS):
            return (make_objective("instruction_pairs", {"order": self.contextual.removeprefix(_PAIRS)}),)
        given = {"weight": self.contextual_weight, "beta": self.dpo_beta}
        used = {"unlikelihood": ("weight",), "dpo": ("weight", "beta")}.get(self.contextual, ())
        return (make_objective(self.contextual, {name: given[name] for name in used}),)

    @classmethod
    def of(cls, objectives: Sequence[Objective]) -> ContextualConfig:
        """The flags that ask for that of the objectives that has one here."""
        for chosen in objectives:
            settings = chosen.settings
            method = f"{_PAIRS}{settings['order']}" if chosen.name == "instruction_pairs" else chosen.name
            if method in METHODS:
                renamed = {"weight": "contextual_weight", "beta": "dpo_beta"}
                flags = {flag: settings[name] for name, flag in renamed.items() if name in settings}
                return cls(contextual=method, **flags)
        return cls()
