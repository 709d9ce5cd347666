# SPDX-License-Identifier: Apache-2.0
"""Differential privacy: what is promised (spec, plan, accounting) and what keeps it (sampling, clipping, noise).

Examples:
    >>> from reticent.privacy import EpsilonSpent, Mechanism, spent
    >>> isinstance(spent(Mechanism(noise_multiplier=1.0, rate=0.01), steps=100, delta=1e-5), EpsilonSpent)
    True

    A plan settles who is drawn when, how much noise is added and what that costs:

    >>> import hashlib
    >>> from reticent.privacy import AttackLimits, PoissonSampler, Population, PrivacyGuarantee, PrivacyPlan
    >>> from reticent.privacy import PrivacySpec, TokenRange, make_plan
    >>> people = Population(users=(None,) * 1000, lengths=(20,) * 1000)
    >>> key = hashlib.sha256(b"use secrets.token_bytes(32) instead").digest()
    >>> plan = make_plan(PrivacySpec(epsilon=8.0), people, batch_size=100, steps=50, key=key)
    >>> isinstance(plan, PrivacyPlan), isinstance(plan.sampler, PoissonSampler), round(plan.mechanism.rate, 2)
    (True, True, 0.1)
    >>> promise = plan.spent()
    >>> isinstance(promise, PrivacyGuarantee), promise.epsilon <= 8, isinstance(promise.most, AttackLimits)
    (True, True, True)
    >>> unit = plan.sampler.batch(0)[0]  # rows of one unit, each of pieces of records
    >>> isinstance(unit[0][0], TokenRange)
    True

    Where records are sampled and users promised, one step may draw several records of a user:

    >>> from reticent.privacy import ParticipationCounts
    >>> counts = Mechanism(noise_multiplier=1.0, rate=0.1, owned=3).participation()
    >>> isinstance(counts, ParticipationCounts)
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.privacy.accounting import EpsilonSpent as EpsilonSpent
    from reticent.privacy.accounting import allowed as allowed
    from reticent.privacy.accounting import spent as spent
    from reticent.privacy.check import SelfCheckItem as SelfCheckItem
    from reticent.privacy.guarantee import PrivacyGuarantee as PrivacyGuarantee
    from reticent.privacy.guarantee import auroc_bound as auroc_bound
    from reticent.privacy.mechanism import Mechanism as Mechanism
    from reticent.privacy.mechanism import ParticipationCounts as ParticipationCounts
    from reticent.privacy.plan import PrivacyPlan as PrivacyPlan
    from reticent.privacy.plan import make_plan as make_plan
    from reticent.privacy.sampling import PoissonSampler as PoissonSampler
    from reticent.privacy.sampling import Population as Population
    from reticent.privacy.sampling import TokenRange as TokenRange
    from reticent.privacy.spec import PrivacySpec as PrivacySpec
    from reticent.privacy.tradeoff import AttackLimits as AttackLimits

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
