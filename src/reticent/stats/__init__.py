# SPDX-License-Identifier: Apache-2.0
"""Statistics of an audit: two arrays of scores in, Estimates out. numpy and scipy only; no model, no file.

Examples:
    >>> from reticent.stats import Interval, RocCurve, clopper_pearson, roc_curve
    >>> interval = clopper_pearson(7, 10)
    >>> isinstance(interval, Interval), round(float(interval.lo), 2), round(float(interval.hi), 2)
    (True, 0.35, 0.93)
    >>> isinstance(roc_curve([2.0, 3.0], [1.0, 2.0]), RocCurve)
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.stats.clustered import auc_clustered as auc_clustered
    from reticent.stats.epsilon import epsilon_clopper_pearson as epsilon_clopper_pearson
    from reticent.stats.epsilon import epsilon_gdp_one_run as epsilon_gdp_one_run
    from reticent.stats.epsilon import epsilon_one_run as epsilon_one_run
    from reticent.stats.epsilon import gdp_epsilon as gdp_epsilon
    from reticent.stats.epsilon_auc import epsilon_gdp_auc as epsilon_gdp_auc
    from reticent.stats.exposure import rank_exposure as rank_exposure
    from reticent.stats.hypothesis import family_confidence as family_confidence
    from reticent.stats.hypothesis import holm as holm
    from reticent.stats.intervals import Interval as Interval
    from reticent.stats.intervals import clopper_pearson as clopper_pearson
    from reticent.stats.power import smallest_auc as smallest_auc
    from reticent.stats.power import smallest_tpr as smallest_tpr
    from reticent.stats.proportions import paired_difference as paired_difference
    from reticent.stats.proportions import share as share
    from reticent.stats.roc import RocCurve as RocCurve
    from reticent.stats.roc import auc as auc
    from reticent.stats.roc import roc_curve as roc_curve
    from reticent.stats.roc import tpr_at_fpr as tpr_at_fpr

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
