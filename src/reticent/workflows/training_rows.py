# SPDX-License-Identifier: Apache-2.0
"""From records to the rows that are trained on: copies left out, coins thrown, secrets planted.

All that lies between a file and the sampler of a private training is `intake.read_data`, what stands here, and what
cuts and tokenises each text by itself. What each step can change is declared in `reticent.data.stability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.progress import console
from reticent.core.record import Record, Span
from reticent.data.canaries import Planting, plant, plant_users
from reticent.data.dedup import DroppedRecord, within_user
from reticent.data.ids import tells_of_spans
from reticent.data.shared_texts import set_aside_shared
from reticent.data.split import split
from reticent.privacy.spec import PrivacySpec
from reticent.train.hardening import HardenConfig
from reticent.workflows.inputs import without_copies

MOST_CANARIES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How coins decide who is trained on.

    Args:
        split_unit: "user" throws a coin for each user and then one for each record of the users that are in; "record"
            one for each record. "auto" throws coins for the unit of the privacy promise, so that it can be audited;
            without a promise for users where there are users.
        probability: chance that a unit is in.
        train_fraction: with unit "user", the chance that a record of a user who is in is trained on; the others are the
            fresh texts that user inference attacks with.
        known_fraction: share of records set aside as what an attacker knows; never evaluated.
        copies: which exact copies of a text are dropped before coins are thrown: "all", whoever has them, or those
            within each "user"; what several users have then goes by each one's coin, and is never evaluated. "auto" is
            "user" under a promise per user, where no user's training may depend on others, else "all".
        max_records_per_user: train on no more records of a user than this, chosen by a hash: the cheap protection of
            users that needs no noise and promises nothing.
        split_seed: seed of the coins.

    Examples:
        >>> SplitConfig(split_unit="user", max_records_per_user=5).probability
        0.5
    """

    split_unit: str = "auto"
    probability: float = 0.5
    train_fraction: float = 0.5
    known_fraction: float = 0.1
    copies: str = "auto"
    max_records_per_user: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        validate.one_of(("auto", "record", "user"), split_unit=self.split_unit)
        validate.one_of(("auto", "all", "user"), copies=self.copies)
        validate.non_negative(split_seed=self.split_seed)
        validate.at_most(2**63 - 1, split_seed=self.split_seed)
        if self.max_records_per_user is not None:
            validate.positive(max_records_per_user=self.max_records_per_user)

    def copies_within_users(self, privacy: PrivacySpec | None = None) -> bool:
        """Whether copies are only dropped within each user; ``privacy`` says what "auto" is."""
        return self.copies == "user" or (self.copies == "auto" and promised_unit(privacy) == "user")


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """Secrets to plant into the training data, to measure how well the model can be made to tell them.

    Args:
        canaries: how many secrets get a coin each (about half are planted); 0 plants none. Do not ship a model that was
            trained with canaries.
        canary_kind: which kind of secret: secret_number, passphrase, card_number, email, phone, record_number; of the
            model's tokens random_tokens, rare_tokens, new_token; of words of the data unigram, bigram.
        canary_controls: how many further secrets are never planted and only serve to rank the planted ones.
        canary_repetitions: how often a secret is planted if its coin says so; "1,4,16" makes three tiers that take
            turns. "auto" is that, and "1" in private training: only a secret planted once is one record, whose coin
            bounds ε per record.
        canary_users: how many users get a phrase of their own into every text of theirs, whether they are in or out;
            they are then compared among themselves.
        canary_words: length of that phrase.

    Examples:
        >>> CanaryConfig(canaries=48, canary_controls=250).canary_kind
        'secret_number'
    """

    canaries: int = 0
    canary_kind: str = "secret_number"
    canary_controls: int = 500
    canary_repetitions: str = "auto"
    canary_users: int = 0
    canary_words: int = 10

    def __post_init__(self) -> None:
        validate.non_negative(
            canaries=self.canaries, canary_controls=self.canary_controls, canary_users=self.canary_users
        )
        counts = {"canaries": self.canaries, "canary_controls": self.canary_controls, "canary_users": self.canary_users}
        validate.at_most(MOST_CANARIES, **counts)
        validate.positive(canary_words=self.canary_words)
        validate.at_most(1000, canary_words=self.canary_words)
        self.tiers(private=False)

    def tiers(self, *, private: bool) -> tuple[int, ...]:
        """How often the secrets of each tier are planted.

        Raises:
            BadInput: ``canary_repetitions`` is no list of distinct numbers from 1 on.
        """
        if self.canary_repetitions == "auto":
            return (1,) if private else (1, 4, 16)
        words = [word.strip() for word in self.canary_repetitions.split(",")]
        if not all(word.isdecimal() and int(word) for word in words) or len(set(words)) < len(words):
            raise BadInput(
                f"canary_repetitions={self.canary_repetitions!r}", "is no list of distinct numbers", "Give 1 or 1,4,16."
            )
        return tuple(map(int, words))


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRows:
    """What is trained on and what is held out.

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
        """Records that are not trained on, under a promise per user of users who are not; chosen by coins alone.

        Texts that another user has too are left out: that user may be trained on.
        """
        out = ~self.membership.member & (self.membership.role != "shared")
        if promised_unit(privacy) == "user":
            out &= ~self.membership.user_member
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
    harden: HardenConfig,
    max_tokens: int,
) -> TrainingRows:
    """Leave out copies, throw coins, plant.

    With settings that ``data.stability.refuse_unstable`` lets pass, one protected unit more or less in ``records``
    changes the training rows of no other.

    Args:
        records: unique ids that do not depend on other records.
        base: whose tokenizer says what is left of a secret; only read where something is planted.
        max_tokens: what texts are cut to.

    Raises:
        BadInput: a side of the split is empty, or ``max_tokens`` cuts secrets off.
    """
    if privacy.protect == "spans":
        _check_ids(records)
    repeated: Sequence[DroppedRecord] | None = None
    if harden.dedup_users:
        records, repeated = within_user(records)
    as_read = without_copies(records, within_users=split_config.copies_within_users(privacy))
    membership = throw_coins(as_read, split_config, privacy)
    kept, membership, planting = _plant(
        as_read, membership, canary_config, split_config.split_seed, base=base, max_tokens=max_tokens, spec=privacy
    )
    if planting is not None and privacy.protect == "spans":
        planting = replace(planting, to_train=tuple(map(_marked, planting.to_train)))
    return TrainingRows(records=kept, membership=membership, planting=planting, as_read=as_read, repeated=repeated)


def _check_ids(records: Sequence[Record]) -> None:
    """Refuse coins that follow from what spans hold: which texts are learned, without noise, would tell of it."""
    telling = sum(map(tells_of_spans, records))
    if telling:
        raise BadInput(
            f"the ids of {telling} of {len(records)} records",
            "are made of the whole text, so the coin of each would follow from what its protected spans hold",
            "Read them with hide_spans=True, or give them ids of their own.",
        )


def throw_coins(records: Sequence[Record], config: SplitConfig, privacy: PrivacySpec | None = None) -> Membership:
    """The split that ``config`` asks for; ``privacy`` says what "auto" is where training is private."""
    unit = config.split_unit
    if unit == "auto":
        unit = promised_unit(privacy) or "auto"
    if unit == "auto":
        unit = "user" if all(record.user is not None for record in records) else "record"
    membership = split(
        records,
        unit=unit,
        seed=config.split_seed,
        probability=config.probability,
        train_fraction=config.train_fraction,
        known_fraction=config.known_fraction,
        max_per_user=config.max_records_per_user,
    )
    return set_aside_shared(records, membership) if config.copies_within_users(privacy) else membership


def _marked(secret: Record) -> Record:
    """As one span, so that what the promise covers is what the secret measures."""
    return replace(secret, spans=(Span(start=0, end=len(secret.plain), kind="CANARY"),))


def _plant(
    records: Sequence[Record],
    membership: Membership,
    config: CanaryConfig,
    seed: int,
    *,
    base: str,
    max_tokens: int,
    spec: PrivacySpec,
) -> tuple[Sequence[Record], Membership, Planting | None]:
    """Records and coins with canary users among them, and secrets; refused where training would not see them whole."""
    if not (config.canaries or config.canary_users):
        return records, membership, None
    from reticent.models.load import load_tokenizer
    from reticent.models.trainable import check_phrases, check_trainable
    from reticent.models.vocabulary import whole_words

    tokenizer, planting = load_tokenizer(base), None
    if config.canary_users:
        users = plant_users(records, membership, users=config.canary_users, words=config.canary_words, seed=seed)
        cut = check_phrases(users.records, users.phrases, tokenizer, max_tokens)
        if cut.lost:
            said = f"{cut.lost} of {cut.texts} texts of canary users are cut off before their phrase (--max_tokens)"
            console.print(said, style="yellow", highlight=False)
        records, membership = users.records, users.membership
    if config.canaries:
        planting = plant(
            records,
            membership,
            kind=config.canary_kind,
            secrets=config.canaries,
            controls=config.canary_controls,
            repetitions=config.tiers(private=spec.is_private),
            seed=seed,
            vocabulary=whole_words(tokenizer),
            blind=spec.is_private,
        )
        check_trainable(planting.canaries, tokenizer, max_tokens)
    return records, membership, planting
