# SPDX-License-Identifier: Apache-2.0
"""Whether the reference of an adapter is its base, for many PEFT configurations on a tiny Llama.

``off`` is the largest difference of logits between the adapter switched off and the base's own file, on 40 random
tokens; ``reference`` the same for what an audit takes as reference, which is the adapter switched off or, where that is
not the base, a second copy of it. ``python benchmarks/reference_exactness.py --json FILE``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from reticent.auditing.case import AuditCase
from reticent.auditing.models import open_models
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.data.split import from_files
from reticent.models import adapters
from reticent.models.load import load
from reticent.testing.peft_zoo import CONFIGS, save_peft_adapter, save_peft_base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(Path(folder))
    copies = sum(row["second_copy"] for row in rows)
    worst = max(row["reference"] for row in rows)
    result = {"configurations": len(rows), "second_copies": copies, "largest_difference": worst, "rows": rows}
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result | {"environment": environment()}, indent=2) + "\n", encoding="utf-8")


def compare(folder: Path) -> list[dict[str, Any]]:
    """One row for each configuration."""
    base = save_peft_base(folder / "base")
    clean = load(str(base), dtype="float32", device="cpu").model
    rows = int(clean.get_input_embeddings().weight.shape[0])
    ids = torch.randint(0, rows, (1, 40), generator=torch.Generator().manual_seed(0))
    records = [Record(id=str(number), text=f"order {number}") for number in range(10)]
    coins = from_files(records[:5], records[5:])
    found = []
    for name in CONFIGS:
        target = str(save_peft_adapter(base, folder / name, name))
        subject = AuditCase(title=name, target=target, reference=None, records=records, membership=coins)
        models = open_models(subject, dtype="float32", device="cpu")
        with adapters.switched_off(models.target.model):
            off = _apart(models.target.model, clean, ids)
        copy = models.reference
        reference = off if copy is None else _apart(copy.model, clean, ids)
        row = {"configuration": name, "off": off, "second_copy": copy is not None, "reference": reference}
        found.append(row | {"why": models.target.apart})
    return found


def _apart(model: Any, clean: Any, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((model(input_ids=ids).logits - clean(input_ids=ids).logits).abs().max())


if __name__ == "__main__":
    main()
