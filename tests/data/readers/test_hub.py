# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.readers import hub
from reticent.data.readers.reader import rows_of

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()


def saved(path: Path, *splits: str) -> str:
    one = datasets.Dataset.from_dict({"text": ["a", "b"]})
    (datasets.DatasetDict(dict.fromkeys(splits, one)) if splits else one).save_to_disk(str(path))
    return str(path)


def test_saved_folder(tmp_path: Path) -> None:
    source = saved(tmp_path / "one")
    rows = list(rows_of(source))
    assert [row.fields for row in rows] == [{"text": "a"}, {"text": "b"}]
    assert rows[1].place == f"{source}, row 2"


def test_splits(tmp_path: Path) -> None:
    assert len(list(rows_of(saved(tmp_path / "single", "train")))) == 2
    source = saved(tmp_path / "both", "train", "test")
    with pytest.raises(BadInput, match="several splits: train, test"):
        list(rows_of(source))
    assert len(list(rows_of(f"{source}:test"))) == 2
    with pytest.raises(BadInput, match="no split 'dev'"):
        list(rows_of(f"{source}:dev"))


def test_folder_of_data_files(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "x"}\n{"text": "y"}\n')
    assert [row.fields["text"] for row in rows_of(str(folder))] == ["x", "y"]


def test_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="cannot be loaded as a dataset"):
        list(rows_of(str(tmp_path / "empty")))


def test_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, config: str | None) -> dict:
        asked.append((name, config))
        return {"train": [{"text": "x"}], "test": [{"text": "y"}]}

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [row.fields["text"] for row in rows_of("owner/name:test")] == ["y"]
    assert [row.fields["text"] for row in rows_of("owner/name:small:train")] == ["x"]
    assert asked == [("owner/name", None), ("owner/name", "small")]


@pytest.mark.parametrize("source", ["name", "a/b/c", "owner/name:a:b:c", "./missing", "missing dir/x"])
def test_what_is_no_hub_id(source: str) -> None:
    assert not hub._accepts(source)
