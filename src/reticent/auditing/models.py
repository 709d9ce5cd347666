# SPDX-License-Identifier: Apache-2.0
"""Open the target model and the reference model that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reticent.auditing.case import AuditCase
from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.redteam_marker import marker_of
from reticent.models.device_map import DeviceMap, summary
from reticent.models.emulation import ROLES, EmulationInfo
from reticent.models.encode import encode
from reticent.models.load import LoadedModel, load
from reticent.models.turns import Turns
from reticent.score.engine import ScoreOptions
from reticent.score.make_tables import ScoredModel

_SWITCHED_OFF = "the target with its adapter switched off"
_LARGE_ALONE = "the large model, which is the target at beta 0"


@dataclass(frozen=True, kw_only=True, eq=False)
class Models:
    """The target, and the reference where there is one.

    Args:
        target: the model under audit.
        reference: the model that it is compared with; None without one, and where the target is an adapter that is
            switched off to serve as its own reference.
        compared_with: name of the reference, also of an adapter's base; None without one.
        reference_is: a sentence on the kind of reference, for the report.
    """

    target: LoadedModel
    reference: LoadedModel | None
    compared_with: str | None
    reference_is: str = ""

    @property
    def about(self) -> dict[str, Any]:
        """The entries of the manifest about the models."""
        entries: dict[str, Any] = {
            "target": _name(self.target.source),
            "target_fingerprint": self.target.fingerprint,
            "reference": None if self.compared_with is None else _name(self.compared_with),
            "reference_fingerprint": self.target.base_fingerprint,
            "reference_is": self.reference_is,
            "dtype": self.target.dtype,
            "device": self.target.device,
        }
        if self.reference is not None:
            entries["reference_fingerprint"] = self.reference.fingerprint
        if self.target.tuned is not None and self.target.tuned.base_in:
            entries["base_in_training"] = self.target.tuned.base_in
        if (placed := summary(self.target.model)) is not None:
            entries["modules_on"] = placed
        sources = {"the target": self.target.source, "the target's base": self.target.base_source}
        if self.target.emulation is not None:
            entries["emulation"] = _parts(self.target.emulation)
        markers = {name: marker for name, source in sources.items() if (marker := marker_of(source))}
        return entries | ({"redteam": {name: marker["kind"] for name, marker in markers.items()}} if markers else {})


def _parts(info: EmulationInfo) -> dict[str, Any]:
    """The three models of an emulated fine-tune, and how they are put together."""
    parts = {role: getattr(info, role) for role in ROLES}
    named = {role: {"source": _name(part.source), "fingerprint": part.fingerprint} for role, part in parts.items()}
    return {**named, **asdict(info.settings), "statement": info.statement}


def scored_models(models: Models) -> tuple[ScoredModel, ScoredModel | None]:
    """The target and the reference as models to score with; None where there is no reference."""
    options = ScoreOptions()
    target = ScoredModel(loaded=models.target, off=False, options=options)
    if models.reference is not None:
        return target, ScoredModel(loaded=models.reference, off=False, options=options)
    return target, ScoredModel(loaded=models.target, off=True, options=options) if models.compared_with else None


def _name(source: str) -> str:
    """The name of a model in reports: of a folder its name without the path, else the hub id or catalogue name. A
    folder called "model" is named together with its parent, which is a run."""
    place = Path(source).expanduser()
    if not (place.is_absolute() or place.is_dir()):
        return source
    place = place.resolve()
    return f"{place.parent.name}/{place.name}" if place.name == "model" and place.parent.name else place.name


def open_models(
    case: AuditCase, *, dtype: str, device: str, device_map: DeviceMap | None = None, one_at_a_time: bool = False
) -> Models:
    """Load the target and the reference; an adapter is its own reference (one copy in memory) if it is its base when it
    is switched off, which is tried, and else a second copy of its base is loaded.

    The reference is the one named by the subject, else the base that the target says it was tuned from. A target that
    names no base, or whose base cannot be had, is audited without one. Both read the target's tokens.

    Args:
        case: which models.
        dtype, device, device_map: as `reticent.models.load.load` takes them.
        one_at_a_time: the weights of the model that is not asked are not in memory.

    Raises:
        BadInput: a model cannot be loaded, or not be placed; or a text uses a token that one of the two lacks.
    """
    opened = partial(load, dtype=dtype, device=device, device_map=device_map)
    if one_at_a_time:
        opened = partial(_in_turn, Turns(), opened)
    target = opened(case.target) if isinstance(case.target, str) else case.target
    _say_quantised(target)
    reference_name = case.reference_name or target.base_source
    is_own_reference = target.can_switch_off and reference_name in (None, target.base_source)
    if is_own_reference and target.is_adapter:
        _refuse_texts(case, target, dict.fromkeys(target.unknown, target.source))
        return Models(
            target=target,
            reference=None,
            compared_with=target.base_source or "the adapter's base",
            reference_is=_SWITCHED_OFF if target.emulation is None else _LARGE_ALONE,
        )
    reference = None if reference_name is None else _reference(case, reference_name, opened)
    if reference is None:
        _refuse_texts(case, target, dict.fromkeys(target.unknown, target.source))
        return Models(target=target, reference=None, compared_with=None)
    description = "a model of its own"
    if is_own_reference:
        description = f"a second copy of the base, because the adapter switched off is not its base: {target.apart}"
        console.print(f"The reference is {description}.", style="yellow", highlight=False, soft_wrap=True)
    unknown = dict.fromkeys(target.unknown, target.source)
    if target.tokenizer.get_vocab() != reference.tokenizer.get_vocab() or reference.unknown:
        _refuse_other_words(case, target, reference)
        unknown |= dict.fromkeys(_foreign(target, reference), reference.source)
    _refuse_texts(case, target, unknown)
    reference = replace(reference, tokenizer=target.tokenizer)
    return Models(target=target, reference=reference, compared_with=reference_name, reference_is=description)


def _say_quantised(target: LoadedModel) -> None:
    if target.tuned is not None and target.tuned.base_in:
        console.print(
            f"The adapter was trained on a base in {target.tuned.base_in}; it is scored on the base as its files have "
            "it.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def _in_turn(turns: Turns, read: Callable[[str], LoadedModel], source: str) -> LoadedModel:
    return turns.opened(partial(read, source))


def _reference(case: AuditCase, name: str, opened: Callable[[str], LoadedModel]) -> LoadedModel | None:
    if case.reference is not None and not isinstance(case.reference, str):
        return case.reference
    try:
        return opened(name)
    except BadInput:
        if case.reference is not None:
            raise
        return None


def _refuse_other_words(case: AuditCase, target: LoadedModel, reference: LoadedModel) -> None:
    """Refuse a reference that would cut the texts into other tokens than the target does.

    Fine-tuning adds tokens ([PAD], marks of turns), so tokenizers may differ in what no text uses.
    """
    for record in _texts(case):
        token_ids = [
            loaded.tokenizer(record.plain, add_special_tokens=False, verbose=False)["input_ids"]
            for loaded in (target, reference)
        ]
        if token_ids[0] != token_ids[1]:
            raise BadInput(
                f"reference {reference.source}",
                f"its tokenizer has another vocabulary than the target's, and reads record {record.id!r} in other "
                "tokens, so they cannot be compared",
                "Give the model that the target was fine-tuned from (--reference).",
            )


def _foreign(target: LoadedModel, reference: LoadedModel) -> frozenset[int]:
    """Tokens of the target that the reference knows as something else or not at all."""
    reference_ids = reference.tokenizer.get_vocab()
    rows = int(reference.model.get_input_embeddings().weight.shape[0])
    target_ids = target.tokenizer.get_vocab().items()
    return reference.unknown | {
        number for token, number in target_ids if reference_ids.get(token) != number or number >= rows
    }


def _refuse_texts(case: AuditCase, target: LoadedModel, lacking: Mapping[int, str]) -> None:
    """Refuse texts with a token that a model lacks, which would be read as something else.

    Args:
        lacking: token → the model without it.
    """
    if not lacking:
        return
    for record in _texts(case):
        row = encode(record, target.tokenizer, max_tokens=case.max_tokens)
        unknown = next((token for token in row.token_id.tolist() if token in lacking), None)
        if unknown is not None:
            raise BadInput(
                f"record {record.id!r}",
                f"is read with the token {target.tokenizer.convert_ids_to_tokens(unknown)!r}, which {lacking[unknown]} "
                "does not know",
                "Give the model that the target was fine-tuned from, with its tokens (--reference), or leave such "
                "records out.",
            )


def _texts(case: AuditCase) -> Iterator[Record]:
    yield from case.records
    yield from (canary.record for canary in case.canaries)
