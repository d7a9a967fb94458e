"""Plugins that do not do what they promise are named, and expertbank takes no blame for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from expertbank_cli.ending import described
from torch import Tensor

from expertbank import AdapterConfig, RouterConfig
from expertbank.adapters import ADAPTERS, Start
from expertbank.adapters.fresh import require_pairs_that_fit
from expertbank.adapters.targets import find_targets, weight_of
from expertbank.config import sha256_text
from expertbank.errors import InputError
from expertbank.plugins import at_fault
from expertbank.routing.gates import GATES, GateKind
from expertbank.testing.routers import TaskFeatures, fit_router

FAULTY = """
def divide():
    return 1 / 0

def ask(other):
    return other()

def through_torch():
    import torch
    return torch.ones(2) @ torch.ones(3)
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of an installed package that brings a gate."""
    (tmp_path / "faulty_gates.py").write_text(FAULTY)
    about = tmp_path / "faulty-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[expertbank.gates]\nfaulty = faulty_gates:GATE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return import_module("faulty_gates")


def error_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as told:  # noqa: PT011 (whatever it is)
        call()
    return told.value


def test_a_defect_in_the_code_of_a_plugin_is_told_as_its_packages(faulty: Any) -> None:
    for call in (faulty.divide, faulty.through_torch):
        error = error_of(call)
        assert at_fault(error) == "faulty"
        code, said = described(error)
        assert code == 1
        assert said.startswith("a defect of package faulty: ")
        assert said.endswith("report it to its authors")


def test_a_defect_of_ours_that_a_plugin_came_upon_stays_ours(faulty: Any) -> None:
    ours = partial(sha256_text, 3)  # type: ignore[arg-type]  # fails inside of expertbank
    for error in (error_of(partial(faulty.ask, ours)), error_of(ours)):
        assert at_fault(error) is None
        assert described(error)[1].startswith("a defect of expertbank: ")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda scores: scores[:, :1], r"are \[2, 1\] torch.float64"),
        (lambda scores: scores.float(), r"are \[2, 2\] torch.float32"),
    ],
)
def test_a_gate_whose_scores_are_of_another_form_is_refused(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor], told: str
) -> None:
    own = GATES.get("lda")

    class Spoilt:
        def __init__(self, gate: Any) -> None:
            self.gate = gate

        def __getattr__(self, name: str) -> Any:
            return getattr(self.gate, name)

        def scores(self, features: Tensor) -> Tensor:
            return spoil(self.gate.scores(features))

    assert own.fit_moments is not None
    moments = own.fit_moments
    kind = GateKind(
        own.settings, own.fit, own.read, lambda blocks, settings: Spoilt(moments(blocks, settings))
    )
    monkeypatch.setitem(GATES._loaded, "spoilt", kind)
    draw = torch.Generator().manual_seed(0)
    tasks = [
        TaskFeatures(
            *(f"{name}@1", sha256_text(name), name, "classification", None),
            (torch.randn(40, 6, generator=draw) + 3 * place).half(),
            ("single",) * 40,
        )
        for place, name in enumerate(("a", "b"))
    ]
    with pytest.raises(InputError, match=f"the spoilt gate is defective: .*{told}"):
        fit_router(tasks, RouterConfig("spoilt"), "f" * 64)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda a, b: (a, b[:, :-1]), r"\[32, 2\] and \[2, 31\], and belong \[32, r\] and \[r, 32"),
        (lambda a, b: (a[:-1], b), r"\[31, 2\] and \[2, 32\]"),
        (lambda a, b: (a[:, :1], b), r"\[32, 1\] and \[2, 32\]"),
        (lambda a, b: (a, b / 0), "are not finite"),
        (None, "it adapts .*, and was made for"),
    ],
)
def test_an_adapter_that_does_not_fit_its_modules_is_refused_before_training(
    load_tiny: Any, spoil: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None, told: str
) -> None:
    backbone = load_tiny("bert")
    targets = find_targets(backbone.model, backbone.family, 2)
    start = Start(
        *(targets, AdapterConfig(kind="lora", rank=2), 2.0, torch.Generator().manual_seed(0)),
        partial(weight_of, backbone.model),
    )
    adapter = ADAPTERS.get("lora").fresh(start)
    require_pairs_that_fit("mine", adapter, backbone.model, targets)
    whole = adapter.collapse()
    first = next(iter(whole))
    spoilt = {**whole, first: spoil(*whole[first])} if spoil else {first: whole[first]}
    adapter.collapse = lambda: spoilt  # type: ignore[method-assign]
    with pytest.raises(InputError, match=f"the adapter mine is defective: .*{told}"):
        require_pairs_that_fit("mine", adapter, backbone.model, targets)
