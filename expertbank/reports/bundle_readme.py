"""The README inside a bundle, for whoever receives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expertbank.kinds.labels import joined
from expertbank.references import without_folders
from expertbank.reports.figures import share
from expertbank.reports.templating import render


def bundle_readme(manifest: Mapping[str, Any]) -> str:
    """Markdown that says what the bundle is, what it needs and how to use it."""
    experts = [
        {
            "id": expert["id"],
            "labels": joined(expert["labels"]),
            "quality": _quality(expert["metrics"]),
            "rows": expert["metrics"]["n"],
            "majority": share(expert["metrics"]["majority"]),
        }
        for expert in manifest["experts"]
    ]
    parts = ("backbone", "router", "feature_spec", "made_with")
    told = {part: manifest[part] for part in parts}
    # A folder's path is of use on the machine that it is on, and the manifest has it.
    name = without_folders(str(told["backbone"]["reference"]))
    told["backbone"] = {**told["backbone"], "reference": name}
    return render("bundle.md", experts=experts, **told)


def _quality(metrics: Mapping[str, Any]) -> str:
    if "pearson" in metrics:
        return f"Pearson {share(metrics['pearson'])}"
    return f"accuracy {share(metrics['accuracy'])}"
