# SPDX-License-Identifier: Apache-2.0
"""`reticent verify`: how far an unlearning worked."""

from __future__ import annotations

from reticent.core.progress import console
from reticent.unlearning.verification.config import VerifyConfig


def command(
    run: str,
    *,
    oracles: int = 5,
    oracles_from: str | None = None,
    paraphrases: str | None = None,
    verify_config: VerifyConfig,
) -> int:
    """Say how far an unlearning worked, and write results, a page and a certificate into its folder.

    What was forgotten is compared with texts that were never trained on, and with what models know that are trained
    again without it. It ends with 0 whatever it finds; reticent gate holds results to limits.

    Args:
        run: the run folder of reticent unlearn.
        oracles: models that are trained again without what was forgotten, each with a seed of its own; 0 for none.
        oracles_from: a run of the same request, or the folder of several methods, whose models that were trained again
            are taken, so that they are trained once; left out, those of the folder of several methods that the run is
            in, or the run's own.
        paraphrases: JSON, JSONL, CSV or Parquet file with a paraphrased_prompt for the id or the prompt of forgotten
            rows: are they answered in other words?
    """
    from reticent.workflows.verify import verify

    results = verify(run, verify_config, oracles=oracles, oracles_from=oracles_from, paraphrases=paraphrases)
    lines = [results.verdict.headline, *(f"  {sentence}" for sentence in results.verdict.sentences)]
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
    console.print(f"report: {run}/report.html\ncertificate: {run}/certificate.html", highlight=False, soft_wrap=True)
    return 0
