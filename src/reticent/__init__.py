# SPDX-License-Identifier: Apache-2.0
"""Audit, protect and repair language models that were fine-tuned on private text.

The public names are in two tiers. Here are the verbs, which do what the command line does, and the types that go into
them and come out. Their parts are in modules: `reticent.attacks`, `reticent.data`, `reticent.monitor`,
`reticent.objectives`, `reticent.privacy`, `reticent.results`, `reticent.stats`, `reticent.testing` and
`reticent.unlearning`. What is in neither, nor in the ``__all__`` of something below these, may change without notice.

Examples:
    Made-up mails and a model with random weights, so that it takes seconds:

    >>> import reticent
    >>> base = str(reticent.testing.save_tiny("tiny"))
    >>> mails = reticent.data.help_desk(users=16, mails_per_user=4)

    Fine-tune on a part of them that coins decide, audit the outcome, hold it to a limit:

    >>> config = reticent.TuneConfig(epochs=1, max_tokens=32)
    >>> run = reticent.tune(mails, base=base, out="runs/first", tune_config=config)
    >>> results = reticent.audit(run, reticent.AuditConfig(attacks="loss"))
    >>> isinstance(results, reticent.Results), results.verdict.status
    (True, 'underpowered')
    >>> reticent.gate(results, max_auc=0.6).exit_code  # 2: what cannot be checked does not pass
    2

    Keep the results, compare two audits of the same coins, compare ways to tune:

    >>> reticent.write_results("kept.json", results)
    >>> reticent.read_results("kept.json") == results
    True
    >>> difference = reticent.diff("runs/first", "runs/first")
    >>> isinstance(difference, reticent.Difference), len(difference.more)
    (True, 0)
    >>> shared = reticent.TrialSettings(
    ...     base=base, split=reticent.SplitConfig(), canaries=reticent.CanaryConfig(), training=config,
    ...     monitor=reticent.MonitorConfig(monitor=True),
    ... )
    >>> grid = reticent.Grid(methods=(reticent.Method(method="head", learning_rates=(1e-3,)),), seeds=(0,))
    >>> comparison = reticent.compare(mails, grid=grid, shared=shared, out="runs/compared", jobs=1)
    >>> isinstance(comparison, reticent.Comparison), [setting.name for setting in comparison.settings]
    (True, ['head'])

    Take a person out of the model, and say how far that worked (here without models that are trained again):

    >>> request = reticent.ForgetRequest(forget_users="u0004")
    >>> quick = reticent.UnlearnConfig(method="npo", epochs=1, stop="epochs")
    >>> without = reticent.unlearn(run, out="runs/without", forget=request, config=quick)
    >>> results = reticent.verify(without, reticent.VerifyConfig(attacks="loss"), oracles=0)
    >>> isinstance(results, reticent.UnlearningResults), results.oracle
    (True, 'none')
    >>> reticent.gate_unlearning(results, max_forget_auc=0.9).exit_code
    2
    >>> tried = reticent.unlearn_by_each(run, out="runs/tried", forget=request, methods=("npo", "simnpo"), config=quick)
    >>> [row.name for row in tried.tried()]
    ['untouched', 'npo_seed0', 'simnpo_seed0']

    Look at a model before it is trusted; its files are read by rules, and nothing in them runs:

    >>> scanned = reticent.scan(base, only=["files"])
    >>> isinstance(scanned, reticent.ScanResults), scanned.verdict.headline
    (True, 'Nothing found by these scanners')

    Tune on the texts of many clients, each of which is promised privacy:

    >>> spec = reticent.FederationSpec(rounds=2, clients_per_round=3, local_steps=1, max_tokens=32)
    >>> privacy = reticent.ClientPrivacy(noise_multiplier=1.0)
    >>> records = reticent.RecordPrivacy(record_noise_multiplier=1.0)  # besides, by noise inside each client
    >>> both = reticent.FederationRecipe(federation=spec, privacy=privacy, record_privacy=records)
    >>> engine = reticent.EngineConfig(engine="local")  # "ray" runs Flower's simulation, where that is installed
    >>> federation = reticent.FederationRecipe(federation=spec, privacy=privacy, engine=engine)
    >>> run = reticent.federate(mails, base=base, out="runs/federated", recipe=federation)
    >>> run.federation.exists(), run.promise.exists()
    (True, True)
    >>> turns = reticent.ClientPrivacy(noise_multiplier=1.0, sampling="shuffled")
    >>> sums = reticent.SecureAggregation(secure_aggregation=True)  # the server sees sums only, noised by clients
    >>> federation = reticent.FederationRecipe(federation=spec, privacy=turns, secure=sums)

    Texts to tune on in place of the private ones, with a promise to each of those who wrote them:

    >>> spec = reticent.SynthesisSpec(
    ...     epsilon=8.0, unit="user", count=2, max_new_tokens=4, references=4, reference_tokens=16, long_texts="cut"
    ... )
    >>> recipe = reticent.SynthesisRecipe(synthesis=spec)
    >>> run = reticent.synthesize(mails, base=base, out="runs/synthetic", recipe=recipe)
    >>> run.synthetic.name
    'synthetic.jsonl'

    Say what such texts are worth, by real text that none was made from:

    >>> spec = reticent.SynthesisSpec(mechanism="none", count=12, max_new_tokens=8)
    >>> plain = reticent.SynthesisRecipe(synthesis=spec, training=config)
    >>> run = reticent.synthesize(mails, base=base, out="runs/plain", recipe=plain)
    >>> few = reticent.UtilitySpec(texts=8)
    >>> worth = reticent.text_utility([run.root], base=base, out="runs/worth", spec=few, training=config)
    >>> isinstance(worth, reticent.UtilityResults), [row.source for row in worth.rows]
    (True, ['untrained', 'real', 'synthetic', 'half'])

    A recipe of a training, with an objective besides the likelihood of the texts:

    >>> goldfish = reticent.HardenConfig(goldfish=4).objectives
    >>> recipe = reticent.TuneRecipe(training=config, objectives=goldfish)
    >>> isinstance(recipe.objectives[0], reticent.objectives.Objective)
    True

    Steer a large model by what a small one learned, without showing it the texts:

    >>> large = str(reticent.testing.save_tiny("large", seed=7))
    >>> info = reticent.emulate(large, "runs/first", out="emulated", config=reticent.EmulationConfig(beta=0.3))
    >>> isinstance(info, reticent.EmulationInfo), isinstance(info.large, reticent.EmulationPart)
    (True, True)
    >>> audited = reticent.audit("emulated", reticent.AuditConfig(attacks="loss"), out="runs/audited")
    >>> audited.provenance["models"]["emulation"]["beta"]
    0.3

    Prepare data, watch a training of your own, promise differential privacy:

    >>> prepared = reticent.prepare(mails, out="mails.parquet", scrub="surrogate", detectors="email,phone")
    >>> isinstance(prepared, reticent.PreparedData), len(prepared.records)
    (True, 64)
    >>> panel = reticent.make_panel(mails, reticent.split(mails, unit="record", seed=0), size=10)
    >>> monitor = reticent.Monitor(panel, reticent.testing.tiny_tokenizer())  # trainer.add_callback(monitor)
    >>> isinstance(monitor.panel, reticent.Panel)
    True
    >>> private = reticent.PrivacySpec(epsilon=8.0)
    >>> run = reticent.tune(mails, base=base, out="runs/private", tune_config=config, privacy=private)
    >>> promise = reticent.PrivacyGuarantee.from_json((run.model / "privacy.json").read_text(encoding="utf-8"))
    >>> promise.unit, promise.epsilon <= 8
    ('record', True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from reticent import attacks as attacks
    from reticent import data as data
    from reticent import monitor as monitor
    from reticent import objectives as objectives
    from reticent import privacy as privacy
    from reticent import results as results
    from reticent import stats as stats
    from reticent import testing as testing
    from reticent import unlearning as unlearning
    from reticent.attacks.attack import attack as attack
    from reticent.auditing.case import AuditCase as AuditCase
    from reticent.auditing.config import AuditConfig as AuditConfig
    from reticent.comparison.defences import Defence as Defence
    from reticent.comparison.grid import Grid as Grid
    from reticent.comparison.grid import Method as Method
    from reticent.comparison.grid import Trial as Trial
    from reticent.comparison.run import compare as compare
    from reticent.comparison.trial import TrialSettings as TrialSettings
    from reticent.core.comparison import Comparison as Comparison
    from reticent.core.difference import Difference as Difference
    from reticent.core.errors import BadInput as BadInput
    from reticent.core.errors import Underpowered as Underpowered
    from reticent.core.finding import Estimate as Estimate
    from reticent.core.finding import Finding as Finding
    from reticent.core.finding import Severity as Severity
    from reticent.core.finding import ThreatModel as ThreatModel
    from reticent.core.membership import Membership as Membership
    from reticent.core.record import Message as Message
    from reticent.core.record import Record as Record
    from reticent.core.record import Span as Span
    from reticent.core.results import Results as Results
    from reticent.core.run_folder import RunFolder as RunFolder
    from reticent.core.scan_results import ScanResults as ScanResults
    from reticent.core.secret import Secret as Secret
    from reticent.core.table import TokenTable as TokenTable
    from reticent.core.text_utility import UtilityResults as UtilityResults
    from reticent.core.unlearning import UnlearningResults as UnlearningResults
    from reticent.data.canaries.canary_config import CanaryConfig as CanaryConfig
    from reticent.data.read import Dataset as Dataset
    from reticent.data.read import read as read
    from reticent.data.split import split as split
    from reticent.data.split_config import SplitConfig as SplitConfig
    from reticent.federated.client_privacy import ClientPrivacy as ClientPrivacy
    from reticent.federated.engine_config import EngineConfig as EngineConfig
    from reticent.federated.federation_spec import FederationSpec as FederationSpec
    from reticent.federated.record_privacy import RecordPrivacy as RecordPrivacy
    from reticent.federated.secure.secure_spec import SecureAggregation as SecureAggregation
    from reticent.models.emulation import EmulationConfig as EmulationConfig
    from reticent.models.emulation import EmulationInfo as EmulationInfo
    from reticent.models.emulation import EmulationPart as EmulationPart
    from reticent.models.load import LoadedModel as LoadedModel
    from reticent.models.tuned import TuningInfo as TuningInfo
    from reticent.monitor.config import MonitorConfig as MonitorConfig
    from reticent.monitor.monitor import Monitor as Monitor
    from reticent.monitor.panel import Panel as Panel
    from reticent.monitor.panel import make_panel as make_panel
    from reticent.privacy.guarantee import PrivacyGuarantee as PrivacyGuarantee
    from reticent.privacy.spec import PrivacySpec as PrivacySpec
    from reticent.report.results_file import read_results as read_results
    from reticent.report.results_file import write_results as write_results
    from reticent.score.requests import Variant as Variant
    from reticent.synthesis.synthesis_spec import SynthesisSpec as SynthesisSpec
    from reticent.synthesis.usefulness.utility_spec import UtilitySpec as UtilitySpec
    from reticent.train.config import TuneConfig as TuneConfig
    from reticent.train.contextual import ContextualConfig as ContextualConfig
    from reticent.train.hardening import HardenConfig as HardenConfig
    from reticent.train.private.private_trainer import PrivateTrainerMixin as PrivateTrainerMixin
    from reticent.train.private.settings import PrivateSpeed as PrivateSpeed
    from reticent.train.private.step_log import open_key as open_key
    from reticent.unlearning.config import UnlearnConfig as UnlearnConfig
    from reticent.unlearning.request import ForgetRequest as ForgetRequest
    from reticent.unlearning.verification.config import VerifyConfig as VerifyConfig
    from reticent.workflows.audit import audit as audit
    from reticent.workflows.diff import diff as diff
    from reticent.workflows.emulate import emulate as emulate
    from reticent.workflows.federate import federate as federate
    from reticent.workflows.federation_recipe import FederationRecipe as FederationRecipe
    from reticent.workflows.gate import GateOutcome as GateOutcome
    from reticent.workflows.gate import gate as gate
    from reticent.workflows.prepare import PreparedData as PreparedData
    from reticent.workflows.prepare import prepare as prepare
    from reticent.workflows.recipe import TuneRecipe as TuneRecipe
    from reticent.workflows.scan import scan as scan
    from reticent.workflows.synthesis_recipe import SynthesisRecipe as SynthesisRecipe
    from reticent.workflows.synthesis_utility import text_utility as text_utility
    from reticent.workflows.synthesize import synthesize as synthesize
    from reticent.workflows.tune import tune as tune
    from reticent.workflows.unlearn import unlearn as unlearn
    from reticent.workflows.unlearn_methods import unlearn_by_each as unlearn_by_each
    from reticent.workflows.unlearning_gate import gate_unlearning as gate_unlearning
    from reticent.workflows.verify import verify as verify

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
