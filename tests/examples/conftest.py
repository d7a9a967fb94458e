"""The benchmarks as modules, each with the command line that it shall see."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
WITHOUT_PEFT = ("projection",)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """A benchmark's module by name; the threads that it asks for end with the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()

    def load(name: str, *words: object) -> ModuleType:
        if name not in WITHOUT_PEFT:
            pytest.importorskip("peft")
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        return importlib.import_module(name)

    yield load
    torch.set_num_threads(threads)
