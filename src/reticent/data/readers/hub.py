# SPDX-License-Identifier: Apache-2.0
"""Datasets of the Hugging Face kind: a saved folder, a folder of data files, or the id of one on the hub.

A source may name a configuration and a split after a colon: ``owner/name:train`` or ``owner/name:config:train``.
Only a hub id, which the user gave, is looked up over the network. No code that comes with a dataset is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, InputRow, reader

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.+-]+){0,2}")


def _accepts(source: str) -> bool:
    folder = Path(_parts(source)[0])
    if folder.exists():
        return folder.is_dir() and not (folder / "cur").is_dir() and not any(folder.glob("*.eml"))
    return bool(_HUB_ID.fullmatch(source))


def _example(folder: Path) -> str:
    import datasets

    datasets.Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


@reader("hub", accepts=_accepts, example=_example)
def rows(source: str) -> Iterator[InputRow | BadRow]:
    """Each row's fields; a place is ``source, row n`` from 1."""
    name, config, split = _parts(source)
    folder = Path(name)
    saved = (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists()
    dataset = _one_split(source, _saved(source, name) if saved else _load(source, name, config), split)
    for number, fields in enumerate(dataset, start=1):
        yield InputRow(place=f"{source}, row {number}", fields=fields)


def _parts(source: str) -> tuple[str, str | None, str | None]:
    """Name, configuration and split; the whole source is the name where such a folder exists."""
    if Path(source).exists():
        return source, None, None
    name, *rest = source.split(":")
    return name, rest[0] if len(rest) == 2 else None, rest[-1] if rest else None


def _saved(source: str, name: str) -> Any:
    import datasets  # it takes a second to import, and most sources are plain files

    try:
        return datasets.load_from_disk(name)
    except Exception as error:  # the library raises errors of many kinds
        raise _refusal(source, error) from error


def _load(source: str, name: str, config: str | None) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, config)
    except Exception as error:
        raise _refusal(source, error) from error


def _refusal(source: str, error: Exception) -> BadInput:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return BadInput(
        source,
        f"cannot be loaded as a dataset ({type(error).__name__}: {reason})",
        "Check the folder or the hub id (and the network); a configuration or a split is named by "
        "owner/name:config:split.",
    )


def _one_split(source: str, dataset: Any, split: str | None) -> Any:
    """One split of a dictionary of splits; refused where there are several and none is named."""
    if not isinstance(dataset, dict):
        return dataset
    if split is None and len(dataset) == 1:
        return next(iter(dataset.values()))
    if split not in dataset:
        reason = "has several splits" if split is None else f"has no split {split!r}"
        raise BadInput(
            source, f"{reason}: {', '.join(dataset)}", f"Name one, such as {source.split(':')[0]}:{min(dataset)}."
        )
    return dataset[split]
