# SPDX-License-Identifier: Apache-2.0
"""RunToVerify: an unlearned run with the rows that judge it and the runs that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.unlearning import PlanePoint, UserPromise
from reticent.data.coin import uniform
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.unlearning.request_file import RequestRow, read_request
from reticent.unlearning.run_rows import RunRows, run_rows
from reticent.unlearning.unseen_file import UnseenRow, read_unseen
from reticent.unlearning.verification.case import VerificationCase

RETAIN = 256
"""Retained rows that are looked at, by hash; each more costs a pass of every model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunToVerify:
    """An unlearned run, and the runs that it comes from.

    Args:
        run: the unlearned run.
        parent: whose model it went on from.
        root: the run of `reticent tune`, which holds the texts.
        rows: of the root, as the unlearned model stands.
        request: rows that were to be forgotten, with the half that each is in.
        unseen: likewise, of rows never trained on.
    """

    run: RunFolder
    parent: RunFolder
    root: RunFolder
    rows: RunRows
    request: tuple[RequestRow, ...]
    unseen: tuple[UnseenRow, ...]

    def judged(self, rows: Sequence[RequestRow] | Sequence[UnseenRow], part: str = "judge") -> list[Record]:
        """Records of ``rows`` that are in that half."""
        return [self.rows.records[self.rows.place[row.record_id]] for row in rows if row.part == part]

    @property
    def retained(self) -> list[Record]:
        """All that the last model is to know, planted secrets too."""
        pairs = zip(self.rows.records, self.rows.is_trained, strict=True)
        return [*(record for record, trained in pairs if trained), *self.rows.planted]

    def refuse(self) -> None:
        """Refuse to verify where that would say nothing.

        Raises:
            BadInput: no coins were recorded, or there is nothing to compare with.
        """
        self.rows.refuse_verification()
        if not self.judged(self.unseen):
            raise BadInput(
                str(self.run.root),
                "has no text that was never trained on and is like the forgotten ones, so there is nothing to compare "
                "with",
                "Tune with more records, so that coins keep some of each user out.",
            )

    def case(
        self,
        retrained: Sequence[str] = (),
        *,
        tried: Sequence[PlanePoint] = (),
        paraphrases: Mapping[str, str] | None = None,
    ) -> VerificationCase:
        """The models and texts of its verification.

        Args:
            retrained: folders of models that were trained again without what was forgotten.
            tried: places of other methods in the forget-retain plane.
            paraphrases: other words for the prompts of rows, by id.
        """
        from reticent.unlearning.looks import nearest_in_budget
        from reticent.unlearning.stopping import read_looks  # loads transformers

        about = read_manifest(self.run.manifest).get("unlearn", {})
        looks = read_looks(self.run.looks)
        return VerificationCase(
            title=about.get("title", self.run.root.name),
            after=str(self.run.model),
            before=str(self.parent.model),
            base=None,
            retrained=retrained,
            forget=self.judged(self.request),
            unseen=self.judged(self.unseen),
            retain=sorted(self.retained, key=lambda record: uniform(0, "verification", record.id))[:RETAIN],
            related=self.judged(self.unseen, "steer"),
            paraphrases=paraphrases or {},
            max_tokens=read_manifest(self.root.manifest).get("tune", {}).get("max_tokens"),
            method=_method_of(about),
            request=about.get("request", {}),
            earlier=[_request_of(link.run) for link in self.rows.chain.links[:-1]],
            looks=[look.shown for look in looks],
            stopped_at=nearest_in_budget(looks) if looks else None,
            tried=tried,
            promise=_promise(self.root),
            provenance={"root": str(self.root.root.name), "finished": about.get("finished", "")},
        )


def run_to_verify(folder: RunFolder) -> RunToVerify:
    """Read an unlearned run.

    Raises:
        BadInput: the folder holds none, or is broken.
    """
    if folder.settings("unlearn") is None:
        raise BadInput(str(folder.root), "holds no unlearning", "Give a run folder of `reticent unlearn`.")
    rows = run_rows(folder)
    links = rows.chain.links
    parent = links[-2].run if len(links) > 1 else rows.chain.root
    return RunToVerify(
        run=folder,
        parent=parent,
        root=rows.chain.root,
        rows=rows,
        request=read_request(folder.request),
        unseen=read_unseen(folder.unseen),
    )


def _method_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """The method and its settings as a page shows them: without what was left open, or concerns the machine."""
    settings = {**about.get("unlearning", {}), **about.get("settled", {})}
    beside = ("resume", "device", "dtype")
    return {name: value for name, value in settings.items() if value not in (None, {}) and name not in beside}


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
