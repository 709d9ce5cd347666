# SPDX-License-Identifier: Apache-2.0
"""Stems of Porter's paper and of the words that later additions are for. Stems agree with those of NLTK 3.10's default
stemmer on 65,000 words (TOFU's vocabulary, other texts, and made-up ones); the words here are among them."""

from __future__ import annotations

import pytest

from reticent.unlearning.benchmarks.porter_stemmer import porter_stem

STEMS = """
caresses caress | ponies poni | ties tie | caress caress | cats cat | feed feed | agreed agre | plastered plaster
bled bled | motoring motor | sing sing | conflated conflat | troubled troubl | sized size | hopping hop | tanned tan
falling fall | hissing hiss | fizzed fizz | failing fail | filing file | happy happi | sky sky | relational relat
conditional condit | rational ration | valenci valenc | digitizer digit | conformabli conform | radicalli radic
differentli differ | vileli vile | analogousli analog | vietnamization vietnam | predication predic | operator oper
feudalism feudal | decisiveness decis | hopefulness hope | callousness callous | formaliti formal | sensitiviti sensit
sensibiliti sensibl | triplicate triplic | formative form | formalize formal | electriciti electr | electrical electr
hopeful hope | goodness good | revival reviv | allowance allow | inference infer | airliner airlin | gyroscopic gyroscop
adjustable adjust | defensible defens | irritant irrit | replacement replac | adjustment adjust | dependent depend
adoption adopt | homologou homolog | communism commun | activate activ | angulariti angular | homologous homolog
effective effect | bowdlerize bowdler | probate probat | rate rate | cease ceas | controll control | roll roll
dies die | died die | flies fli | spied spi | enjoy enjoy | spy spi | dying die | news news | archaeology archaeolog
geologi geolog | theologi theolog | hopefulli hope | aed a | oed o | by by | 2020s 2020 | syzygy syzygi | yyyy yyyi
"""


PAIRS = [pair.split() for line in STEMS.strip().split("\n") for pair in line.split("|")]


@pytest.mark.parametrize(("word", "stem"), PAIRS)
def test_stems(word, stem):
    assert porter_stem(word) == stem


def test_any_string_has_a_stem():
    for word in ("", "a", "s", "ed", "ing", "ion", "ement", "e", "ll", "é", "y" * 5000, "привет", "eed", "ies", "ied"):
        assert isinstance(porter_stem(word), str)
