"""A gate: it keeps some rows of every column, and scores a column by how near its nearest are."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.routing.gates import Examples, GateKind
from expertbank.settings import check, setting


@dataclass(frozen=True)
class KnnSettings:
    """What ``--set`` takes."""

    neighbours: int = setting(3, "Nearest rows whose distances are averaged.", least=1)
    rows: int = setting(100, "Rows to keep of a column.", least=1)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class KnnGate:
    """A fitted gate."""

    neighbours: int
    rows: Tensor  # [kept, dimension] float16
    owners: Tensor  # [kept] int64, the column of each
    columns: int

    @property
    def dimension(self) -> int:
        return self.rows.shape[1]

    @property
    def parameter_count(self) -> int:
        return self.rows.numel()

    def scores(self, features: Tensor) -> Tensor:
        plain = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(features.double(), self.rows.double(), compute_mode=plain)
        found = []
        for column in range(self.columns):
            own = apart[:, self.owners == column]
            nearest = own.topk(min(self.neighbours, own.shape[1]), dim=1, largest=False)
            found.append(-nearest.values.mean(1))
        return torch.stack(found, 1)

    def only(self, columns: Sequence[int]) -> KnnGate:
        rows = torch.cat([self.rows[self.owners == column] for column in columns])
        sizes = torch.tensor([int((self.owners == column).sum()) for column in columns])
        owners = torch.arange(len(columns)).repeat_interleave(sizes)
        return KnnGate(self.neighbours, rows, owners, len(columns))

    def tensors(self) -> dict[str, Tensor]:
        return {"owners": self.owners, "rows": self.rows}

    def facts(self) -> dict[str, Any]:
        return {"neighbours": self.neighbours}


def fit(examples: Examples, settings: KnnSettings) -> KnnGate:
    kept = [rows[: settings.rows] for rows in examples.features]
    owners = torch.arange(len(kept)).repeat_interleave(torch.tensor([len(rows) for rows in kept]))
    return KnnGate(settings.neighbours, torch.cat(kept), owners, len(kept))


def read(tensors: MutableMapping[str, Tensor], facts: Mapping[str, Any], where: str) -> KnnGate:
    rows, owners = tensors.pop("rows"), tensors.pop("owners")
    sound = rows.dim() == 2 and rows.dtype == torch.float16 and len(rows) > 0
    sound = sound and owners.dtype == torch.int64 and owners.shape == (len(rows),)
    sound = sound and type(facts["neighbours"]) is int and facts["neighbours"] >= 1
    if not sound or set(owners.tolist()) != set(range(int(owners.max()) + 1)):
        raise IntegrityError(f"{where}: rows and owners are no neighbours")
    return KnnGate(facts["neighbours"], rows, owners, int(owners.max()) + 1)


KNN = GateKind(KnnSettings, fit, read)
