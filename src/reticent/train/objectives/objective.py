# SPDX-License-Identifier: Apache-2.0
"""A training objective: a frozen dataclass of settings with hooks, and a declaration of what it alters.

    @objective("goldfish", alters={"corpus.tokens"}, private="whole texts", paper="arXiv:2406.10209")
    @dataclass(frozen=True, kw_only=True)
    class Goldfish(Objective):
        k: int = 4

        def corpus(self, corpus: Corpus) -> Corpus:
            ...

A file in this folder is found by itself; ``--objectives "goldfish(k=4)"`` asks for it. The hooks, in the order in which
a training comes to them, and the part that an objective must declare to have one:

================  ==================  ==================================================================================
hook              part                what it does
================  ==================  ==================================================================================
``before_coins``  ``corpus.records``  leaves records out, before coins are thrown
``settle``        ``model``           changes the `TuneConfig`
``arguments``     ``gradient.batch``  further settings of Hugging Face's ``TrainingArguments``
``texts``         ``corpus.texts``    writes other texts, one for each record, in their order
``corpus``        ``corpus.tokens``   changes what is trained on of the tokenised texts
``token_loss``    ``loss.token``      the loss of each token, from its logits
``record_loss``   ``loss.record``     what becomes of the mean loss of each record
``trainer``       ``loss``            trains in its own way: a loss of the whole batch, another step, further texts
``finish``        none                makes something beside the saved model, and says what for the log
================  ==================  ==================================================================================

A part contains those behind its dot: who alters ``loss`` alters ``loss.token``. Two objectives of which one alters what
the other does are refused together (`refusals.refuse_pairs`), so the order in which they are given never matters. No
torch here, so that command lines can show their help at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.registry import Registry
from reticent.data.stability import OF as DECLARED_STEPS
from reticent.train.config import TuneConfig

if TYPE_CHECKING:
    import torch

    from reticent.data.dedup import DroppedRecord
    from reticent.train.batches import Corpus
    from reticent.train.loop import TuneTrainer
    from reticent.train.objectives.material import TrainingMaterial

Private = Literal["never", "whole texts", "always"]
Spans = Literal["", "records", "tokens"]

PARTS: Mapping[str, str] = {
    "corpus": "what is trained on",
    "corpus.records": "which records are trained on",
    "corpus.texts": "the texts that are trained on",
    "corpus.tokens": "which tokens of a text are trained on",
    "model": "the model that is trained",
    "loss": "the loss",
    "loss.token": "the loss of each token",
    "loss.record": "the loss of each record",
    "gradient": "the gradient",
    "gradient.record": "the gradient of each record",
    "gradient.batch": "the gradient of a batch",
}
"""The parts of a training that an objective can alter, as a refusal says it."""

HOOKS: Mapping[str, str] = {
    "before_coins": "corpus.records",
    "settle": "model",
    "arguments": "gradient.batch",
    "texts": "corpus.texts",
    "corpus": "corpus.tokens",
    "token_loss": "loss.token",
    "record_loss": "loss.record",
    "trainer": "loss",
    "finish": "",
}
"""Each hook, and the part that has to be declared for it."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """An objective's account of itself. See `objective` for the arguments."""

    name: str
    alters: frozenset[str]
    private: Private
    watched: bool
    spans: Spans
    record_sets: frozenset[str]
    flag: str
    why: Mapping[str, tuple[str, str]]
    paper: str


class Objective:
    """The hooks that do nothing; an objective overrides those that it needs."""

    about: ClassVar[Declaration]

    @property
    def name(self) -> str:
        """As it is registered."""
        return self.about.name

    @property
    def settings(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)  # type: ignore[call-overload]

    @property
    def given(self) -> str:
        """As a person asks for it, for messages: ``goldfish=4``, ``npo(beta=0.1)``."""
        if self.about.flag:
            return self.about.flag.format(**self.settings)
        inner = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.name}({inner})" if inner else self.name

    def has(self, hook: str) -> bool:
        """Does it override that hook?"""
        return getattr(type(self), hook) is not getattr(Objective, hook)

    def before_coins(self, records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[DroppedRecord]]:
        """The records that are left, and those that are not. Whether one is may depend on records of its user only."""
        return records, ()

    def settle(self, config: TuneConfig) -> TuneConfig:
        """The settings that are trained with. Called again with its own outcome it changes nothing."""
        return config

    def arguments(self) -> dict[str, Any]:
        """Fields of ``TrainingArguments`` with the values that they get."""
        return {}

    def texts(self, records: Sequence[Record]) -> Sequence[Record]:
        """``[len(records)]``, in the same order."""
        return records

    def corpus(self, corpus: Corpus) -> Corpus:
        """The tokenised texts that are trained on, in the same order. Those of which no token is to be predicted are
        left out afterwards.
        Where it may run in private training, each text is changed by itself alone."""
        return corpus

    def token_loss(self, logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
        """``[n]`` float32 (nats), from logits ``[n, V]`` and the tokens ``[n]`` that they predict."""
        raise NotImplementedError

    def record_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """``[B]``, from the mean loss of each record (nats a token)."""
        raise NotImplementedError

    def trainer(self, material: TrainingMaterial) -> Callable[..., TuneTrainer]:
        """A maker of the trainer, called like ``TuneTrainer``."""
        raise NotImplementedError

    def finish(self, model: Any, folder: Path, material: TrainingMaterial) -> dict[str, Any]:
        """Make what lies beside the model in ``folder``; returns what the log says of it."""
        return {}


Class = TypeVar("Class", bound=type[Objective])
OBJECTIVES: Registry[type[Objective]] = Registry("objective", "reticent.train.objectives")


def objective(
    name: str,
    *,
    alters: frozenset[str] | set[str] = frozenset(),
    private: Private = "never",
    watched: bool = True,
    spans: Spans = "",
    record_sets: frozenset[str] | set[str] = frozenset(),
    flag: str = "",
    why: Mapping[str, tuple[str, str]] | None = None,
    paper: str = "",
) -> Callable[[Class], Class]:
    """Register an objective: a frozen dataclass that is an `Objective`.

    Args:
        name: as the field names it.
        alters: of ``PARTS``, what it changes of an ordinary training.
        private: under which promise of differential privacy it may run: ``"never"``; where whole texts are protected;
            or ``"always"``, which means that it changes each text by itself alone and neither loss nor gradient.
        watched: the monitor looks at the texts that are trained on.
        spans: what it needs of marked spans: ``"records"`` have to have some, ``"tokens"`` have to be marked too.
        record_sets: names of further sets of records that it needs, such as ``"forget"``; they come tokenised in
            ``TrainingMaterial.record_sets``.
        flag: how its own flag asks for it, with its fields in braces: ``goldfish={k!r}``; empty where it has none.
        why: reason and fix of a refusal, for a setting of the training in which it cannot run
            (`refusals.settings_of`).
        paper: where it was published.

    Raises:
        ValueError: a hook whose part is not declared, a part that there is not, an objective that does nothing, or one
            that would run in private training and alters loss or gradient, makes something beside the model, or leaves
            out records by a rule whose stability is not declared.
    """

    def register(cls: Class) -> Class:
        hooks = [hook for hook in HOOKS if getattr(cls, hook) is not getattr(Objective, hook)]
        undeclared = [hook for hook in hooks if HOOKS[hook] and not any(covers(part, HOOKS[hook]) for part in alters)]
        if undeclared or not hooks or not set(alters) <= set(PARTS):
            raise ValueError(f"objective {name!r}: hooks {hooks} do not fit what it alters, {sorted(alters)}")
        if private != "never" and any(part.partition(".")[0] in ("loss", "gradient") for part in alters):
            raise ValueError(f"objective {name!r}: alters loss or gradient, which private training makes itself")
        if "finish" in hooks and private != "never":
            raise ValueError(f"objective {name!r}: what it makes beside the model is covered by no promise")
        if "before_coins" in hooks and private != "never" and name not in DECLARED_STEPS:
            raise ValueError(f"objective {name!r}: leaves records out, so data.stability has to say what that changes")
        cls.about = Declaration(
            name=name,
            alters=frozenset(alters),
            private=private,
            watched=watched,
            spans=spans,
            record_sets=frozenset(record_sets),
            flag=flag,
            why=dict(why or {}),
            paper=paper,
        )
        OBJECTIVES.add(name, cls)
        return cls

    return register


def make_objective(name: str, settings: Mapping[str, Any] | None = None) -> Objective:
    """The objective of that name with those settings.

    Raises:
        BadInput: there is none of that name, or it has no such setting, or not with such a value.
    """
    cls = OBJECTIVES.get(name)
    usual = {item.name: item.default for item in fields(cls)}  # type: ignore[arg-type]
    for key, value in (settings or {}).items():
        if key not in usual:
            names = ", ".join(usual) or "none"
            raise BadInput(f"objective {name}: {key!r}", "is no setting of it", f"It has: {names}.")
        if not _fits(value, usual[key]):
            raise BadInput(f"objective {name}: {key}={value!r}", "is of the wrong kind", f"Usual: {usual[key]!r}.")
    return cls(**(settings or {}))


def _fits(value: Any, usual: Any) -> bool:
    """Is a value of the kind of the default?"""
    if isinstance(usual, bool) or isinstance(value, bool):
        return isinstance(usual, bool) and isinstance(value, bool)
    if isinstance(usual, float):
        return isinstance(value, int | float)
    return isinstance(value, type(usual))


def covers(part: str, inner: str) -> bool:
    """Is ``inner`` that part, or a part of it?

    >>> covers("loss", "loss.token"), covers("loss.token", "loss")
    (True, False)
    """
    return part == inner or inner.startswith(f"{part}.")
