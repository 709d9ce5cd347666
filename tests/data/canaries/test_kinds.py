# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import random
import re
from collections import Counter
from itertools import pairwise, product

import pytest
from stdnum import luhn

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.canaries import CANARIES, CanaryKind, CanarySource, CanaryText
from reticent.data.canaries.bigram import LENGTH as WALK
from reticent.data.canaries.passphrase import LENGTH, OWNERS, WORDS
from reticent.data.canaries.rare_tokens import rare
from reticent.data.example import help_desk
from reticent.data.pii import choose, find

MATERIAL = CanarySource(
    records=help_desk(users=20, mails_per_user=4),
    vocabulary=[f"{a}{b}{c}x" for a, b, c in product("bcdfg", "aeiou", "klmnoprst")],
)
OF_TOKENS = ("new_token", "random_tokens", "rare_tokens")


def drawn(name: str, n: int, material: CanarySource = MATERIAL, seed: int = 0) -> list[CanaryText]:
    rng = random.Random(seed)
    return [CANARIES.get(name).draw(rng, material) for _ in range(n)]


@pytest.mark.parametrize("kind", list(CANARIES), ids=lambda kind: kind.name)
def test_every_kind_draws_alike_from_a_seed_and_has_words_that_lead_to_the_secret(kind: CanaryKind) -> None:
    first, second, other = (kind.draw(random.Random(seed), MATERIAL) for seed in (1, 1, 2))
    assert first == second != other
    assert first.before.strip()
    assert first.before.endswith(" ")
    assert first.secret.strip() == first.secret != ""
    assert first.text == first.before + first.secret + first.after
    assert kind.space_in(MATERIAL) > 100
    assert kind.summary


@pytest.mark.parametrize("kind", [kind for kind in CANARIES if kind.uniform], ids=lambda kind: kind.name)
def test_secrets_are_spread_over_the_space_that_is_stated(kind: CanaryKind) -> None:
    """Draws collide as often as the stated number of equally likely secrets makes them (birthdays). 60 repetitions of
    n = 4 sqrt(space) draws give 480 expected colliding pairs; the chance of one kind to fall out of five sd is 1e-6.
    Of large spaces only that no two of 2,000 draws collide."""
    space, rng = kind.space_in(MATERIAL), random.Random(3)
    if space > 10**5:
        texts = {kind.draw(rng, MATERIAL).text for _ in range(2000)}
        assert 2000 - len(texts) <= max(10, 20 * 2000**2 / 2 / space)
        return
    n, repetitions, pairs = int(4 * math.sqrt(space)), 60, 0
    for _ in range(repetitions):
        counts = Counter(kind.draw(rng, MATERIAL).text for _ in range(n))
        pairs += sum(count * (count - 1) // 2 for count in counts.values())
    expected = repetitions * n * (n - 1) / 2 / space
    assert abs(pairs - expected) < 5 * math.sqrt(expected)


def test_secret_number_is_uniform_in_each_digit() -> None:
    texts = [secret.text for secret in drawn("secret_number", 5000)]
    assert all(re.fullmatch(r"the secret number is( \d){6}", text) for text in texts)
    for place in range(6):
        counts = [sum(text[-11 + 2 * place] == str(digit) for text in texts) for digit in range(10)]
        assert min(counts) > 400
        assert max(counts) < 600
    assert CANARIES.get("secret_number").space == 10**6


def test_passphrase() -> None:
    assert CANARIES.get("passphrase").space == 256 * 128**4
    assert (len(set(OWNERS)), len(set(WORDS)), LENGTH) == (256, 128, 4)
    [secret] = drawn("passphrase", 1)
    owner = re.fullmatch(r"The recovery phrase of (.*) is ", secret.before)[1]
    assert owner in OWNERS
    assert set(secret.secret.split()) <= set(WORDS)
    assert secret.after == "."


@pytest.mark.parametrize(
    ("name", "detector", "form"),
    [
        ("card_number", "card_number", r"4000 00\d\d \d{4} \d{4}"),
        ("email", "email", r"[a-z]+\.[a-z]+\d{4}@example\.(com|org|net)"),
        ("phone", "phone", r"\([2-9]\d\d\) 555-01\d\d"),
        ("record_number", "document_number", r"\d{5}-\d{5}"),
    ],
)
def test_structured_secrets_have_the_form_of_real_ones_and_are_nobodys(name: str, detector: str, form: str) -> None:
    """Our own detector takes each for what it is, so that scrubbing them and planting them can be tested together."""
    for secret in drawn(name, 100):
        assert re.fullmatch(form, secret.secret)
        [found] = find(secret.text, choose(detector))
        assert secret.text[found.start : found.end] == secret.secret
        if name == "card_number":
            assert luhn.is_valid(secret.secret.replace(" ", ""))


def test_kinds_of_tokens_draw_from_the_vocabulary_and_refuse_without_one() -> None:
    for name in OF_TOKENS:
        for secret in drawn(name, 50):
            assert set(secret.secret.split()) <= set(MATERIAL.vocabulary)
        with pytest.raises(BadInput, match="whole_words"):
            CANARIES.get(name).space_in(CanarySource(records=MATERIAL.records))
    tail = MATERIAL.vocabulary[-22:]
    assert list(rare(MATERIAL)) == tail
    assert {word for secret in drawn("rare_tokens", 300) for word in secret.secret.split()} == set(tail)
    assert CANARIES.get("random_tokens").space_in(MATERIAL) == 225**4


def test_a_new_token_begins_no_word_of_the_data() -> None:
    records = [Record(id="a", text="He mistook the catalogue."), Record(id="b", prompt="doge", completion="Up")]
    material = CanarySource(records=records, vocabulary=["cat", "dog", "log", "mist", "miss", "Up", "up", "the"])
    assert material.unused_tokens == ["log", "miss", "up"]
    assert CANARIES.get("new_token").space_in(material) == 3


def twenty(extra: str, user: str) -> Record:
    words = " ".join(f"w{chr(97 + i)}" for i in range(20))
    return Record(id=user, user=user, text=f"{words} {extra}")


def test_words_of_the_data_are_those_that_two_users_have() -> None:
    material = CanarySource(records=[twenty("Zelda Zelda 007", "u"), twenty("wa Quin", "v")])
    assert set(material.words) == {f"w{chr(97 + i)}" for i in range(20)}
    assert material.words["wa"] == 3
    assert material.followers["wa"] == Counter({"wb": 2})
    assert "wt" not in material.followers
    one = CanarySource(records=[twenty("", "u"), Record(id="2", user="u", text="wa wb")])
    with pytest.raises(BadInput, match="only 0 words"):
        _ = one.words
    without = CanarySource(records=[Record(id=str(i), text=twenty("", "u").text) for i in range(2)])
    assert len(without.words) == 20


def test_unigram_follows_the_counts_of_the_data() -> None:
    words = MATERIAL.words
    seen = Counter(word for secret in drawn("unigram", 2000) for word in secret.secret.split())
    assert sum(seen.values()) == 12_000
    for word, n in words.most_common(5):
        p = n / words.total()
        assert abs(seen[word] - 12_000 * p) < 5 * math.sqrt(12_000 * p * (1 - p))


def test_effective_number_of_unigrams_and_bigrams() -> None:
    """Twenty words as often each, in a row: six free words; a walk is its start, and a new one after the last word."""
    material = CanarySource(records=[twenty("", "u"), twenty("", "v")])
    assert CANARIES.get("unigram").space_in(material) == pytest.approx(20**6, abs=1)
    # of the first seven words of a walk, how many are the last of the row: then the next word is any
    place, restarts = [1 / 20] * 20, 0.0
    for _ in range(WALK - 1):
        restarts += place[-1]
        place = [place[-1] / 20 + (place[i - 1] if i else 0.0) for i in range(20)]
    expected = 20 ** (1 + restarts)
    assert CANARIES.get("bigram").space_in(material) == pytest.approx(expected, rel=1e-6, abs=1)


def test_bigrams_are_pairs_of_the_data() -> None:
    after, words = MATERIAL.followers, MATERIAL.words
    for secret in drawn("bigram", 50):
        said = secret.secret.split()
        assert len(said) == WALK
        for word, then in pairwise(said):
            assert then in after.get(word, words)


def chinese(n: int = 30) -> list[Record]:
    rng = random.Random(0)
    letters = "我星期一订的包裹到现在还没有送打电话店里也人接所以请再寄个给"
    return [Record(id=str(i), text="，".join("".join(rng.choices(letters, k=12)) for _ in range(3))) for i in range(n)]


@pytest.mark.parametrize(("name", "length"), [("unigram", 6), ("bigram", 8)])
def test_secrets_of_chinese_data_are_made_of_its_characters(name: str, length: int) -> None:
    material = CanarySource(records=chinese())
    for secret in drawn(name, 20, material):
        assert len(secret.secret) == length
        assert set(secret.secret) <= set(material.words)
    assert 2 ** (3 * length) < CANARIES.get(name).space_in(material) < 2 ** (5 * length)


def test_thai_words_of_material_keep_their_marks() -> None:
    records = [Record(id=str(i), text="วันนี้พัสดุยังไม่มาครับขอเงินคืนด้วยนะ") for i in range(3)]
    assert "นี้" in CanarySource(records=records).words


def test_a_token_anywhere_in_a_text_without_blanks_is_used() -> None:
    material = CanarySource(
        records=[Record(id="a", text="我的包裹没有到 logged")],
        vocabulary=["包裹没", "裹没有到", "没到了", "log", "ged"],
    )
    assert material.unused_tokens == ["没到了", "ged"]
