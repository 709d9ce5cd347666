# SPDX-License-Identifier: Apache-2.0
"""Training objectives of your own: a frozen dataclass that says what it alters, and overrides the hooks that it needs.

Examples:
    An objective that trains on every other token; `tune --objectives every_second_token` asks for it:

    >>> from dataclasses import dataclass, replace
    >>> import numpy as np
    >>> from reticent.objectives import *
    >>> @objective("every_second_token", alters={"corpus.tokens"}, private="whole texts")
    ... @dataclass(frozen=True, kw_only=True)
    ... class EverySecondToken(Objective):
    ...     '''Every second token is context only.'''
    ...
    ...     def corpus(self, corpus: Corpus) -> Corpus:
    ...         rows = [
    ...             replace(row, trained=row.trained & (np.arange(len(row)) % 2 == 0)) for row in corpus.encoded
    ...         ]
    ...         return replace(corpus, encoded=rows)
    >>> EverySecondToken.about.name, isinstance(EverySecondToken.about, Declaration), EverySecondToken().given
    ('every_second_token', True, 'every_second_token')

    One with a loss of its own gives a class of trainer, made from the material of the training:

    >>> [name for name in ("trainer", "finish") if EverySecondToken().has(name)], TrainingMaterial.__name__
    ([], 'TrainingMaterial')
    >>> issubclass(TuneTrainer, object)
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.train.batches import Corpus as Corpus
    from reticent.train.loop import TuneTrainer as TuneTrainer
    from reticent.train.objectives.material import TrainingMaterial as TrainingMaterial
    from reticent.train.objectives.objective import Declaration as Declaration
    from reticent.train.objectives.objective import Objective as Objective
    from reticent.train.objectives.objective import objective as objective

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
