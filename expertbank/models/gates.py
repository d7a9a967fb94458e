"""The router: a gate over frozen features and the list of experts it chooses among.

Both gate kinds of this release score linearly once they are fitted, so they share one form;
how a kind is fitted is ``training.router``'s business.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from safetensors.torch import save
from torch import Tensor

from expertbank.config import canonical_json
from expertbank.errors import IntegrityError
from expertbank.models.expert_file import METADATA_KEY, read_safetensors
from expertbank.records import RowShape, TaskKind

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Member:
    """One expert a router can choose, pinned by digest.

    ``column`` is the gate's output that stands for it; the experts of one group share one.
    ``reads`` are the shapes of row it was trained on.
    """

    id: str
    digest: str
    task: str
    kind: TaskKind
    column: int
    reads: tuple[RowShape, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a router decided for some rows.

    Attributes:
        index: ``[rows]`` the chosen column.
        confidence: ``[rows]`` its probability among the candidates.
    """

    index: Tensor
    confidence: Tensor


def candidates(shapes: Sequence[RowShape], reads: Sequence[Collection[RowShape]]) -> Tensor:
    """Which columns may answer which rows.

    A row with choices can go only to experts that read choices, any other row only to the
    others. Among those, a row goes to experts trained on its shape (one text, or a pair), as
    long as there is one: length and pairing would otherwise outweigh what a text is about.

    Args:
        shapes: what each row brings.
        reads: the shapes that each column's experts were trained on.

    Returns:
        ``[rows, columns]`` bool; all columns where none can read the row.
    """
    masks = {}
    for shape in set(shapes):
        exact = torch.tensor([shape in column for column in reads])
        alike = torch.tensor([("choices" in column) == (shape == "choices") for column in reads])
        masks[shape] = next((m for m in (exact, alike) if bool(m.any())), torch.ones_like(exact))
    return torch.stack([masks[shape] for shape in shapes])


@dataclass(frozen=True, slots=True)
class Router:
    """A fitted gate and its members; immutable.

    Attributes:
        kind: how the gate was fitted (``ridge``, ``noisy-top1``).
        members: the experts, each with its column.
        feature_spec_digest: the features it reads.
        temperature: divides the scores before the softmax; fitted on held-out rows.
        weight: ``[dimension, columns]`` float32.
        bias: ``[columns]`` float32.
    """

    kind: str
    members: tuple[Member, ...]
    feature_spec_digest: str
    temperature: float
    weight: Tensor
    bias: Tensor

    @property
    def parameter_count(self) -> int:
        """Numbers that decide."""
        return self.weight.numel() + self.bias.numel()

    @property
    def columns(self) -> tuple[tuple[Member, ...], ...]:
        """Members by column: the experts that answer together."""
        return tuple(
            tuple(
                sorted(
                    (member for member in self.members if member.column == column),
                    key=lambda member: member.task,
                )
            )
            for column in range(self.weight.shape[1])
        )

    def column_of(self, task: str) -> int:
        """The column that stands for ``task``."""
        return next(member.column for member in self.members if member.task == task)

    def scores(self, features: Tensor) -> Tensor:
        """Gate scores ``[rows, columns]`` in float64 for ``features [rows, dimension]``.

        Double precision makes the choice independent of how rows were batched, up to the
        float16 rounding of the features themselves.
        """
        return features.double() @ self.weight.double() + self.bias.double()

    def route(self, features: Tensor, shapes: Sequence[RowShape] | None = None) -> Choice:
        """Choose a column for every row.

        Args:
            features: ``[rows, dimension]``.
            shapes: per row what it brings: only experts that were trained on such rows are
                candidates, see ``candidates``. ``None`` lifts the restriction.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        if features.shape[1] != self.weight.shape[0]:
            raise IntegrityError(
                f"the router reads features of width {self.weight.shape[0]}, "
                f"got {features.shape[1]}"
            )
        scores = self.scores(features)
        if shapes is not None:
            reads = [{shape for m in column for shape in m.reads} for column in self.columns]
            allowed = candidates(shapes, reads).to(scores.device)
            scores = scores.masked_fill(~allowed, float("-inf"))
        probabilities = torch.softmax(scores / self.temperature, dim=1)
        index = scores.argmax(1)
        confidence = probabilities.gather(1, index.unsqueeze(1)).squeeze(1)
        return Choice(index.cpu(), confidence.cpu())

    def subset(self, tasks: Sequence[str]) -> Router:
        """The same gate with only the columns of ``tasks``, in their old order."""
        kept = [member for member in self.members if member.task in set(tasks)]
        columns = sorted({member.column for member in kept})
        return Router(
            self.kind,
            tuple(replace(member, column=columns.index(member.column)) for member in kept),
            self.feature_spec_digest,
            self.temperature,
            self.weight[:, columns].contiguous(),
            self.bias[columns].contiguous(),
        )

    def to_bytes(self) -> bytes:
        """One safetensors file; equal routers give equal bytes."""
        metadata = {
            "format": FORMAT,
            "kind": self.kind,
            "members": [
                [m.id, m.digest, m.task, m.kind, m.column, list(m.reads)] for m in self.members
            ],
            "feature_spec_digest": self.feature_spec_digest,
            "temperature": self.temperature,
        }
        data: bytes = save(
            {"bias": self.bias, "weight": self.weight.contiguous()},
            metadata={METADATA_KEY: canonical_json(metadata)},
        )
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Router:
        """Read and check a router file.

        Raises:
            IntegrityError: not a router file, or shapes that do not fit its members.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            members = tuple(
                Member(name, digest, task, kind, column, tuple(reads))
                for name, digest, task, kind, column, reads in metadata["members"]
            )
            router = cls(
                str(metadata["kind"]),
                members,
                str(metadata["feature_spec_digest"]),
                float(metadata["temperature"]),
                tensors["weight"],
                tensors["bias"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{where}: router metadata is malformed ({error!r})") from error
        if metadata.get("format") != FORMAT:
            raise IntegrityError(f"{where}: router format {metadata.get('format')} is not known")
        width = len({member.column for member in members})
        fits = {member.column for member in members} == set(range(width)) and width > 0
        fits = fits and router.weight.dim() == 2 and router.weight.shape[1] == width
        fits = fits and 0 < router.temperature < float("inf")
        if not fits or router.bias.shape != (width,):
            raise IntegrityError(f"{where}: gate shapes do not fit {len(members)} members")
        if not all(bool(torch.isfinite(t).all()) for t in (router.weight, router.bias)):
            raise IntegrityError(f"{where}: gate weights are not finite")
        return router
