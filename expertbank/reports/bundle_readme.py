"""The README inside a bundle, for whoever receives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def bundle_readme(manifest: Mapping[str, Any]) -> str:
    """Markdown that says what the bundle is, what it needs and how to use it."""
    backbone, router, spec = manifest["backbone"], manifest["router"], manifest["feature_spec"]
    made = manifest["made_with"]
    lines = [
        "# An expertbank bundle",
        "",
        f"{len(manifest['experts'])} frozen experts on one backbone, and the router that picks "
        "one for each text. Everything is safetensors and JSON; nothing here is executed.",
        "",
        "```console",
        f"$ pip install expertbank=={made.get('expertbank', '')}",
        '$ expertbank predict --bundle . "your text"',
        "```",
        "",
        "```python",
        "from expertbank import Row, load_bundle",
        "",
        'bundle = load_bundle(".")',
        'for answer in bundle.predict([Row("your text")]):',
        "    print(answer.task, answer.label, answer.confidence)",
        "```",
        "",
        "## Experts",
        "",
        "| expert | labels | when added | rows | majority class |",
        "|---|---|---|---|---|",
    ]
    for expert in manifest["experts"]:
        metrics = expert["metrics"]
        lines.append(
            f"| {expert['id']} | {', '.join(_cell(label) for label in expert['labels'])} "
            f"| {_quality(metrics)} | {metrics['n']} | {_share(metrics['majority'])} |"
        )
    where = (
        f"in the folder `{backbone['folder']}`"
        if backbone["folder"]
        else "loaded by that name, or from a folder you name with `--backbone`"
    )
    lines += [
        "",
        "## What it needs",
        "",
        f"- The backbone `{backbone['reference']}`, {where}. Its digest is checked: "
        f"`{backbone['digest']}`.",
        f"- Texts are cut at {spec['max_length']} tokens.",
        f"- Router version {router['version']} ({router['kind']})"
        + (", masked to the experts above." if router["masked"] else "."),
        "- Made with " + ", ".join(f"{name} {number}" for name, number in made.items()) + ".",
        "",
        "`manifest.json` lists every file with its size and SHA-256; they are checked when the "
        "bundle is opened.",
        "",
    ]
    return "\n".join(lines)


def _quality(metrics: Mapping[str, Any]) -> str:
    if metrics["accuracy"] is None:
        return f"Pearson {_share(metrics['pearson'])}"
    return f"accuracy {_share(metrics['accuracy'])}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(text: str) -> str:
    """A label inside a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
