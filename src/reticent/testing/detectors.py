# SPDX-License-Identifier: Apache-2.0
"""Conformance of detectors: ``check_detector("my_detector")`` reads the detector's own example."""

from __future__ import annotations

from reticent.data.pii.detect import find
from reticent.data.pii.detector import DETECTORS, Detector

NOTHING = ("", " \n\t", "The kettle boils, and nobody is there.")
"""Texts without personal data."""


def check_detector(detector: Detector | str) -> None:
    """Read a detector's example, alone and among others, and texts without personal data.

    Raises:
        AssertionError: the detector has no example, does not find what it says stands there, gives spans that are of
            other kinds or outside of the text, or others on a second reading; or it finds something where nothing is.
    """
    detector = DETECTORS.get(detector) if isinstance(detector, str) else detector
    assert detector.example is not None, f"{detector.name}: needs an example (example=): a text and what it finds in it"
    assert detector.summary.endswith("."), f"{detector.name}: the docstring's first line must be one whole sentence"
    text, value = detector.example
    spans = find(text, [detector])
    stretches = [text[span.start : span.end] for span in spans]
    assert value in stretches, f"{detector.name}: finds {stretches} in its example, not {value!r}"
    kinds = {span.kind for span in spans}
    assert kinds <= set(detector.kinds), f"{detector.name}: gives kinds {sorted(kinds - set(detector.kinds))} too"
    assert find(text, [detector]) == spans, f"{detector.name}: a second reading finds other spans"
    for nothing in NOTHING:
        assert not find(nothing, [detector]), f"{detector.name}: finds something in {nothing!r}"
    longer = f"{NOTHING[-1]} \n\n{text}"
    moved = find(longer, [detector])
    assert value in [longer[span.start : span.end] for span in moved], f"{detector.name}: loses it behind other text"
    many = detector.find_many
    if many is not None:
        texts = [text, NOTHING[-1], text]
        single = [list(detector.find(piece)) for piece in texts]
        together = [list(spans_of_piece) for spans_of_piece in many(texts)]
        assert together == single, f"{detector.name}: many texts at once give other spans"
