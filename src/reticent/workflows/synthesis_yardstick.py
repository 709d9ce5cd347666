# SPDX-License-Identifier: Apache-2.0
"""Real text that several synthetic texts can be judged by: read by all of their makers, and held out from all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.synthetic.synthetic_file import TextPromise, read_synthetic
from reticent.core.errors import BadInput, ReticentError
from reticent.core.record import Record
from reticent.core.results import Results
from reticent.core.run_folder import RunFolder
from reticent.core.text_utility import AuditedText
from reticent.data.readers.reader import BadRow, rows_of
from reticent.report.results_file import read_results
from reticent.report.summary import strongest_epsilon
from reticent.synthesis.usefulness.text_sources import WrittenText
from reticent.synthesis.usefulness.utility_spec import FEWEST
from reticent.workflows.synthetic_case import folder_for, synthetic_case


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedText:
    """Synthetic texts with what is known of them.

    Args:
        name: unique among those that are judged together.
        place: the file.
        texts: in their order.
        promise: None where none is on record.
        mechanism: empty where it is not on record.
        case: whose texts they were made from, and who was held out.
        audit: what an audit found; None where none lies beside them.
    """

    name: str
    place: Path
    texts: tuple[WrittenText, ...]
    promise: TextPromise | None
    mechanism: str
    case: AuditCase
    audit: AuditedText | None


@dataclass(frozen=True, kw_only=True, eq=False)
class RealText:
    """Real text that all synthetic texts have in common.

    Args:
        read: records that all were made from.
        held_out: records that none was made from; under coins for users, of users whom none was made from.
        by_user: whether held-out records have users.
    """

    read: tuple[Record, ...]
    held_out: tuple[Record, ...]
    by_user: bool


def judged_texts(places: Sequence[str | Path], case: AuditCase | None = None) -> list[JudgedText]:
    """Read synthetic texts with their records and coins.

    Args:
        places: run folders of `reticent synthesize`, or files of synthetic texts.
        case: real records as a person gives them; None: those in the folder that each file lies in.

    Raises:
        BadInput: no such file; nobody was held out; a file that is the private data; the same file twice.
    """
    files = [_file(place) for place in places]
    if not files:
        raise BadInput("no synthetic text", "there is nothing to judge", "Give run folders of reticent synthesize.")
    for number, file in enumerate(files):
        if file.resolve() in [other.resolve() for other in files[:number]]:
            raise BadInput(str(file), "is there twice", "Name each once.")
    return [_judged(file, name, case) for file, name in zip(files, _names(files), strict=True)]


def _file(place: str | Path) -> Path:
    path = Path(place).expanduser()
    file = RunFolder(root=path).synthetic if path.is_dir() else path
    if not str(place).strip() or not file.is_file():
        raise BadInput(
            str(place), "holds no synthetic text", "Give a run folder of reticent synthesize, or the file of texts."
        )
    return file


def _names(files: Sequence[Path]) -> list[str]:
    """Of the folder that each lies in; where these are alike, of folder and file, and then with numbers."""
    for names in (
        [file.resolve().parent.name for file in files],
        [f"{file.resolve().parent.name}/{file.name}" for file in files],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{number + 1}: {file.resolve().parent.name}" for number, file in enumerate(files)]


def _judged(file: Path, name: str, case: AuditCase | None) -> JudgedText:
    config = AuditConfig(synthetic=str(file))
    case = synthetic_case(None if case is None else case, config)
    read = read_synthetic(str(file), case.records, case.membership)  # refuses private data
    topics = [_topic(row) for row in rows_of(str(file))]
    texts = tuple(WrittenText(text=text, topic=topic) for text, topic in zip(read.texts, topics, strict=True))
    return JudgedText(
        name=name,
        place=file,
        texts=texts,
        promise=read.promise,
        mechanism=read.mechanism,
        case=case,
        audit=_audit_beside(file, config),
    )


def _topic(row: object) -> str:
    topic = None if isinstance(row, BadRow) else getattr(row, "fields", {}).get("topic")
    return topic.strip() if isinstance(topic, str) else ""


def _audit_beside(file: Path, config: AuditConfig) -> AuditedText | None:
    """The findings of the audit of the file, where it went to the usual folder; None where there is none, or one of
    other texts."""
    run = RunFolder(root=folder_for(None, config))
    try:
        settings = run.settings("audit")
        if settings is None or (run.root / str(settings["target"])).resolve() != file.resolve():
            return None
        return audited_text(read_results(run.results))
    except (ReticentError, OSError):
        return None


def audited_text(results: Results) -> AuditedText:
    """An audit in two numbers."""
    aucs = [finding for finding in results.all_findings if finding.metric == "auc"]
    worst = max(aucs, key=lambda finding: (finding.estimate.lo, finding.estimate.value), default=None)
    bound = strongest_epsilon(results)
    return AuditedText(
        status=results.verdict.status,
        attack="" if worst is None else worst.attack,
        auc=None if worst is None else worst.estimate,
        epsilon=None if bound is None else bound.estimate,
    )


def real_text(texts: Sequence[JudgedText]) -> RealText:
    """The real text that all have in common.

    Raises:
        BadInput: they were made from other data, or too few records are read by all or held out from all.
    """
    first = texts[0].case
    by_id = {record.id: record for record in first.records}
    sides: list[tuple[set[str], set[str]]] = []
    for text in texts:
        for record in text.case.records:
            other = by_id.get(record.id)
            if other is not None and other.content_hash != record.content_hash:
                raise _apart(texts, "records of one id that differ")
        sides.append(_sides(text.case))
    read, held_out = (set.intersection(*(side[place] for side in sides)) for place in (0, 1))
    for what, ids in (("read by all of them", read), ("held out from all of them", held_out)):
        if len(ids) < FEWEST:
            raise _apart(texts, f"{len(ids)} real records that were {what} ({FEWEST} at least are needed)")
    sides_of = [tuple(record for record in first.records if record.id in ids) for ids in (read, held_out)]
    by_user = (
        all(record.user is not None for record in sides_of[1]) and len({record.user for record in sides_of[1]}) > 1
    )
    return RealText(read=sides_of[0], held_out=sides_of[1], by_user=by_user)


def _sides(case: AuditCase) -> tuple[set[str], set[str]]:
    membership = case.membership
    role = membership.role.astype(str)
    out = ~membership.member & (role == "evaluate")
    if membership.unit == "user":
        out &= ~membership.user_member
    read = membership.member & (role != "canary")
    return set(membership.record_id[read].tolist()), set(membership.record_id[out].tolist())


def _apart(texts: Sequence[JudgedText], what: str) -> BadInput:
    if len(texts) == 1:
        return BadInput(texts[0].name, f"has {what}", "Make texts from more records, with --hold_out true.")
    return BadInput(
        ", ".join(text.name for text in texts),
        f"have {what}, so no real text can judge them together",
        "Give texts that were made from the same data with the same coins, or judge each by itself.",
    )
