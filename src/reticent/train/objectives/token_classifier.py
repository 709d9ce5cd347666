# SPDX-License-Identifier: Apache-2.0
"""A light classifier on the model's hidden states that says which tokens are personal, so that they can be replaced in
what the model writes (PrivacyMind, section 3.3).

The model itself is tuned on the texts as they are, and knows what is in them: the classifier hides that from readers of
its answers and from nobody who has the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.train.batches import collate
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective, objective

FILE = "token_classifier/classifier.safetensors"
"""Below the model's folder, one level down: weights beside the model's own would count as the model's."""
_BATCH = 8
_DECAY = 1e-3
_STEPS = 60
_MOST_TOKENS = 200_000
"""Hidden states that are kept at once: half a gigabyte at a width of 576."""


@objective(
    "classifier",
    spans="tokens",
    flag="contextual='classifier'",
    why={
        "private": (
            "the classifier is fitted on the private texts without noise, which no promise covers",
            "Give removal or substitution, or leave it out.",
        )
    },
    paper="arXiv:2310.02469",
)
@dataclass(frozen=True, kw_only=True)
class Classifier(Objective):
    """Texts are trained on as they are, and a classifier beside the model learns which tokens are personal."""

    def finish(self, model: Any, folder: Path, material: TrainingMaterial) -> dict[str, Any]:
        """Fit it and save it below ``folder``."""
        fitted = fit_classifier(model, material.tokenised.encoded, pad=material.pad)
        fitted.classifier.save(folder)
        return {"left_out_recall": fitted.recall, "left_out_precision": fitted.precision}


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenClassifier:
    """Logistic regression on the last hidden state.

    Args:
        weight: ``[D]`` float32.
        bias: a number.
        threshold: a token is flagged where its logit is above.
    """

    weight: torch.Tensor
    bias: float
    threshold: float = 0.0

    def flags(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[..., n]`` bool: which tokens are personal.

        Args:
            hidden: ``[..., n, D]``, the last hidden state at each token, which has seen it and those before it.
        """
        return hidden.float() @ self.weight.to(hidden.device) + self.bias > self.threshold

    def save(self, folder: str | Path) -> Path:
        """Write it below the model's folder; returns the file."""
        path = Path(folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {"weight": self.weight.contiguous(), "bias": torch.tensor([self.bias, self.threshold])}
        save_file(numbers, path)
        return path


def read_classifier(folder: str | Path) -> TokenClassifier:
    """Read what ``save`` wrote.

    Raises:
        BadInput: there is none, or it is broken.
    """
    path = Path(folder) / FILE
    try:
        with safe_open(path, framework="pt") as file:
            weight, (bias, threshold) = file.get_tensor("weight"), file.get_tensor("bias").tolist()
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInput(
            str(path), f"holds no token classifier ({error})", "Tune with --contextual classifier."
        ) from error
    return TokenClassifier(weight=weight, bias=bias, threshold=threshold)


def redact(
    classifier: TokenClassifier, hidden: torch.Tensor, token_id: Sequence[int], *, replacement: Sequence[int]
) -> list[int]:
    """The tokens with each run of flagged ones replaced.

    Args:
        classifier: of the model that ``hidden`` comes from.
        hidden: ``[n, D]``, see ``TokenClassifier.flags``.
        token_id: ``[n]``.
        replacement: token ids that stand for a run; may be empty.
    """
    validate.same_length(hidden=hidden, token_id=token_id)
    output: list[int] = []
    before = False
    for token, flagged in zip(token_id, classifier.flags(hidden).tolist(), strict=True):
        if not flagged:
            output.append(int(token))
        elif not before:
            output += replacement
        before = flagged
    return output


@torch.no_grad()
def hidden_states(model: Any, encoded: Sequence[EncodedRecord], *, pad: int = 0) -> list[torch.Tensor]:
    """The last hidden state at each token of each text: ``[n, D]`` float32 on the CPU. The model is left as it is."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    hidden: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        batch = {name: value.to(device) for name, value in collate([encoded[i] for i in part], pad=pad).items()}
        del batch["labels"]
        states = model(**batch, output_hidden_states=True, logits_to_keep=1).hidden_states[-1]
        states = states[:, states.shape[1] - batch["input_ids"].shape[1] :]  # virtual tokens stand in front
        for row, i in enumerate(part):
            hidden[i] = states[row, : len(encoded[i])].float().cpu()
    model.train(was_training)
    return [hidden[i] for i in range(len(encoded))]


def fit(hidden: torch.Tensor, personal: torch.Tensor) -> TokenClassifier:
    """Weighted logistic regression: both classes count alike, since few tokens are personal and missing one is worse.

    Args:
        hidden: ``[n, D]`` float32.
        personal: ``[n]`` bool.

    Raises:
        BadInput: tokens of one class only.
    """
    share = float(personal.float().mean()) if len(personal) else 0.0
    if not 0 < share < 1:
        raise BadInput(
            f"{int(personal.sum())} of {len(personal)} tokens in spans",
            "leave nothing to tell apart",
            "Mark spans (reticent prepare).",
        )
    mean, scale = hidden.mean(0), hidden.std(0).clamp(min=1e-6)
    standard = (hidden - mean) / scale
    balance = torch.where(personal, 0.5 / share, 0.5 / (1 - share))
    parameters = torch.zeros(hidden.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logit = standard @ parameters[:-1] + parameters[-1]
        value = F.binary_cross_entropy_with_logits(logit, personal.float(), weight=balance)
        value = value + _DECAY * parameters[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    weight = parameters.detach()[:-1] / scale
    return TokenClassifier(weight=weight, bias=float(parameters.detach()[-1] - (weight * mean).sum()))


@dataclass(frozen=True, kw_only=True)
class FittedClassifier:
    """A classifier, and how well one like it does on texts that it was not fitted on.

    Args:
        classifier: fitted on all texts.
        recall: share of the personal tokens of every fifth text that are flagged by one fitted on the others; None
            where those have none.
        precision: share of what that one flags that is personal; None where it flags nothing.
    """

    classifier: TokenClassifier
    recall: float | None
    precision: float | None


def fit_classifier(model: Any, encoded: Sequence[EncodedRecord], *, pad: int = 0) -> FittedClassifier:
    """Fit a classifier for the model on texts with ``marked``: all, or every so-manieth where they are long.

    Raises:
        BadInput: no token is marked, or all are.
    """
    encoded = encoded[:: max(1, math.ceil(sum(map(len, encoded)) / _MOST_TOKENS))]
    states = hidden_states(model, encoded, pad=pad)
    marked = [torch.from_numpy(np.asarray(record.marked, dtype=np.bool_)) for record in encoded]
    whole = fit(torch.cat(states), torch.cat(marked))
    apart = range(4, len(encoded), 5)
    rest = [i for i in range(len(encoded)) if i % 5 != 4]
    recall = precision = None
    rest_marked = torch.cat([marked[i] for i in rest])
    if len(apart) and rest_marked.any() and not rest_marked.all():
        other = fit(torch.cat([states[i] for i in rest]), rest_marked)
        flagged = other.flags(torch.cat([states[i] for i in apart]))
        personal = torch.cat([marked[i] for i in apart])
        right = int((flagged & personal).sum())
        recall = right / int(personal.sum()) if personal.any() else None
        precision = right / int(flagged.sum()) if flagged.any() else None
    return FittedClassifier(classifier=whole, recall=recall, precision=precision)
