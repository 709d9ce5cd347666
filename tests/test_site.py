# SPDX-License-Identifier: Apache-2.0
"""The site that `make docs` builds: every page has its place, and what is made from the package is whole."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import reticent
from reticent.cli import main as cli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages() | {"counts": module.counts()}


class Loader(yaml.SafeLoader):
    """Takes the tags of mkdocs.yml without doing what they say."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def leaves(part: object) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for item in part:
            yield from leaves(item)
    elif isinstance(part, dict):
        yield from leaves(list(part.values()))


def test_every_page_has_its_place(made: dict[str, str]) -> None:
    nav = list(leaves(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]))
    docs = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(nav) == sorted(docs | (set(made) - {"counts"}))


def test_every_verb_and_flag_is_on_the_page_of_the_command_line(made: dict[str, str]) -> None:
    page = made["reference/command_line.md"]
    for verb in cli._verbs():
        assert f"## reticent {verb}\n" in page
    for flag in ("--split_unit", "--epsilon", "--attacks", "--max_auc"):
        assert flag in page


def test_every_public_name_is_on_a_page(made: dict[str, str]) -> None:
    for name in reticent.__all__:
        if not isinstance(getattr(reticent, name), ModuleType):
            assert re.search(rf"^::: reticent\.[\w.]*\.{name}$", made["reference/python.md"], flags=re.MULTILINE), name
            continue
        page, module = made[f"reference/{name}.md"], getattr(reticent, name)
        missing = [
            part for part in module.__all__ if not re.search(rf"^(::: .*\.|## ){part}$", page, flags=re.MULTILINE)
        ]
        assert not missing


def test_counts_are_those_of_the_registries(made: dict[str, str]) -> None:
    assert f"{len(reticent.attacks.ATTACKS.names())} attacks" in made["counts"]


def test_the_site_asks_no_other_site_for_anything() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    assert settings["theme"]["font"] is False
    assert not {"extra_css", "extra_javascript"} & set(settings)
