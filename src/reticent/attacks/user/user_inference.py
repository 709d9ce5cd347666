# SPDX-License-Identifier: Apache-2.0
"""User inference: texts of a person whose other texts were trained on become more likely too.

The attacker sees log-probabilities of the target, holds the base model and a few texts of the person, which need not be
training records. The paper's statistic for a user is the mean over their documents of what this attack returns; maximum
and minimum are its ablations (``aggregate``). The same aggregation makes a user attack of every record attack.
"""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.core.table import TokenTable


@attack("user_inference", unit="user", returns="score", needs=("logp",), access="logprob", paper="arXiv:2310.09266")
def user_inference(table: TokenTable, ref: TokenTable) -> Scores:
    """Log-likelihood ratio of a whole document, averaged over the user's documents by ``aggregate``.

    ``log p_T(x) - log p_ref(x)``, each the sum over the document's tokens (the paper's statistic before its mean).
    Returns ``[N]``, nats a document, higher = the user is a member.
    """
    return table.sum(table["logp"].astype(np.float64) - ref["logp"])
