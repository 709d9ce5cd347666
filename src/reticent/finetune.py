# SPDX-License-Identifier: Apache-2.0
"""From private text to a fine-tuned model with recorded coins: split, plant canaries, train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, write_manifest
from reticent.core.membership import Membership
from reticent.core.progress import console
from reticent.core.record import Record, Span, fingerprint, write_records
from reticent.core.target import Target
from reticent.data.canaries import Planting, plant, plant_users, write_canaries
from reticent.data.dedup import Dropped, within_user, write_dropped
from reticent.data.split import split
from reticent.data.targets import carried, write_targets
from reticent.intake import without_copies, write_rejects
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.run_folder import RunFolder
from reticent.train.config import TuneConfig
from reticent.train.contextual.config import ContextualConfig
from reticent.train.hardening import HardenConfig


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
        max_records_per_user: train on no more records of a user than this, chosen by a hash: the cheap protection of
            users that needs no noise and promises nothing.
        split_seed: seed of the coins.
    """

    split_unit: str = "auto"
    probability: float = 0.5
    train_fraction: float = 0.5
    known_fraction: float = 0.1
    max_records_per_user: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        validate.one_of(("auto", "record", "user"), split_unit=self.split_unit)
        if self.max_records_per_user is not None:
            validate.positive(max_records_per_user=self.max_records_per_user)


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


def tune(
    records: Sequence[Record],
    *,
    base: str,
    out: str | Path,
    title: str = "",
    split_config: SplitConfig | None = None,
    canary_config: CanaryConfig | None = None,
    tune_config: TuneConfig | None = None,
    privacy: PrivacySpec | None = None,
    monitor: MonitorConfig | None = None,
    harden: HardenConfig | None = None,
    contextual: ContextualConfig | None = None,
    rejects: str = "",
    targets: Sequence[Target] = (),
) -> RunFolder:
    """Throw coins, plant canaries, fine-tune ``base`` on the members and leave a run folder that can be audited.

    The same call again goes on from the last checkpoint, or returns at once when the run is done. A call that is
    refused before the first checkpoint leaves the folder as it was, but for the record of what a private training
    spent.

    Args:
        records: unique ids, private text.
        base: folder, hub id or catalogue name of a pre-trained model.
        out: the run folder.
        title: for the report.
        privacy: train with differential privacy; the promise lies in the model folder (``privacy.json``) and in the
            manifest. Canaries are trained on like any record; where the data have users, each secret is a user of its
            own. Hyper-parameters and the choice of the data are not covered.
        monitor: look at a panel of records while training (``monitor.json``, ``panel.parquet``), end it early, or list
            who is at risk (``risk.jsonl``). Not with ``privacy``.
        harden: memorize less, without a promise. With ``dedup_users`` the copies are left out before coins are thrown,
            from what is trained on and from what is held out.
        contextual: learn without teaching what the records' spans mark. Planted secrets are in no span.
        rejects: rows of the data that were skipped, as `Reading` has them; kept in the folder.
        targets: secrets in the records that the audit is to try to get out, such as a scrubber's misses; kept in the
            folder with their coins.

    Raises:
        BadInput: the folder holds another run; a side of the split is empty; the model cannot be loaded; a setting
            voids the promise; ``max_tokens`` cuts canaries off.
    """
    settings = _Settings(
        split=split_config or SplitConfig(),
        canaries=canary_config or CanaryConfig(),
        training=tune_config or TuneConfig(),
        privacy=privacy or PrivacySpec(),
        harden=harden or HardenConfig(),
        contextual=contextual or ContextualConfig(),
        monitor=monitor or MonitorConfig(),
    )
    settings.check()
    run = RunFolder(root=Path(out))
    config: dict[str, Any] = {"base": base, "data": fingerprint(records), "title": title, **settings.parts}
    run.refuse_other("tune", config)
    material = _material(records, base, settings)
    with run.kept_if(lambda: _begun(run.model)):
        run.claim("tune", config)
        write_rejects(run, rejects)
        _write(material, run, targets)
        _train(base, material, run, settings, config["data"])
    about = {"title": title or run.root.name, "base": base, "max_tokens": settings.training.max_tokens}
    about |= {**settings.parts, "finished": now()}
    if run.promise.exists():
        about["promise"] = json.loads(run.promise.read_text(encoding="utf-8"))
    write_manifest(run.manifest, tune=about, environment=environment())
    return run


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """All that a run is asked for beyond its data and its base, nothing left open."""

    split: SplitConfig
    canaries: CanaryConfig
    training: TuneConfig
    privacy: PrivacySpec
    harden: HardenConfig
    contextual: ContextualConfig
    monitor: MonitorConfig

    def check(self) -> None:
        """Refuse settings that contradict each other, before anything is written."""
        self.harden.settled(self.training, self.privacy)
        self.contextual.check(self.harden, self.privacy)
        _check_records(self.privacy, self.split, self.canaries)
        _check_monitor(self.privacy, self.monitor, self.contextual)

    @property
    def parts(self) -> dict[str, Any]:
        """For the run folder; what is off is left out."""
        parts = {"split": asdict(self.split), "canaries": asdict(self.canaries), "training": asdict(self.training)}
        parts |= {"privacy": asdict(self.privacy)} if self.privacy.is_private else {}
        parts |= {"harden": self.harden.changed} if self.harden.is_on else {}
        parts |= {"contextual": self.contextual.changed} if self.contextual.is_on else {}
        parts |= {"monitor": asdict(self.monitor)} if self.monitor.is_on else {}
        return parts


@dataclass(frozen=True, kw_only=True, eq=False)
class _Material:
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
    repeated: Sequence[Dropped] | None


def _material(records: Sequence[Record], base: str, settings: _Settings) -> _Material:
    """Leave out copies, throw coins, plant."""
    repeated: Sequence[Dropped] | None = None
    if settings.harden.dedup_users:
        records, repeated = within_user(records)
    as_read = without_copies(records)
    coins = throw_coins(as_read, settings.split, settings.privacy)
    kept, coins, planting = _plant(
        as_read,
        coins,
        settings.canaries,
        settings.split.split_seed,
        base=base,
        max_tokens=settings.training.max_tokens,
        spec=settings.privacy,
    )
    if planting is not None and settings.privacy.protect == "spans":
        planting = replace(planting, to_train=tuple(map(_marked, planting.to_train)))
    return _Material(records=kept, membership=coins, planting=planting, as_read=as_read, repeated=repeated)


def _write(material: _Material, run: RunFolder, targets: Sequence[Target]) -> None:
    if material.repeated is not None:
        write_dropped(run.dropped, material.repeated)
        said = f"{len(material.repeated)} texts in which users repeat themselves left out; see {run.dropped}"
        console.print(said, highlight=False)
    if targets:
        write_targets(run.targets, carried(targets, material.as_read, material.records, material.membership))
    write_records(run.records, material.records)
    material.membership.write(run.membership)
    if material.planting is not None:
        write_canaries(run.canaries, material.planting.canaries)


def _train(base: str, material: _Material, run: RunFolder, settings: _Settings, data: str) -> None:
    from reticent.train.trainer import tune as train

    inside = material.membership.member
    members = [record for record, member in zip(material.records, inside, strict=True) if member]
    held_out = [record for record, member in zip(material.records, inside, strict=True) if not member]
    planting = material.planting
    trained, callbacks = [*members, *(planting.to_train if planting is not None else ())], []
    if settings.monitor.is_on:
        from reticent.monitor.attach import watching

        callbacks = watching(
            settings.monitor,
            base,
            material.records,
            material.membership,
            planting.canaries if planting is not None else (),
            trained=trained,
            training=settings.harden.settled(settings.training, settings.privacy),
            out=run.root,
        )
    train(
        base,
        trained,
        run.model,
        settings.training,
        held_out=[] if settings.monitor.watches else held_out[:64],  # the monitor looks at held-out records itself
        callbacks=callbacks,
        privacy=settings.privacy,
        harden=settings.harden,
        contextual=settings.contextual,
        data=data,
    )


def _marked(secret: Record) -> Record:
    """As one span, so that what the promise covers is what the secret measures."""
    return replace(secret, spans=(Span(start=0, end=len(secret.plain), kind="CANARY"),))


def _begun(model: Path) -> bool:
    """Whether there is a model, or a checkpoint to go on from."""
    from reticent.train.checkpoints import folder_for

    return model.exists() or any(folder_for(model).glob("checkpoint-*"))


def _check_monitor(spec: PrivacySpec, monitor: MonitorConfig, contextual: ContextualConfig) -> None:
    """Refuse to publish what a promise does not cover, and to watch texts that are not trained on."""
    if monitor.is_on and contextual.rewrites:
        raise BadInput(
            f"the monitor with contextual={contextual.contextual!r}",
            "other texts are trained on than those that it would look at, so it would take members for unseen",
            "Leave out --monitor, --stop_at and --risk_list, or take unlikelihood, classifier or dpo.",
        )
    if spec.is_private and monitor.is_on:
        raise BadInput(
            "the monitor with differential privacy",
            "what it shows is computed from the losses of single members, which the promise (epsilon, delta) does not "
            "cover",
            "Leave out --monitor, --stop_at and --risk_list, and audit the model once it is trained.",
        )


def _check_records(spec: PrivacySpec, splitting: SplitConfig, secrets: CanaryConfig) -> None:
    """Refuse what a promise per record, or on spans, would not cover."""
    if spec.protect == "spans" and secrets.canary_users:
        raise BadInput(
            f"canary_users={secrets.canary_users}",
            "their phrases are copied from texts, so they can hold what is in a span, and would not be marked",
            "Leave it out, or protect whole texts (--protect all).",
        )
    if not spec.is_private or spec.unit != "record":
        return
    if splitting.max_records_per_user is not None:
        raise BadInput(
            f"max_records_per_user={splitting.max_records_per_user}",
            "with a cap one more record of a user can push out another, which a promise per record does not cover",
            "Leave it out, or promise per user (--unit user).",
        )
    if secrets.canaries and secrets.tiers(private=True) != (1,):
        raise BadInput(
            f"canary_repetitions={secrets.canary_repetitions!r}",
            "a promise per record is about each text once, so copies of a secret are not trained on",
            "Leave it out, or promise per user (--unit user).",
        )


def throw_coins(records: Sequence[Record], config: SplitConfig, privacy: PrivacySpec | None = None) -> Membership:
    """The split that ``config`` asks for; ``privacy`` says what "auto" is where training is private."""
    unit = config.split_unit
    if unit == "auto" and privacy is not None and privacy.is_private:
        unit = privacy.unit
    if unit == "auto":
        unit = "user" if all(record.user is not None for record in records) else "record"
    return split(
        records,
        unit=unit,
        seed=config.split_seed,
        probability=config.probability,
        train_fraction=config.train_fraction,
        known_fraction=config.known_fraction,
        max_per_user=config.max_records_per_user,
    )


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
        )
        check_trainable(planting.canaries, tokenizer, max_tokens)
    return records, membership, planting
