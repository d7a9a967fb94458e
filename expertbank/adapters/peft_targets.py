"""Which modules an adapter's configuration names, by the rule that PEFT reads it with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PeftTargets:
    """What ``adapter_config.json`` says of where an adapter acts.

    Attributes:
        modules: names of modules, in full or their last parts.
        layers: numbers of the layers in which a last part counts; ``None`` for everywhere.
        patterns: what the list of layers may be called; empty for any name.
        task_type: which of PEFT's classes wraps the model.
        excluded: names of modules that are left out nevertheless.
    """

    modules: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    patterns: tuple[str, ...] = ()
    task_type: str = "FEATURE_EXTRACTION"
    excluded: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PeftTargets:
        """What a configuration that ``to_config`` wrote says."""
        layers, pattern = config.get("layers_to_transform"), config.get("layers_pattern")
        return cls(
            tuple(config["target_modules"]),
            None if layers is None else tuple(layers),
            () if pattern is None else (pattern,),
            config["task_type"],
        )

    def to_config(self) -> dict[str, Any]:
        """The fields of ``adapter_config.json``; those that say nothing are left out."""
        told: dict[str, Any] = {"task_type": self.task_type, "target_modules": list(self.modules)}
        if self.layers is not None:
            told |= {"layers_to_transform": list(self.layers), "layers_pattern": self.patterns[0]}
        return told

    def selects(self, path: str) -> bool:
        """Whether PEFT adapts the module at ``path`` (``check_target_module_exists``)."""
        if path in self.excluded or any(path.endswith(f".{name}") for name in self.excluded):
            return False
        if path in self.modules:
            return True
        if not any(path.endswith(f".{name}") for name in self.modules):
            return False
        if self.layers is None:
            return True
        named = (re.match(rf"(?:^|.*?\.){name}\.(\d+)\.", path) for name in self.patterns)
        any_name = None if self.patterns else re.match(r".*?\.[^.]*\.(\d+)\.", path)
        found = next((one for one in named if one), any_name)
        return found is not None and int(found[1]) in self.layers


def in_full(paths: Iterable[str], task_type: str = "FEATURE_EXTRACTION") -> PeftTargets:
    """Every module by its whole path: exact, and read alike by all that read PEFT's encoders."""
    return PeftTargets(tuple(sorted(paths)), task_type=task_type)


def by_last_parts(paths: Sequence[str], layers: str, every: Iterable[str]) -> PeftTargets:
    """A language model's modules by their last parts, and the numbers of those layers.

    Engines take ``target_modules`` for kinds of modules (``q_proj``), not for places. Where last
    parts and numbers would name other modules as well, they are named in full.

    Args:
        paths: the adapted modules in the language model.
        layers: path of its list of layers there.
        every: paths of all its modules.
    """
    inside = {path: path.removeprefix(f"{layers}.").partition(".") for path in paths}
    names = tuple(sorted({one.rpartition(".")[2] for *_, one in inside.values()}))
    numbers = tuple(sorted({int(number) for number, *_ in inside.values()}))
    short = PeftTargets(names, numbers, (layers.rpartition(".")[2],), "CAUSAL_LM")
    if {path for path in every if short.selects(path)} == set(paths):
        return short
    return in_full(paths, "CAUSAL_LM")
