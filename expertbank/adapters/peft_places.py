"""Where the factors of an adapter from elsewhere go in a bank's backbone, or why they cannot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from expertbank.adapters.peft_config import PeftConfig
from expertbank.adapters.slots import Factors
from expertbank.adapters.targets import adaptable_modules
from expertbank.backbones import probe
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.recognise import linear_names
from expertbank.errors import InputError
from expertbank.wording import few


@dataclass(frozen=True, slots=True)
class Placed:
    """An adapter's factors, by where they act.

    Attributes:
        layers: by the backbone's own paths, in its layers.
        dense: of the layer that the head reads through, such as BERT's pooler; ``None`` for none.
        beside: names of others in the head of the model that was wrapped, which are left out.
    """

    layers: Factors
    dense: tuple[Tensor, Tensor] | None = None
    beside: tuple[str, ...] = ()


def placed(
    factors: Factors,
    config: PeftConfig,
    backbone: Backbone,
    where: str,
    *,
    without_head: bool = False,
) -> Placed:
    """The factors by where they act in the backbone.

    Args:
        factors: by path in the model that was wrapped, such as ``bert.encoder.layer.0.…``.
        config: what the adapter's configuration says.
        backbone: the bank's.
        where: the adapter, for messages.
        without_head: leave out what it changes of a head of its own.

    Raises:
        InputError: it was made for another model, changes what an expert cannot, or its factors
            are not those that its configuration names.
    """
    model, family = backbone.model, backbone.family
    modules = adaptable_modules(model, family, 0)
    prefix = prefix_of(factors, modules)
    if prefix is None:
        raise InputError(
            f"{where}: none of its {len(factors)} adapted modules, such as {next(iter(factors))}, "
            f"is in the layers of this backbone ({type(model).__name__}; linear modules: "
            f"{linear_names(model.get_submodule(family.layers))}); it was made for another model"
        )
    _require_named(factors, config, modules, prefix, where)
    own = {path.removeprefix(prefix): pair for path, pair in factors.items()}
    dense = None if family.classifier is None else own.pop(family.classifier.dense or "", None)
    inside = {name for name, _ in model.named_modules()}
    beside = tuple(sorted(path for path in own if path not in inside))
    if beside and not without_head:
        raise InputError(
            f"{where}: it adapts {few(beside)}, which this backbone does not have: "
            "a head or a decoder of its own does. Leave that out and let another head be fitted: "
            "--fit-head"
        )
    own = {path: pair for path, pair in own.items() if path in inside}
    outside = [path for path in own if path not in modules]
    if outside:
        raise InputError(
            f"{where}: it adapts {few(outside)}, and an expert changes linear modules of the "
            "backbone's layers only; train it with target_modules that name no others"
        )
    for path, (a, b) in own.items():
        found, wanted = (a.shape[0], b.shape[1]), modules[path]
        if found != wanted:
            raise InputError(
                f"{where}: {path} is {found[0]} by {found[1]} there and {wanted[0]} by {wanted[1]} "
                "in this backbone; it was made for another model"
            )
    misfits = probe.misfits(model, list(own))
    if misfits:
        raise InputError(
            f"{where}: {misfits[0]} cannot be adapted by an expert: a pass does not call it "
            "exactly once on all tokens of the batch"
        )
    return Placed(own, dense, beside)


def prefix_of(paths: Collection[str], modules: Collection[str]) -> str | None:
    """What stands before the bare model's paths in the wrapped model's; ``None`` if none fits."""
    for path in paths:
        parts = path.split(".")
        for first in range(len(parts)):
            if ".".join(parts[first:]) in modules:
                return "".join(f"{part}." for part in parts[:first])
    return None


def _require_named(
    factors: Factors, config: PeftConfig, modules: Collection[str], prefix: str, where: str
) -> None:
    """The configuration and the tensors must mean the same modules: PEFT goes by both.

    Which modules outside the layers the wrapped model had, nobody knows here: none is missed.
    """
    targets = config.targets
    if targets is None:
        return

    def named(path: str) -> bool:
        return targets.selects(path) and not config.saves(path)

    every = (f"{prefix}{path}" for path in modules)
    missing = sorted(path for path in every if named(path) and path not in factors)
    if missing:
        raise InputError(
            f"{where}: its configuration names {few(missing)}, for which it holds no factors; "
            "the files do not belong together, or are not whole"
        )
    extra = sorted(path for path in factors if not named(path))
    if extra:
        raise InputError(
            f"{where}: it holds factors for {few(extra)}, which its configuration does not "
            "name, so PEFT would leave them out; the files do not belong together"
        )
