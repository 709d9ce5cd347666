# SPDX-License-Identifier: Apache-2.0
"""One new source file adds an attack of any kind, a layer rule, a reader, a detector or an unlearning method: it is
listed, checked and run.

The files are added to a copy of the package, in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reticent

FILES = {
    "attacks/membership/longest_run.py": '''
"""Longest run: the most tokens in a row that the target finds likelier than the reference does."""

import numpy as np

from reticent.attacks.attack import attack
from reticent.attacks.parameter import Positive


@attack("longest_run", unit="record", returns="score", needs=("logp",), access="logprob", paper="arXiv:2601.02751")
def longest_run(table, ref, *, scale: Positive = 1.0):
    """Share of tokens that the target finds likelier.

    Returns ``[N]``, higher = member.
    """
    return scale * table.mean((table["logp"] > ref["logp"]).astype(np.float64))
''',
    "attacks/user/total_gain.py": '''
"""Total gain of a user's texts."""

from reticent.attacks.attack import attack


@attack("total_gain", unit="user", returns="score", needs=("logp",), access="logprob", paper="arXiv:2310.09266")
def total_gain(table, ref):
    """Log-likelihood ratio of a document.

    Returns ``[N]``, higher = member.
    """
    return table.sum(table["logp"].astype("float64") - ref["logp"])
''',
    "attacks/extraction/first_token.py": '''
"""First token of a secret."""

from reticent.attacks.attack import attack


@attack("first_token", unit="secret", returns="hit", access="text", paper="arXiv:2202.07646")
def first_token(forced):
    """Share of secrets whose first token comes first.

    Returns ``[N]``, 1 where it does.
    """
    return (forced.rank[forced.offsets[:-1]] == 0).astype(float)
''',
    "attacks/extraction/likely_texts.py": '''
"""Texts that the model finds likely."""

import numpy as np

from reticent.attacks.attack import attack


@attack("likely_texts", unit="generation", returns="hit", access="logprob", paper="arXiv:2012.07805")
def likely_texts(free_generations):
    """Share of freely written texts that copy.

    Returns ``[M]``, 1 where they do.
    """
    return free_generations.copied.astype(np.float64)
''',
    "attacks/pii/worst_rank.py": '''
"""Rank with ties against the attacker."""

import numpy as np

from reticent.attacks.attack import attack


@attack("worst_rank", unit="secret", returns="rank", access="logprob", paper="arXiv:2302.00539")
def worst_rank(ranked):
    """Rank of the true value, of equal ones the last.

    Returns ``[N]``, 1 = best.
    """
    return np.array([float((row >= row[true]).sum()) for row, true in zip(ranked.logp, ranked.truth, strict=True)])
''',
    "privacy/clip/layers/scale.py": '''
"""A trained factor for each channel."""

import torch
from torch import nn

from reticent.privacy.clip.rule import layer_rule


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return x * self.by


@layer_rule("scale", matches=lambda module: type(module) is Scale, parameters=("by",), example=Scale)
def scale(module, tape, x):
    """``x ⊙ by``."""
    return _Scale.apply(x, module.by, tape)


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, by, tape):
        ctx.tape, ctx.by = tape, by
        ctx.save_for_backward(x)
        return x * by

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        ctx.tape.dense(ctx.by, (g.float() * x.float()).flatten(1, -2).sum(1))
        return g * ctx.by, None, None
''',
    "train/unlearning/methods/half_ascent.py": '''
"""Gradient ascent at half the speed."""

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import Positive


@unlearner("half_ascent", retain="nll", learning_rate=1e-5, epochs=5, paper="arXiv:2210.01504")
def half_ascent(forget, *, share: Positive = 0.5):
    """Ascent by a share of the gradient.

    ``share · mean over tokens of log p(y)``. Unit: nats a token. Direction: falls. Source: a test.

    Args:
        share: of the gradient.
    """
    return share * forget.mean_over_tokens(forget.token_logp[forget.trained])
''',
    "data/readers/lines.py": '''
"""One text a line."""

from reticent.data.readers.reader import InputRow, example_file, lines_of, open_binary, reader


@reader("lines", suffixes=(".lines",), example=example_file("a.lines", "one\\ntwo\\n"))
def rows(source):
    """Each line."""
    with open_binary(source) as file:
        for number, line in lines_of(source, file):
            yield InputRow(place=f"{source}:{number}", fields={"text": line.decode().strip()})
''',
    "data/pii/detectors/badge.py": '''
"""Badge numbers."""

import re

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector


@detector(
    "badge", kinds=("BADGE",), evidence=SpanEvidence.FORM, example=("his badge is BDG-4821.", "BDG-4821")
)
def badge(text):
    """Badges of the form BDG-1234."""
    for match in re.finditer(r"BDG-[0-9]{4}", text):
        yield Span(start=match.start(), end=match.end(), kind="BADGE")
''',
}

CHECK = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import reticent
from reticent.attacks.attack import ATTACKS
from reticent.attacks.paper_index import paper_index
from reticent.attacks.run import run_attacks
from reticent.auditing.config import AuditConfig
from reticent.auditing.membership.choose_attacks import AvailableEvidence, choose, listed
from reticent.auditing.pii.evaluate import evaluate as evaluate_pii
from reticent.auditing.pii.evidence import EvidenceRows, PiiEvidence
from reticent.cli.main import main
from reticent.data.pii.detect import choose as choose_detectors, find
from reticent.data.readers.reader import rows_of
from reticent.testing.check_all import registered
from reticent.testing.planted import plant
from reticent.testing.planted_leaks import planted_evidence, planted_leak
from reticent.testing.unlearners import planted_rows
from reticent.train.unlearning.method import UNLEARNERS, method_names

assert Path(reticent.__file__).is_relative_to(Path(sys.argv[1]))
ADDED = {
    "attack": ("longest_run", "total_gain", "first_token", "likely_texts", "worst_rank"),
    "layer rule": ("scale",),
    "file format": ("lines",),
    "detector": ("badge",),
    "unlearning method": ("half_ascent",),
}

# listed, and checked
for kind, names in ADDED.items():
    registry, check = registered(kind)
    for name in names:
        check(registry.get(name))
assert main(["attacks"]) == 0
assert all(f"| `{name}` |" in paper_index() for name in ADDED["attack"])

# run on records and users, with a parameter that was set
config = AuditConfig(attacks="standard,longest_run(scale=2)")
there = AvailableEvidence(reference=True, users=True, population=1, known_held_out=1, known_members=1)
choice = choose(config.attacks, there)
ran = [attack for attack in choice.run if attack.name in ADDED["attack"]]
assert [(attack.name, attack.params) for attack in ran] == [("longest_run", {"scale": 2.0}), ("total_gain", {})]
assert {"scale": 2.0} in [row.params for row in listed(choice, {}, []) if row.name == "longest_run"]
for attack in ran:
    paths = {name: Path(f"{attack.name}.{name}.parquet") for name in attack.evidence}
    for name, table in plant(attack).tables.items():
        table.write(paths[name])
    assert np.isfinite(run_attacks([attack], paths).scores[attack.name]).all()

# run on secrets and generations
sys.path.insert(0, sys.argv[2])
from test_evaluate import evaluate, evidence_of

known, unknown = planted_evidence(known=True), planted_evidence(known=False)
evidence = replace(evidence_of(True), chance=unknown)
evidence = replace(evidence, target=replace(evidence.target, free_generations=known.free_generations))
rows = {row.attack: row.target.value for row in evaluate(evidence, confidence=0.9, joint=0.9).rows if not row.control}
assert (rows["first_token"], rows["likely_texts"]) == (1, 1), rows

# run on personal data
units = EvidenceRows(group=("A",) * 40, member=(True,) * 40, user=(None,) * 40, candidates=(20,) * 40)
held = {"ranked": planted_leak("ranked", known=True)}
rows, notes = evaluate_pii(PiiEvidence(units={"ranked": units}, target=held, base=None, notes=()), confidence=0.9)
assert {row.target.value for row in rows if row.attack.startswith("worst_rank")} == {1.0}, rows

# listed before anything is loaded, and run with a parameter that was set
assert "half_ascent" in method_names()
rows = planted_rows()
ascent, half = (UNLEARNERS.get(name) for name in ("gradient_ascent", "half_ascent"))
assert half.defaults == {"share": 0.5}
assert abs(half(rows, share=0.25) / ascent(rows) - 0.25) < 1e-5

# read and found
Path("b.lines").write_text("his badge is BDG-4821")
texts = [row.fields["text"] for row in rows_of("b.lines")]
patterns = [detector for detector in choose_detectors() if detector.evidence]
assert [span.kind for span in find(texts[0], patterns)] == ["BADGE"]
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one more file of every kind."""
    root = tmp_path_factory.mktemp("tree")
    package = Path(reticent.__file__).parent
    shutil.copytree(package, root / "reticent")
    for name, text in FILES.items():
        assert not (root / "reticent" / name).exists()
        (root / "reticent" / name).write_text(f"# SPDX-License-Identifier: Apache-2.0{text}", encoding="utf-8")
    return root


def test_one_file_adds_a_thing_of_every_kind(tree: Path, tmp_path: Path) -> None:
    tests = Path(__file__).parents[1] / "auditing" / "extraction"
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tree), str(tests)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    units = [line.split()[0] for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    names = {name.partition("(")[0] for name in units}
    assert {"longest_run", "total_gain", "first_token", "likely_texts", "worst_rank", "min_k"} <= names
