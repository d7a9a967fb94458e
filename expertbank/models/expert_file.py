"""An expert as bytes: adapter and head in one safetensors file, checked in full when read.

Format 1 is that of tensor trains, whose facts stand among the file's own; format 2 names the kind
of adapter and has its facts apart; format 3 also says how a head that was trained elsewhere reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from expertbank.adapters import ADAPTERS, Adapter
from expertbank.adapters.stack import CollapsedExpert, Dense
from expertbank.config import DEFAULT_ADAPTER, NO_ADAPTER
from expertbank.errors import MALFORMED, InputError, IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.kinds import KINDS
from expertbank.records import Activation, HeadPooling
from expertbank.writing import Writing

TRAINS, ANY, READING = 1, 2, 3
"""Formats: of tensor trains, of every other kind of adapter, and with another head's reading."""
HEAD = "head."
DENSE = ("head.dense.weight", "head.dense.bias")
_PER_OUTPUT = ("head.bias", "head.threshold")


@dataclass(frozen=True, slots=True)
class ExpertFile:
    """What an expert's file holds. Deterministic: equal contents give equal bytes.

    Attributes:
        task: name of the task.
        kind: name of the task's kind.
        labels: class names in head order.
        adapter_kind: name of the kind of adapter.
        adapter_facts: what that kind stores besides tensors, as plain JSON.
        alpha: multiplier of the updates.
        feature_spec_digest: the spec the expert was trained under.
        backbone_digest: the backbone it belongs to.
        tensors: the adapter's, ``head.weight [classes, head_width]``, ``head.bias [classes]``,
            ``head.threshold [classes]`` where the kind has thresholds, and with a dense layer
            ``head.dense.weight [hidden, hidden]`` and ``head.dense.bias [hidden]``; all float32.
        pooling: what the head reads of the last hidden states.
        writing: how its answers are written, where its kind writes. Where that has no head, no
            tensor of one is there; of one that is answered elsewhere there is no tensor at all.
        scaled: whether that is scaled to root mean square 1, as for every head trained here.
        dense: activation of a dense layer that it then passes, in a head trained elsewhere.
    """

    task: str
    kind: str
    labels: tuple[str, ...]
    adapter_kind: str
    adapter_facts: Mapping[str, Any]
    alpha: float
    feature_spec_digest: str
    backbone_digest: str
    tensors: Mapping[str, Tensor]
    pooling: HeadPooling
    writing: Writing | None = None
    scaled: bool = True
    dense: Activation | None = None

    def to_bytes(self) -> bytes:
        """The safetensors file."""
        metadata = {
            **self._kind_of_adapter(),
            "task": self.task,
            "kind": self.kind,
            "labels": list(self.labels),
            "alpha": self.alpha,
            "feature_spec_digest": self.feature_spec_digest,
            "backbone_digest": self.backbone_digest,
            "pooling": self.pooling,
            **({} if self.writing is None else {"writing": self.writing.to_dict()}),
        }
        return write_safetensors(self.tensors, metadata)

    def _kind_of_adapter(self) -> dict[str, Any]:
        own = self.scaled and self.dense is None
        if own and self.adapter_kind == DEFAULT_ADAPTER:
            return {"format": TRAINS, **self.adapter_facts}
        adapter = {"kind": self.adapter_kind, **self.adapter_facts}
        if own:
            return {"format": ANY, "adapter": adapter}
        reading = {"scaled": self.scaled, "dense": self.dense}
        return {"format": READING, "adapter": adapter, "reading": reading}

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> ExpertFile:
        """Read and check a file: format, names, shapes, types, finite numbers.

        Args:
            data: the file's bytes.
            where: name for messages.

        Raises:
            IntegrityError: anything that is not exactly an expert file.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            if metadata["format"] not in (TRAINS, ANY, READING):
                raise IntegrityError(f"{where}: expert format {metadata['format']} is not known")
            trains = metadata["format"] == TRAINS
            facts = {"groups": metadata["groups"]} if trains else dict(metadata["adapter"])
            named = DEFAULT_ADAPTER if trains else str(facts.pop("kind"))
            if named == DEFAULT_ADAPTER and metadata["format"] == ANY:
                raise IntegrityError(f"{where}: a tensor train in a file of another format")
            read = metadata["format"] == READING
            reading: dict[str, Any] = {"scaled": True, "dense": None}
            reading = metadata["reading"] if read else reading
            expert = cls(
                str(metadata["task"]),
                str(metadata["kind"]),
                tuple(str(label) for label in metadata["labels"]),
                named,
                facts,
                float(metadata["alpha"]),
                str(metadata["feature_spec_digest"]),
                str(metadata["backbone_digest"]),
                tensors,
                metadata["pooling"],
                Writing.from_dict(metadata["writing"]) if "writing" in metadata else None,
                reading["scaled"],
                reading["dense"],
            )
            if expert.pooling not in get_args(HeadPooling):
                raise IntegrityError(f"{where}: unknown pooling {expert.pooling!r}")
            known = (None, *get_args(Activation))
            own = expert.scaled is True and expert.dense is None
            odd = read and (own or expert.pooling == "pair")
            if type(expert.scaled) is not bool or expert.dense not in known or odd:
                raise IntegrityError(f"{where}: unknown way of reading, {reading!r}")
        except (InputError, *MALFORMED) as error:
            raise IntegrityError(f"{where}: expert metadata is malformed ({error!r})") from error
        expert._check(where)
        return expert

    def _check(self, where: str) -> None:
        kind = KINDS.get(self.kind)
        if kind.writes != (self.writing is not None):
            raise IntegrityError(f"{where}: how a {self.kind} expert answers is not what it says")
        expected = {"head.weight", "head.bias"} if kind.has_head else set()
        if kind.has_thresholds:
            expected.add("head.threshold")
        if self.dense is not None:
            expected |= set(DENSE)
        found = {name for name in self.tensors if name.startswith(HEAD)}
        if found != expected:
            odd = sorted(found ^ expected)
            raise IntegrityError(f"{where}: missing or unexpected tensors {odd[:5]}")
        if not math.isfinite(self.alpha):
            raise IntegrityError(f"{where}: alpha is {self.alpha}")
        if kind.elsewhere and (self.adapter_kind != NO_ADAPTER or len(self.labels) != 1):
            raise IntegrityError(f"{where}: it is answered elsewhere by {list(self.labels)}")
        if kind.has_head:
            self._check_head(kind.outputs(self.labels), where)
        for name, tensor in self.tensors.items():
            if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
                raise IntegrityError(f"{where}: tensor {name} is not finite float32")
        try:
            self.adapter()
        except (IntegrityError, InputError) as error:
            raise IntegrityError(f"{where}: {error}") from error
        except MALFORMED as error:
            raise IntegrityError(f"{where}: its adapter is malformed ({error!r})") from error

    def _check_head(self, classes: int, where: str) -> None:
        weight = self.tensors["head.weight"]
        per_output = {t.shape for n, t in self.tensors.items() if n in _PER_OUTPUT}
        if weight.dim() != 2 or weight.shape[0] != classes or per_output != {(classes,)}:
            raise IntegrityError(
                f"{where}: head {list(weight.shape)} does not fit {classes} outputs"
            )
        width = weight.shape[1]
        shapes = [tuple(self.tensors[name].shape) for name in DENSE if self.dense is not None]
        if shapes and shapes != [(width, width), (width,)]:
            raise IntegrityError(f"{where}: a dense layer {shapes} before a head of {width}")

    @property
    def head_params(self) -> int:
        """Numbers of the head that are no thresholds."""
        return sum(
            tensor.numel()
            for name, tensor in self.tensors.items()
            if name.startswith(HEAD) and name != "head.threshold"
        )

    def adapter(self) -> Adapter:
        """The adapter as it was trained; checks all that its file holds of it."""
        own = {name: one for name, one in self.tensors.items() if not name.startswith(HEAD)}
        return ADAPTERS.get(self.adapter_kind).read(self.adapter_facts, own, self.alpha)

    def collapse(self, expert_id: str, device: torch.device, dtype: torch.dtype) -> CollapsedExpert:
        """The expert ready to serve under ``expert_id``; the head stays in float32."""
        with torch.no_grad():
            factors = self.adapter().collapse()
        # Where a side is one core, its factor is that core itself, which would learn.
        served = {
            path: (a.detach().to(device, dtype), b.detach().to(device, dtype))
            for path, (a, b) in factors.items()
        }
        no_head = torch.empty(0, 0)
        dense = None
        if self.dense is not None:
            weight, bias = (self.tensors[name].to(device) for name in DENSE)
            dense = Dense(weight, bias, self.dense)
        return CollapsedExpert(
            expert_id,
            served,
            self.tensors.get("head.weight", no_head).to(device),
            self.tensors.get("head.bias", no_head.flatten()).to(device),
            KINDS.get(self.kind).scores_sequences,
            self.pooling,
            self.tensors.get("head.threshold"),
            self.task,
            self.labels,
            self.writing,
            self.scaled,
            dense,
        )
