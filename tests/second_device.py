"""A device beside the CPU on a machine that has none: it computes, and mixes with no other.

Fake tensors tell devices apart too, but have no values, and training and decoding ask for some.
Here a tensor says that it is on ``lazy``, a device that no build of torch brings kernels for, and
its values are computed on the CPU. As on CUDA, tensors of two devices meet in a copy only, or
where one of them is a single number; as on Apple's MPS there is no float64. An index or a mask on
the CPU, which CUDA would copy in silence, is refused as well, and so is a generator of the CPU.

A machine that has a real one lends it to the same tests beside this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "lazy"
DEVICE = torch.device(NAME)
_REAL = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
DEVICES = (NAME, *(name for name, there in _REAL.items() if there))
"""What tests of another device are run on."""
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Elsewhere(torch.Tensor):
    """A tensor of the second device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        if inner.dtype == torch.float64:
            raise TypeError("the device has no float64")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("values of another device have no array: copy them to the CPU first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Tensors that are made of nothing are made where they were asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


@contextmanager
def device_called(name: str) -> Iterator[torch.device]:
    """Within the block the device, one of ``DEVICES``, is there."""
    if name != NAME:
        yield torch.device(name)
        return
    with second_device() as device:
        yield device


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Within the block the made-up device is there."""
    if not hasattr(torch, NAME):  # torch looks there for what a device can, and it can nothing
        torch._register_device_module(NAME, ModuleType(NAME))
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor then ends in a copy that is seen
    try:
        with _Factories():
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    here = [one for one in tensors if not isinstance(one, Elsewhere)]
    there = [one for one in tensors if isinstance(one, Elsewhere)]
    if there and func not in _COPIES and any(one.dim() for one in here):
        shapes = [list(one.shape) for one in here]
        raise RuntimeError(f"{func}: tensors {shapes} of the CPU among those of {NAME}")
    wanted = kwargs.get("device")
    beside = bool(there) if wanted is None else torch.device(wanted).type == NAME
    if func is torch.ops.aten.copy_.default:
        beside = isinstance(args[0], Elsewhere)
    if beside and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a generator of the CPU on {NAME}")
    if wanted is not None and torch.device(wanted).type == NAME:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    found = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    own = {id(one.inner): one for one in there}  # what an operation in place gives back

    def placed(one: Any) -> Any:
        if not beside or not isinstance(one, torch.Tensor):
            return one
        return own[id(one)] if id(one) in own else Elsewhere(one)

    return tree_map(placed, found)


def _values(one: Any) -> Any:
    return one.inner if isinstance(one, Elsewhere) else one
