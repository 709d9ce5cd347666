# SPDX-License-Identifier: Apache-2.0
"""Chains of requests: followed to the root however folders lie, and never in a circle."""

import shutil

import numpy as np
import pytest
import yaml

from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.record import Record, read_records, write_records
from reticent.core.run_folder import RunFolder
from reticent.data.canaries import plant, write_canaries
from reticent.unlearning.parents import chain
from reticent.unlearning.run_rows import FORGOTTEN, retained_rows, run_rows, trained_rows


def ids(records):
    return [record.id for record in records]


def rename_parent(run, place):
    settings = run.settings("unlearn") | {"parent": str(place)}
    (run.root / "unlearn.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture
def three(shop, unlearned):
    """A tuned run, and two requests in a row."""
    first = unlearned(shop, shop, ["a1", "c1"], name="first")
    return shop, first, unlearned(first, shop, ["b2"], name="second")


def test_all_requests_from_the_root(three):
    shop, first, second = three
    assert chain(shop).links == ()
    assert chain(shop).last == shop
    both = chain(second)
    assert both.root.root == shop.root.resolve()
    assert [link.run.root.name for link in both.links] == ["first", "second"]
    assert both.forgotten == {"a1": 1, "c1": 1, "b2": 2}
    assert both.last.root == second.root
    assert chain(first).forgotten == {"a1": 1, "c1": 1}


def test_rows_as_the_last_model_stands(three):
    shop, first, second = three
    assert ids(trained_rows(shop)) == ["a1", "a2", "b1", "b2", "c1", "e1"]
    assert ids(trained_rows(first)) == ["a2", "b1", "b2", "e1"]
    assert ids(trained_rows(second)) == ["a2", "b1", "e1"]
    assert ids(retained_rows(second, {"b1"})) == ["a2", "e1"]
    rows = run_rows(second)
    now = rows.present_membership
    assert now.record_id[now.member].tolist() == ["a2", "b1", "e1"]
    assert now.record_id[now.role == FORGOTTEN].tolist() == ["a1", "b2", "c1"]
    assert not (now.member & now.attacked & rows.is_forgotten).any()
    assert np.array_equal(rows.membership.member, run_rows(shop).membership.member)


def test_moved_together_or_linked_it_is_followed(three, tmp_path):
    _, _, second = three
    (tmp_path / "elsewhere").mkdir()
    for name in ("shop", "first", "second"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    assert ids(trained_rows(RunFolder(root=tmp_path / "elsewhere" / "second"))) == ["a2", "b1", "e1"]
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "second", target_is_directory=True)
    assert ids(trained_rows(RunFolder(root=tmp_path / "link"))) == ["a2", "b1", "e1"]
    assert not second.root.exists()


def test_from_the_folder_itself(three, monkeypatch):
    monkeypatch.chdir(three[2].root)
    assert len(chain(RunFolder(root=three[2].root.relative_to(three[2].root))).links) == 2


def test_a_parent_that_is_gone_or_moved(three, tmp_path):
    shop, first, second = three
    first.root.rename(tmp_path / "renamed")
    with pytest.raises(BadInput, match=r"second: was made from .*first, and there is no such folder.*`parent` in"):
        chain(second)
    rename_parent(second, "../renamed")
    assert len(chain(second).links) == 2
    rename_parent(second, tmp_path / "renamed")
    assert len(chain(second).links) == 2
    shutil.rmtree(shop.root)
    with pytest.raises(BadInput, match=r"renamed: was made from .*shop, and there is no such folder"):
        trained_rows(second)
    shop.root.write_text("a file")
    with pytest.raises(BadInput, match="and that is a file"):
        chain(second)


def test_circles_end(three, tmp_path):
    _, first, second = three
    rename_parent(first, "../second")
    with pytest.raises(BadInput, match="go in a circle"):
        chain(second)
    rename_parent(first, ".")
    with pytest.raises(BadInput, match="go in a circle"):
        chain(first)
    (tmp_path / "again").symlink_to(first.root, target_is_directory=True)
    rename_parent(first, "../again")
    with pytest.raises(BadInput, match="go in a circle"):
        chain(second)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(BadInput, match=r"no such folder|cannot be looked at"):
        chain(RunFolder(root=tmp_path / "loop"))


@pytest.mark.parametrize("missing", ["request.parquet", "model"])
def test_an_unfinished_parent(three, missing):
    path = three[1].root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(BadInput, match=f"first: has no {missing}, so its unlearning did not end"):
        chain(three[2])


@pytest.mark.parametrize("missing", ["records.parquet", "membership.parquet", "model"])
def test_an_unfinished_root(three, missing):
    path = three[0].root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(BadInput, match=rf"shop: has no {missing}.*was made from it"):
        chain(three[2])
    with pytest.raises(BadInput, match=f"has no {missing}, so its fine-tune did not end. Run"):
        chain(three[0])


def test_what_is_no_run(tmp_path, three):
    for name, message in (("nowhere", "there is no such folder"), ("x" * 5000, "cannot be looked at|no such folder")):
        with pytest.raises(BadInput, match=message):
            chain(RunFolder(root=tmp_path / name))
    with pytest.raises(BadInput, match=r"holds no run of `reticent tune`. Give"):
        chain(RunFolder(root=tmp_path))
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a file and no run folder"):
        chain(RunFolder(root=tmp_path / "file"))
    (three[1].root / "unlearn.yaml").write_text("{parent: 3, data: x, request: {}, unlearning: {}}")
    with pytest.raises(BadInput, match="names no parent"):
        chain(three[2])
    (three[1].root / "unlearn.yaml").write_text("{")
    with pytest.raises(BadInput, match="is broken"):
        chain(three[2])


def test_a_parent_with_other_data_is_refused(three):
    shop = three[0]
    records = read_records(shop.records)
    write_records(shop.records, [Record(id=record.id, text="another text", user=record.user) for record in records])
    with pytest.raises(BadInput, match="was unlearned from other data"):
        trained_rows(three[2])
    assert trained_rows(shop)


def test_damaged_texts(three):
    three[0].records.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="no longer what was written"):
        trained_rows(three[2])


def test_rows_taken_out_twice_are_refused(three, shop, unlearned):
    last = unlearned(three[2], shop, ["a1"], name="third")
    with pytest.raises(BadInput, match="has 1 rows that two requests"):
        run_rows(last)


def test_ids_of_another_run_are_refused(three, shop, unlearned):
    last = unlearned(three[2], shop, ["zz"], name="third")
    with pytest.raises(BadInput, match="was unlearned from other data"):
        run_rows(last)


def test_many_requests_in_a_row(letters, tuned, unlearned):
    many = [Record(id=f"r{number}", text=f"letter {number}") for number in range(60)]
    root = run = tuned(many, [record.id for record in many])
    for number in range(50):
        run = unlearned(run, root, [f"r{number}"], name=f"step{number}")
    assert ids(trained_rows(run)) == [f"r{number}" for number in range(50, 60)]
    assert chain(run).forgotten["r49"] == 50


def test_planted_secrets_are_trained_on_beside_the_records(tuned):
    mails = [
        Record(id=f"mail {number}", text=f"the letter of number {number}", user=f"u{number}") for number in range(20)
    ]
    run = tuned(mails, [mail.id for mail in mails[:10]])
    assert run_rows(run).planted == ()
    planting = plant(mails, read_membership(run.membership), kind="passphrase", secrets=8, controls=4, seed=1)
    write_canaries(run.canaries, planting.canaries)
    assert planting.to_train
    assert run_rows(run).planted == planting.to_train
