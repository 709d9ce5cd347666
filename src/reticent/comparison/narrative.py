# SPDX-License-Identifier: Apache-2.0
"""The conclusions of a comparison in plain words, and the reasons where it draws none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reticent.comparison.trajectories import CheckpointStats
from reticent.core.comparison import Point, Setting, SettingPair


def headline(
    settings: Sequence[Setting], points: Sequence[Point], pairs: Sequence[SettingPair]
) -> tuple[str, list[str]]:
    """The answer in one sentence, and what follows from it."""
    ranked = [pair for pair in pairs if pair.less is not None]
    sentences = [_ranked(pair, settings) for pair in ranked]
    unranked = [pair for pair in pairs if pair.less is None]
    if unranked:
        sentences.append(_unranked(unranked, settings, len(pairs)))
    sentences += [_utility(settings, points)] if any(setting.best is not None for setting in settings) else []
    failed = [setting.name for setting in settings if setting.best is None]
    if failed:
        sentences.append(f"Nothing can be said of {_and(failed)}: no training was finished.")
    return _first(settings, pairs, ranked), sentences


def _first(settings: Sequence[Setting], pairs: Sequence[SettingPair], ranked: Sequence[SettingPair]) -> str:
    if not pairs:
        return "There is only one setting, so nothing is ranked."
    if not ranked:
        return "At the same held-out loss, no setting can be said to leak less than another."
    most = _ahead(settings, pairs, worst=True)
    least = _ahead(settings, pairs, worst=False)
    if most and least:
        return f"At the same held-out loss, {most} leaks most and {least} least."
    if most or least:
        return f"At the same held-out loss, {most or least} leaks {'most' if most else 'least'}."
    if len(ranked) == 1:
        return _ranked(ranked[0], settings)
    return f"At the same held-out loss, {len(ranked)} of {len(pairs)} pairs of settings differ in how much they leak."


def _ahead(settings: Sequence[Setting], pairs: Sequence[SettingPair], *, worst: bool) -> str:
    """The setting that leaks more (or less) than every other in all of at least two pairs; empty where none does."""
    for number, setting in enumerate(settings):
        of_setting = [pair for pair in pairs if number in (pair.a, pair.b)]
        if len(of_setting) >= 2 and all(
            pair.less is not None and (pair.less == number) != worst for pair in of_setting
        ):
            return setting.name
    return ""


def _ranked(pair: SettingPair, settings: Sequence[Setting]) -> str:
    assert pair.less is not None
    assert pair.auc is not None
    assert pair.loss is not None
    more = pair.b if pair.less == pair.a else pair.a
    size = abs(pair.auc.value)
    ends = sorted((abs(pair.auc.lo), abs(pair.auc.hi)))
    return (
        f"{settings[pair.less].name} leaks less than {settings[more].name} at perplexity "
        f"{math.exp(pair.loss):.1f}: AUC lower by {size:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]."
    )


def _unranked(pairs: Sequence[SettingPair], settings: Sequence[Setting], total: int) -> str:
    if len(pairs) == 1:
        pair = pairs[0]
        return f"{settings[pair.a].name} and {settings[pair.b].name} are not ranked: {pair.why_not}"
    whys = {pair.why_not for pair in pairs}
    because = f": {next(iter(whys))}" if len(whys) == 1 else "; the table says why of each."
    return f"{len(pairs)} of {total} pairs are not ranked{because}"


def _utility(settings: Sequence[Setting], points: Sequence[Point]) -> str:
    best = min(
        (points[setting.best].loss.value, setting.name, points[setting.best])
        for setting in settings
        if setting.best is not None
    )
    return (
        f"The lowest held-out perplexity, {math.exp(best[0]):.2f}, is that of {best[1]} (learning rate "
        f"{best[2].learning_rate:g}, epoch {best[2].epoch:g})."
    )


def notes_of(best: CheckpointStats, tracks: dict[float, list[CheckpointStats]], seeds: int) -> list[str]:
    """Notes to read before quoting a setting's numbers."""
    notes = []
    rates = sorted(tracks)
    if len(rates) == 1:
        notes.append("Only one learning rate was tried.")
    elif best.rate in (rates[0], rates[-1]):
        end = "lowest" if best.rate == rates[0] else "highest"
        notes.append(f"The best held-out loss is at the {end} learning rate tried ({best.rate:g}); a wider sweep may "
                     "find a better one.")  # fmt: skip
    last = tracks[best.rate][-1]
    if last.step == best.step and len(tracks[best.rate]) > 2:
        notes.append("The held-out loss was still falling at the last look; longer training may change the outcome.")
    if seeds == 1:
        notes.append("One seed: the intervals are about this training only.")
    return notes


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
