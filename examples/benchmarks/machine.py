"""What every benchmark prints first: machine, versions, threads. And what a clock must wait for."""

from __future__ import annotations

import os
import platform

import torch

from expertbank.workflows.environment import package_versions


def describe(seed: int) -> None:
    """Print where and with what the figures below were taken."""
    versions = ", ".join(f"{name} {number}" for name, number in package_versions().items())
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, {processor()}")
    for number in range(torch.cuda.device_count()):
        print(f"GPU {number}: {torch.cuda.get_device_name(number)}, CUDA {torch.version.cuda}")
    print(f"versions: python {platform.python_version()}, {versions}")
    print(f"torch threads: {torch.get_num_threads()}, seed: {seed}\n")


def finish() -> None:
    """Wait for all that a GPU was asked to compute: it works behind the caller's back."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown processor"
