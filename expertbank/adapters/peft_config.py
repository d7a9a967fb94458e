"""What an ``adapter_config.json`` of PEFT says, every setting of it understood or refused.

Source: ``LoraConfig`` of PEFT 0.18 to 0.21. What only concerns how an adapter was trained is passed
over; what changes how it computes is done or refused; a setting that is not known here is refused
where it is set, since it may change anything.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from expertbank.adapters.peft_targets import PeftTargets
from expertbank.errors import MALFORMED, InputError

_OF_TRAINING = frozenset(
    {
        *("auto_mapping", "peft_version", "inference_mode", "lora_dropout", "megatron_core"),
        *("eva_config", "corda_config", "lora_ga_config", "loftq_config", "runtime_config"),
        *("qalora_group_size", "ensure_weight_tying", "task_type", "fan_in_fan_out"),
    }
)
"""Settings that change nothing of what a trained adapter adds to its modules. A LoRA pair acts on
what goes into a module and comes out of it, whichever way round the module keeps its weight."""
_READ = frozenset(
    {
        *("peft_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "use_rslora"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("rank_pattern", "alpha_pattern", "modules_to_save", "init_lora_weights", "bias"),
    }
)
_REFUSED = {
    "use_dora": "it is a DoRA adapter, whose update is no product of two factors",
    "lora_bias": "its factors have biases",
    "trainable_token_indices": "it trained embeddings, which an expert leaves as they are",
    "layer_replication": "it repeats layers of its base",
    "target_parameters": "it adapts parameters that are no linear modules",
    "alora_invocation_tokens": "it acts only behind certain tokens (aLoRA)",
    "use_qalora": "its inputs are pooled (QA-LoRA)",
}
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica", "true", "false")
"""Ways to begin that leave the base's weights as they are."""
_CONVERTED = ("pissa", "corda", "olora", "lora_ga")
"""Those that change them and that PEFT makes a plain LoRA of (``subtract_mutated_init``)."""
_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_T = TypeVar("_T")
AGAIN = "train it again without that, or merge it and start from there"


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What an adapter's configuration comes to.

    Attributes:
        rank: rank of modules that have none of their own.
        alpha: ``lora_alpha`` of modules that have none of their own.
        rank_stabilised: whether alpha is divided by the root of the rank (rsLoRA), not the rank.
        ranks: last parts of modules, or whole paths behind ``^``, to their own rank.
        alphas: the same to their own alpha.
        task_type: what PEFT was told that the wrapped model does; empty where it was not.
        saved: names of modules that were trained as a whole and are stored beside the factors.
        targets: which modules it names; ``None`` where a pattern names them.
        base_model: what its base was called; empty where that is not told.
        revision: the commit of the base, where that is told.
    """

    rank: int
    alpha: float
    rank_stabilised: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    task_type: str
    saved: tuple[str, ...]
    targets: PeftTargets | None
    base_model: str
    revision: str | None

    @classmethod
    def of(cls, value: object, where: str) -> PeftConfig:
        """Read and check a configuration.

        Args:
            value: the JSON value of the file.
            where: the file, for messages.

        Raises:
            InputError: it is no configuration of a LoRA, or sets what an expert cannot do.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: expected keys and values, got {type(value).__name__}")
        kind = value.get("peft_type")
        if kind != "LORA":
            raise InputError(f"{where}: peft_type is {kind!r}; only LoRA adapters come in")
        _require_known(value, where)
        try:
            return cls(
                _whole(value["r"]),
                _finite(value["lora_alpha"]),
                bool(value.get("use_rslora")),
                {name: _whole(rank) for name, rank in _by_module(value, "rank_pattern")},
                {name: _finite(alpha) for name, alpha in _by_module(value, "alpha_pattern")},
                str(value.get("task_type") or ""),
                _plain_names(value.get("modules_to_save") or []),
                _targets(value),
                str(value.get("base_model_name_or_path") or ""),
                None if value.get("revision") is None else str(value["revision"]),
            )
        except KeyError as error:
            raise InputError(f"{where}: {error.args[0]} is missing") from error
        except MALFORMED as error:
            raise InputError(f"{where}: not a LoRA's configuration ({error})") from error

    def rank_of(self, path: str) -> int:
        """The rank of a module, by its path in the wrapped model."""
        return _own(self.ranks, path, self.rank)

    def scale_of(self, path: str) -> float:
        """What a module's product ``A·B`` is multiplied with."""
        rank = self.rank_of(path)
        return _own(self.alphas, path, self.alpha) / (
            math.sqrt(rank) if self.rank_stabilised else rank
        )

    def saves(self, path: str) -> bool:
        """Whether a parameter or module belongs to one that was trained as a whole.

        By PEFT's rule a name is the end of a path wherever it begins: ``classifier`` also means
        ``pre_classifier`` (``_set_trainable``).
        """
        parts = path.split(".")
        above = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        return any(module.endswith(self.saved) for module in above)


def _require_known(value: Mapping[str, Any], where: str) -> None:
    for name, why in _REFUSED.items():
        if value.get(name):
            raise InputError(f"{where}: {name} is set: {why}; {AGAIN}")
    if value.get("bias") not in (None, "none"):
        raise InputError(
            f"{where}: bias is {value['bias']!r}: biases of its base were trained, which an expert "
            f"leaves as they are; {AGAIN}"
        )
    start = value.get("init_lora_weights")
    if (start.lower() if isinstance(start, str) else start) not in _STARTS:
        raise InputError(
            f"{where}: init_lora_weights is {start!r}, which changes the base's weights as "
            f"training begins; {_instead(start)}"
        )
    for key in ("rank_pattern", "alpha_pattern"):
        for name in value[key] if isinstance(value.get(key), Mapping) else ():
            if not _PLAIN.fullmatch(name.removeprefix("^")):
                raise InputError(
                    f"{where}: {key} has {name!r:.80}, a regular expression, and none that came "
                    "in a file is tried here; put the names of the modules that it means in its "
                    "place, such as layer.0.attention.self.query: PEFT reads them alike"
                )
    known = _OF_TRAINING | _READ
    odd = sorted(str(name) for name, set_to in value.items() if set_to and name not in known)
    if odd:
        raise InputError(
            f"{where}: {odd[0]} is set, which is not known here and may change what the adapter "
            f"computes; {AGAIN}"
        )


def _instead(start: object) -> str:
    """What to do about an adapter whose training began with changed weights of its base."""
    if str(start).lower().startswith(_CONVERTED):
        return (
            "save it as a plain LoRA first, save_pretrained(..., "
            "path_initial_model_for_weight_conversion=...), and have a head fitted, as PEFT leaves "
            "the adapter's own out of that"
        )
    return AGAIN


def _targets(value: Mapping[str, Any]) -> PeftTargets | None:
    """The modules named; ``None`` where a regular expression names or excludes them."""
    if isinstance(value["target_modules"], str) or isinstance(value.get("exclude_modules"), str):
        return None
    layers, pattern = value.get("layers_to_transform"), value.get("layers_pattern")
    patterns = [pattern] if isinstance(pattern, str) and pattern else pattern or []
    return PeftTargets(
        _plain_names(value["target_modules"]),
        None if layers in (None, []) else tuple(map(_number, _listed(layers))),
        _plain_names(patterns),
        str(value.get("task_type")),
        _plain_names(value.get("exclude_modules") or []),
    )


def _by_module(value: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    """Names of modules with what they are given, which PEFT takes for regular expressions."""
    return list((value.get(key) or {}).items())


def _own(by_module: Mapping[str, _T], path: str, otherwise: _T) -> _T:
    """PEFT's rule: the first name that ends the path, or is all of it behind ``^``."""
    for name, one in by_module.items():
        if path == name.removeprefix("^") or path.endswith(f".{name}"):
            return one
    return otherwise


def _plain_names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise TypeError(f"expected a list of names, got {names!r:.60}")
    return tuple(map(_plain_name, names))


def _plain_name(name: Any) -> str:
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        raise ValueError(f"{name!r:.60} is no plain name of a module")
    return name


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.60} is no number of a layer")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r:.60} is no rank")
    return value


def _finite(value: Any) -> float:
    if type(value) not in {int, float} or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{value!r:.60} is no alpha")
    return float(value)
