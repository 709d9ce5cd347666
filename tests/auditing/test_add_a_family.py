# SPDX-License-Identifier: Apache-2.0
"""A new kind of evidence is one folder: audit, verdict, results file, page, console and gate take it as it is."""

from __future__ import annotations

import os
import sys
import textwrap
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import reticent.auditing
from reticent.auditing.family import FAMILIES

FAMILY = '''
# SPDX-License-Identifier: Apache-2.0
"""Echoes: does the model repeat what it is told?"""

from __future__ import annotations

from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.family import Collection, Judgement, FamilySection, Prepared, family
from reticent.auditing.leak_level import LeakLevel
from reticent.auditing.verdict import severity
from reticent.core.finding import Finding, ThreatModel
from reticent.stats.proportions import share


def collect(audit: Collection) -> list[bool]:
    return [record.id != "0" for record in audit.case.records]


def prepare(evidence: list[bool], judgement: Judgement) -> Prepared:
    return Prepared(evidence=evidence, claims=(Claim(name="echo", weight=1.0),))


def evaluate(evidence: list[bool], judgement: Judgement, allowance: Allowance) -> FamilySection:
    estimate = share(evidence, confidence=allowance.confidence("echo"))
    finding = Finding(
        attack="echo",
        level="echo",
        metric="extracted",
        estimate=estimate,
        severity=severity("extracted", estimate.lo),
        threat=ThreatModel(access="text"),
        statement="The model repeats nearly all that it is told.",
        advice="Do not tell it anything.",
    )
    return FamilySection(
        findings=(finding,), counts={"echoes": len(evidence)}, not_tested=("echo of an echo: no time",)
    )


family(name="echo", order=90, collect=collect, prepare=prepare, evaluate=evaluate, switch="echo",
       levels=(LeakLevel(name="echo", words="echoes", place=9),))
'''

RUN = """
import sys
from pathlib import Path

from reticent.auditing.config import AuditConfig
from reticent.core.run_folder import RunFolder
from reticent.report.results_file import read_results
from reticent.testing.tiny import save_tiny, tiny_tokenizer
from reticent.workflows.audit import audit
from reticent.workflows.gate import gate

out = Path(sys.argv[1])
save_tiny(out / "model")
config = AuditConfig(attacks="loss", more_families="echo", dtype="float32", device="cpu")
inside = [f"note {number * 7919 % 997} about the order" for number in range(24)]
outside = [f"note {number * 7919 % 997} about the order" for number in range(24, 48)]
audit(model=str(out / "model"), members=inside, held_out=outside, config=config, out=out / "run")
results = read_results(out / "run" / "results.json")
found = {finding.level: finding for finding in results.findings if finding.metric in ("auc", "extracted")}
assert found["echo"].severity == "critical", found["echo"]
assert found["echo"].estimate.confidence > found["record"].estimate.confidence > 0.95, found
assert found["echo"].estimate.joint == 0.95
assert results.counts["echoes"] == 48
assert "echo of an echo: no time" in results.not_tested
assert [kind.name for kind in results.kinds if kind.tried] == ["Membership, per record", "Echo"], results.kinds
page = (out / "run" / "report.html").read_text(encoding="utf-8")
assert "The model repeats nearly all that it is told." in page
assert gate(results, max_auc=1.0).exit_code == 0
print(results.verdict.headline)
"""


def in_a_fork(auditing_folder: Path, argument: Path, said: Path) -> int:
    """Run the program in a fork of this process, whose package has one more folder; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        with said.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
            try:
                reticent.auditing.__path__.append(str(auditing_folder))
                FAMILIES._discovered = False
                sys.argv = ["", str(argument)]
                exec(RUN, {"__name__": "run"})
                code = 0
            except BaseException:  # noqa: BLE001  (whatever it is, this process must end here)
                traceback.print_exc()
            finally:
                file.flush()
                os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_family_is_one_folder(tmp_path: Path) -> None:
    assert "echo" not in FAMILIES.names()
    folder = tmp_path / "auditing" / "echo"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Echoes."""\n', encoding="utf-8")
    (folder / "family.py").write_text(textwrap.dedent(FAMILY).lstrip(), encoding="utf-8")
    said = tmp_path / "said"
    code = in_a_fork(folder.parent, tmp_path, said)
    text = said.read_text(encoding="utf-8")
    assert code == 0, text
    assert text.splitlines()[-1].endswith("gives away what it was trained on: echoes (critical severity).")
