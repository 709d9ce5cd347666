# SPDX-License-Identifier: Apache-2.0
"""PrivacySpec: what is refused, what is filled in, and that its fields cost no heavy import."""

import hashlib
import subprocess
import sys

import pytest

from reticent.core.errors import BadInput
from reticent.privacy.plan import calibrate, default_delta, make_plan
from reticent.privacy.sampling import Population
from reticent.privacy.spec import PrivacySpec


def population(users=10, each=5):
    count = users * each
    return Population(users=tuple(f"u{i % users}" for i in range(count)), lengths=(7,) * count, max_tokens=16)


def test_nothing_given_promises_nothing():
    assert not PrivacySpec().is_private
    assert PrivacySpec(epsilon=8).is_private
    assert PrivacySpec(noise_multiplier=1.0).is_private
    with pytest.raises(BadInput, match="promises nothing"):
        calibrate(PrivacySpec(), population(), batch_size=5, steps=3)


@pytest.mark.parametrize(
    "setting",
    [
        {"unit": "user"},
        {"delta": 1e-5},
        {"relation": "zero_out"},
        {"clip_norm": 0.5},
        {"records_per_user": 2},
        {"protect": "spans"},
    ],
)
def test_settings_of_private_training_without_a_promise_are_refused(setting):
    """Whoever asks for privacy per user must not get none in silence."""
    with pytest.raises(BadInput, match="nothing would be private"):
        PrivacySpec(**setting)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epsilon": 0.0}, "greater than 0"),
        ({"epsilon": -1.0}, "greater than 0"),
        ({"epsilon": float("nan")}, "greater than 0"),
        ({"epsilon": float("inf")}, "greater than 0"),
        ({"noise_multiplier": 0.0}, "greater than 0"),
        ({"epsilon": 8, "noise_multiplier": 1.0}, "follows from the other"),
        ({"epsilon": 8, "delta": 0.0}, "must be at least"),
        ({"epsilon": 8, "delta": 1e-12}, "must be at least"),
        ({"epsilon": 8, "delta": 1.0}, "below 1"),
        ({"epsilon": 8, "delta": float("nan")}, "must be at least"),
        ({"epsilon": 8, "unit": "person"}, "not a known choice"),
        ({"epsilon": 8, "unit": "user", "user_sampling": "elsewise"}, "not a known choice"),
        ({"epsilon": 8, "unit": "user", "record_selection": "best"}, "not a known choice"),
        ({"epsilon": 8, "clipping": "none"}, "not a known choice"),
        ({"epsilon": 8, "protect": "names"}, "not a known choice"),
        ({"epsilon": 8, "relation": "swap"}, "not a known choice"),
        ({"epsilon": 8, "relation": "replace_one", "unit": "user", "user_sampling": "record"}, "users who come or go"),
        ({"epsilon": 8, "protect": "spans"}, "part of the promise"),
        ({"epsilon": 8, "detector_recall": 0.9}, "part of the promise"),
        ({"epsilon": 8, "protect": "spans", "detector_recall": 0.0}, "must be in"),
        ({"epsilon": 8, "protect": "spans", "detector_recall": 1.1}, "must be in"),
        ({"epsilon": 8, "protect": "spans", "detector_recall": float("nan")}, "must be in"),
        ({"epsilon": 8, "clip_norm": 0.0}, "greater than 0"),
        ({"epsilon": 8, "unit": "user", "records_per_user": 0}, "greater than 0"),
        ({"epsilon": 8, "record_selection": "longest"}, "only used with unit 'user'"),
        ({"epsilon": 8, "user_sampling": "group"}, "only used with unit 'user'"),
        (
            {"epsilon": 8, "unit": "user", "user_sampling": "record", "record_selection": "random_chunk"},
            "drawn anew",
        ),
    ],
)
def test_refusals(settings, match):
    with pytest.raises(BadInput, match=match):
        PrivacySpec(**settings)


def test_calibrating_fills_in_noise_and_delta_and_is_done_once():
    spec = calibrate(PrivacySpec(epsilon=8), population(), batch_size=10, steps=20)
    assert spec.epsilon is None
    assert spec.noise_multiplier is not None
    assert spec.delta == default_delta(50) == 1e-3
    assert calibrate(spec, population(), batch_size=10, steps=20) == spec
    assert (
        make_plan(spec, population(), batch_size=10, steps=20, key=hashlib.sha256(b"a key for tests").digest()).spec
        == spec
    )


def test_given_noise_and_delta_stay():
    spec = calibrate(PrivacySpec(noise_multiplier=2.5, delta=1e-4), population(), batch_size=10, steps=20)
    assert (spec.noise_multiplier, spec.delta) == (2.5, 1e-4)


@pytest.mark.parametrize("units", [2, 9, 10, 11, 99, 100, 101, 1000, 12345, 10**6])
def test_default_delta_is_the_largest_power_of_ten_up_to_a_tenth_of_one_over_units(units):
    exponent = next(e for e in range(1, 20) if 10**e >= 10 * units)
    assert default_delta(units) == float(f"1e-{exponent}")
    assert default_delta(units) < 1 / units


def test_fields_import_neither_torch_nor_the_accountant():
    code = "import sys, reticent.privacy.spec; sys.exit(bool({'torch', 'dp_accounting', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plans_import_no_torch():
    code = "import sys, reticent.privacy.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
