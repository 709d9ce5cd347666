# SPDX-License-Identifier: Apache-2.0
"""All that a fine-tuning is asked for beyond its data and its base, and how a run folder keeps it. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reticent.core.processes import place
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.data.stability import refuse_unstable
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.train.config import TuneConfig, check_batch, check_strategy
from reticent.train.contextual import ContextualConfig
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.as_text import on_record
from reticent.train.objectives.objective import Objective
from reticent.train.objectives.refusals import refuse_pairs, settings_of
from reticent.workflows.training_rows import promised_unit


@dataclass(frozen=True, kw_only=True)
class TuneRecipe:
    """How a run is made; what is left out is at its default.

    Args:
        split: who is trained on, by coin.
        canaries: secrets that are planted.
        training: method, epochs, learning rate.
        privacy: the promise of differential privacy.
        objectives: what is trained on and minimised in place of the texts and their cross-entropy; two that alter the
            same are refused (`train.objectives`).
        monitor: what is looked at while the model trains.

    Examples:
        >>> TuneRecipe(training=TuneConfig(epochs=1)).split.split_unit
        'auto'
    """

    split: SplitConfig = field(default_factory=SplitConfig)
    canaries: CanaryConfig = field(default_factory=CanaryConfig)
    training: TuneConfig = field(default_factory=TuneConfig)
    privacy: PrivacySpec = field(default_factory=PrivacySpec)
    objectives: tuple[Objective, ...] = ()
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    @property
    def settled(self) -> TuneConfig:
        """``training`` as the objectives change it.

        Raises:
            BadInput: one cannot be used with this method.
        """
        training = self.training
        for chosen in self.objectives:
            training = chosen.settle(training)
        return training

    def check(self) -> None:
        """Refuse what contradicts itself, before anything is written.

        Raises:
            BadInput: see `refuse_pairs` and `refuse_unstable`.
        """
        processes = place().size
        copies = f"canary_repetitions={self.canaries.canary_repetitions!r}"
        repeated = self.canaries.canaries and self.canaries.tiers(private=True) != (1,)
        settings = settings_of(
            self.privacy,
            watched=self.monitor.is_on,
            copies=copies if repeated else "",
            shards=self.training.shards,
            processes=processes,
            strategy=self.training.strategy,
        )
        refuse_pairs(self.objectives, settings)
        check_strategy(self.training, processes)
        batch = self.settled.batch_size
        if not self.privacy.is_private:  # there units are drawn one by one, so steps differ in size anyway
            check_batch(batch, processes)
        flags = (HardenConfig.of(self.objectives), ContextualConfig.of(self.objectives))
        refuse_unstable(promised_unit(self.privacy), self.split, self.canaries, *flags)

    @property
    def on_record(self) -> dict[str, Any]:
        """For the run folder; what is off is left out."""
        training = replace(self.training, resume=True).on_record  # the same training, begun anew or not
        parts = {"split": asdict(self.split), "canaries": asdict(self.canaries), "training": training}
        parts |= {"privacy": asdict(self.privacy)} if self.privacy.is_private else {}
        parts |= on_record(self.objectives)
        parts |= {"monitor": asdict(self.monitor)} if self.monitor.is_on else {}
        return parts
