# SPDX-License-Identifier: Apache-2.0
"""How far an unlearning worked: a run folder, held against models that are trained again without what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import sweep
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, read_manifest, write_manifest
from reticent.core.processes import refuse_several
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.unlearning import UnlearningResults, UserPromise
from reticent.data.coin import uniform
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.unlearning.request_file import RequestRow, read_request
from reticent.unlearning.run_rows import RunRows, run_rows
from reticent.unlearning.unseen_file import UnseenRow, read_unseen
from reticent.unlearning.verification.config import VerifyConfig

ORACLES = 5
"""Models trained again, by default: with fewer the prediction interval is wide."""
RETAIN = 256
"""Retained rows that are looked at, by hash; each more costs a pass of every model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Verification:
    """An unlearned run, and the runs that it comes from."""

    run: RunFolder
    parent: RunFolder
    root: RunFolder
    rows: RunRows
    request: tuple[RequestRow, ...]
    unseen: tuple[UnseenRow, ...]

    def record(self, identity: str) -> Record:
        return self.rows.records[self.rows.place[identity]]

    def judged(self, rows: Sequence[Any], part: str = "judge") -> list[Record]:
        return [self.record(row.record_id) for row in rows if row.part == part]

    @property
    def retained(self) -> list[Record]:
        """All that the last model is to know, planted secrets too."""
        pairs = zip(self.rows.records, self.rows.is_trained, strict=True)
        return [*(record for record, trained in pairs if trained), *self.rows.planted]


def verify(
    run: RunFolder | str | Path, config: VerifyConfig | None = None, *, oracles: int = ORACLES
) -> UnlearningResults:
    """Look into an unlearned run, and write results, page and certificate into its folder.

    Killed and called again it goes on: retrained models stay in ``retrained/``, tables of tokens in the user's cache.

    Args:
        run: of `reticent.unlearn`.
        config: how far to look; None for the defaults.
        oracles: models that are trained again without what was forgotten, each with a seed of its own; 0 for none,
            which the certificate says. With fewer than 3 there is no interval to lie in.

    Raises:
        BadInput: the folder holds no unlearning; its run recorded no coins; a model cannot be trained again; several
            processes.
    """
    refuse_several("reticent.verify")
    config = config or VerifyConfig()
    folder = run if isinstance(run, RunFolder) else RunFolder(root=Path(run))
    verified = _read(folder)
    verified.rows.refuse_verification()
    if not verified.judged(verified.unseen):
        raise BadInput(
            str(folder.root),
            "has no text that was never trained on and is like the forgotten ones, so there is nothing to compare with",
            "Tune with more records, so that coins keep some of each user out.",
        )
    with folder.alone():
        models = [_retrained(verified, number) for number in range(oracles)]
        with folder.kept_if(lambda: False):  # half of a first verification is none
            return _verify(verified, config, models)


def _read(folder: RunFolder) -> _Verification:
    if folder.settings("unlearn") is None:
        raise BadInput(str(folder.root), "holds no unlearning", "Give a run folder of `reticent unlearn`.")
    rows = run_rows(folder)
    links = rows.chain.links
    parent = links[-2].run if len(links) > 1 else rows.chain.root
    return _Verification(
        run=folder,
        parent=parent,
        root=rows.chain.root,
        rows=rows,
        request=read_request(folder.request),
        unseen=read_unseen(folder.unseen),
    )


def _retrained(verified: _Verification, number: int) -> str:
    """The folder of a model trained again without all that was forgotten so far."""
    from reticent.train.checkpoints import close_folder
    from reticent.unlearning.exact import retrain, settings_of

    about = settings_of(verified.root)
    seed = int(about["training"].get("seed", 0)) + 1 + number
    place = RunFolder(root=verified.run.retrained / f"{number:03d}")
    for folder in (verified.run.retrained, place.root):
        folder.mkdir(mode=0o700, exist_ok=True)
    sweep(place.root)
    console.print(f"model {number + 1} trained again without what was forgotten", highlight=False)
    retrain(verified.root, verified.retained, place.model, seed=seed)
    close_folder(place.model)  # a call that was killed once the model was there left them
    return str(place.model)


def _verify(verified: _Verification, config: VerifyConfig, models: Sequence[str]) -> UnlearningResults:
    from reticent.report.certificate_page import write_certificate_page
    from reticent.report.unlearning_file import write_certificate, write_unlearning
    from reticent.report.unlearning_page import write_unlearning_page
    from reticent.unlearning.looks import Look
    from reticent.unlearning.stopping import last_in_budget, read_looks
    from reticent.unlearning.verification.case import VerificationCase
    from reticent.unlearning.verification.certificate import certificate_of
    from reticent.unlearning.verification.verify import verify as look_into

    run, about = verified.run, read_manifest(verified.run.manifest).get("unlearn", {})
    looks: list[Look] = read_looks(run.looks)
    retained = sorted(verified.retained, key=lambda record: uniform(0, "verification", record.id))[:RETAIN]
    tuned = read_manifest(verified.root.manifest).get("tune", {})
    case = VerificationCase(
        title=about.get("title", run.root.name),
        after=str(run.model),
        before=str(verified.parent.model),
        base=None,
        retrained=models,
        forget=verified.judged(verified.request),
        unseen=verified.judged(verified.unseen),
        retain=retained,
        related=verified.judged(verified.unseen, "steer"),
        max_tokens=tuned.get("max_tokens"),
        method=about.get("unlearning", {}),
        request=about.get("request", {}),
        earlier=[_request_of(link.run) for link in verified.rows.chain.links[:-1]],
        looks=[look.shown for look in looks],
        stopped_at=last_in_budget(looks) if looks else None,
        promise=_promise(verified.root),
        provenance={"root": str(verified.root.root.name), "finished": about.get("finished", "")},
    )
    results = look_into(case, config)
    digest = write_unlearning(run.unlearning, results)
    write_unlearning_page(run.report, results)
    certificate = certificate_of(results, results_sha256=digest)
    write_certificate(run.certificate, certificate)
    write_certificate_page(run.certificate_page, certificate)
    checked = asdict(config) | {"oracles": len(models), "finished": now()}
    write_manifest(run.manifest, verify=checked, environment=environment())
    return results


def _request_of(run: RunFolder) -> dict[str, Any]:
    request = (run.settings("unlearn") or {}).get("request", {})
    return dict(request) if isinstance(request, dict) else {}


def _promise(root: RunFolder) -> UserPromise | None:
    """The promise per user that the run at the root was trained with, which bounds what can be left of one."""
    if not root.promise.exists():
        return None
    guarantee = PrivacyGuarantee.from_json(root.promise.read_text(encoding="utf-8"))
    if guarantee.unit != "user":
        return None
    return UserPromise(epsilon=guarantee.epsilon, delta=guarantee.delta, sentence=str(guarantee))
