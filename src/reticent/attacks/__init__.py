# SPDX-License-Identifier: Apache-2.0
"""Attacks on one's own models: pure functions from evidence to one number for each unit. Imports no torch.

An attack stands for an attacker. Its ``access`` says what that attacker sees of the fine-tuned model, its evidence what
else they must hold (the base model, texts known to be outside). An audit runs them against a model that its owner is
about to ship, to learn what others could learn from it.

Examples:
    An attack is a function of tables; registered, it is tested, run and listed with the others:

    >>> from reticent.attacks import ATTACKS, Attack, attack
    >>> paper = "https://example.org/paper"
    >>> @attack("mean_logp_example", unit="record", returns="score", needs=("logp",), access="logprob", paper=paper)
    ... def mean_logp(table):
    ...     "Higher where the model finds the whole record likelier."
    ...     return table.mean(table["logp"])

    >>> isinstance(ATTACKS.get("mean_logp_example"), Attack), "mean_logp_example" in ATTACKS.names()
    (True, True)

    Run on tables that were scored before (`reticent audit` leaves them in the run folder):

    >>> import numpy as np
    >>> from reticent import TokenTable
    >>> from reticent.attacks import AttackOutcome, run_attack, run_attacks
    >>> rows = {"record_id": np.array(["a", "b"], dtype=object), "copy": np.zeros(2, np.int32)}
    >>> rows |= {"text_bytes": np.full(2, 4, np.int32), "zlib_bytes": np.full(2, 12, np.int32)}
    >>> tokens = {"token_id": np.array([7, 9], np.int32), "logp": np.array([-1.0, -3.0], np.float32)}
    >>> tokens |= {"loss_mask": np.array([True, True])}
    >>> TokenTable(rows=rows, tokens=tokens, offsets=np.array([0, 1, 2])).write("target.parquet")
    >>> run_attack(ATTACKS.get("mean_logp_example"), {"table": "target.parquet"}).tolist()
    [-1.0, -3.0]
    >>> outcome = run_attacks([ATTACKS.get("loss")], {"table": "target.parquet"})
    >>> isinstance(outcome, AttackOutcome), list(outcome.scores)
    (True, ['loss'])

    An attack that is learned on audits of fine-tunes of one's own, to be given as
    ``--attacks "transferred(coefficients=learned.json)"``:

    >>> from reticent.attacks import learn_transferred
    >>> learn_transferred(["runs/no_audit"], "learned.json")
    Traceback (most recent call last):
        ...
    reticent.core.errors.BadInput: runs/no_audit: is no audit with a reference (no scores.parquet, manifest.json, \
evaluate.target.parquet, evaluate.reference.parquet). Audit it again with a reference: reticent audit RUN.

    What attacks read beside tables:

    >>> from reticent.attacks import EvidenceSet, ShadowScores
    >>> evidence: EvidenceSet = {"shadow": None}  # by its name; a mapping will do
    >>> inside = np.array([[True, False], [False, True]])
    >>> len(ShadowScores(target=np.array([-1.0, -2.0]), shadows=np.array([[-1.0, -2.0], [-2.0, -1.5]]), inside=inside))
    2
"""

from reticent.attacks.attack import ATTACKS, Attack, attack
from reticent.attacks.continuations import Continuations
from reticent.attacks.membership.learn_transferred import learn_transferred
from reticent.attacks.membership.transferred import ShadowModelInfo, TransferredCoefficients
from reticent.attacks.parameter import Parameter, Within
from reticent.attacks.run import AttackOutcome, run_attack, run_attacks
from reticent.attacks.selection import AttackSelection, read_selection
from reticent.attacks.shadow_models import ShadowScores
from reticent.attacks.signature import EvidenceSet
from reticent.core.paper import Paper
from reticent.core.registry import Registry
from reticent.score.requests import RenderContext, Request, Variant

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackOutcome",
    "AttackSelection",
    "Continuations",
    "EvidenceSet",
    "Paper",
    "Parameter",
    "Registry",
    "RenderContext",
    "Request",
    "ShadowModelInfo",
    "ShadowScores",
    "TransferredCoefficients",
    "Variant",
    "Within",
    "attack",
    "learn_transferred",
    "read_selection",
    "run_attack",
    "run_attacks",
]
