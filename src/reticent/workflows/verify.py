# SPDX-License-Identifier: Apache-2.0
"""How far an unlearning worked: a run folder, held against models that are trained again without what was forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from reticent.core import validate
from reticent.core.atomic import sweep
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.processes import refuse_several
from reticent.core.progress import console
from reticent.core.record import fingerprint
from reticent.core.run_folder import RunFolder
from reticent.core.unlearning import UnlearningResults
from reticent.unlearning.methods_folder import MethodsFolder, methods_folder_of
from reticent.unlearning.paraphrases import read_paraphrases
from reticent.unlearning.run_rows import run_rows
from reticent.unlearning.run_to_verify import RunToVerify, run_to_verify
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.config import VerifyConfig

ORACLES = 5
"""Models trained again, by default: with fewer the prediction interval is wide."""


def verify(
    run: RunFolder | str | Path,
    config: VerifyConfig | None = None,
    *,
    oracles: int = ORACLES,
    oracles_from: RunFolder | str | Path | None = None,
    paraphrases: str | Path | Mapping[str, str] | None = None,
) -> UnlearningResults:
    """Look into an unlearned run, and write results, page and certificate into its folder.

    Killed and called again it goes on: retrained models stay in ``retrained/``, tables of tokens in the user's cache.

    Args:
        run: of `reticent.unlearn`.
        config: how far to look; None for the defaults.
        oracles: models that are trained again without what was forgotten, each with a seed of its own; 0 for none,
            which the certificate says. With fewer than 3 there is no interval to lie in.
        oracles_from: another run of the same request, or the folder of several methods, whose retrained models are
            taken, and where those that are missing are trained; None for the folder of several methods that the run is
            in, else the run's own.
        paraphrases: other words for prompts of forgotten rows, by the rows' ids; or a file of them, see
            `reticent.unlearning.paraphrases.read_paraphrases`.

    Raises:
        BadInput: the folder holds no unlearning; its run recorded no coins; a model cannot be trained again; models of
            another request; several processes.
    """
    refuse_several("reticent.verify")
    config = config or VerifyConfig()
    validate.non_negative(oracles=oracles)
    if oracles_from is not None and not oracles:
        raise BadInput(f"oracles_from={oracles_from} with oracles=0", "no models are asked for", "Leave one out.")
    folder = run if isinstance(run, RunFolder) else RunFolder(root=Path(run))
    verified = run_to_verify(folder)
    verified.refuse()
    retrained = _place_of_oracles(verified, oracles_from)
    around = methods_folder_of(folder)
    tried = [] if around is None else [row for row in around.tried() if row.method]
    words = {} if paraphrases is None else read_paraphrases(paraphrases, verified.judged(verified.request))
    with folder.alone():
        models = _oracles(verified, retrained, oracles)
        case = verified.case(
            models,
            tried=[row.place for row in tried if row.place is not None and row.name != folder.root.resolve().name],
            paraphrases=words,
        )
        with folder.kept_if(lambda: False):  # half of a first verification is none
            return _verify(verified, config, case)


def _place_of_oracles(verified: RunToVerify, given: RunFolder | str | Path | None) -> Path:
    """The folder of the retrained models.

    Raises:
        BadInput: those there are of another request. Beyond that, each model says what it was trained on.
    """
    if given is None:
        around = methods_folder_of(verified.run)
        return verified.run.retrained if around is None else around.retrained
    root = given.root if isinstance(given, RunFolder) else Path(given)
    several = MethodsFolder(root=root)
    if several.exists:
        runs = [RunFolder(root=root / row.name) for row in several.tried() if row.method and not row.why_not]
        if not runs:
            raise BadInput(str(root), "holds no unlearning yet", "Leave out --oracles_from.")
        _refuse_other_request(verified, runs[0], root)
        return several.retrained
    other = RunFolder(root=root)
    _refuse_other_request(verified, other, root)
    return other.retrained


def _refuse_other_request(verified: RunToVerify, other: RunFolder, given: Path) -> None:
    if other.settings("unlearn") is None:
        raise BadInput(
            str(given), "holds no unlearning", "Give a run folder of `reticent unlearn`, or one of several methods."
        )
    rows = run_rows(other)
    same_data = fingerprint(rows.records) == fingerprint(verified.rows.records)
    if not same_data or rows.chain.forgotten.keys() != verified.rows.chain.forgotten.keys():
        reason = "took out other records" if same_data else "was made from other data"
        raise BadInput(
            str(given),
            f"{reason}, so what was trained again for it is no baseline of {verified.run.root}",
            "Leave out --oracles_from, or give a run of the same request.",
        )


def _oracles(verified: RunToVerify, place: Path, count: int) -> list[str]:
    """Folders of models trained again without all that was forgotten so far; made where they are missing."""
    if not count:
        return []
    with _alone(place, verified):
        return [_retrained(verified, place, number) for number in range(count)]


@contextmanager
def _alone(place: Path, verified: RunToVerify) -> Iterator[None]:
    """Work in the folder of retrained models while nobody else does: other runs may share it."""
    if place.parent.resolve() == verified.run.root.resolve():
        yield
        return
    with locked(place):
        yield


def _retrained(verified: RunToVerify, place: Path, number: int) -> str:
    """The folder of one such model. One that is there was trained on the same rows with the same settings and seed,
    or is refused."""
    from reticent.train.checkpoints import close_folder
    from reticent.unlearning.retraining import retrain, settings_of

    about = settings_of(verified.root)
    seed = int(about["training"].get("seed", 0)) + 1 + number
    run = RunFolder(root=place / f"{number:03d}")
    for folder in (place, run.root):
        folder.mkdir(mode=0o700, exist_ok=True)
    sweep(run.root)
    console.print(f"model {number + 1} trained again without what was forgotten", highlight=False)
    retrain(verified.root, verified.retained, run.model, seed=seed)
    close_folder(run.model)  # a call that was killed once the model was there left them
    return str(run.model)


def _verify(verified: RunToVerify, config: VerifyConfig, case: VerificationCase) -> UnlearningResults:
    from reticent.report.certificate_page import write_certificate_page
    from reticent.report.unlearning_file import write_certificate, write_unlearning
    from reticent.report.unlearning_page import write_unlearning_page
    from reticent.unlearning.verification.certificate import certificate_of
    from reticent.unlearning.verification.look_into import verify as look_into

    run = verified.run
    results = look_into(case, config)
    digest = write_unlearning(run.unlearning, results)
    write_unlearning_page(run.report, results)
    certificate = certificate_of(results, results_sha256=digest)
    write_certificate(run.certificate, certificate)
    write_certificate_page(run.certificate_page, certificate)
    checked = asdict(config) | {"oracles": len(case.retrained), "finished": now()}
    checked |= {"paraphrases": len(case.paraphrases)} if case.paraphrases else {}
    write_manifest(run.manifest, verify=checked, environment=environment())
    return results
