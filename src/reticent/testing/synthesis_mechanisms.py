# SPDX-License-Identifier: Apache-2.0
"""Conformance of mechanisms that make synthetic text: as many texts as are asked for, the same by the same key, and
after a crash, nothing spent twice, and a promise that keeps to what was asked for."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.load import LoadedModel
from reticent.privacy import accounting
from reticent.privacy.guarantee import DONE, PrivacyGuarantee
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.spec import PrivacySpec
from reticent.synthesis.step_store import StepStore
from reticent.synthesis.synthesis_mechanism import (
    SynthesisMaterial,
    SynthesisMechanism,
    SynthesisOutcome,
    SynthesisTools,
)
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.testing.tiny import tiny_model, tiny_tokenizer

KEY, OTHER_KEY = (hashlib.sha256(name).digest() for name in (b"a key for texts", b"another"))
RECORDS = tuple(
    Record(id=f"r{number}", text=f"order {number} of the tea is {number % 7} on", user=f"u{number // 2}")
    for number in range(64)
)
SPEC = SynthesisSpec(count=9, references=3, max_new_tokens=5, rounds=2, variants=2, top_k=50, reference_tokens=40)
STEPS = 20
"""Of the made-up training."""


class Crash(BaseException):
    """The process died."""


class DyingStore(StepStore):
    """A store of which the process dies after a step was spent, and before its texts are written."""

    dies_after: int | None = None

    def step(self, number: int, make: Callable[[], Sequence[str]]) -> list[str]:
        texts = super().step(number, make)
        if number == self.dies_after:
            self._file(number).unlink()
            raise Crash
        return texts


def made_up(
    mechanism: SynthesisMechanism,
    folder: Path,
    *,
    spec: SynthesisSpec,
    key: bytes = KEY,
    dies_after: int | None = None,
    records: Sequence[Record] = RECORDS,
) -> SynthesisOutcome:
    """Texts of tiny models by ``mechanism``; where it tunes one, a made-up training stands in for it.

    Args:
        mechanism: of the registry.
        folder: for its ledger.
        spec: settings.
        key: secret.
        dies_after: the step after which the process dies.
        records: private.

    Raises:
        Crash: it died.
    """
    plan = mechanism.settle(SynthesisMaterial(records=records, spec=spec, key=key))
    store = DyingStore(folder, plan.about, key=key, steps=plan.steps)
    store.dies_after = dies_after
    loaded = LoadedModel(model=tiny_model(seed=1), tokenizer=tiny_tokenizer(), source="tiny", fingerprint="0")

    def tune(privacy: PrivacySpec, trained: Sequence[Record]) -> tuple[Path, PrivacyGuarantee | None]:
        return folder, made_up_guarantee(privacy, plan.units) if privacy.is_private else None

    return plan.write(SynthesisTools(load=lambda: loaded, store=store, tune=tune, load_tuned=lambda place: loaded))


def made_up_guarantee(privacy: PrivacySpec, units: int) -> PrivacyGuarantee:
    """The guarantee of a training that keeps what ``privacy`` asks for."""
    assert privacy.epsilon is not None
    assert privacy.delta is not None
    step = Mechanism(noise_multiplier=1.0, rate=0.25, relation=privacy.relation)
    noise = accounting.calibrate(step, steps=STEPS, epsilon=privacy.epsilon, delta=privacy.delta)
    step = Mechanism(noise_multiplier=noise, rate=0.25, relation=privacy.relation)
    cost = accounting.spent(step, steps=STEPS, delta=privacy.delta)
    return PrivacyGuarantee(
        epsilon=cost.epsilon,
        check=cost.check,
        delta=privacy.delta,
        unit=privacy.unit,
        relation=privacy.relation,
        neighbouring=f"{DONE[privacy.relation]} one {privacy.unit}",
        mechanism="Gaussian mechanism on clipped gradients",
        accountant="PLD accountant",
        noise_multiplier=noise,
        rate=0.25,
        steps=STEPS,
        units=units,
    )


def check_synthesis_mechanism(mechanism: SynthesisMechanism) -> None:
    """Hold a mechanism to the rules of its kind.

    Raises:
        AssertionError: names the rule that it breaks.
    """
    assert mechanism.summary.endswith("."), "the docstring begins with a whole sentence"
    assert mechanism.private, "it says where chance or noise protects"
    for unit in mechanism.units or ("record",):
        _check_unit(mechanism, unit)
    _check_refusals(mechanism)


def _check_unit(mechanism: SynthesisMechanism, unit: str) -> None:
    spec = _spec(mechanism, unit)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("whole", "killed", "other")]
        for folder in folders:
            folder.mkdir()
        outcome = made_up(mechanism, folders[0], spec=spec)
        assert len(outcome.texts) == spec.count, f"gives {len(outcome.texts)} texts of {spec.count}"
        _check_promise(mechanism, outcome, spec)
        assert outcome.releases, "it says what left the private data"
        try:
            made_up(mechanism, folders[1], spec=spec, dies_after=0)
        except Crash:
            pass
        else:
            raise AssertionError("nothing goes through the store")
        again = made_up(mechanism, folders[1], spec=spec)
        assert again.texts == outcome.texts, "goes on to other texts after a crash"
        ledgers = [(folder / "spent.jsonl").read_bytes() for folder in folders[:2]]
        assert ledgers[0] == ledgers[1], "spends otherwise after a crash"
        other = made_up(mechanism, folders[2], spec=spec, key=OTHER_KEY)
        assert other.texts != outcome.texts, "its texts do not follow from the key"


def _spec(mechanism: SynthesisMechanism, unit: str) -> SynthesisSpec:
    promise = {"epsilon": 6.0, "unit": unit} if mechanism.promises else {}
    settings = {name: getattr(SPEC, name) for name in SPEC.__dataclass_fields__}
    return SynthesisSpec(**{**settings, **promise, "mechanism": mechanism.name})


def _check_promise(mechanism: SynthesisMechanism, outcome: SynthesisOutcome, spec: SynthesisSpec) -> None:
    promise = outcome.promise
    if not mechanism.promises:
        assert promise is None, "promises, and says that it does not"
        return
    assert promise is not None, "has units and no promise"
    assert spec.epsilon is not None
    assert 0.9 * spec.epsilon <= promise.epsilon <= spec.epsilon, f"ε = {promise.epsilon} for {spec.epsilon}"
    sentence = promise.sentence()
    for part in (f"per {spec.unit}", "at δ =", DONE[spec.relation], f"N = {promise.units}"):
        assert part in sentence, f"the promise does not say {part!r}"
    assert all(check.passed is not False for check in outcome.checks), "a check failed and nothing was raised"


def _check_refusals(mechanism: SynthesisMechanism) -> None:
    wrong = SynthesisSpec(epsilon=None if mechanism.promises else 8.0)
    try:
        mechanism.check(wrong)
    except BadInput:
        return
    raise AssertionError("takes no ε where it promises, or one where it does not")
