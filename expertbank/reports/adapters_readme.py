"""The README of an export of adapters: which folder is which, and what backbone they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expertbank.kinds.labels import joined
from expertbank.reports.escaping import code, plain, row
from expertbank.reports.figures import DASH


def adapters_readme(content: Mapping[str, Any], held: str) -> str:
    """Markdown for the whole export.

    Args:
        content: its manifest.
        held: how the factors are held, such as ``in PEFT's format``.
    """
    lines = [
        "# LoRA adapters from an expertbank",
        "",
        f"One folder per expert, for the backbone {backbone_named(content['backbone'])}. Each "
        f"holds ordinary LoRA factors {held}, equal to the expert's TT-LoRA update, and as a file "
        "of its own the expert's head, or how its answers are written. The router is not here: "
        "the caller names the expert. To route, export a bundle.",
        "",
        "| folder | expert | kind | labels | rank |",
        "|---|---|---|---|---|",
    ]
    for entry in content["experts"]:
        labels = joined(entry["labels"]) or DASH
        named = (plain(text) for text in (entry["id"], entry["kind"], labels))
        lines.append(row(code(entry["folder"]), *named, str(entry["rank"])))
    lines += [
        "",
        "`manifest.json` lists every file with its size and SHA-256. Made with "
        + ", ".join(f"{name} {number}" for name, number in content["made_with"].items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def backbone_named(told: Mapping[str, Any]) -> str:
    """Which backbone an export takes: the digest decides, a name only says where to look."""
    named = "" if is_nearby(told) else f"{code(str(told['reference']))} "
    return f"{named}with digest `{told['digest']}`"


def is_nearby(told: Mapping[str, Any]) -> bool:
    """Whether the backbone has no name that others know."""
    return str(told["reference"]).startswith("./")


def pooled_how(entry: Mapping[str, Any]) -> str:
    """What an expert's head reads of the last hidden states."""
    if entry["pooling"] == "pair":
        return "pooled over all tokens and over those of each text, as the code has it"
    scaled = " and scaled to root mean square 1" if entry["scaled"] else ""
    return f"pooled over the tokens{scaled}"
