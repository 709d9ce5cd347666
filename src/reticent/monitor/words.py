# SPDX-License-Identifier: Apache-2.0
"""What the person sees of a watch: a line after each look, a table at the end."""

from __future__ import annotations

from rich.table import Table

from reticent.core.finding import Estimate
from reticent.core.moment import Moment, Watch

PHASES = {
    "start": "start",
    "fitting": "fitting",
    "memorization": "memorization only",
    "overfitting": "overfitting",
}


def line(moment: Moment) -> str:
    """A look in a line."""
    parts = [f"held-out perplexity {moment.perplexity:.2f}", f"gap {moment.gap.value:+.3f}"]
    if moment.recall is not None:
        parts.append(f"recall {moment.recall.value:.0%} at 10 % false alarms")
    if moment.auc is not None:
        parts.append(f"AUC {moment.auc.value:.2f}")
    if (strongest := _exposure(moment)) is not None:
        parts.append(f"exposure {strongest.value:.1f} bits")
    return f"epoch {moment.epoch:.2f}: {', '.join(parts)}: {PHASES[moment.phase]}"


def table(watch: Watch) -> Table:
    """All looks; an interval is in monitor.json."""
    out = Table(title="While it trained", caption=_caption(watch), caption_justify="left", title_justify="left")
    for column in ("epoch", "step", "held-out perplexity", "gap", "recall", "AUC", "user AUC", "exposure", "phase"):
        out.add_column(column, justify="left" if column == "phase" else "right")
    for moment in watch.moments:
        out.add_row(
            f"{moment.epoch:.2f}",
            str(moment.step),
            f"{moment.perplexity:.2f}",
            f"{moment.gap.value:+.3f}",
            _shown(moment.recall, "{:.0%}"),
            _shown(moment.auc, "{:.3f}"),
            _shown(moment.user_auc, "{:.3f}"),
            _shown(_exposure(moment), "{:.1f} bits"),
            PHASES[moment.phase],
        )
    return out


def _caption(watch: Watch) -> str:
    said = [
        f"{watch.members} members and {watch.held_out} held-out records; looking took {watch.overhead:.1%} of the "
        "training time. Recall: members found with 10 % false alarms, by the loss against the base."
    ]
    said += [f"Not shown: {reason}" for reason in watch.moments[-1].refused]
    said += [f"Stopped early: {watch.stopped}"] if watch.stopped else []
    return "\n".join(said)


def _exposure(moment: Moment) -> Estimate | None:
    """Of the most exposed tier."""
    return max(moment.exposure.values(), key=lambda estimate: estimate.value, default=None)


def _shown(estimate: Estimate | None, form: str) -> str:
    return "" if estimate is None else form.format(estimate.value)
