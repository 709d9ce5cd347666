# SPDX-License-Identifier: Apache-2.0
"""Audit of emulated fine-tunes at several beta beside the audit of their small model, with utility.

1. A small base is made out of the large model: every fifth block, then a short training on texts that the large model
   wrote itself from nothing. No private text comes near it, and no download is needed. It is *worse* than a model that
   was trained at its size on billions of tokens, so the utility here says little about published pairs; what the
   ensemble leaks, beside what its own small model leaks, can be compared.
2. The small base is tuned on the made-up help desk, with coins for users and canaries.
3. The small model is audited, and the ensemble at each beta, on the same coins. Utility is the mean loss of held-out
   records, in nats a token, of the large model, the small pair and each ensemble.
4. Two ensembles are compared with what they are by definition, logit by logit: beta = 0 with the large model, and the
   small base as the large model with the small tuned one. Both differences are 0.

    python benchmarks/emulated_audit.py --work runs/emulated-audit --json benchmarks/results/emulated_audit.json
    python benchmarks/emulated_audit.py --work tiny-audit --tiny
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

BETAS = (0.3, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained on.

    Args:
        users, mails: of the help desk; mails of each user.
        canaries: planted or kept back by coin.
        written: texts that the large model writes for the small base.
        tokens: of each of them.
        base_epochs, epochs: over those texts, and over the help desk.
    """

    users: int = 400
    mails: int = 5
    canaries: int = 200
    written: int = 4000
    tokens: int = 128
    base_epochs: int = 2
    epochs: int = 3


TINY = Size(users=24, mails=4, canaries=0, written=60, tokens=12, base_epochs=1, epochs=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of models and audits; what is there is reused")
    parser.add_argument("--json", type=Path, help="write the outcome here")
    parser.add_argument("--model", default="smollm2-135m", help="the large model")
    parser.add_argument("--betas", type=float, nargs="+", default=list(BETAS))
    parser.add_argument("--epsilon", type=float, help="tune the small model under differential privacy, by user")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to see that it runs")
    given = parser.parse_args()
    result = run(given.work, given.model, given.betas, given.epsilon, TINY if given.tiny else Size(), tiny=given.tiny)
    text = json.dumps(result, indent=2) + "\n"
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text, encoding="utf-8")
    print("\n".join(table(result["rows"])))
    for name, value in result["identities"].items():
        print(f"{name}: {value:g}")


def run(work: Path, model: str, betas: Sequence[float], epsilon: float | None, size: Size, *, tiny: bool) -> Any:
    """All rows."""
    from reticent.core.manifest import environment
    from reticent.core.run_folder import RunFolder
    from reticent.models.emulation import EmulationConfig
    from reticent.workflows.audit import audit
    from reticent.workflows.emulate import emulate

    work.mkdir(parents=True, exist_ok=True)
    if tiny:
        from reticent.testing.tiny import save_tiny

        model = str(work / "large")
        if not Path(model).exists():
            save_tiny(model)
    base = small_base(work, model, size)
    small = RunFolder(root=work / "small")
    tuned_on(small, base, epsilon, size)
    config = audit_config(tiny=tiny)
    rows = [
        row("large model", loss(model, small)),
        row("small base", loss(base, small)),
        row("small model", loss(str(small.model), small), audit(small, config)),
    ]
    for beta in betas:
        folder = work / f"emulated-{beta:g}"
        info = emulate(model, small.root, out=folder, config=EmulationConfig(beta=beta))
        results = audit(folder, config, out=work / f"audit-{beta:g}")
        rows.append(row(f"emulated, beta {beta:g}", loss(str(folder), small), results) | {"statement": info.statement})
    about = {"model": model, "size": asdict(size), "epsilon": epsilon, "machine": environment()}
    return {"rows": rows, "identities": identities(work, model, base, small), **about}


def audit_config(*, tiny: bool) -> Any:
    from reticent.auditing.config import AuditConfig

    return AuditConfig(attacks="loss,ref_diff") if tiny else AuditConfig()


# ---- the small pair -------------------------------------------------------------------------------------------------


def small_base(work: Path, large: str, size: Size) -> str:
    """A folder with a model of a fifth of the large one's blocks, made good on what that one wrote."""
    from synthesize_cost import smaller

    from reticent.core.record import Record
    from reticent.core.run_folder import RunFolder
    from reticent.data.split_config import SplitConfig
    from reticent.models.load import load
    from reticent.score.generation.generate import Scheme, generate
    from reticent.train.config import TuneConfig
    from reticent.workflows.tune import tune

    run = RunFolder(root=work / "base")
    if run.model.exists():
        return str(run.model)
    loaded = load(large)
    start = [[loaded.tokenizer.bos_token_id or loaded.tokenizer.eos_token_id]] * size.written
    keys = [f"written {number}" for number in range(size.written)]
    written = generate(
        loaded.model, loaded.tokenizer, start, max_new_tokens=size.tokens, scheme=Scheme(), keys=keys, title="Writing"
    )
    texts = [loaded.tokenizer.decode(written.tokens(number)) for number in range(size.written)]
    records = [Record(id=key, text=text) for key, text in zip(keys, texts, strict=True) if text.strip()]
    pruned = work / "pruned"
    smaller(load(large, dtype="float32").model).save_pretrained(pruned)
    loaded.tokenizer.save_pretrained(pruned)
    training = TuneConfig(method="full", epochs=size.base_epochs, max_tokens=size.tokens)
    tune(records, base=str(pruned), out=run.root, tune_config=training, split_config=SplitConfig(probability=0.9))
    return str(run.model)


def tuned_on(run: Any, base: str, epsilon: float | None, size: Size) -> None:
    """The small base, tuned on the help desk with a coin for each user."""
    from reticent.data import help_desk
    from reticent.data.canaries.canary_config import CanaryConfig
    from reticent.data.split_config import SplitConfig
    from reticent.privacy.spec import PrivacySpec
    from reticent.train.config import TuneConfig
    from reticent.workflows.tune import tune

    if not run.model.exists():
        tune(
            help_desk(users=size.users, mails_per_user=size.mails),
            base=base,
            out=run.root,
            tune_config=TuneConfig(method="lora", epochs=size.epochs),
            split_config=SplitConfig(split_unit="user"),
            canary_config=CanaryConfig(canaries=size.canaries),
            privacy=None if epsilon is None else PrivacySpec(epsilon=epsilon, unit="user"),
        )


# ---- identities ------------------------------------------------------------------------------------------------------


def identities(work: Path, model: str, base: str, small: Any) -> dict[str, float]:
    """The largest difference of a logit between ensembles and what they are by definition; 0 where it is as said."""
    from reticent.models.emulation import EmulationConfig
    from reticent.workflows.emulate import emulate

    zero, same = work / "emulated-0", work / "emulated-same"
    emulate(model, small.root, out=zero, config=EmulationConfig(beta=0.0))
    emulate(base, small.root, out=same, config=EmulationConfig(beta=1.0))
    return {
        "beta 0 against the large model": apart(str(zero), model, small),
        "large = small base against the small tuned model": apart(str(same), str(small.model), small),
    }


def apart(one: str, other: str, run: Any, *, texts: int = 16) -> float:
    """The largest absolute difference of two models' logits over some records of a run, each read alone."""
    import torch

    from reticent.auditing.case import from_run
    from reticent.models.encode import encode
    from reticent.models.load import load

    left, right = load(one), load(other)
    largest = 0.0
    for record in from_run(run).evaluated_records[:texts]:
        token_id = torch.tensor([encode(record, left.tokenizer, max_tokens=128).token_id.tolist()])
        with torch.inference_mode():
            logits = [side.model(input_ids=token_id).logits for side in (left, right)]
        largest = max(largest, float((logits[0].double() - logits[1].double()).abs().max()))
    return largest


# ---- figures --------------------------------------------------------------------------------------------------------


def loss(model: str, run: Any) -> dict[str, float]:
    """Mean loss of held-out records, nats a token, with its standard error over records."""
    from reticent.auditing.case import from_run
    from reticent.models.encode import encode
    from reticent.models.load import load
    from reticent.score.engine import ScoreOptions, open_engine, score

    case = from_run(run)
    pairs = zip(case.evaluated_records, case.evaluated.member, strict=True)
    loaded = load(model)
    rows = [encode(record, loaded.tokenizer, max_tokens=case.max_tokens) for record, member in pairs if not member]
    columns, offsets = score(open_engine(loaded.model, model, ScoreOptions()), rows)
    sums, counts = -np.add.reduceat(columns["logp"].astype(np.float64), offsets[:-1]), np.diff(offsets)
    mean = float(sums.sum() / counts.sum())
    error = float(np.sqrt(((sums - mean * counts) ** 2).sum()) / counts.sum())
    return {"loss": mean, "standard_error": error, "records": len(rows)}


def row(name: str, utility: dict[str, float], results: Any = None) -> dict[str, Any]:
    """A model's utility, and the strongest finding of each kind where it was audited."""
    strongest: dict[str, Any] = {}
    for finding in () if results is None else results.findings:
        key = f"{finding.level} {finding.metric}"
        if key not in strongest or finding.estimate.value > strongest[key]["value"]:
            estimate = finding.estimate
            strongest[key] = {"attack": finding.attack, "value": estimate.value, "lo": estimate.lo, "hi": estimate.hi}
    return {"name": name, "utility": utility, "findings": strongest}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{'model':24} {'loss':>8}  record AUC            user AUC"]
    for entry in rows:
        aucs = []
        for level in ("record", "user"):
            auc = entry["findings"].get(f"{level} auc")
            aucs.append("-" if auc is None else f"{auc['value']:.3f} [{auc['lo']:.3f}, {auc['hi']:.3f}]")
        lines.append(f"{entry['name']:24} {entry['utility']['loss']:8.3f}  {aucs[0]:21} {aucs[1]}")
    return lines


if __name__ == "__main__":
    main()
