# SPDX-License-Identifier: Apache-2.0
"""Scanner of tokenizers against the sibling's: a word that becomes another token is another word to the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files.bounded_words import shown
from reticent.scanning.files.folder_files import FolderFile, folder_files, parsed_json, read_json
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
MODELS = (".model", "vocab.json", "merges.txt", "vocab.txt")
"""Endings of files that are a vocabulary by themselves; they are compared by their bytes."""
ADDED = "added_tokens_decoder"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
RULES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
LIMITS = ("truncation", "padding")
"""Settings that a training writes into a tokenizer; a note, no more."""
_LISTS = ("vocab", "merges", "type")
_HERE = (TOKENIZER, "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model")
"""Files of a tokenizer, any of which can be compared with the sibling's."""
USE_ANOTHER = "Use the sibling's tokenizer, or ask the publisher for the reason."


@scanner(
    name="tokenizer_changes",
    title="A tokenizer that reads other words",
    kind="files",
    null="rule",
    needs=("base",),
    blind_to="A tokenizer that the sibling has too, and tokens that were added and carry a meaning of their own.",
    order=16,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for ids that swapped, merges and rules that changed, and tokens that were added."""
    assert suspect.base is not None  # `needs` says so
    ours = {file.path: file for file in folder_files(suspect.folder)}
    theirs = {file.path: file for file in folder_files(suspect.base)}
    _refuse_nothing_alike(ours, theirs)
    evidence: list[ScanEvidence] = []
    if TOKENIZER in ours and TOKENIZER not in theirs:
        evidence.append(_change(TOKENIZER, "is not the sibling's, which has none; loaders take this one first", 0.5))
    for path in sorted(ours.keys() & theirs.keys()):
        if path.rpartition("/")[2] == TOKENIZER:
            evidence += _compared(ours[path], theirs[path])
    for path in sorted(ours.keys() & theirs.keys()):
        if path.endswith(MODELS) and path != TOKENIZER and _differ(ours[path], theirs[path]):
            evidence.append(_change(path, "differs from the sibling's vocabulary", 1.0))
    if SETTINGS in ours and SETTINGS in theirs:
        evidence += _settings(read_json(ours[SETTINGS]), read_json(theirs[SETTINGS]))
    return evidence


def _refuse_nothing_alike(ours: Mapping[str, FolderFile], theirs: Mapping[str, FolderFile]) -> None:
    """Refuse a sibling that has no file in common with a tokenizer: it is not one that nothing was found in.

    Raises:
        BadInput: there is none.
    """
    mine = [name for name in _HERE if name in ours]
    if mine and not any(name in theirs for name in mine):
        raise BadInput(
            f"the sibling's folder has no {mine[0]}",
            "and nothing else that the tokenizer could be compared with",
            "Give a sibling with its tokenizer.",
        )


def vocabulary_of(folder: Path) -> dict[str, int]:
    """Token → id, of ``tokenizer.json``; empty where there is none that can be read."""
    path = folder / TOKENIZER
    if not path.is_file():
        return {}
    content = read_json(FolderFile(path=TOKENIZER, place=path, bytes=path.stat().st_size))
    return _vocabulary(content) if isinstance(content, dict) else {}


def _compared(ours: FolderFile, theirs: FolderFile) -> list[ScanEvidence]:
    try:
        our, their = parsed_json(ours), parsed_json(theirs)
        if not (isinstance(our, dict) and isinstance(their, dict)):
            raise ValueError("it is no object")
    except ValueError as error:
        return [_change(ours.path, f"cannot be compared: {str(error)[:80]}", 1.0)]
    return [*_ids(ours.path, our, their), *_merges(ours.path, our, their), *_rules(ours.path, our, their)]


def _ids(path: str, our: Mapping[str, Any], their: Mapping[str, Any]) -> Iterator[ScanEvidence]:
    ours, theirs = _vocabulary(our), _vocabulary(their)
    moved = sorted(token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token])
    if moved:
        swapped = {theirs[token] for token in moved} & {ours[token] for token in moved}
        how = "swapped ids" if len(swapped) == len(moved) else "have other ids"
        yield _change(path, f"{len(moved)} tokens {how}: {shown(moved)}", 1.0)
    gone = sorted(theirs.keys() - ours.keys())
    places = {theirs[token] for token in gone}
    renamed = sorted(token for token in ours.keys() - theirs.keys() if ours[token] in places)
    if renamed:
        yield _change(path, f"{len(renamed)} tokens stand where the sibling has others: {shown(renamed)}", 1.0)
    elif gone:
        yield _change(path, f"{len(gone)} tokens of the sibling's are gone: {shown(gone)}", 0.5)
    added = sorted(ours.keys() - theirs.keys() - set(renamed))
    if added:
        yield _change(path, f"{len(added)} tokens were added: {shown(added)}", 0.5)
    yield from _flags(path, our, their)


def _flags(path: str, our: Mapping[str, Any], their: Mapping[str, Any]) -> Iterator[ScanEvidence]:
    """Tokens that are cut out of a text in another way."""
    names = ("special", "normalized", "single_word", "lstrip", "rstrip")
    flags = [
        {row.get("content"): tuple(row.get(name) for name in names) for row in _rows(content)}
        for content in (our, their)
    ]
    changed = sorted(str(token) for token in flags[0].keys() & flags[1].keys() if flags[0][token] != flags[1][token])
    if changed:
        yield _change(path, f"{len(changed)} added tokens are matched in another way: {shown(changed)}", 0.5)


def _merges(path: str, our: Mapping[str, Any], their: Mapping[str, Any]) -> Iterator[ScanEvidence]:
    ours, theirs = _pairs(our), _pairs(their)
    if ours == theirs:
        return
    new, lost = len(set(ours) - set(theirs)), len(set(theirs) - set(ours))
    what = f"{new} new, {lost} gone" if new or lost else "in another order"
    yield _change(path, f"merges differ from the sibling's ({what})", 1.0)


def _rules(path: str, our: Mapping[str, Any], their: Mapping[str, Any]) -> Iterator[ScanEvidence]:
    for name in RULES:
        if our.get(name) != their.get(name):
            kind = our[name].get("type") if isinstance(our.get(name), Mapping) else our.get(name)
            yield _change(path, f"the {name.replace('_', '-')} differs from the sibling's (it is {kind!s:.60})", 1.0)
    for name in LIMITS:
        if our.get(name) != their.get(name):
            yield _change(path, f"the {name} differs from the sibling's", 0.5)
    yield from _model(path, _part(our, "model"), _part(their, "model"))


def _model(path: str, our: Mapping[str, Any], their: Mapping[str, Any]) -> Iterator[ScanEvidence]:
    """Settings of the model itself, and scores of its pieces, by which a text is cut."""
    kinds = (our.get("type"), their.get("type"))
    if kinds[0] != kinds[1]:
        yield _change(path, f"the model is {kinds[0]!s:.40}, and the sibling's {kinds[1]!s:.40}", 1.0)
        return
    for name in sorted({*our, *their} - set(_LISTS)):
        values = [content.get(name) or None for content in (our, their)]
        if values[0] != values[1]:
            yield _change(path, f"{name} of the model is {values[0]!s:.40}, and the sibling's {values[1]!s:.40}", 1.0)
    scores = [_scores(content) for content in (our, their)]
    other = [token for token in scores[0].keys() & scores[1].keys() if scores[0][token] != scores[1][token]]
    if other:
        yield _change(path, f"{len(other)} tokens have other scores: {shown(sorted(other))}", 1.0)


def _scores(model: Mapping[str, Any]) -> dict[str, Any]:
    """Token → score, of a model that has scores."""
    listed = model.get("vocab")
    rows = listed if isinstance(listed, list) else []
    return {str(row[0]): row[1] for row in rows if isinstance(row, list) and len(row) == 2}


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, Mapping) else {}


def _settings(ours: Any, theirs: Any) -> Iterator[ScanEvidence]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in SPECIAL:
            pair = [json.dumps(content.get(name), sort_keys=True)[:60] for content in (ours, theirs)]
            if pair[0] != pair[1]:
                yield _change(SETTINGS, f"{name} is {pair[0]}, and the sibling's {pair[1]}", 0.5)
        yield from _added(_part(ours, ADDED), _part(theirs, ADDED))


def _added(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[ScanEvidence]:
    """Tokens that the settings add, by id: a loader takes them beside those of the tokenizer's own file."""
    words = [{number: _content_of(row) for number, row in rows.items()} for rows in (ours, theirs)]
    other = [words[0][number] for number in words[0].keys() & words[1].keys() if words[0][number] != words[1][number]]
    if other:
        yield _change(SETTINGS, f"{len(other)} added tokens stand for others: {shown(sorted(other))}", 1.0)
    new = [words[0][number] for number in words[0].keys() - words[1].keys()] if theirs else []
    if new:
        yield _change(SETTINGS, f"{len(new)} tokens are added: {shown(sorted(new))}", 0.5)


def _content_of(row: Any) -> str:
    return str(row.get("content") if isinstance(row, Mapping) else row)


def _vocabulary(content: Mapping[str, Any]) -> dict[str, int]:
    model = content.get("model")
    listed = model.get("vocab") if isinstance(model, Mapping) else None
    tokens: dict[str, int] = {}
    if isinstance(listed, dict):
        tokens = {str(token): number for token, number in listed.items() if isinstance(number, int)}
    elif isinstance(listed, list):  # unigram: [[token, score], …], the place is the id
        tokens = {str(row[0]): number for number, row in enumerate(listed) if isinstance(row, list) and row}
    added = {str(row.get("content")): row.get("id") for row in _rows(content)}
    return tokens | {token: number for token, number in added.items() if isinstance(number, int)}


def _rows(content: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    rows = content.get("added_tokens")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _pairs(content: Mapping[str, Any]) -> list[str]:
    """Merges in one form: older files have ``"a b"``, newer ``["a", "b"]``."""
    model = content.get("model")
    merges = model.get("merges") if isinstance(model, Mapping) else None
    if not isinstance(merges, list):
        return []
    return [merge if isinstance(merge, str) else " ".join(map(str, merge)) for merge in merges]


def _differ(ours: FolderFile, theirs: FolderFile) -> bool:
    if ours.bytes != theirs.bytes:
        return True
    return ours.place.read_bytes() != theirs.place.read_bytes()


def _change(path: str, note: str, score: float) -> ScanEvidence:
    return ScanEvidence(score=score, where=path, note=note, remedy=USE_ANOTHER if score >= 1 else "")
