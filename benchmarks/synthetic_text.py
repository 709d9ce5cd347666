# SPDX-License-Identifier: Apache-2.0
"""Synthetic text by every mechanism: what it is worth, what an audit finds of it, beside what was promised.

Two data sets: the made-up help desk, with a promise to each user, and the sentences of SST-2, with one to each record.
For each of them texts are made by every mechanism at each ε, and by `none`, all with the same coins and with canaries;
each is audited by the text and by an auxiliary model (`reticent audit --synthetic --auxiliary`), and all are held
against real text (`reticent utility`). `none` is made once more with canaries that the model wrote itself.

All that is done lies in ``--work`` and is not done again, a cell that was cut off goes on where it was, and ``--json``
is written anew after each cell. What is to be expected of one thread is printed first (``--estimate`` prints it alone):
a rough figure, from the speeds of SmolLM2-135M below.

    python benchmarks/synthetic_text.py --work runs/synthetic-text --json benchmarks/results/synthetic_text.json
    python benchmarks/synthetic_text.py --work tiny-text --tiny
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

TRAINED, SAMPLED, BATCHED = 8.0, 25.0, 4.0
"""Of SmolLM2-135M on one thread: texts trained a second, tokens sampled a second, and how often that in a batch."""
MECHANISMS = ("dp_tune", "private_prediction", "private_evolution")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is made and trained.

    Args:
        users, mails: of the help desk; mails of each user.
        sentences: of SST-2.
        canaries: with a coin; as many are controls.
        texts: synthetic ones of a cell, where the units allow so many.
        tokens: of a text at most.
        epochs: of all trainings.
        references: behind a text of private prediction.
        rounds: of private evolution.
    """

    users: int = 2000
    mails: int = 2
    sentences: int = 6000
    canaries: int = 200
    texts: int = 400
    tokens: int = 64
    epochs: int = 3
    references: int = 8
    rounds: int = 5


TINY = Size(users=80, mails=2, sentences=120, canaries=20, texts=16, tokens=5, epochs=1, references=3, rounds=2)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Texts of one mechanism.

    Args:
        data: whose.
        mechanism: as `SynthesisSpec` names it.
        epsilon: None for no promise.
        kind: of the canaries.
    """

    data: str
    mechanism: str
    epsilon: float | None
    kind: str = "surprising_end"

    @property
    def name(self) -> str:
        promise = "" if self.epsilon is None else f"-{self.epsilon:g}"
        return f"{self.mechanism}{promise}{'' if self.kind == 'surprising_end' else f'-{self.kind}'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of texts, models and audits; reused")
    parser.add_argument("--json", type=Path, help="write the outcome here, after each cell")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", nargs="+", default=["help_desk", "sst2"], choices=["help_desk", "sst2"])
    parser.add_argument("--sst2", type=Path, default=Path("../shared/data/sst2"), help="folder with train.tsv")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8.0, 1.0])
    parser.add_argument("--mechanisms", nargs="+", default=[*MECHANISMS, "none"], choices=[*MECHANISMS, "none"])
    parser.add_argument("--texts", type=int, help="synthetic texts of a cell")
    parser.add_argument("--estimate", action="store_true", help="say how long it takes, and do nothing")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few records, to see that it runs")
    given = parser.parse_args()
    size = TINY if given.tiny else Size()
    size = size if given.texts is None else replace(size, texts=given.texts)
    grid = [cell for data in given.data for cell in cells(data, given.mechanisms, given.epsilons)]
    print("\n".join(estimate(grid, size)), flush=True)
    if not given.estimate:
        result = run(given, grid, size)
        print("\n".join(table(result["rows"])))


def cells(data: str, mechanisms: Sequence[str], epsilons: Sequence[float]) -> Iterator[Cell]:
    """All cells of a data set: with `none` first, which says whether there is anything to find."""
    if "none" in mechanisms:
        yield Cell(data=data, mechanism="none", epsilon=None)
        yield Cell(data=data, mechanism="none", epsilon=None, kind="high_temperature")
    for mechanism in mechanisms:
        for epsilon in epsilons if mechanism != "none" else ():
            yield Cell(data=data, mechanism=mechanism, epsilon=epsilon)


def run(given: argparse.Namespace, grid: Sequence[Cell], size: Size) -> dict[str, Any]:
    """All cells, their audits and what they are worth."""
    from reticent.core.errors import BadInput
    from reticent.core.manifest import environment

    given.work.mkdir(parents=True, exist_ok=True)
    model = _tiny(given.work) if given.tiny else given.model
    about = {"model": "tiny" if given.tiny else model, "size": asdict(size), "machine": environment()}
    rows: list[dict[str, Any]] = []
    utility: dict[str, Any] = {}
    for data in dict.fromkeys(cell.data for cell in grid):
        records, folders = records_of(data, size, given.sst2), []
        for cell in (cell for cell in grid if cell.data == data):
            started = time.time()
            folder = given.work / data / cell.name
            try:
                made(cell, records, folder, model, size)
                row = audited(cell, folder, model, tiny=given.tiny)
                folders.append(str(folder))
            except BadInput as refused:
                row = {"refused": str(refused)}
            rows.append(
                {"data": data, "cell": cell.name, **row, **_seconds(folder, {"seconds": time.time() - started})}
            )
            _write(given.json, {"rows": rows, "utility": utility, **about})
        if folders:
            try:
                utility[data] = worth(folders, given.work / f"{data}-utility", model, size)
            except BadInput as refused:
                utility[data] = {"refused": str(refused)}
        _write(given.json, {"rows": rows, "utility": utility, **about})
    return {"rows": rows, "utility": utility, **about}


# ---- one cell --------------------------------------------------------------------------------------------------------


def records_of(data: str, size: Size, sst2: Path) -> list[Any]:
    """Private texts: mails without marks, or sentences of at least four words, each once."""
    from reticent.core.record import Record
    from reticent.data import help_desk

    if data == "help_desk":
        mails = help_desk(users=size.users, mails_per_user=size.mails)
        return [replace(record, spans=()) for record in mails]
    path = sst2 / "train.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else made_up_sentences(size.sentences)
    texts = dict.fromkeys(line.split("\t")[0].strip() for line in lines)
    long = [text for text in texts if len(text.split()) >= 4]
    return [Record(id=f"s{number}", text=text) for number, text in enumerate(long[: size.sentences])]


def made_up_sentences(count: int) -> list[str]:
    """Stand-ins where there is no file, for ``--tiny``."""
    from reticent.data.canaries.passphrase import WORDS

    return [f"the {WORDS[n % 97]} of {WORDS[n * 7 % 89]} is {WORDS[n * 5 % 83]} {n}" for n in range(count)]


def made(cell: Cell, records: Sequence[Any], folder: Path, model: str, size: Size) -> None:
    """The texts of a cell."""
    from reticent.data.canaries.canary_config import CanaryConfig
    from reticent.data.split_config import SplitConfig
    from reticent.synthesis.synthesis_spec import SynthesisSpec
    from reticent.train.config import TuneConfig
    from reticent.workflows.synthesize import SynthesisRecipe, synthesize

    unit = "user" if cell.data == "help_desk" else "record"
    names = {record.user or record.id for record in records}
    count = size.texts
    if cell.mechanism == "private_prediction":  # half of the units are held out, some more by chance
        count = min(count, int(0.45 * len(names)) // size.references)
    spec = SynthesisSpec(
        mechanism=cell.mechanism,
        epsilon=cell.epsilon,
        unit=unit,
        count=max(count, 1),
        instruction="A mail to the help desk of a shop:" if unit == "user" else "A sentence of a film review:",
        max_new_tokens=size.tokens,
        references=size.references,
        reference_tokens=128,
        long_texts="cut",
        rounds=size.rounds,
        hold_out=True,
    )
    recipe = SynthesisRecipe(
        synthesis=spec,
        split=SplitConfig(split_unit=unit),
        canaries=CanaryConfig(
            canaries=size.canaries, canary_kind=cell.kind, canary_controls=size.canaries, canary_repetitions="1"
        ),
        training=TuneConfig(epochs=size.epochs, max_tokens=128),
    )
    synthesize(records, base=model, out=folder, recipe=recipe, title=cell.name)


def audited(cell: Cell, folder: Path, model: str, *, tiny: bool) -> dict[str, Any]:
    """What the audit of the text and of its auxiliary model finds; read where it is there."""
    from reticent.auditing.config import AuditConfig
    from reticent.core.run_folder import RunFolder
    from reticent.report.results_file import read_results
    from reticent.workflows.audit import audit

    out = RunFolder(root=folder.with_name(f"{folder.name}-audit"))
    if out.results.exists():
        return figures(read_results(out.results))
    config = AuditConfig(synthetic=str(RunFolder(root=folder).synthetic), auxiliary=model)
    return figures(audit(config=replace(config, attacks="loss,ref_diff") if tiny else config, out=out.root))


def figures(results: Any) -> dict[str, Any]:
    """The strongest finding of each kind with its interval, bounds on ε beside the promise, and the verdict."""
    strongest: dict[str, Any] = {}
    for finding in results.all_findings:
        key = f"{finding.level} {finding.metric}"
        if key not in strongest or finding.estimate.value > strongest[key]["value"]:
            estimate = finding.estimate
            strongest[key] = {
                "attack": finding.attack, "value": estimate.value, "lo": estimate.lo, "hi": estimate.hi,
                "p": finding.p_value, "severity": finding.severity.value,
            }  # fmt: skip
    tables = [part for section in results.sections for part in section.tables if part.name == "synthetic-epsilon"]
    bounds = [
        {"from": row[0], "per": row[1], "epsilon_at_least": row[2].lo, "promised": row[3], "delta": row[5]}
        for part in tables
        for row in part.rows
    ]
    broken = [finding.statement for finding in results.all_findings if finding.metric == "promise_broken"]
    return {"verdict": results.verdict.headline, "findings": strongest, "bounds": bounds, "broken": broken}


def worth(folders: Sequence[str], out: Path, model: str, size: Size) -> Any:
    """What the texts of all cells of a data set are worth."""
    from reticent.report.utility_file import read_utility
    from reticent.train.config import TuneConfig
    from reticent.workflows.synthesis_utility import text_utility

    training = TuneConfig(epochs=size.epochs, max_tokens=128)
    text_utility(folders, base=model, out=out, training=training)
    rows = read_utility(out / "utility.json").rows
    return [json.loads(json.dumps(asdict(row), default=str)) for row in rows]


# ---- time ------------------------------------------------------------------------------------------------------------


def estimate(grid: Sequence[Cell], size: Size) -> list[str]:
    """Hours on one thread at the speeds above, cell by cell."""
    lines, total = [], 0.0
    for cell in grid:
        units = size.users if cell.data == "help_desk" else size.sentences
        records = (size.users * size.mails if cell.data == "help_desk" else size.sentences) / 2
        texts = min(size.texts, int(0.45 * units) // size.references) if "prediction" in cell.mechanism else size.texts
        trained = records * size.epochs if cell.mechanism in ("dp_tune", "none") else 0.0
        tokens = {
            "private_prediction": texts * size.tokens * (1 + size.references),
            "private_evolution": texts * 3 * size.tokens * size.rounds,
        }.get(cell.mechanism, texts * size.tokens)
        audit = 2 * (2 * records + 2 * size.canaries) / (3 * TRAINED)  # both models read all records once
        learned = 3 * texts * size.epochs / TRAINED  # the auxiliary model, and two that the utility asks for
        seconds = trained / TRAINED + tokens / (SAMPLED * BATCHED) + audit + learned
        total += seconds
        lines.append(f"{cell.data:10} {cell.name:28} about {seconds / 60:5.0f} minutes")
    return [*lines, f"all together about {total / 3600:.1f} hours on one thread"]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{'data':10} {'cell':28} {'strongest AUC':24} ε at least, promised"]
    for row in rows:
        if "refused" in row:
            lines.append(f"{row['data']:10} {row['cell']:28} refused: {row['refused'][:80]}")
            continue
        aucs = [value for key, value in row["findings"].items() if re.search(r" auc$", key)]
        best = max(aucs, key=lambda value: float(value["value"]), default=None)
        auc = "-" if best is None else f"{best['value']:.3f} [{best['lo']:.3f}, {best['hi']:.3f}]"
        bounds = [
            f"{bound['epsilon_at_least']:.2f} per {bound['per']}, {_told(bound['promised'])}" for bound in row["bounds"]
        ]
        lines.append(f"{row['data']:10} {row['cell']:28} {auc:24} {'; '.join(bounds) or '-'}")
    return lines


def _told(promised: float | None) -> str:
    return "no promise" if promised is None else f"{promised:.3g}"


def _seconds(folder: Path, spent: dict[str, float]) -> dict[str, float]:
    """Seconds of the process that ended the cell, as it left them."""
    place = folder.with_name(f"{folder.name}-seconds.json")
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(spent), encoding="utf-8")
    return dict(json.loads(place.read_text(encoding="utf-8")))


def _tiny(work: Path) -> str:
    from reticent.testing.tiny import save_tiny

    if not (work / "tiny").exists():
        save_tiny(work / "tiny")
    return str(work / "tiny")


def _write(place: Path | None, result: dict[str, Any]) -> None:
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
