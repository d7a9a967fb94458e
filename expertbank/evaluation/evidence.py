"""What a router chose for one expert's evaluation rows, as safetensors bytes.

Together with ``predictions`` it gives routed accuracy without a forward pass. Choices are kept by
name, so that the same ones give the same bytes whatever else a router chooses among.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from expertbank.config import canonical_json, sha256_text
from expertbank.errors import IntegrityError
from expertbank.evaluation.predictions import load_arrays
from expertbank.files.header import METADATA_KEY, read_header

Ints = npt.NDArray[np.int32]
Unsigned = npt.NDArray[np.unsignedinteger[Any]]
FORMAT = 2


@dataclass(frozen=True, slots=True)
class RoutedEvidence:
    """What one router chose.

    Attributes:
        chosen: names of the columns that got a row, ascending; see ``column_name``.
        index: ``[rows]`` which of them, in the smallest unsigned type that can tell.
        home: the column of the rows' own task where that is a group, else ``None``. The same
            choices mean something else once the task is in another group: this tells them apart.
    """

    chosen: tuple[str, ...]
    index: Unsigned
    home: str | None = None

    @classmethod
    def of(cls, names: Sequence[str], choice: Ints, home: str | None = None) -> RoutedEvidence:
        """Choices by name.

        Args:
            names: of all columns that the router chooses among.
            choice: ``[rows]`` int32 position of the chosen one.
            home: see the attribute.
        """
        places, index = np.unique(choice, return_inverse=True)
        found = [names[place] for place in places.tolist()]
        chosen = sorted(found)
        ranks = {name: rank for rank, name in enumerate(chosen)}
        smallest = np.min_scalar_type(max(len(chosen) - 1, 0))
        ranked = np.array([ranks[name] for name in found], dtype=smallest)
        return cls(tuple(chosen), ranked[index], home)

    def positions(self, places: Mapping[str, int]) -> Ints:
        """``[rows]`` int32: the choices as positions in another list.

        Args:
            places: position of every column by its name.

        Raises:
            KeyError: a row went to a column that is not in the list.
        """
        return np.array([places[name] for name in self.chosen], dtype=np.int32)[self.index]

    def to_bytes(self) -> bytes:
        """One safetensors file; equal choices give equal bytes."""
        about = {"format": FORMAT, "evidence": "routed", "chosen": list(self.chosen)}
        about |= {} if self.home is None else {"home": self.home}
        data: bytes = save({"choice": self.index}, metadata={METADATA_KEY: json.dumps(about)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str, names: Sequence[str]) -> RoutedEvidence:
        """Inverse of ``to_bytes``.

        Args:
            data: the file.
            where: its name in messages.
            names: of all columns of the router that it was stored under: files of before
                (format 1) hold positions in its list.

        Raises:
            IntegrityError: not routed evidence.
        """
        tensors = load_arrays(data, where)
        about = read_header(data, where).metadata
        stored, version = tensors.get("choice"), about.get("format", 1)
        if stored is None or stored.ndim != 1 or not np.issubdtype(stored.dtype, np.integer):
            raise IntegrityError(f"{where}: not routed evidence (it holds no choices of rows)")
        choice: Ints = stored.astype(np.int32)
        if version not in {1, FORMAT}:
            raise IntegrityError(f"{where}: routed evidence of format {version} is not known")
        chosen = list(names) if version == 1 else about.get("chosen")
        if not isinstance(chosen, list) or not all(isinstance(name, str) for name in chosen):
            raise IntegrityError(f"{where}: not routed evidence (it names no columns)")
        if not bool(((choice >= 0) & (choice < len(chosen))).all()):
            raise IntegrityError(f"{where}: it names a member that its list of {len(chosen)} lacks")
        home = about.get("home")
        return cls.of(chosen, choice, None if home is None else str(home))


def column_name(task: str, group: str | None) -> str:
    """What a router chooses where it chooses ``task``: its group, if it has one.

    A group keeps its name as tasks join it. No task is called like one: names have no colon.
    """
    return f"group:{group}" if group else task


def summary(digests: Mapping[str, str]) -> dict[str, Any]:
    """What a router's run says of one file of every expert: how many, and a digest over them.

    The files are named by rows, which can be compared with this; to repeat them in every run
    would make runs grow with the experts.
    """
    return {"count": len(digests), "sha256": sha256_text(canonical_json(dict(digests)))}
