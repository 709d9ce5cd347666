# SPDX-License-Identifier: Apache-2.0
"""Makes the JSON schemas that are shipped beside this file, from the types of what the files hold:
``python -m reticent.report.make_schemas``. A test holds them equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reticent.core.comparison import Comparison
from reticent.core.federation import FederationResults
from reticent.core.json_schema import schema_of
from reticent.core.results import Results
from reticent.core.scan_results import ScanResults
from reticent.core.synthesis import SynthesisResults
from reticent.core.text_utility import UtilityResults
from reticent.core.unlearning import Certificate, UnlearningResults
from reticent.report import (
    comparison_file,
    federation_file,
    results_file,
    scan_file,
    synthesis_file,
    unlearning_file,
    utility_file,
)
from reticent.report.json_file import dumped

VERSION = "Raised whenever a field is added, removed or changes its meaning."
FORMAT = "Tells this file from other JSON."


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each kind of file, by the name that it is shipped under."""
    results = schema_of(
        Results,
        title=f"reticent results, version {results_file.RESULTS_VERSION}",
        about="Everything that one audit of a fine-tuned language model found. No private text is in here unless the "
        'person who ran the audit asked for it (`exposed[].text`). Higher scores always mean "more likely a '
        'member". Findings are flat: the numbers that gates and comparisons read.',
        constants={
            "format": (results_file.FORMAT, FORMAT),
            "schema_version": (results_file.RESULTS_VERSION, VERSION),
        },
    )
    comparison = schema_of(
        Comparison,
        title=f"reticent comparison, version {comparison_file.COMPARISON_VERSION}",
        about="What `reticent compare` found: tuning methods, defences and schedules held against each other. No text "
        "of the data is in here.",
        constants={
            "format": (comparison_file.FORMAT, FORMAT),
            "schema_version": (comparison_file.COMPARISON_VERSION, VERSION),
        },
    )
    version = (unlearning_file.UNLEARNING_VERSION, VERSION)
    unlearning = schema_of(
        UnlearningResults,
        title=f"reticent unlearning, version {unlearning_file.UNLEARNING_VERSION}",
        about="What a verification of an unlearning found: the unlearned model beside the untouched, the retrained and "
        "the base model. No text of the data is in here unless the person who ran it asked for it.",
        constants={"format": (unlearning_file.FORMAT, FORMAT), "schema_version": version},
    )
    certificate = schema_of(
        Certificate,
        title=f"reticent certificate of unlearning, version {unlearning_file.UNLEARNING_VERSION}",
        about="What was shown of an unlearning, what could have been seen, and what is not claimed.",
        constants={"format": (unlearning_file.CERTIFICATE_FORMAT, FORMAT), "schema_version": version},
    )
    scan = schema_of(
        ScanResults,
        title=f"reticent scan, version {scan_file.SCAN_VERSION}",
        about="What scanners saw of a model, an adapter or data before they are trusted. No private text is in here.",
        constants={
            "format": (scan_file.FORMAT, FORMAT),
            "schema_version": (scan_file.SCAN_VERSION, VERSION),
        },
    )
    federation = schema_of(
        FederationResults,
        title=f"reticent federation, version {federation_file.FEDERATION_VERSION}",
        about="How a federated fine-tuning went. No private text is in here, and under a promise to clients nothing "
        "that the promise does not cover.",
        constants={
            "format": (federation_file.FORMAT, FORMAT),
            "schema_version": (federation_file.FEDERATION_VERSION, VERSION),
        },
    )
    synthesis = schema_of(
        SynthesisResults,
        title=f"reticent synthesis, version {synthesis_file.SYNTHESIS_VERSION}",
        about="How synthetic texts were made out of private ones, and what is promised. No text is in here, and under "
        "a promise nothing that the promise does not cover.",
        constants={
            "format": (synthesis_file.FORMAT, FORMAT),
            "schema_version": (synthesis_file.SYNTHESIS_VERSION, VERSION),
        },
    )
    return {
        "results.schema.json": results,
        "comparison.schema.json": comparison,
        "unlearning.schema.json": unlearning,
        "certificate.schema.json": certificate,
        "scan.schema.json": scan,
        "federation.schema.json": federation,
        "synthesis.schema.json": synthesis,
        "utility.schema.json": _utility(),
    }


def _utility() -> dict[str, Any]:
    return schema_of(
        UtilityResults,
        title=f"reticent utility, version {utility_file.UTILITY_VERSION}",
        about="How useful synthetic texts are, by models that learned from them and are judged on real held-out text. "
        "No text is in here; it is measured on private text, and no promise covers it.",
        constants={
            "format": (utility_file.FORMAT, FORMAT),
            "schema_version": (utility_file.UTILITY_VERSION, VERSION),
        },
    )


if __name__ == "__main__":
    for name, schema in schemas().items():
        Path(__file__).with_name(name).write_text(dumped(schema), encoding="utf-8")
