# SPDX-License-Identifier: Apache-2.0
"""From records to the rows that are trained on: copies left out, coins thrown, secrets planted.

All that lies between a file and the sampler of a private training is `inputs.read_data`, what stands here, and what
cuts and tokenises each text by itself. What each step can change is declared in `reticent.data.stability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.progress import console
from reticent.core.record import Record, Span
from reticent.data.canaries import Planting, plant, plant_users
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.dedup import DroppedRecord
from reticent.data.ids import tells_of_spans
from reticent.data.split_config import SplitConfig, throw_coins
from reticent.privacy.spec import PrivacySpec
from reticent.train.objectives.objective import Objective
from reticent.workflows import sampled_canaries
from reticent.workflows.inputs import without_copies


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRows:
    """Records that are trained on and held out.

    Args:
        records: with the texts of canary users.
        membership: their coins.
        planting: secrets; None where there are none.
        as_read: the records before anything was planted.
        repeated: texts in which users repeat themselves, left out; None where nobody looked.
    """

    records: Sequence[Record]
    membership: Membership
    planting: Planting | None
    as_read: Sequence[Record]
    repeated: Sequence[DroppedRecord] | None

    @property
    def trained(self) -> list[Record]:
        """The members, then the copies of planted secrets."""
        members = [record for record, member in zip(self.records, self.membership.member, strict=True) if member]
        return [*members, *(self.planting.to_train if self.planting is not None else ())]

    def held_out(self, privacy: PrivacySpec | None = None) -> list[Record]:
        """Records that are not trained on; under a promise per user those of users who are not.

        Without such a promise texts that another user has too are left out: that user may be trained on. With one they
        stay, so that coins alone choose: their exact loss is published, and which of them are left out would tell, with
        no noise on it, of what users have that are trained on.
        """
        if promised_unit(privacy) == "user":
            out = ~self.membership.member & ~self.membership.user_member
        else:
            out = ~self.membership.member & (self.membership.role != "shared")
        return [record for record, chosen in zip(self.records, out, strict=True) if chosen]


def promised_unit(privacy: PrivacySpec | None) -> str | None:
    """``"record"`` or ``"user"``; None where nothing is promised."""
    return privacy.unit if privacy is not None and privacy.is_private else None


def training_rows(
    records: Sequence[Record],
    *,
    base: str,
    split_config: SplitConfig,
    canary_config: CanaryConfig,
    privacy: PrivacySpec,
    objectives: Sequence[Objective] = (),
    max_tokens: int,
) -> TrainingRows:
    """Leave out copies, throw coins, plant.

    With settings that ``data.stability.refuse_unstable`` lets pass, one protected unit more or less in ``records``
    changes the training rows of no other.

    Args:
        records: unique ids that do not depend on other records.
        base: whose tokenizer says what is left of a secret; only read where something is planted.
        objectives: of the training; some leave records out.
        max_tokens: what texts are cut to.

    Raises:
        BadInput: a side of the split is empty, or ``max_tokens`` cuts secrets off.
    """
    if privacy.protect == "spans":
        _check_ids(records)
    repeated: list[DroppedRecord] | None = None
    for chosen in objectives:
        if chosen.has("before_coins"):
            records, dropped = chosen.before_coins(records)
            repeated = [*(repeated or ()), *dropped]
    unit = promised_unit(privacy)
    as_read = without_copies(records, within_users=split_config.copies_within_users(unit))
    membership = throw_coins(as_read, split_config, unit)
    setting = PlantingSetting(config=canary_config, seed=split_config.split_seed, base=base, max_tokens=max_tokens)
    rows, membership, planting = _plant(as_read, membership, setting, privacy)
    if planting is not None and privacy.protect == "spans":
        planting = replace(planting, to_train=tuple(map(_marked, planting.to_train)))
    return TrainingRows(records=rows, membership=membership, planting=planting, as_read=as_read, repeated=repeated)


def _check_ids(records: Sequence[Record]) -> None:
    """Refuse coins that follow from what spans hold: which texts are learned, without noise, would tell of it."""
    telling = sum(map(tells_of_spans, records))
    if telling:
        raise BadInput(
            f"the ids of {telling} of {len(records)} records",
            "are made of the whole text, so the coin of each would follow from what its protected spans hold",
            "Read them with hide_spans=True, or give them ids of their own.",
        )


def _marked(secret: Record) -> Record:
    """As one span, so that what the promise covers is what the secret measures."""
    return replace(secret, spans=(Span(start=0, end=len(secret.plain), kind="CANARY"),))


@dataclass(frozen=True, kw_only=True)
class PlantingSetting:
    """All that decides what is planted, beside the records and their coins.

    Args:
        config: how many secrets, of which kind.
        seed: of secrets and coins.
        base: whose tokenizer says what is left of a secret.
        max_tokens: what texts are cut to.
    """

    config: CanaryConfig
    seed: int
    base: str
    max_tokens: int


def _plant(
    records: Sequence[Record], membership: Membership, setting: PlantingSetting, spec: PrivacySpec
) -> tuple[Sequence[Record], Membership, Planting | None]:
    """Records and coins with canary users among them, and secrets; refused where training would not see them whole."""
    config, max_tokens = setting.config, setting.max_tokens
    if not (config.canaries or config.canary_users):
        return records, membership, None
    from reticent.models.load import load_tokenizer
    from reticent.models.trainable import check_phrases, check_trainable

    tokenizer, planting = load_tokenizer(setting.base), None
    if config.canary_users:
        users = plant_users(
            records, membership, users=config.canary_users, words=config.canary_words, seed=setting.seed
        )
        cut = check_phrases(users.records, users.phrases, tokenizer, max_tokens)
        if cut.lost:
            warning = f"{cut.lost} of {cut.texts} texts of canary users are cut off before their phrase (--max_tokens)"
            console.print(warning, style="yellow", highlight=False)
        records, membership = users.records, users.membership
    if config.canaries:
        planting = _secrets(records, membership, setting, tokenizer, blind=spec.is_private)
        check_trainable(planting.canaries, tokenizer, max_tokens)
    return records, membership, planting


def _secrets(
    records: Sequence[Record], membership: Membership, setting: PlantingSetting, tokenizer: Any, *, blind: bool
) -> Planting:
    """Secrets with their coins; where a model writes them, those of another kind lend their coins."""
    from reticent.models.vocabulary import whole_words

    config = setting.config
    openings = sampled_canaries.openings_of(config.canary_kind)
    by_model = openings is not None
    if by_model:
        sampled_canaries.refuse_taken(records)
    planting = plant(
        records,
        membership,
        kind=sampled_canaries.DRAWN_AS if by_model else config.canary_kind,
        secrets=config.canaries,
        controls=config.canary_controls,
        repetitions=config.tiers(private=blind),
        seed=setting.seed,
        vocabulary=() if by_model else whole_words(tokenizer),
        blind=blind,
    )
    if openings is None:
        return planting
    return sampled_canaries.sampled_planting(
        planting, base=setting.base, openings=openings, max_tokens=setting.max_tokens, seed=setting.seed
    )
