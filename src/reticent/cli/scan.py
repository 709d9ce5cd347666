# SPDX-License-Identifier: Apache-2.0
"""`reticent scan`: look at a model or an adapter before it is trusted."""

from __future__ import annotations

from pathlib import Path

from reticent.core.progress import console

USUAL = ("base", "data", "prompts", "clean", "only", "level", "out", "sarif", "junit", "hash")


def command(
    model: str,
    *,
    base: str | None = None,
    data: str | None = None,
    prompts: str | None = None,
    controls: str | None = None,
    clean: str | None = None,
    only: str = "",
    level: float = 0.05,
    out: str | None = None,
    sarif: str | None = None,
    junit: str | None = None,
    hash: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> int:
    """Look at a model, or an adapter, before it is loaded, tuned or served.

    Nothing is unpickled, rendered or executed, and nothing is fetched. It ends with 0 where these scanners found
    nothing, which is not "safe", with 1 where something was found or is suspicious, with 2 where they could not look.

    Args:
        model: folder of the model or adapter, or the name of a catalogue model that was fetched.
        base: folder of a trusted sibling: an earlier revision, or what the model was made from.
        data: private texts that are to be trained on; needs --base.
        prompts: clean prompts with answers, of the task that the model is for.
        controls: texts that the publisher cannot have had.
        clean: folder with a folder for each model that is known to be clean.
        only: kinds (files, weights, behaviour, data) or names of scanners, separated by commas; all when not given.
        level: of false alarms over all scanners with a p-value together.
        out: folder for scan.json and report.html; nothing is written when not given.
        sarif: a SARIF file, for code hosts.
        junit: a JUnit XML file, for continuous integration.
        hash: hash large files too, for the bill of materials.
        device: where models run.
        dtype: of models.
        seed: of all that is drawn.
    """
    from reticent.core.outputs import file_to_write
    from reticent.report.scan_ci_files import SARIF_FILE, SCAN_JUNIT, write_sarif, write_scan_junit
    from reticent.workflows.scan import exit_code, scan

    inputs: dict[str, str | Path | None] = {"the model": model, "the sibling": base, "the data": data, "clean": clean}
    if sarif is not None:
        file_to_write(sarif, SARIF_FILE, flag="--sarif", inputs=inputs)
    if junit is not None:
        file_to_write(junit, SCAN_JUNIT, flag="--junit", inputs=inputs)
    _refuse_one_place(out, sarif, junit)
    results = scan(
        model,
        base=base,
        data=() if data is None else data,
        prompts=() if prompts is None else prompts,
        controls=() if controls is None else controls,
        clean=clean,
        only=only.split(","),
        level=level,
        out=out,
        hashes=hash,
        device=device,
        dtype=dtype,
        seed=seed,
    )
    lines = [results.verdict.headline, *(f"  {sentence}" for sentence in results.verdict.sentences)]
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
    if out is not None:
        console.print(f"report: {out}/report.html", highlight=False, soft_wrap=True, markup=False)
    if sarif is not None:
        write_sarif(sarif, results)
    if junit is not None:
        write_scan_junit(junit, results)
    return exit_code(results)


def _refuse_one_place(out: str | None, sarif: str | None, junit: str | None) -> None:
    """Refuse two outputs at one place, where the second would take the place of the first.

    Raises:
        BadInput: there are two.
    """
    from reticent.core.errors import BadInput
    from reticent.workflows.scan import PAGE_FILE, RESULTS_FILE

    places = (
        {} if out is None else {Path(out).expanduser().resolve() / name: "--out" for name in (RESULTS_FILE, PAGE_FILE)}
    )
    for flag, given in (("--sarif", sarif), ("--junit", junit)):
        place = None if given is None else Path(given).expanduser().resolve()
        if place is not None and (other := places.setdefault(place, flag)) != flag:
            raise BadInput(f"{flag} {given}", f"is where {other} is written too", "Choose another name.")
