"""What numbers depend on besides data and weights: machine and libraries."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from expertbank.records import RunRecord

PACKAGES = ("expertbank", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def bookkeeping(
    kind: str, config: Mapping[str, Any], data: Mapping[str, Any], backbone_digest: str
) -> RunRecord:
    """The run of a command that trains nothing: what it was asked for, and what it acted on."""
    return RunRecord(kind, config, 0, {"packages": package_versions()}, data, backbone_digest, 0.0)


def environment_of(device: str, dtype: str) -> dict[str, Any]:
    """What numbers that are computed in this process depend on besides data and weights."""
    import torch

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": device,
        "dtype": dtype,
        "packages": package_versions(),
    }


def checked_with(dtype: str) -> dict[str, str]:
    """What the check of model and tokenizer depends on besides both of them."""
    return {**package_versions(), "dtype": dtype}


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found = {name: installed(name) for name in PACKAGES}
    return {name: number for name, number in found.items() if number is not None}


def installed(package: str) -> str | None:
    """The version of a package, if it is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
