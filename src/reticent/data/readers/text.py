# SPDX-License-Identifier: Apache-2.0
"""Plain text: each paragraph (lines between blank ones) is a row."""

from __future__ import annotations

from collections.abc import Iterator

from reticent.data.readers.reader import BadRow, InputRow, example_file, lines_of, open_binary, reader


@reader("text", suffixes=(".txt", ".text", ".txt.gz"), example=example_file("a.txt", "one\n\ntwo\n"))
def rows(source: str) -> Iterator[InputRow | BadRow]:
    """Paragraphs in the field ``text``, stripped at their ends. A place is ``file:line`` of the first line.

    A long text is better cut into blocks of equal length (``--block_words``): paragraphs differ in length, and an
    attack on a heading of three words says nothing.
    """
    lines: list[str] = []
    start, broken = 1, ""
    with open_binary(source) as file:
        for number, raw in lines_of(source, file):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                broken = f"is not UTF-8 (byte {error.start + 1} of line {number} is 0x{raw[error.start]:02x})"
                line = "?"
            if line:
                start = start if lines else number
                lines.append(line)
                continue
            yield from _paragraph(f"{source}:{start}", lines, broken)
            lines, broken = [], ""
    yield from _paragraph(f"{source}:{start}", lines, broken)


def _paragraph(place: str, lines: list[str], broken: str) -> Iterator[InputRow | BadRow]:
    if broken:
        yield BadRow(place=place, why=broken, fix="Save the file as UTF-8.")
    elif lines:
        yield InputRow(place=place, fields={"text": "\n".join(lines)})
