# SPDX-License-Identifier: Apache-2.0
"""Registries find files, suggest names and survive broken plug-ins."""

import sys

import pytest

from reticent.core.errors import BadInput
from reticent.core.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "fruit_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from reticent.core.registry import Registry\nFRUIT = Registry('fruit', 'fruit_package')\n"
    )
    (folder / "apple.py").write_text("from fruit_package import FRUIT\nFRUIT.add('apple', 1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import fruit_package

    yield fruit_package
    for name in [name for name in sys.modules if name.startswith("fruit_package")]:
        del sys.modules[name]


def test_a_file_is_found_by_being_there(package):
    assert package.FRUIT.names() == ["apple"]
    assert package.FRUIT.get("apple") == 1
    assert "apple" in package.FRUIT


def test_an_unknown_name_suggests_the_near_one(package):
    with pytest.raises(BadInput, match=r"Did you mean 'apple'\?"):
        package.FRUIT.get("aple")


def test_a_name_can_be_taken_once():
    registry = Registry("thing", "reticent.core")
    registry.add("a", 1)
    with pytest.raises(ValueError, match="twice"):
        registry.add("a", 2)


def test_a_broken_plug_in_warns_and_does_not_kill(package, monkeypatch):
    class Broken:
        name = "broken"

        def load(self):
            raise RuntimeError("no")

    monkeypatch.setattr("reticent.core.registry.entry_points", lambda group: [Broken()])
    with pytest.warns(UserWarning, match="broken"):
        assert package.FRUIT.names() == ["apple"]
