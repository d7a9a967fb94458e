"""``export --format gguf``: every expert as a LoRA adapter that llama.cpp loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from expertbank.adapters.gguf import (
    architecture_of,
    read_adapter,
    require_package,
    stored_as,
    write_adapter,
)
from expertbank.adapters.slots import Factors
from expertbank.artifacts.listed import ListedFolder
from expertbank.backbones.causal import Around
from expertbank.config import ExportFormat
from expertbank.reports.adapters_readme import adapters_readme
from expertbank.reports.gguf_readme import gguf_readme
from expertbank.workflows.shipping.export import Extras
from expertbank.workflows.shipping.export_adapters import Adapters

ADAPTER = "adapter.gguf"


class Gguf(Adapters):
    """llama.cpp's adapter files.

    Raises:
        InputError: package ``gguf`` is not installed.
    """

    name: ExportFormat = "gguf"

    def __init__(self, extras: Extras) -> None:
        super().__init__(extras)
        require_package()

    def adapter(
        self,
        factors: Factors,
        entry: Mapping[str, Any],
        around: Around,
        backbone: Mapping[str, Any],
    ) -> dict[str, bytes]:
        """``adapter.gguf``."""
        base, revision = backbone["reference"], backbone["revision"]
        values: dict[str, str | float] = {
            "general.architecture": architecture_of(around),
            "general.name": entry["id"],
            "adapter.lora.task_name": entry["task"],
            "expertbank.expert_digest": entry["digest"],
            "expertbank.backbone": base if revision is None else f"{base}@{revision}",
            "expertbank.backbone_digest": around.backbone.digest,
        }
        with TemporaryDirectory() as folder:
            file = Path(folder) / ADAPTER
            write_adapter(file, factors, stored_as(around), values)
            return {ADAPTER: file.read_bytes()}

    def read(self, listed: ListedFolder, entry: Mapping[str, Any], around: Around) -> Factors:
        """By llama.cpp's rules, with rows in transformers' order again."""
        name = f"{entry['folder']}/{ADAPTER}"
        listed.check(name)
        return read_adapter(listed.folder / name, stored_as(around))

    def readme(self, content: Mapping[str, Any]) -> str:
        """Markdown for the whole export."""
        return adapters_readme(content, "as a file for llama.cpp")

    def adapter_readme(self, entry: Mapping[str, Any], content: Mapping[str, Any]) -> str:
        """Markdown for one expert's folder."""
        return gguf_readme(entry, content)
