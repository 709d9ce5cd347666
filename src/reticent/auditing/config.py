# SPDX-License-Identifier: Apache-2.0
"""AuditConfig: every choice of an audit. Imports no torch, so that `reticent audit --help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.memory_size import memory_by_device

if TYPE_CHECKING:
    from reticent.attacks.selection import AttackSelection

DTYPES = ("auto", "float32", "bfloat16", "float16")
LEAST_SHADOWS, MOST_SHADOWS = 4, 998


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """How to audit.

    Args:
        attacks: "standard" (one pass per model and one in lower case), "all", or names separated by commas, with
            parameters in brackets: "standard,min_k(k=0.1)", or {"min_k": {"k": 0.1}, "wbc": {}}. Names choose among
            the membership attacks; those of extraction run all, and are named to set their parameters. `reticent
            attacks` lists names, parameters and defaults.
        primary: the attack whose AUC gets most of the error at each level, so it is the likeliest to be found to leak:
            name it before scores are seen. By default the strongest in general use that can run.
        confidence: of everything that the report claims together: with 0.95, a model that gives nothing away is said to
            leak in 5 % of audits at most.
        delta: of the lower bounds on epsilon.
        show_text: put private texts into the report.
        whitebox: look inside the model too: train auditors on hidden states and gradients of half the records and
            judge them on the other half. One more pass of each model and a backward pass; "auto" computes in float32.
        extraction: let both models write, and see what comes out word for word: planted secrets, personal data, whole
            records. Minutes on a CPU.
        extraction_samples: sampled texts after each secret's prefix; the more, the rarer the slips that are seen.
        written_samples: texts that each model writes after the first half of each record, for attacks that see nothing
            but text (ngram_coverage); the more, the stronger and the slower.
        identifiers: rank every identifier (phone, card, account and other numbers, keys, digests) of the records among
            99 controls of the same form: an exact test that needs no held-out records. Minutes on a CPU.
        shadow: train this many more models as the audited run was, each on coins of its own over the same records, and
            attack with what they say of each record (lira, lira_offline, rmia_shadow, rmia_shadow_offline). Costs so
            many trainings and scoring passes; an even number from 4 on, 8 is a start. Only for a run folder without a
            privacy promise. They are kept in RUN/shadows and go on where they were; they never leave.
        keep_shadows: keep the weights of shadow models too, not only their statistics of each record.
        dtype: of the weights while scoring; "auto" takes bfloat16 where the machine computes in it.
        device: "auto" takes the GPU where there is one; "cuda" is the process's own.
        device_map: for a model that fits on no one device: "auto" or "balanced" fill the GPUs and then the host's
            memory; or a JSON file of modules, each with a GPU's number, "cpu" or "disk". Changes no score.
        max_memory: what device_map may take, such as 0=20GiB,cpu=60GiB; by default nine tenths of what is free.
        offload_folder: a folder for weights that lie on disk; without one none do.
        one_at_a_time: target and reference in turn, where both do not fit: the weights of the one that is not asked
            leave the memory, and are read again.
        seed: of the bootstrap and of cross-fitting.
        synthetic: a file of synthetic text that was made from the records: what it gives away by itself is audited, and
            no model is loaded. With the run folder of `reticent synthesize` beside it, records, coins and promise are
            found there.
        auxiliary: also tune this public model on the synthetic text, and audit what comes of it for the records that
            the text was made from, by all that the other flags ask for. Costs a training, which goes on where it was.
        more_families: further audit families, by names separated by commas: those that have no switch here.

    Examples:
        >>> AuditConfig(attacks="loss,min_k", extraction=True).confidence
        0.95
        >>> AuditConfig(shadow=3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: shadow=3: is no even number from 4 to 998: ...
    """

    attacks: str | dict[str, Any] = "standard"
    primary: str = ""
    confidence: float = 0.95
    delta: float = 1e-5
    show_text: bool = False
    whitebox: bool = False
    extraction: bool = False
    extraction_samples: int = 8
    written_samples: int = 4
    identifiers: bool = False
    shadow: int = 0
    keep_shadows: bool = False
    dtype: str = "auto"
    device: str = "auto"
    device_map: str = ""
    max_memory: str = ""
    offload_folder: str = ""
    one_at_a_time: bool = False
    seed: int = 0
    synthetic: str = ""
    auxiliary: str = ""
    more_families: str = ""

    def __post_init__(self) -> None:
        validate.in_range(0.5, 0.9999, confidence=self.confidence)
        validate.in_range(0, 0.1, delta=self.delta)
        validate.positive(extraction_samples=self.extraction_samples, written_samples=self.written_samples)
        validate.at_most(100_000, extraction_samples=self.extraction_samples, written_samples=self.written_samples)
        validate.seed(seed=self.seed)
        if self.shadow and not (LEAST_SHADOWS <= self.shadow <= MOST_SHADOWS and self.shadow % 2 == 0):
            raise BadInput(
                f"shadow={self.shadow!r}",
                f"is no even number from {LEAST_SHADOWS} to {MOST_SHADOWS}: each record is in one half of the models, "
                "and a spread takes two of a side",
                "Give --shadow 8 (0 trains none).",
            )
        if self.keep_shadows and not self.shadow:
            raise BadInput("keep_shadows", "there are no shadow models to keep", "Give --shadow 8, or leave it out.")
        if self.auxiliary and not self.synthetic:
            raise BadInput(
                f"--auxiliary {self.auxiliary}",
                "there is no synthetic text that it could be tuned on",
                "Give the text (--synthetic FILE), or leave it out.",
            )
        validate.device(device=self.device)
        validate.one_of(DTYPES, dtype=self.dtype)
        self._check_places()
        if self.attacks not in ("standard", "all"):  # these need no look at the registry, and most settings are these
            self.selection.refuse_switched_off(self)

    def _check_places(self) -> None:
        """Refuse what does not go with models that do not fit."""
        memory_by_device(self.max_memory)
        for name in ("max_memory", "offload_folder"):
            if getattr(self, name) and not self.device_map:
                raise BadInput(
                    f"--{name} {getattr(self, name)}",
                    "there is no device map that it goes with",
                    "Add --device_map auto.",
                )
        given = "--device_map" if self.device_map else "--one_at_a_time" if self.one_at_a_time else ""
        if self.device_map and self.one_at_a_time:
            raise BadInput(
                "--device_map with --one_at_a_time",
                "weights that leave the memory in turn lie on one device",
                "Give one of them.",
            )
        if self.device_map and self.device != "auto":
            raise BadInput(
                f"--device {self.device} with --device_map", "both say where the model lies", "Leave --device out."
            )
        others = {
            "whitebox": "goes back through a model's layers and compares its weights, which have to be in memory",
            "shadow": "trains models, which have to fit on one device",
            "auxiliary": "trains a model, which has to fit on one device",
            "synthetic": "asks no model",
        }
        other = next((name for name in others if getattr(self, name)), None)
        if given and other is not None:
            raise BadInput(f"{given} with --{other}", f"--{other} {others[other]}", "Leave one of them out.")

    @property
    def selection(self) -> AttackSelection:
        """``attacks``, read: the names, each with its parameters.

        Examples:
            >>> AuditConfig(attacks="loss,min_k(k=0.1)").selection.named
            {'loss': {}, 'min_k': {'k': 0.1}}
        """
        from reticent.attacks.selection import read_selection  # here: `--help` does without tables

        return read_selection(self.attacks)

    @property
    def family_names(self) -> tuple[str, ...]:
        """The names in ``more_families``."""
        return tuple(name.strip() for name in self.more_families.split(",") if name.strip())

    @property
    def of_text_alone(self) -> bool:
        """True where synthetic text is audited and no model is asked."""
        return bool(self.synthetic) and not self.auxiliary

    @property
    def without_places(self) -> AuditConfig:
        """The same for files that travel: of the synthetic text, the model to tune, the device map and the folder for
        weights only the names."""
        return replace(
            self,
            synthetic=Path(self.synthetic).name,
            auxiliary=Path(self.auxiliary).name,
            device_map=Path(self.device_map).name,
            offload_folder=Path(self.offload_folder).name,
        )

    @property
    def scoring_dtype(self) -> str:
        """Of the weights while scoring: updates, which a look inside compares, are small differences."""
        return "float32" if self.whitebox and self.dtype == "auto" else self.dtype
