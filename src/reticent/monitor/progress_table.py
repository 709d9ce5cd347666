# SPDX-License-Identifier: Apache-2.0
"""The console output of the monitor: a line after each look, a table at the end."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from reticent.core.finding import Estimate
from reticent.core.snapshot import Snapshot, TrainingHistory

PHASES = {
    "start": "start",
    "fitting": "fitting",
    "memorization": "memorization only",
    "overfitting": "overfitting",
}


def line(moment: Snapshot) -> str:
    """A look in a line."""
    parts = [f"held-out perplexity {moment.perplexity:.2f}", f"gap {moment.gap.value:+.3f}"]
    if moment.tpr_at_10pct_fpr is not None:
        parts.append(f"TPR {moment.tpr_at_10pct_fpr.value:.0%} at 10 % FPR")
    if moment.auc is not None:
        parts.append(f"AUC {moment.auc.value:.2f}")
    if (strongest := _exposure(moment)) is not None:
        parts.append(f"exposure {strongest.value:.1f} bits")
    return f"epoch {moment.epoch:.2f}: {', '.join(parts)}: {PHASES[moment.phase]}"


def table(watch: TrainingHistory) -> Table:
    """All looks; an interval is in monitor.json."""
    columns: dict[str, Callable[[Snapshot], str]] = {
        "epoch": lambda moment: f"{moment.epoch:.2f}",
        "step": lambda moment: f"{moment.step}",
        "perplexity": lambda moment: f"{moment.perplexity:.2f}",
        "gap": lambda moment: f"{moment.gap.value:+.3f}",
        "TPR": lambda moment: _shown(moment.tpr_at_10pct_fpr, "{:.0%}"),
        "AUC": lambda moment: _shown(moment.auc, "{:.3f}"),
        "user AUC": lambda moment: _shown(moment.user_auc, "{:.3f}"),
        "exposure": lambda moment: _shown(_exposure(moment), "{:.1f}"),
        "phase": lambda moment: PHASES[moment.phase],
    }
    shown = {name: [cell(moment) for moment in watch.moments] for name, cell in columns.items()}
    shown = {name: cells for name, cells in shown.items() if any(cells)}
    out = Table(title="While it trained", caption=_caption(watch), caption_justify="left", title_justify="left")
    for name in shown:
        out.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    for row in zip(*shown.values(), strict=True):
        out.add_row(*row)
    return out


def _caption(watch: TrainingHistory) -> str:
    sentences = [
        f"{watch.members} members and {watch.held_out} held-out records; looking took {watch.overhead:.1%} of the "
        "training time. Perplexity: of held-out text. Gap: held-out minus member loss, nats a token. TPR: members "
        "told at 10 % FPR, by their loss against the base. Exposure: bits, of the most exposed tier."
    ]
    missing = [reason.split(":")[0] for reason in watch.moments[-1].refused]
    if missing:
        names = ", ".join(missing)
        sentences.append(f"Too few records for {names}; a larger panel (--panel) takes longer to look at.")
    sentences += [f"Stopped early: {watch.stopped}"] if watch.stopped else []
    return "\n".join(sentences)


def _exposure(moment: Snapshot) -> Estimate | None:
    """Of the most exposed tier."""
    return max(moment.exposure.values(), key=lambda estimate: estimate.value, default=None)


def _shown(estimate: Estimate | None, form: str) -> str:
    return "" if estimate is None else form.format(estimate.value)
