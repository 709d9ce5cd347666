# SPDX-License-Identifier: Apache-2.0
"""One protected unit more or less in the file changes the training rows of no other, over every flag for data.

From a written JSONL file through the code of `reticent tune` to the token rows that the sampler draws from. Each flag
is declared in `data.stability`. What is declared stable is held to it over drawn data sets; what is declared unstable
is refused, and shown to be unstable without the refusal.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import reticent.workflows.training_rows as rows_module
from reticent.core.errors import BadInput
from reticent.data.canaries import CANARIES
from reticent.data.stability import DRAWN_FROM_DATA, OF, STEPS, refuse_unstable
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.train.contextual import ContextualConfig
from reticent.train.hardening import HardenConfig
from reticent.train.objectives.apply import prepare_material
from reticent.train.private.train import without_copies
from reticent.workflows.inputs import DataConfig, read_data
from reticent.workflows.training_rows import CanaryConfig, SplitConfig, training_rows

UNITS = ("record", "user")
CONFIGS = (DataConfig, SplitConfig, CanaryConfig, HardenConfig, ContextualConfig)
OF_TOKENS = {"random_tokens", "rare_tokens"}
"""Kinds of secrets that need more whole words than the tiny tokenizer has; they see its tokens and nothing else."""
SECRETS = {"canaries": 6, "canary_controls": 4}

FLAGS: dict[str, dict[str, Any]] = {
    "text_field": {"text_field": "text"},
    "prompt_field": {"prompt_field": "context", "completion_field": "text"},
    "completion_field": {"prompt_field": "context", "completion_field": "text"},
    "messages_field": {"messages_field": "chat"},
    "user_field": {"user_field": "who"},
    "id_field": {"id_field": "key", "on_bad_row": "error"},
    "spans_field": {"spans_field": "spans"},
    "on_bad_row": {"on_bad_row": "skip", "id_field": "key", "split_unit": "record"},
    "min_user_records": {"min_user_records": 6},
    "drop_users": {"drop_users": "u1"},
    "block_words": {"block_words": 3},
    "max_records": {"max_records": 40, "split_unit": "record"},
    "split_unit": {"split_unit": "record"},
    "probability": {"probability": 0.7},
    "train_fraction": {"train_fraction": 0.8},
    "known_fraction": {"known_fraction": 0.3},
    "split_seed": {"split_seed": 5},
    "max_records_per_user": {"max_records_per_user": 2},
    "copies": {"copies": "all"},
    "canaries": SECRETS,
    "canary_kind": {**SECRETS, "canary_kind": "unigram"},
    "canary_controls": {**SECRETS, "canary_controls": 9},
    "canary_repetitions": {**SECRETS, "canary_repetitions": "1,2"},
    "canary_users": {"canary_users": 2, "canary_words": 2, "split_unit": "user"},
    "canary_words": {"canary_words": 3},
    "goldfish": {"goldfish": 3},
    "goldfish_context": {"goldfish": 3, "goldfish_context": 2},
    "label_smoothing": {"label_smoothing": 0.1},
    "loss_floor": {"loss_floor": 1.0},
    "clip_examples": {"clip_examples": 1.0},
    "clip_batch": {"clip_batch": 2.0},
    "dropout": {"dropout": 0.1},
    "dedup_users": {"dedup_users": True},
    "contextual": {"contextual": "removal"},
    "contextual_weight": {"contextual": "unlikelihood", "contextual_weight": 2.0},
    "dpo_beta": {"contextual": "dpo", "dpo_beta": 0.2},
}
"""Each field of a configuration that is given data, and a value that makes it do something."""

UNSTABLE = [(flag, unit) for flag in FLAGS for unit in UNITS if OF[flag].of(unit) > 1]
STABLE = [(flag, unit) for flag in FLAGS for unit in UNITS if OF[flag].of(unit) <= 1]

FOUR = {("copies", "user"), ("max_records", "user"), ("min_user_records", "record"), ("block_words", "record")}
"""Steps by which one unit was once found to change the rows of many."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """All settings of one training."""

    unit: str
    configs: tuple[Any, ...]

    @property
    def privacy(self) -> PrivacySpec:
        return PrivacySpec(epsilon=8, unit=self.unit)


def with_flags(unit: str, values: dict[str, Any]) -> Given:
    """Configurations with ``values``; rows that cannot be read are skipped unless ``values`` say otherwise."""
    values = {"on_bad_row": "skip"} | values
    return Given(
        unit=unit,
        configs=tuple(
            kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})
            for kind in CONFIGS
        ),
    )


Row = tuple[str, str]
"""User and text."""


def written(path: Path, rows: list[Row], keys: list[str], *, bare: bool = False) -> str:
    """A JSONL file; ``bare`` without users and spans."""
    lines = []
    for key, (user, text) in zip(keys, rows, strict=True):
        row: dict[str, Any] = {"text": text, "context": f"ask {text[:2]}"}
        row["chat"] = [{"role": "user", "content": "say"}, {"role": "assistant", "content": text}]
        row |= {"user": user, "who": user, "key": key} if not bare else {"key": key}
        row |= {"spans": [{"start": 0, "end": 1, "kind": "X"}] if text[1:].strip() else []} if not bare else {}
        lines.append(json.dumps(row, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


class Path2Rows:
    """The path of `reticent tune` from a file to the rows that would be trained on, by the user whose they are."""

    def __init__(self, base: str, folder: Path) -> None:
        self.base, self.file, self.tokenizer = base, folder / "data.jsonl", tiny_tokenizer()

    def __call__(self, rows: list[Row], keys: list[str], what: Given, *, bare: bool = False) -> Counter[Any]:
        data, split, canaries, harden, contextual = what.configs
        source = written(self.file, rows, keys, bare=bare)
        records, _ = read_data(source, data, each_alone=True)
        whole = canaries.canaries or canaries.canary_users or harden.dedup_users or data.messages_field
        max_tokens = 128 if whole else 12  # short: copies come about by cutting
        made = training_rows(
            records,
            base=self.base,
            split_config=split,
            canary_config=canaries,
            privacy=what.privacy,
            objectives=harden.objectives,
            max_tokens=max_tokens,
        )
        trained = made.trained
        objectives = (*harden.objectives, *contextual.objectives)
        material = prepare_material(objectives, trained, self.tokenizer, max_tokens, reference=lambda: None)
        corpus = without_copies(material.corpus, what.privacy)
        return Counter(
            (trained[i].user, one.token_id.tobytes(), one.trained.tobytes())
            for i, one in zip(corpus.records, corpus.encoded, strict=True)
        )


@pytest.fixture(scope="module")
def path2rows(tmp_path_factory: pytest.TempPathFactory) -> Path2Rows:
    folder = tmp_path_factory.mktemp("stability")
    return Path2Rows(str(save_tiny(folder / "base")), folder)


def changed(before: Counter[Any], after: Counter[Any], unit: str, gone: Row) -> int:
    """How many units' rows differ, beyond those of the unit that is gone."""
    if unit == "user":
        different = (before - after) + (after - before)
        return len({user for user, *_ in different} - {gone[0]})
    texts = [Counter({(*key[1:],): 0 for key in one}) for one in (before, after)]
    for count, one in zip(texts, (before, after), strict=True):
        for (_, *key), n in one.items():
            count[tuple(key)] += n
    moved = (texts[0] - texts[1]) + (texts[1] - texts[0])
    return max(0, moved.total() - 1)  # the record itself, or the copy that now stands for it


def without(rows: list[Row], keys: list[str], unit: str, place: int) -> tuple[list[Row], list[str]]:
    gone = rows[place]
    kept = [i for i, row in enumerate(rows) if (i != place if unit == "record" else row[0] != gone[0])]
    return [rows[i] for i in kept], [keys[i] for i in kept]


USERS = [f"u{i}" for i in range(9)]
SHARED = [
    "Happy new year",
    "Ok",
    "Спасибо!",
    "好的",
    "thanks for the order of the day",
    "thanks for the order of May",
    " ",
]
WORDS = tuple("abdefghiklmnoprstuvwxyz")


def drawn_texts() -> st.SearchStrategy[str]:
    alphabet = "abcdefgh Éäßяж漢字مر!👍\n"
    return st.one_of(st.sampled_from(SHARED), st.text(alphabet, max_size=9))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Row], int]:
    """Rows of users who share texts, repeat themselves, write nothing, or once; and which row's unit goes."""
    rows = [(user, f"{user} writes {i}") for user in USERS[:6] for i in range(5)]
    rows += draw(st.lists(st.tuples(st.sampled_from(USERS), drawn_texts()), min_size=4, max_size=24))
    rows = draw(st.permutations(rows))
    return rows, draw(st.integers(0, len(rows) - 1))


def random_rows(seed: int) -> list[Row]:
    """Users with few and with many texts, words in common; some that hold others of theirs, some of several users."""
    rng = random.Random(seed)
    rows = [(user, " ".join(rng.choices(WORDS, k=4))) for user in USERS for _ in range(rng.randrange(2, 8))]
    rows += [(rng.choice(USERS), text) for text in SHARED for _ in range(3)]
    rng.shuffle(rows)
    quoted = []
    for user in USERS[:4]:
        halves = [" ".join(rng.choices(WORDS, k=15)) for _ in range(2)]
        quoted += [(user, text) for text in (" ".join(halves), *halves, f"{user} ends")]
    letters = [(USERS[8], f"letter {i}") for i in range(8)] + [(USERS[i], f"letter {i}") for i in range(8)]
    return [*quoted, *letters, *rows]


def readable(rows: list[Row], what: Given) -> list[Row]:
    return rows if what.configs[0].on_bad_row == "skip" else [row for row in rows if row[1].strip()]


# ---- every flag is declared ------------------------------------------------------------------------------------------


def test_every_setting_for_data_is_declared_and_tried() -> None:
    """A new field fails here until somebody has said what it can change."""
    names = {field.name for kind in CONFIGS for field in fields(kind)}
    assert names == set(FLAGS)
    assert names | {"max_tokens"} == set(OF)
    assert len(OF) == len(STEPS)
    for flag, values in FLAGS.items():
        assert flag in values
    for step in STEPS:
        assert min(step.record, step.user) >= 1
        assert bool(step.fix) == (max(step.record, step.user) > 1), step.flag


def test_the_defaults_pass_and_what_promises_nothing_passes_always() -> None:
    for unit in UNITS:
        refuse_unstable(unit, *(kind() for kind in CONFIGS))
    for values in FLAGS.values():
        refuse_unstable(None, *with_flags("user", values).configs)


# ---- what is declared stable is --------------------------------------------------------------------------------------


def hold(path2rows: Path2Rows, rows: list[Row], place: int, what: Given) -> None:
    refuse_unstable(what.unit, *what.configs)
    rows, gone = readable(rows, what), rows[place]
    assume(gone in rows)
    keys = [f"k{i}" for i in range(len(rows))]
    place = rows.index(gone)
    try:
        before = path2rows(rows, keys, what)
        after = path2rows(*without(rows, keys, what.unit, place), what)
    except BadInput:  # too few are left to evaluate: there is no training
        assume(False)
    assert before
    assert changed(before, after, what.unit, gone) == 0


@pytest.mark.parametrize(("flag", "unit"), STABLE)
@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_one_unit_changes_no_others_rows(
    path2rows: Path2Rows, flag: str, unit: str, case: tuple[list[Row], int]
) -> None:
    hold(path2rows, *case, with_flags(unit, FLAGS[flag]))


@pytest.mark.parametrize("unit", UNITS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_one_unit_changes_no_others_rows_at_the_defaults(
    path2rows: Path2Rows, unit: str, case: tuple[list[Row], int]
) -> None:
    hold(path2rows, *case, with_flags(unit, {}))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", sorted(set(CANARIES.names()) - {*DRAWN_FROM_DATA, *OF_TOKENS}))
@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_no_unit_changes_what_is_planted(
    path2rows: Path2Rows, unit: str, kind: str, case: tuple[list[Row], int]
) -> None:
    hold(path2rows, *case, with_flags(unit, {**SECRETS, "canary_kind": kind}))


TOGETHER = {"min_user_records": 3, "drop_users": "u2", "max_records_per_user": 3, "dedup_users": True, "goldfish": 3}


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_all_that_goes_with_a_promise_per_user_together(path2rows: Path2Rows, case: tuple[list[Row], int]) -> None:
    hold(path2rows, *case, with_flags("user", {**TOGETHER, **SECRETS}))


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_copies_within_users_go_with_a_promise_per_record(path2rows: Path2Rows, case: tuple[list[Row], int]) -> None:
    """As in a comparison in which other trainings are private per user."""
    hold(path2rows, *case, with_flags("record", {"copies": "user", "split_unit": "user"}))


# ---- what is declared unstable is refused, and is --------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "unit"), UNSTABLE)
def test_unstable_steps_are_refused_by_name(flag: str, unit: str) -> None:
    what = with_flags(unit, FLAGS[flag])
    with pytest.raises(BadInput) as error:
        refuse_unstable(unit, *what.configs)
    assert error.value.given == f"{flag}={FLAGS[flag][flag]!r}"
    assert f"which a promise per {unit} does not cover" in error.value.why
    assert error.value.fix == OF[flag].fix


def test_all_of_them_are_refused_together() -> None:
    values = {"max_records": 5, "block_words": 9, "min_user_records": 2, "canary_users": 3}
    with pytest.raises(BadInput) as error:
        refuse_unstable("record", *with_flags("record", values).configs)
    assert "for 4 reasons" in error.value.why
    for name, value in values.items():
        assert f"{name}={value}" in error.value.given
        assert OF[name].fix in error.value.fix


def search(path2rows: Path2Rows, what: Given, enough: float, *, bare: bool, clashing: bool) -> int:
    """The most units whose rows change, over data sets and units that go; ends where ``enough`` do."""
    worst = 0
    for seed in range(4):
        rows = readable(random_rows(seed), what)
        keys = [f"k{i % 40 if clashing else i}" for i in range(len(rows))]
        try:
            before = path2rows(rows, keys, what, bare=bare)
        except BadInput:
            continue
        for place in range(0, len(rows), 2):
            try:
                after = path2rows(*without(rows, keys, what.unit, place), what, bare=bare)
            except BadInput:
                continue
            worst = max(worst, changed(before, after, what.unit, rows[place]))
            if worst >= enough:
                return worst
    return worst


@pytest.mark.parametrize(("flag", "unit"), [pair for pair in UNSTABLE if pair != ("block_words", "user")])
def test_without_the_refusal_one_unit_changes_others_rows(
    path2rows: Path2Rows, flag: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: nobody refuses. (Blocks of several users' texts cannot be asked for at all.)"""
    plant = rows_module.plant
    monkeypatch.setattr(rows_module, "plant", lambda *args, **named: plant(*args, **(named | {"blind": False})))
    most = {"probability": 0.8, "train_fraction": 0.8}  # few coins hide what changes
    what, declared = with_flags(unit, most | FLAGS[flag]), OF[flag].of(unit)
    enough = 3 if (flag, unit) in FOUR else 1
    found = search(path2rows, what, enough, bare=flag == "block_words", clashing=flag == "on_bad_row")
    assert enough <= found <= declared - 1


@pytest.mark.parametrize("kind", DRAWN_FROM_DATA)
def test_no_kind_of_secret_sees_the_data_in_private_training(path2rows: Path2Rows, kind: str) -> None:
    """Also where nobody refuses it by name, as with kinds of other packages."""
    what = with_flags("user", {**SECRETS, "canary_kind": kind})
    with pytest.raises(BadInput, match=r"0 records|needs texts|needs no data"):
        path2rows(random_rows(0), [""] * len(random_rows(0)), what)


def test_numbered_ids_would_be_found(path2rows: Path2Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault of ids that count rows: every coin behind the row that goes is thrown anew."""
    numbers = iter(range(10**9))

    def number(self: Any, record: Any) -> str:
        return f"r{next(numbers):06d}"

    monkeypatch.setattr("reticent.data.ids.Naming.__call__", number)
    rows, what = random_rows(0), with_flags("record", {})
    keys = [""] * len(rows)
    before = path2rows(rows, keys, what)
    numbers = iter(range(10**9))
    assert changed(before, path2rows(rows, keys, what), "record", rows[0]) == 0
    numbers = iter(range(10**9))
    after = path2rows(*without(rows, keys, "record", 0), what)
    assert changed(before, after, "record", rows[0]) > 5


# ---- the examples that this was made for -----------------------------------------------------------------------------


def test_a_user_who_shares_a_text_with_thirty_others_holds_none_back(path2rows: Path2Rows) -> None:
    rows = [(f"v{i}", f"own text {i} {j}") for i in range(30) for j in range(3)]
    rows = [("a", f"form letter {i}") for i in range(30)] + rows + [(f"v{i}", f"form letter {i}") for i in range(30)]
    keys = [""] * len(rows)
    for copies, expected in (("auto", 0), ("user", 0), ("all", 1)):
        what = with_flags("user", {"copies": copies, "split_seed": 3})
        found = changed(path2rows(rows, keys, what), path2rows(*without(rows, keys, "user", 0), what), "user", rows[0])
        assert found >= 5 if expected else found == 0


@pytest.mark.parametrize("values", [{}, SECRETS, {"split_unit": "record"}])
def test_texts_that_several_users_have_are_trained_on_and_never_evaluated(
    path2rows: Path2Rows, values: dict[str, Any]
) -> None:
    rows = [(user, f"{user} {i}") for user in USERS for i in range(8)] + [(user, "form letter") for user in USERS]
    what = with_flags("user", values | {"split_seed": 2})
    records, _ = read_data(written(path2rows.file, rows, [""] * len(rows)), what.configs[0], each_alone=True)
    made = training_rows(
        records,
        base=path2rows.base,
        split_config=what.configs[1],
        canary_config=what.configs[2],
        privacy=what.privacy,
        max_tokens=64,
    )
    coins = made.membership
    letters = [record.text == "form letter" for record in made.records]
    assert set(coins.role[letters]) == {"shared"}
    assert "shared" not in set(coins.role[[not one for one in letters]])
    assert 0 < coins.member[letters].sum() < len(USERS)
    assert not {record.text for record in made.held_out()} & {record.text for record in made.trained}
    inside = {record.user for record in made.trained}
    assert not {record.user for record in made.held_out(what.privacy)} & inside


def test_no_user_who_is_trained_on_changes_whose_loss_is_published(path2rows: Path2Rows) -> None:
    rows = [(user, f"{user} {i}") for user in USERS for i in range(8)] + [(user, f"letter of {user}") for user in USERS]
    what = with_flags("user", {"split_seed": 2})

    def held_out(rows: list[Row]) -> tuple[list[str], set[str | None]]:
        records, _ = read_data(written(path2rows.file, rows, [""] * len(rows)), what.configs[0], each_alone=True)
        made = training_rows(
            records,
            base=path2rows.base,
            split_config=what.configs[1],
            canary_config=what.configs[2],
            privacy=what.privacy,
            max_tokens=64,
        )
        return [record.id for record in made.held_out(what.privacy)], {record.user for record in made.trained}

    sample, inside = held_out(rows)
    outside = next(user for user in USERS if user not in inside)
    copier = next(user for user in USERS if user in inside)
    assert held_out([*rows, (copier, f"letter of {outside}")])[0] == sample


def test_records_of_two_shapes_get_no_secrets_in_private_training(path2rows: Path2Rows) -> None:
    """One record more of the rarer shape could tip the shape of all secrets."""
    what = with_flags("record", SECRETS)
    rows = [(user, f"{user} {i}") for user in USERS for i in range(8)]
    records, _ = read_data(written(path2rows.file, rows, [""] * len(rows)), what.configs[0])
    mixed = [
        replace(one, text=None, prompt="p", completion=one.text) if i == 3 else one for i, one in enumerate(records)
    ]
    settings_ = {"base": path2rows.base, "split_config": what.configs[1], "canary_config": what.configs[2]}
    with pytest.raises(BadInput, match="2 shapes"):
        training_rows(mixed, **settings_, privacy=what.privacy, max_tokens=64)
    training_rows(mixed, **settings_, privacy=PrivacySpec(), max_tokens=64)


def test_no_coin_follows_from_what_protected_spans_hold(path2rows: Path2Rows) -> None:
    rows = [(user, f"{user} {i}") for user in USERS for i in range(8)]
    source = written(path2rows.file, rows, [""] * len(rows))
    made = {"base": path2rows.base, "split_config": SplitConfig(), "canary_config": CanaryConfig()}
    spans = PrivacySpec(epsilon=8, protect="spans", detector_recall=1.0)
    told, hidden = (read_data(source, DataConfig(), hide_spans=hide).records for hide in (False, True))
    with pytest.raises(BadInput, match="would follow from what its protected spans hold"):
        training_rows(told, **made, privacy=spans, max_tokens=64)
    before = training_rows(hidden, **made, privacy=spans, max_tokens=64).membership
    other = [(user, f"@{text[1:]}") for user, text in rows]  # the first letter is marked in all
    source = written(path2rows.file, other, [""] * len(rows))
    changed_spans = read_data(source, DataConfig(), hide_spans=True).records
    after = training_rows(changed_spans, **made, privacy=spans, max_tokens=64).membership
    assert before.member.tolist() == after.member.tolist()


def test_every_unit_of_every_flag_is_either_stable_or_refused() -> None:
    assert sorted(chain(STABLE, UNSTABLE)) == sorted((flag, unit) for flag in FLAGS for unit in UNITS)
    assert set(UNSTABLE) >= FOUR
