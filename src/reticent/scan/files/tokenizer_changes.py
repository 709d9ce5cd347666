# SPDX-License-Identifier: Apache-2.0
"""Scanner of tokenizers against the sibling's: a word that becomes another token is another word to the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reticent.core.scan import ScanEvidence
from reticent.scan.files.bounded_words import shown
from reticent.scan.files.folder_files import FolderFile, folder_files, parsed_json, read_json
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
MODELS = (".model", "vocab.json", "merges.txt", "vocab.txt")
"""Endings of files that are a vocabulary by themselves; they are compared by their bytes."""
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
RULES = ("normalizer", "pre_tokenizer", "decoder")
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
    evidence: list[ScanEvidence] = []
    if TOKENIZER in ours and TOKENIZER in theirs:
        evidence += _compared(ours[TOKENIZER], theirs[TOKENIZER])
    for path in sorted(ours.keys() & theirs.keys()):
        if path.endswith(MODELS) and path != TOKENIZER and _differ(ours[path], theirs[path]):
            evidence.append(_change(path, "differs from the sibling's vocabulary", 1.0))
    if SETTINGS in ours and SETTINGS in theirs:
        evidence += _settings(read_json(ours[SETTINGS]), read_json(theirs[SETTINGS]))
    return evidence


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
    kinds = [content.get("model", {}).get("type") for content in (our, their)]
    if kinds[0] != kinds[1]:
        yield _change(path, f"the model is {kinds[0]!s:.40}, and the sibling's {kinds[1]!s:.40}", 1.0)


def _settings(ours: Any, theirs: Any) -> Iterator[ScanEvidence]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in SPECIAL:
            pair = [json.dumps(content.get(name), sort_keys=True)[:60] for content in (ours, theirs)]
            if pair[0] != pair[1]:
                yield _change(SETTINGS, f"{name} is {pair[0]}, and the sibling's {pair[1]}", 0.5)


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
