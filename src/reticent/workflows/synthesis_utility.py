# SPDX-License-Identifier: Apache-2.0
"""How useful synthetic texts are, judged on real text that nobody learned from, beside promise and audit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reticent.auditing.case import AuditCase
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now
from reticent.core.outputs import refuse_input
from reticent.core.processes import refuse_several
from reticent.core.progress import progress
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.text_utility import HALF, REAL, SYNTHETIC, UNTRAINED, TextUtility, UtilityResults
from reticent.report.utility_file import utility_places, write_utility
from reticent.report.utility_page import write_utility_page
from reticent.synthesis.usefulness.judged_losses import JudgedLosses
from reticent.synthesis.usefulness.lesson_likeness import label_numbers, lesson_likeness, users_of
from reticent.synthesis.usefulness.teach import Teacher, taught_all
from reticent.synthesis.usefulness.text_likeness import Likeness
from reticent.synthesis.usefulness.text_sources import Lesson, as_judged, as_learned, chosen, labels_of, lessons
from reticent.synthesis.usefulness.utility_rows import Yardstick, judged_whole, taken
from reticent.synthesis.usefulness.utility_sentences import headline_of, sentences_of
from reticent.synthesis.usefulness.utility_spec import FEWEST, UtilitySpec
from reticent.train.config import TuneConfig
from reticent.workflows.synthesis_yardstick import JudgedText, RealText, judged_texts, real_text

STATE = ".utility"
"""In the folder of the results: losses of models that were judged, and models while they are trained."""


def text_utility(
    texts: Sequence[str | Path],
    *,
    base: str,
    out: str | Path,
    spec: UtilitySpec | None = None,
    training: TuneConfig | None = None,
    case: AuditCase | None = None,
) -> UtilityResults:
    """Say what synthetic texts are worth: a small model learns from real text, from each of them, and from half of
    each, and is judged on real text that none was made from.

    All models learn from the same number of texts by the same settings. What comes of it lies in ``out`` as
    ``utility.json`` and ``utility.html``, with one picture: usefulness against the promise against what an audit found.
    Where `reticent audit --synthetic FILE` has put its results into its usual folder, they are read from there. The
    same call again trains no model twice; further texts in the same folder train only theirs.

    No promise of privacy covers the outcome: it is measured on private text, as an audit is, and is for who holds it.

    Args:
        texts: run folders of `reticent synthesize` with ``--hold_out true`` (or of a tuned mechanism), all of the same
            data; or files of synthetic texts.
        base: the small model that learns: a folder, hub id or catalogue name.
        out: folder for the outcome.
        spec: how many texts; None for the defaults.
        training: how the model learns; None for the defaults of `reticent tune`.
        case: real records that were read and held out, where the texts are not from `reticent synthesize`.

    Raises:
        BadInput: no text; nobody was held out; texts of other data; too few records; a file that is the private data;
            ``out`` holds something else.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> from reticent.data.example import help_desk
        >>> from reticent.synthesis.synthesis_spec import SynthesisSpec
        >>> from reticent.workflows.synthesize import SynthesisRecipe, synthesize
        >>> base, mails = str(save_tiny("base")), help_desk(users=48, mails_per_user=2)
        >>> quick = TuneConfig(epochs=1, max_tokens=32)
        >>> made = SynthesisSpec(mechanism="none", count=16, max_new_tokens=8)
        >>> run = synthesize(mails, base=base, out="none", recipe=SynthesisRecipe(synthesis=made, training=quick))
        >>> results = text_utility([run.root], base=base, out="utility", training=quick)
        >>> [row.source for row in results.rows]
        ['untrained', 'real', 'synthetic', 'half']
    """
    refuse_several("reticent.text_utility")
    spec, training = spec or UtilitySpec(), training or TuneConfig()
    page, data = utility_places(out)
    judged = judged_texts(texts, case)
    refuse_input(out, {"the model": base, **{f"the synthetic text {place}": place for place in texts}})
    material = _material(judged, spec)
    with RunFolder(root=Path(out)).alone(), _state(Path(out)) as state:
        results = _measured(judged, material, base=base, spec=spec, training=training, state=state)
        results = replace(results, title=Path(out).resolve().name)
        write_utility(data, results)
        write_utility_page(page, results)
    return results


@dataclass(frozen=True, kw_only=True, eq=False)
class _Material:
    """Texts that are learned from and judged on.

    Args:
        real: in common.
        labels: none for plain text.
        judged: held-out records.
        samples: by name, synthetic records.
        lessons: what models learn from.
    """

    real: RealText
    labels: tuple[str, ...]
    judged: tuple[Record, ...]
    samples: tuple[tuple[str, list[Record]], ...]
    lessons: tuple[Lesson, ...]


def _material(texts: Sequence[JudgedText], spec: UtilitySpec) -> _Material:
    real = real_text(texts)
    labels = labels_of([*real.read, *real.held_out], [text.texts for text in texts])
    samples = tuple((text.name, as_learned(text.texts, labels)) for text in texts)
    smallest = min(len(real.read), *(len(sample) for _, sample in samples))
    wanted = smallest if spec.texts is None else spec.texts
    if smallest < max(wanted, FEWEST):
        few = min([("real text", len(real.read)), *((name, len(sample)) for name, sample in samples)],
                  key=lambda pair: pair[1])  # fmt: skip
        raise BadInput(
            f"{few[0]} has {few[1]} texts",
            f"each model learns from {max(wanted, FEWEST)}, as many of each source",
            "Make more texts (--count), or give a smaller --texts."
            if few[1] >= FEWEST
            else "Make more texts (--count).",
        )
    held_out = chosen(real.held_out, spec.judged_on, seed=spec.utility_seed, purpose="judged")
    taught = lessons(as_judged(real.read, labels), samples, texts=wanted, seed=spec.utility_seed)
    return _Material(
        real=real, labels=labels, judged=tuple(as_judged(held_out, labels)), samples=samples, lessons=tuple(taught)
    )


@contextmanager
def _state(out: Path) -> Iterator[Path]:
    """The folder of what is on the way. Where a call comes to nothing before any model was judged, all of it goes."""
    there = out.exists()
    state = out / STATE
    RunFolder(root=out).make()
    state.mkdir(mode=0o700, exist_ok=True)
    try:
        yield state
    except BaseException:
        if not any(state.iterdir()):
            shutil.rmtree(state, ignore_errors=True)
            if not there:
                shutil.rmtree(out, ignore_errors=True)
        raise


def _measured(
    texts: Sequence[JudgedText], material: _Material, *, base: str, spec: UtilitySpec, training: TuneConfig, state: Path
) -> UtilityResults:
    from reticent.models.load import load

    loaded = load(base, dtype=training.dtype, device=training.device)
    teacher = Teacher(
        base=base,
        fingerprint=loaded.fingerprint,
        training=training,
        judged=material.judged,
        labels=material.labels,
        folder=state,
    )
    before = teacher.untrained(loaded)
    likeness = lesson_likeness(
        loaded,
        material.judged,
        material.lessons,
        material.labels,
        by_user=material.real.by_user,
        seed=spec.utility_seed,
    )
    del loaded
    with progress("Learning", len(material.lessons), unit="models") as advance:
        losses = taught_all(teacher, material.lessons, advance)
    whole = judged_whole([before, *losses])
    before, losses = taken(before, whole), [taken(loss, whole) for loss in losses]
    judged = [record for record, row in zip(material.judged, whole, strict=True) if row]
    yardstick = Yardstick(
        untrained=before,
        real=losses[0],
        users=users_of(judged) if material.real.by_user else None,
        own_label=label_numbers(judged, material.labels),
        seed=spec.utility_seed,
    )
    rows = tuple(_rows(texts, material, yardstick, losses, likeness))
    return UtilityResults(
        title="",
        created=now(),
        headline=headline_of(rows),
        sentences=sentences_of(rows, judged=len(judged)),
        rows=rows,
        refused=tuple(_refused(texts, material, yardstick)),
        counts={
            "texts_learned_from": len(material.lessons[0].records),
            "judged_on": len(judged),
            "users_judged_on": len({record.user for record in judged}) if material.real.by_user else 0,
        },
        provenance={
            "model": {"name": Path(base).name, "fingerprint": teacher.fingerprint},
            "utility": spec.on_record,
            "training": training.on_record,
            **environment(),
        },
    )


def _rows(
    texts: Sequence[JudgedText],
    material: _Material,
    yardstick: Yardstick,
    losses: Sequence[JudgedLosses],
    likeness: Sequence[Likeness | None],
) -> Iterator[TextUtility]:
    untrained = yardstick.untrained
    yield TextUtility(
        name=UNTRAINED, source=UNTRAINED, loss=yardstick.loss(untrained), over_real=yardstick.over_real(untrained),
        accuracy=yardstick.accuracy(untrained),
    )  # fmt: skip
    by_name = {text.name: text for text in texts}
    for lesson, each, alike in zip(material.lessons, losses, likeness, strict=True):
        row = TextUtility(
            name=lesson.name,
            source=lesson.source,
            texts=len(lesson.records),
            loss=yardstick.loss(each),
            over_real=None if lesson.source == REAL else yardstick.over_real(each),
            kept=None if lesson.source == REAL else yardstick.kept(each),
            accuracy=yardstick.accuracy(each),
            likeness=None if alike is None else alike.likeness,
            labels=None if alike is None else alike.labels,
            lengths=None if alike is None else alike.lengths,
            topics=None if alike is None else alike.topics,
        )
        yield _known(row, by_name[lesson.name]) if lesson.source in (SYNTHETIC, HALF) else row


def _known(row: TextUtility, text: JudgedText) -> TextUtility:
    """A row with what is on record of its texts; the promise and the audit are those of the synthetic half alone, so a
    half of real text has none."""
    if row.source == HALF:
        return replace(row, mechanism=text.mechanism)
    promise = text.promise
    return replace(
        row,
        mechanism=text.mechanism,
        promise=None if promise is None else promise.stated,
        audit=text.audit,
    )


def _refused(texts: Sequence[JudgedText], material: _Material, yardstick: Yardstick) -> Iterator[str]:
    if not material.labels:
        yield "Accuracy and labels: the records, or the synthetic texts, have no labels (prompts from a short list)."
    if not yardstick.real_teaches:
        yield "How much of what real text teaches is kept: real text teaches this model nothing beyond doubt."
    unaudited = [text.name for text in texts if text.audit is None]
    if unaudited:
        yield f"What an audit found of {', '.join(unaudited)}: give `reticent audit --synthetic FILE` first."
    if not material.real.by_user:
        yield "Intervals take real texts as independent: they have no users."
