# SPDX-License-Identifier: Apache-2.0
"""Scanner of code: programs in the folder, settings that ask for them, and a base that is not the one at hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.file_by_file import file_by_file
from reticent.scanning.files.folder_files import MOST_JSON, VOCABULARIES, FolderFile, folder_files, parsed_json
from reticent.scanning.files.graph_files import leaves_folder, onnx_notes, tensorflow_notes
from reticent.scanning.files.keras_layers import hdf5_note, hdf5_start, layer_notes
from reticent.scanning.files.object_targets import TARGETS, target_note, yaml_notes
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import ADAPTER_FILE, Suspect

PROGRAMS = (
    *(".py", ".pyc", ".pyd", ".pyo", ".pyw", ".pyz", ".whl", ".egg", ".ipynb", ".pth.py"),
    *(".so", ".dll", ".dylib", ".exe", ".com", ".scr", ".msi", ".jar", ".class", ".lnk"),
    *(".sh", ".bash", ".zsh", ".bat", ".cmd", ".ps1", ".vbs", ".js", ".mjs", ".cjs", ".command", ".wsf", ".hta"),
    *(".pl", ".rb", ".php", ".lua", ".desktop", ".pif", ".appimage", ".deb", ".rpm", ".apk", ".pyx"),
)
LIBRARIES = ("transformers", "diffusers", "torch", "peft", "timm", "sentence_transformers")
"""Packages that an adapter's settings may name as the home of its base class."""
_OF_DIFFUSERS = ("onnxruntime", "optimum", "k_diffusion", "flax", "stable_diffusion", "stable_diffusion_xl")
"""Further packages, and rooms of diffusers itself, that the components of a pipeline come from."""
_HUB_CODE = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
"""Settings whose value is a function of the library, or, with a slash, a program that is fetched from a hub; there is
one for all of a model, or one for each of its parts."""
_SAMPLES = re.compile(r"(.*/)?\.git/hooks/[\w-]+\.sample")
"""Programs that git puts into each clone, and runs under another name only."""
_IMPORTED = {
    "type": ("sentence_transformers",),
    "activation_function": ("torch",),
    "activation_fn": ("torch",),
    "megatron_core": ("megatron",),
}
"""Settings that a loader imports where they have a dot, and the packages that they usually name."""
_OF_CLASSES = ("type", "activation_function", "activation_fn")
"""Those of them that name classes."""
_MOST_DEPTH = 60
"""Settings in settings."""
NO_CODE = "Load it with trust_remote_code=False, or read the code first."


@scanner(
    name="code_in_folder",
    title="Code in the folder",
    kind="files",
    null="rule",
    blind_to="Code that a loader installs or fetches by itself, what operations of a graph compute, engines that "
    "were compiled, and objects that PyTables keeps in HDF5.",
    order=13,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for programs, for settings that would run some, and for a base of another name than the sibling's."""
    files = folder_files(suspect.folder)
    return [*file_by_file(files, _of_file), *_foreign_base(suspect, files)]


def _of_file(file: FolderFile) -> Iterator[ScanEvidence]:
    kind = file.kind
    ending = PurePosixPath(file.path).suffix.lower()
    if _SAMPLES.fullmatch(file.path):
        return
    if ending in PROGRAMS:
        yield _code(file.path, "is a program")
    elif kind == kinds.PROGRAM:
        yield _code(file.path, "is machine code")
    elif kind == kinds.TEXT and kinds.head_of(file.place).startswith(b"#!"):
        yield _code(file.path, "is a program, by its first line")
    elif ending == ".json" or kind == kinds.JSON:
        yield from _of_json(file)
    elif ending in (".yaml", ".yml"):
        yield from _of_yaml(file)
    elif ending in (".onnx", ".pb"):
        for note in onnx_notes(file.view()) if ending == ".onnx" else tensorflow_notes(file.view()):
            yield _code(file.path, note)
    else:
        yield from _of_hdf5(file)


def _of_yaml(file: FolderFile) -> Iterator[ScanEvidence]:
    view = file.view()
    if len(view) > MOST_JSON:
        yield _code(file.path, f"has {len(view):,} bytes of settings, which are not read to the end")
    for note, certain in yaml_notes(bytes(view[:MOST_JSON])):
        yield _code(file.path, note, certain=certain)


def _of_hdf5(file: FolderFile) -> Iterator[ScanEvidence]:
    """An HDF5 file may begin behind other content, and readers find it there."""
    start = hdf5_start(file.view())
    if start > 0:
        yield _code(file.path, f"{start} bytes stand before an HDF5 file, which hide it from other readers")
    if start >= 0 and (note := hdf5_note(file.view())):
        yield _code(file.path, note)


def _of_json(file: FolderFile) -> Iterator[ScanEvidence]:
    if PurePosixPath(file.path).name in VOCABULARIES:
        return  # for `tokenizer_changes`
    try:
        content = parsed_json(file)
    except ValueError as error:
        if file.path.endswith(".json"):
            note = f"cannot be read as JSON ({str(error)[:80]})"
            yield ScanEvidence(score=1.0, where=file.path, note=note, remedy="Get the file again.")
        return
    yield from _of_index(file.path, content)
    for note in layer_notes(content):
        yield _code(file.path, note)
    for path, value in _settings(content):
        part = next((name for name in path[-2:-1] if name in _HUB_CODE), path[-1])
        yield from _of_setting(file.path, part, value)


def _of_setting(where: str, name: str, value: Any) -> Iterator[ScanEvidence]:
    if isinstance(value, str):
        yield from _imports(where, name, value)
    if name == "auto_map" and value:
        yield _code(where, f"auto_map names code to be loaded: {value!r}"[:160])
    elif name == "trust_remote_code" and value:
        yield _code(where, "asks for trust_remote_code")
    elif name in TARGETS and (note := target_note(value)):
        yield _code(where, note)
    elif name == "auto_mapping" and isinstance(value, Mapping):
        yield from _parent_library(where, value)


def _of_index(path: str, content: Any) -> Iterator[ScanEvidence]:
    """Shards that lie elsewhere, and components of a library that a loader imports."""
    if not isinstance(content, dict):
        return
    shards = content.get("weight_map")
    places = {str(shard) for shard in shards.values()} if isinstance(shards, dict) else set()
    away = sorted(place for place in places if leaves_folder(place))
    if away:
        note = f"{len(away)} shards lie outside of the folder: {away[0]!r}"
        yield ScanEvidence(score=1.0, where=path, note=note, remedy="Get the file again, or ask its publisher.")
    adapters = content.get("adapters")
    for place in adapters.values() if isinstance(adapters, dict) else ():
        if isinstance(place, str) and leaves_folder(place):
            note = f"names an adapter outside of the folder: {place[:80]!r}"
            yield ScanEvidence(score=1.0, where=path, note=note, remedy="Get the file again, or ask its publisher.")
    kinds_of_router = content.get("types")
    if isinstance(kinds_of_router, dict) and "structure" in content:
        for name in sorted({str(value) for value in kinds_of_router.values()}):
            yield from _imports("modules.json", "type", name, shown=path)
    if PurePosixPath(path).name == "model_index.json":
        homes = {value[0] for value in content.values() if isinstance(value, list) and len(value) == 2}
        for library in sorted(home for home in homes if isinstance(home, str)):
            if library.partition(".")[0] not in (*LIBRARIES, *_OF_DIFFUSERS):
                yield _code(path, f"names {library!r} as the home of a component, which a loader imports")


def _imports(path: str, name: str, value: str, *, shown: str = "") -> Iterator[ScanEvidence]:
    if name in _HUB_CODE and "/" in value:
        yield _code(shown or path, f"{name} names a program on a hub: {value[:80]!r}")
    usual = _IMPORTED.get(name)
    known = name != "type" or PurePosixPath(path).name == "modules.json"
    is_class = value.partition(".")[0] in (usual or ()) and (name not in _OF_CLASSES or _ends_as_class(value))
    if usual and known and "." in value and not is_class:
        yield _code(shown or path, f"{name} names {value[:80]!r}, which a loader imports")


def _ends_as_class(value: str) -> bool:
    """True for a name whose last part begins as names of classes do: a function, or a module, is called with what the
    folder says."""
    return value.rpartition(".")[2][:1].isupper()


def _settings(content: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All settings of a JSON file by their names; a crowd of entries hides none."""
    left: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while left:
        path, part = left.pop()
        if isinstance(part, dict):
            inner = [((*path, str(name)), value) for name, value in part.items()]
            yield from inner
        elif isinstance(part, list):
            inner = [(path, value) for value in part]
        else:
            continue
        if len(path) < _MOST_DEPTH:
            left.extend(row for row in inner if isinstance(row[1], dict | list))


def _parent_library(path: str, mapping: Mapping[str, Any]) -> Iterator[ScanEvidence]:
    library = mapping.get("parent_library")
    if isinstance(library, str) and library.partition(".")[0] not in LIBRARIES:
        yield _code(path, f"names {library!r} as the module of its base, which a loader imports")


def _foreign_base(suspect: Suspect, files: list[FolderFile]) -> Iterator[ScanEvidence]:
    """An adapter that belongs to another base than the one that it is to be put on."""
    for file in files:
        if PurePosixPath(file.path).name != ADAPTER_FILE:
            continue
        try:
            content = parsed_json(file)
        except ValueError:
            continue
        named = content.get("base_model_name_or_path") if isinstance(content, dict) else None
        if not isinstance(named, str) or not named:
            continue
        if "://" in named or named.startswith("\\\\"):
            note = f"base_model_name_or_path leads to another machine: {named[:80]}"
            yield ScanEvidence(score=1.0, where=file.path, note=note, remedy="Name the base as a folder of yours.")
        elif file.path == ADAPTER_FILE and suspect.base is not None and not same_base(named, suspect.base):
            note = f"belongs to {named[:80]!r}, and the trusted sibling is {suspect.base.name!r}"
            yield ScanEvidence(score=0.5, where=file.path, note=note, remedy="See that this is the base you mean.")


def same_base(named: str, base: Path) -> bool:
    """True if the name of a base, a folder or a hub id, can be that of the folder ``base``."""
    last = re.split(r"[\\/]", named.rstrip("\\/"))[-1].lower()
    names = {part.lower() for part in base.resolve().parts} | {base.name.lower()}
    return last in names or f"models--{named.replace('/', '--')}".lower() in names


def _code(where: str, note: str, *, certain: bool = False) -> ScanEvidence:
    return ScanEvidence(score=1.0, where=where, note=note, certain=certain, remedy=NO_CODE)
