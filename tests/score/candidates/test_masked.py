# SPDX-License-Identifier: Apache-2.0
"""The whole text is tokenised with each candidate in place, and counting begins where candidates part."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.models.encode import encode
from reticent.score.candidates.masked import MaskedSpan, fill, shared
from reticent.testing.tiny import tiny_tokenizer

TEXT = "Write to the order desk of Ann or call her."
PLACE = TEXT.index("Ann")


def blank(*candidates, record=None, start=PLACE, end=PLACE + 3):
    return MaskedSpan(record=record or Record(id="a", text=TEXT), start=start, end=end, candidates=candidates)


def test_rows_are_the_whole_texts():
    tokenizer = tiny_tokenizer(bos=True)
    found = fill(blank("Ann", "the", "Bo"), tokenizer, window=512)
    for row, name in zip(found.rows, ("Ann", "the", "Bo"), strict=True):
        np.testing.assert_array_equal(row, encode(Record(id="b", text=TEXT.replace("Ann", name)), tokenizer).token_id)
    assert found.cut == 0


def test_counting_begins_where_a_candidate_is_joined_to_what_stands_before():
    tokenizer = tiny_tokenizer()
    alone = fill(blank("Ann", "Bo"), tokenizer, window=512)
    joined = fill(blank("Ann", "to", "Bo"), tokenizer, window=512)  # " to" is one token, with the space before it
    assert joined.start == alone.start - 1
    for row in joined.rows:
        assert tokenizer.decode(row[: joined.start]) == "Write to the order desk of"
    assert alone.common >= alone.start


def test_common_letters_of_all_candidates_count():
    found = fill(blank("Anna", "Annika"), tiny_tokenizer(), window=512)
    assert found.common == found.start + len("Ann")


@pytest.mark.parametrize(("follow", "rest"), [(0, ""), (2, " or "), (None, " or call her.")])
def test_what_follows_counts_as_far_as_asked(follow, rest):
    tokenizer = tiny_tokenizer()
    found = fill(blank("Ann", "Bo"), tokenizer, window=512, follow=follow)
    assert [tokenizer.decode(row[found.start :]) for row in found.rows] == ["Ann" + rest, "Bo" + rest]


@pytest.mark.parametrize(
    "record",
    [
        Record(id="p", prompt="Who is it?", completion="It is Ann."),
        Record(
            id="c", messages=(Message(role="user", content="Who is it?"), Message(role="assistant", content="Ann."))
        ),
        Record(id="u", messages=(Message(role="user", content="I am Ann."), Message(role="assistant", content="Hi."))),
    ],
)
def test_every_shape_of_record(record):
    tokenizer = tiny_tokenizer()
    at = record.plain.index("Ann")
    given = blank("Ann", "Bodo", record=record, start=at, end=at + 3)
    found = fill(given, tokenizer, window=512)
    assert given.filled("Bodo").plain == record.plain.replace("Ann", "Bodo")
    np.testing.assert_array_equal(found.rows[0], encode(record, tokenizer).token_id)
    assert tokenizer.decode(found.rows[1][found.start :]).startswith("Bodo")


def test_long_texts_lose_tokens_at_the_front_but_not_the_first():
    tokenizer = tiny_tokenizer(bos=True)
    whole, cut = (fill(blank("Ann", "Bodo"), tokenizer, window=window) for window in (512, 20))
    assert max(map(len, cut.rows)) == 20
    assert cut.cut == max(map(len, whole.rows)) - 20
    for long, short in zip(whole.rows, cut.rows, strict=True):
        np.testing.assert_array_equal(short, np.append(long[:1], long[1 + cut.cut :]))
        np.testing.assert_array_equal(long[whole.start :], short[cut.start :])


@pytest.mark.parametrize("bos", [False, True])
def test_a_place_without_anything_before_it_is_refused(bos):
    tokenizer = tiny_tokenizer(bos=bos)
    whole = fill(blank("Ann", "Bodo"), tokenizer, window=512)
    least = max(map(len, whole.rows)) - whole.start + 1  # one token before the place
    assert fill(blank("Ann", "Bodo"), tokenizer, window=least).start == 1
    with pytest.raises(BadInput, match="no token before it"):
        fill(blank("Ann", "Bodo"), tokenizer, window=least - 1)


def test_the_start_of_a_text_is_refused_unless_a_token_begins_it():
    with pytest.raises(BadInput, match="no token before it"):
        fill(blank("Ann", "Bodo", start=0, end=5), tiny_tokenizer(), window=512)
    assert fill(blank("Ann", "Bodo", start=0, end=5), tiny_tokenizer(bos=True), window=512).start == 1


def test_impossible_blanks_are_refused():
    for candidates in ((), ("Ann", ""), ("Ann", "Ann")):
        with pytest.raises(BadInput, match="none, empty, or given twice"):
            blank(*candidates)
    for start, end in ((3, 3), (PLACE, 500), (-1, 2)):
        with pytest.raises(BadInput, match="has no piece"):
            blank("Ann", start=start, end=end)
    with pytest.raises(BadInput, match="has no piece"):
        blank("Ann", record=Record(id="p", prompt="Who?", completion="Ann."), start=3, end=7)


def test_shared():
    assert shared((1, 2, 3), (1, 2, 4)) == 2
    assert shared((1, 2), (1, 2, 4)) == 2
    assert shared((), (1,)) == 0
