# SPDX-License-Identifier: Apache-2.0
"""Looking at a fixed panel of records while the model trains: what it learns, what it memorizes, and when to stop.

Examples:
    Watch a training of `reticent.tune`, or give a `Monitor` to a Trainer of your own:

    >>> import reticent
    >>> from reticent.monitor import *
    >>> base = str(reticent.testing.save_tiny("tiny"))
    >>> mails = reticent.data.help_desk(users=60, mails_per_user=4)
    >>> run = reticent.tune(
    ...     mails, base=base, out="runs/watched", tune_config=reticent.TuneConfig(epochs=1, max_tokens=32),
    ...     split_config=reticent.SplitConfig(split_unit="record"),
    ...     monitor=MonitorConfig(monitor=True, monitor_panel=60, monitor_every=4, risk_list=True),
    ... )

    Or over the data of a Trainer, which logs what was seen:

    >>> from types import SimpleNamespace
    >>> trainer = SimpleNamespace(  # stands in for a transformers.Trainer or trl.SFTTrainer
    ...     train_dataset=[{"text": mail.text} for mail in mails[:40]],
    ...     eval_dataset=[{"text": mail.text} for mail in mails[40:80]],
    ...     processing_class=reticent.testing.tiny_tokenizer(), add_callback=lambda callback: None,
    ...     log=lambda numbers: None,
    ... )
    >>> isinstance(monitor_trainer(trainer, size=20), Monitor)
    True

    When it was memorized, and how much:

    >>> profile = profile_of("runs/watched/panel.parquet")
    >>> isinstance(profile, Profile), isinstance(profile.instantaneous, Effect), isinstance(profile.placebo, Placebo)
    (True, True, True)
    >>> isinstance(profile.cohorts[0], Cohort), isinstance(profile.cohorts[0].after[0], Tau)
    (True, True)

    Who is likely to be memorized, and how good that list was:

    >>> risks = read_risks("runs/watched/risk.jsonl")
    >>> isinstance(risks[0], RecordRisk)
    True
    >>> from transformers import AutoModelForCausalLM, AutoTokenizer
    >>> tuned = AutoModelForCausalLM.from_pretrained("runs/watched/model")
    >>> tokenizer = AutoTokenizer.from_pretrained("runs/watched/model")
    >>> final = losses(tuned, tokenizer, reticent.data.read_records("runs/watched/records.parquet"), max_tokens=32)
    >>> quality = foresight(risks, falls(risks, final))
    >>> isinstance(quality["risk"], RiskQuality)
    True
    >>> risk_list = RiskList(records=mails, tokenizer=tokenizer, path="risk.jsonl")  # trainer.add_callback(risk_list)

    What one look and all looks of a training hold:

    >>> from reticent import Estimate
    >>> loss = Estimate(value=3.1, lo=3.0, hi=3.2, n=400, method="mean", unit="nats")
    >>> means = {"held_out_loss": loss, "member_loss": loss, "gap": loss}
    >>> start = Snapshot(step=0, epoch=0.0, **means, tpr_at_10pct_fpr=None, auc=None)
    >>> history = TrainingHistory(
    ...     moments=(start,), members=10, held_out=10, users=0, training_seconds=60.0, watching_seconds=3.0
    ... )
    >>> history.best.step, history.overhead
    (0, 0.05)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.core.snapshot import Snapshot as Snapshot
    from reticent.core.snapshot import TrainingHistory as TrainingHistory
    from reticent.models.encode import EncodedRecord as EncodedRecord
    from reticent.monitor.config import MonitorConfig as MonitorConfig
    from reticent.monitor.monitor import Monitor as Monitor
    from reticent.monitor.of_trainer import monitor_trainer as monitor_trainer
    from reticent.monitor.panel import Panel as Panel
    from reticent.monitor.panel import make_panel as make_panel
    from reticent.monitor.profile import profile_of as profile_of
    from reticent.monitor.risk_list import RecordRisk as RecordRisk
    from reticent.monitor.risk_list import RiskList as RiskList
    from reticent.monitor.risk_list import falls as falls
    from reticent.monitor.risk_list import foresight as foresight
    from reticent.monitor.risk_list import losses as losses
    from reticent.monitor.risk_list import read_risks as read_risks
    from reticent.stats.difference_in_differences import Cohort as Cohort
    from reticent.stats.difference_in_differences import Effect as Effect
    from reticent.stats.difference_in_differences import Placebo as Placebo
    from reticent.stats.difference_in_differences import Profile as Profile
    from reticent.stats.difference_in_differences import Tau as Tau
    from reticent.stats.risk import RiskQuality as RiskQuality

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
