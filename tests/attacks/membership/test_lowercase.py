# SPDX-License-Identifier: Apache-2.0
import numpy as np

from reticent.attacks.membership.loss import LEAST
from reticent.attacks.membership.lowercase import LOWERCASE, lowercase
from reticent.core.record import Message, Record, Span
from reticent.score.requests import RenderContext, rendered

CONTEXT = RenderContext(rng=np.random.default_rng(0))


def test_golden_and_certain_texts(table_of):
    plain, lower = table_of([[-1.0, -3.0], [0.0], [-2.0]]), table_of([[-4.0, -4.0, -1.0], [-1.0], [0.0]])
    np.testing.assert_allclose(lowercase(plain, lower), [1.5, 1 / LEAST, LEAST / 2])


def test_every_shape_of_record_is_lowered_and_the_rest_stays():
    text = Record(id="a", text="Hi ÄB", user="U", spans=(Span(start=0, end=2, kind="NAME"),))
    pair = Record(id="b", prompt="ASK", completion="Tell")
    chat = Record(id="c", messages=(Message(role="user", content="Q?"), Message(role="assistant", content="A!")))
    assert rendered(text, LOWERCASE, CONTEXT) == [Record(id="a", text="hi äb", user="U")]
    assert rendered(pair, LOWERCASE, CONTEXT) == [Record(id="b", prompt="ask", completion="tell")]
    lowered = (Message(role="user", content="q?"), Message(role="assistant", content="a!"))
    assert rendered(chat, LOWERCASE, CONTEXT) == [Record(id="c", messages=lowered)]
