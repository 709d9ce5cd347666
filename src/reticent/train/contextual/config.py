# SPDX-License-Identifier: Apache-2.0
"""What a contextual training is told. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.spec import PrivacySpec
from reticent.train.hardening import HardenConfig

METHODS = ("removal", "substitution", "unlikelihood", "classifier", "instruct_pn", "instruct_np", "dpo")
CURATION = ("removal", "substitution")
OWN_LOSS = ("unlikelihood", "dpo")


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
        """Whether anything is done at all."""
        return self.contextual is not None

    @property
    def rewrites(self) -> bool:
        """Whether no text is trained on as it is."""
        return self.contextual in (*CURATION, "instruct_pn", "instruct_np")

    @property
    def changed(self) -> dict[str, Any]:
        """Settings that differ from the defaults."""
        return {name: value for name, value in asdict(self).items() if value != getattr(ContextualConfig, name)}

    def check(self, harden: HardenConfig, privacy: PrivacySpec | None = None) -> None:
        """Refuse what cannot go together.

        Raises:
            BadInput: a loss would silently be left out, or a promise would be about something else.
        """
        if not self.is_on:
            return
        clashing = {
            "label_smoothing",
            "loss_floor",
            "clip_examples",
            *(["goldfish"] if self.contextual == "dpo" else []),
        }
        losses = sorted(clashing & set(harden.changed))
        if losses and self.contextual in OWN_LOSS:
            raise BadInput(
                f"{', '.join(losses)} with contextual={self.contextual!r}",
                "both change the loss, so one would silently be left out",
                "Give one of them.",
            )
        if privacy is None or not privacy.is_private:
            return
        if self.contextual not in CURATION:
            raise BadInput(
                f"contextual={self.contextual!r} in private training",
                "the loss whose gradients are clipped is the plain cross-entropy, so this would silently be left out",
                "Give removal or substitution, or leave it out.",
            )
        if privacy.protect == "spans":
            raise BadInput(
                f"contextual={self.contextual!r} with protect='spans'",
                "takes out the very spans that shall be protected",
                "Give one of them.",
            )
