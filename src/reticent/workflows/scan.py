# SPDX-License-Identifier: Apache-2.0
"""Scan a model folder before it is trusted: files, weights, behaviour, and data beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now
from reticent.core.outputs import refuse_empty, refuse_foreign, refuse_input
from reticent.core.printable import printable
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.scan_results import ScanResults
from reticent.core.scan_words import CLEAN, FILES
from reticent.core.user_cache import user_cache
from reticent.scanning.bill_of_materials import bill_of_materials, claims
from reticent.scanning.clean_models import read_clean
from reticent.scanning.intake import (
    claimed_base,
    model_folder_of,
    refuse_folder_to_scan,
    refuse_sibling,
)
from reticent.scanning.run import chosen_scanners, plan_scan, run_scanners
from reticent.scanning.scanner import Scanner
from reticent.scanning.suspect import Suspect
from reticent.scanning.verdict import outcomes_of, verdict_of

LEVEL = 0.05
RESULTS_FILE, PAGE_FILE = "scan.json", "report.html"


def scan(
    path: str | Path,
    *,
    base: str | Path | None = None,
    data: Sequence[Record] | str | Path = (),
    prompts: Sequence[Record] | str | Path = (),
    controls: Sequence[Record] | str | Path = (),
    clean: str | Path | None = None,
    only: Sequence[str] = (),
    level: float = LEVEL,
    out: str | Path | None = None,
    hashes: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> ScanResults:
    """Look at a model, or an adapter, before it is loaded, tuned or served. It never says that one is safe.

    Files are read by rules: nothing is unpickled, rendered, imported or executed, and nothing is fetched. Scanners of
    behaviour load the model from safetensors only, without code of its own.

    Args:
        path: folder of the model or adapter, a run folder, or the name of a fetched catalogue model.
        base: folder of a trusted sibling: an earlier revision, or what the model was made from. Of an adapter, the
            base; by default the one that it names, where that is here.
        data: private texts that are to be trained on: records, or a file of them. They need a sibling.
        prompts: clean prompts with answers, of the task that the model is for.
        controls: texts that the publisher cannot have had.
        clean: folder with a folder for each model that is known to be clean: same base, same method.
        only: kinds (``"files"``, ``"weights"``, ``"behaviour"``, ``"data"``) or names of scanners; all by default.
        level: of false alarms, over all scanners that have a p-value together (Holm).
        out: folder for ``scan.json`` and ``report.html``; None writes nothing.
        hashes: whether large files are hashed for the bill of materials.
        device, dtype: of models, as elsewhere.
        seed: of all that is drawn.

    Raises:
        BadInput: no model folder, one that is empty, cut or leaves itself by a link; a zip bomb; a sibling of another
            architecture or vocabulary; data without a sibling; an adapter whose base is not here; an output in the way.
        Underpowered: fewer clean models than the level needs.

    Examples:
        >>> import reticent
        >>> model = reticent.testing.save_tiny("model")
        >>> results = reticent.scan(model, only=["files"])
        >>> results.verdict.headline
        'Nothing found by these scanners'
    """
    validate.in_range(0, 1, level=level)
    chosen = chosen_scanners(_words(only))
    folder = model_folder_of(path)
    target = None if out is None else _place(out, {"the model": folder, "the sibling": base, "clean models": clean})
    refuse_folder_to_scan(folder)
    suspect = Suspect(
        folder=folder,
        base=_sibling(folder, base, chosen),
        data=_records(data, "data"),
        prompts=_records(prompts, "prompts"),
        controls=_records(controls, "controls"),
        cache=user_cache() / "tables",
        device=device,
        dtype=dtype,
        seed=seed,
    )
    if suspect.data and suspect.base is None:
        raise BadInput("--data", "says nothing about a model without a trusted sibling", "Give one with --base.")
    clean_models = _clean(clean, suspect, chosen)
    results = _results(suspect, chosen, clean_models, level=level, hashes=hashes)
    if target is not None:
        write_outputs(target, results)
    return results


def _results(
    suspect: Suspect, chosen: Sequence[Scanner], clean: Sequence[Suspect], *, level: float, hashes: bool
) -> ScanResults:
    """Let all scanners look, having said what they can say at most."""
    plan = plan_scan(suspect, chosen, clean=len(clean), level=level)
    if plan.announcement:
        console.print(plan.announcement, highlight=False, markup=False)
    outcomes = outcomes_of(run_scanners(suspect, plan, clean), level)
    folder = suspect.folder
    return ScanResults(
        title=printable(folder.name if folder.name != "model" else f"{folder.parent.name}/model"),
        created=now(),
        verdict=verdict_of(outcomes),
        level=level,
        outcomes=outcomes,
        files=bill_of_materials(folder, hashes=hashes),
        clean=len(clean),
        provenance={
            "claims": claims(folder),
            "sibling": None if suspect.base is None else printable(suspect.base.name),
            "private texts": len(suspect.data),
            "prompts": len(suspect.prompts),
            "seed": suspect.seed,
            **environment(),
        },
    )


def exit_code(results: ScanResults) -> int:
    """0: nothing found by these scanners; 1: found or suspicious; 2: could not look."""
    return {"nothing found": 0, "could not look": 2}.get(results.verdict.word, 1)


def write_outputs(folder: Path, results: ScanResults) -> None:
    """Write ``scan.json`` and ``report.html`` into a folder, which is made where it is missing."""
    from reticent.report.scan_file import write_scan
    from reticent.report.scan_page import write_scan_page

    write_scan(folder / RESULTS_FILE, results)
    write_scan_page(folder / PAGE_FILE, results)


def _place(out: str | Path, inputs: dict[str, str | Path | None]) -> Path:
    """The folder for outputs, where it is no input and what would be replaced is of an earlier scan."""
    from reticent.report.scan_file import SCAN_FILE
    from reticent.report.scan_page import SCAN_PAGE

    refuse_empty("--out", out)
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {out}", "is a file, and a folder is to be written to", "Name a folder.")
    refuse_input(folder, inputs)
    refuse_foreign(folder / RESULTS_FILE, SCAN_FILE)
    refuse_foreign(folder / PAGE_FILE, SCAN_PAGE)
    return folder


def _words(only: Sequence[str] | str) -> list[str]:
    words = only.split(",") if isinstance(only, str) else list(only)
    return [word.strip() for word in words if word.strip()]


def _sibling(folder: Path, base: str | Path | None, chosen: Sequence[Scanner]) -> Path | None:
    """The folder of the sibling; of an adapter the base that it names, unless only files are looked at."""
    if base is not None:
        sibling = model_folder_of(base, "--base")
        refuse_folder_to_scan(sibling)
        refuse_sibling(folder, sibling)
        return sibling
    return None if {entry.kind for entry in chosen} <= {FILES} else claimed_base(folder)


def _records(given: Sequence[Record] | str | Path, flag: str) -> Sequence[Record]:
    if not isinstance(given, str | Path):
        return tuple(given)
    from reticent.workflows.inputs import DataConfig, read_data

    refuse_empty(f"--{flag}", given)
    return tuple(read_data(str(given), DataConfig(), id_prefix=flag[0]).records)


def _clean(clean: str | Path | None, suspect: Suspect, chosen: Sequence[Scanner]) -> list[Suspect]:
    """Clean models as suspects of their own, where a scanner compares with them."""
    if clean is None:
        return []
    if not any(entry.null == CLEAN or entry.clean_limits for entry in chosen):
        raise BadInput(
            "--clean", "is given, and no scanner that was chosen compares with clean models", "Leave it out."
        )
    given = read_clean(clean, suspect)
    for name, reason in given.left_out:
        line = f"left out of the clean models: {printable(name)}, which {printable(reason)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return list(given.models)
