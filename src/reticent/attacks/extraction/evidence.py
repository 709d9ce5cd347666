# SPDX-License-Identifier: Apache-2.0
"""Evidence of extraction attacks: passages that a model was forced through, and texts that it wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Attack
from reticent.attacks.signature import rows_of
from reticent.score.generation.forced import TeacherForced


@dataclass(frozen=True, kw_only=True, eq=False)
class Continued:
    """Texts that a model wrote where a secret would have to follow: ``N`` targets, the same number of texts for each.

    Args:
        secrets: ``[N]`` the secrets as characters.
        texts: ``[N]`` for each target the texts that were written, each as long as the secret and a bit.
        secret_tokens: ``[N]`` the secrets as token ids.
        tokens: ``[N]`` for each target the token ids of each text.
    """

    secrets: Sequence[str]
    texts: Sequence[Sequence[str]]
    secret_tokens: Sequence[Sequence[int]]
    tokens: Sequence[Sequence[Sequence[int]]]

    def __post_init__(self) -> None:
        if len({len(self.secrets), len(self.texts), len(self.secret_tokens), len(self.tokens)}) != 1:
            raise ValueError("the columns need one entry for each target")

    def __len__(self) -> int:
        return len(self.secrets)


@dataclass(frozen=True, kw_only=True, eq=False)
class FreeGenerations:
    """``M`` different texts that a model wrote without being told what to write.

    Args:
        target_loss: ``[M]`` nats a token: mean negative log-likelihood under the fine-tuned model.
        base_loss: ``[M]`` the same under the base; None without one.
        zlib_bytes: ``[M]`` length of the text after zlib.
        copied: ``[M]`` bool: the text shares a long enough run of tokens with what was trained on.
    """

    target_loss: npt.NDArray[np.float64]
    base_loss: npt.NDArray[np.float64] | None
    zlib_bytes: npt.NDArray[np.int64]
    copied: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.target_loss)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractionInputs:
    """All that one model gives to the attacks. What was not made is empty.

    Args:
        forced: the secrets of the targets after their whole prefixes.
        short: the same after the last few tokens of the prefixes only, by how many.
        prompted: the same with a text put before the prefix, by that text.
        greedy: what greedy decoding writes in place of each secret.
        sampled: what sampling writes there.
        whole: whole records, every trained token but the first.
        free_generations: texts written from next to nothing.
    """

    forced: TeacherForced | None = None
    short: Mapping[int, TeacherForced] = field(default_factory=dict)
    prompted: Mapping[str, TeacherForced] = field(default_factory=dict)
    greedy: Continued | None = None
    sampled: Continued | None = None
    whole: TeacherForced | None = None
    free_generations: FreeGenerations | None = None

    def get(self, name: str) -> Any:
        """The evidence that a parameter of this name stands for; None where it was not made."""
        return getattr(self, name) if name in self.__dataclass_fields__ else None

    def has(self, name: str) -> bool:
        """The evidence was made, and has rows."""
        return rows_of(self.get(name)) > 0


def short_lengths(attacks: Iterable[Attack]) -> tuple[int, ...]:
    """Numbers of tokens for which attacks want ``short``: their parameter ``tokens``."""
    return tuple(sorted({attack.params["tokens"] for attack in attacks if "short" in attack.evidence}))
