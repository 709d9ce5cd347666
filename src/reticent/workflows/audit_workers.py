# SPDX-License-Identifier: Apache-2.0
"""The workers that score the tables of an audit: this process, several on this machine, those that a launcher started,
all who start the same command, or a Ray cluster. Whoever it is, one process judges and writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.core import hands
from reticent.core.errors import BadInput
from reticent.core.processes import several
from reticent.core.results import Results
from reticent.core.run_folder import RunFolder
from reticent.core.shared_store import VARIABLE, shown, store_address
from reticent.core.user_cache import user_cache
from reticent.report.results_file import read_results
from reticent.score.cache import key_of
from reticent.score.workers.join import lead_or_help
from reticent.score.workers.worker import WORKERS, Meeting, WorkersWanted, read_workers, working
from reticent.train.ranks import ranks


def wanted_workers(text: str, case: AuditCase, config: AuditConfig) -> WorkersWanted:
    """Workers that are to score, checked against what is audited.

    Args:
        text: as `reticent.score.workers.worker.read_workers` takes it.
        case: its models have to be files where others are to open them.
        config: some of its parts train models, which processes of a launcher do not share here.

    Raises:
        BadInput: it cannot be shared.
    """
    workers, launcher = read_workers(text), several()
    if launcher and workers.name != "here":
        raise BadInput(
            f"--workers {text} with {launcher}",
            "a launcher started the workers already",
            "Leave --workers out, or start one process.",
        )
    if workers.name == "join" and store_address():
        raise BadInput(
            f"--workers join with {VARIABLE}={shown(store_address())}",
            "hands take turns by leases, which are files of one file system",
            f"Name a folder in {VARIABLE} that all of them see, or leave --workers out: what is in the store is not "
            "made twice.",
        )
    in_memory = [model for model in (case.target, case.reference) if not isinstance(model, str | None)]
    if in_memory and (launcher or workers.name != "here"):
        raise BadInput(
            launcher or f"workers={text}",
            "the model is in the memory of one process, and others cannot open it",
            "Save it and name its folder, or use one process.",
        )
    _refuse_places(launcher or f"--workers {text}", config, alone=not launcher and workers.name == "here")
    if in_memory and (config.device_map or config.one_at_a_time):
        raise BadInput(
            "--device_map" if config.device_map else "--one_at_a_time",
            "the model is in memory already, where whoever made it put it",
            "Name its folder, or leave it out.",
        )
    if launcher and (config.shadow or config.auxiliary):
        raise BadInput(
            f"--{'shadow' if config.shadow else 'auxiliary'} with {launcher}",
            "trains models, and those of several processes differ in their last digits from those of one",
            "Start one process, or leave it out.",
        )
    return WorkersWanted(name="ranks") if launcher else workers


def _refuse_places(several_by: str, config: AuditConfig, *, alone: bool) -> None:
    """Refuse several processes where one spans all devices, or has no room for two models."""
    if alone or not (config.device_map or config.one_at_a_time):
        return
    raise BadInput(
        f"--{'device_map' if config.device_map else 'one_at_a_time'} with {several_by}",
        "spans all devices by one process, and each of several would take them for itself"
        if config.device_map
        else "is for one process, and each of several holds the model that it is asked for",
        "Start one process, or leave it out.",
    )


def audited_by(
    wanted: WorkersWanted, run: RunFolder, case: AuditCase, config: AuditConfig, lead: Callable[[], Results]
) -> Results:
    """Do ``lead`` in this process, alone in the folder, with the help of ``wanted``; a hand that only helps waits for
    the one that leads.

    Args:
        wanted: who scores.
        run: where results go.
        case, config: what is audited, and how.
        lead: collects, judges and writes.

    Raises:
        BadInput: another process works in the folder; hands were asked for different things; or as ``lead``.
    """
    place = key_of("audit", str(run.root.resolve()))
    meeting = Meeting(folder=user_cache() / "tables" / "jobs" / place, count=wanted.count, crew=ranks)

    def alone() -> Results:
        with run.alone():
            return lead()

    if wanted.name == "join":
        before = _stamp(run)

        def done() -> Results | None:
            return read_results(run.results) if _stamp(run) not in (None, before) else None

        return lead_or_help(meeting.folder, asked=_asked(case, config), lead=alone, done=done)
    with run.alone(), WORKERS.get(wanted.name)(meeting) as opened, working(opened):
        return lead()


def _asked(case: AuditCase, config: AuditConfig) -> str:
    models = [model if isinstance(model, str | None) else model.fingerprint for model in (case.target, case.reference)]
    return hands.in_words([case.data_fingerprint, models, case.max_tokens, asdict(config)])


def _stamp(run: RunFolder) -> tuple[int, int] | None:
    """Changes with each audit that came to its end: the manifest is the last file that one writes."""
    return hands.stamp(run.manifest) if run.results.exists() else None
