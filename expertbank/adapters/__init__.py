"""Low-rank updates on a frozen backbone: where they go, how they are trained and applied.

``adapter`` says what a kind of adapter is; each kind is one file and a line in the table here.
``targets`` finds what to adapt, by what ``expertbank.backbones`` knows of the model's family.
``by_rows`` says which adapter it is where nobody does.
``hooks`` adds an update to a projection's output, ``stack`` those of many experts in one batch,
``pool`` keeps experts in memory, ``peft`` writes updates as LoRA. Nothing here replaces a module
or changes a weight of the backbone.

Add a kind of yours with ``ADAPTERS.register("name", kind)``, or with an entry point of the group
``expertbank.adapters``. Importing the room is light: each kind is imported when asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from expertbank.config import NO_ADAPTER
from expertbank.plugins import Plugins, unlike

if TYPE_CHECKING:
    from expertbank.adapters.adapter import Adapter, AdapterKind, Start

__all__ = ["ADAPTERS", "Adapter", "AdapterKind", "Start"]


def _complaint(name: str, plugin: object) -> str | None:
    from expertbank.adapters.adapter import AdapterKind

    if not isinstance(plugin, AdapterKind):
        return unlike(plugin, AdapterKind)
    return None if plugin.name == name else f"calls itself {plugin.name!r}"


ADAPTERS: Plugins[AdapterKind] = Plugins(
    "adapter kind",
    "expertbank.adapters",
    own={
        "tt": "expertbank.adapters.tt:TT",
        "lora": "expertbank.adapters.lora:LORA",
        "uni-lora": "expertbank.adapters.uni_lora:UNI_LORA",
        NO_ADAPTER: "expertbank.adapters.none:NONE",
    },
    complaint=_complaint,
    unasked=(NO_ADAPTER,),  # it cannot be trained
)
"""All kinds of adapter by name."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("expertbank.adapters.adapter"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
