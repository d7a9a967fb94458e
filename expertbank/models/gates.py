"""The router: a gate over frozen features and the list of experts it chooses among.

Every gate kind is a sequence of layers once it is fitted; how it is fitted is
``training.gates``'s business.
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
from expertbank.models.unknown import UnknownModel
from expertbank.records import ROW_SHAPES, TASK_KINDS, RowShape, TaskKind

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
        unknown_score: ``[rows]`` higher for rows less like any task that may answer them;
            ``None`` where the router holds no statistics.
        unknown: ``[rows]`` bool, the score is above the router's threshold.
    """

    index: Tensor
    confidence: Tensor
    unknown_score: Tensor | None = None
    unknown: Tensor | None = None


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
class Layer:
    """One affine map of a gate; between two of them stands a ReLU.

    Attributes:
        weight: ``[inputs, outputs]`` float32.
        bias: ``[outputs]`` float32.
    """

    weight: Tensor
    bias: Tensor

    def only(self, outputs: Sequence[int]) -> Layer:
        """The layer with only these outputs."""
        return Layer(self.weight[:, outputs].contiguous(), self.bias[outputs].contiguous())


@dataclass(frozen=True, slots=True)
class Router:
    """A fitted gate and its members; immutable.

    Attributes:
        kind: how the gate was fitted.
        members: the experts, each with its column.
        feature_spec_digest: the features it reads.
        temperature: divides the scores before the softmax; fitted on held-out rows.
        layers: the gate; the last layer has one output a column.
        unknown: statistics behind the unknown score, ``None`` if too few rows were there.
    """

    kind: str
    members: tuple[Member, ...]
    feature_spec_digest: str
    temperature: float
    layers: tuple[Layer, ...]
    unknown: UnknownModel | None = None

    @property
    def dimension(self) -> int:
        """Width of the features it reads."""
        return self.layers[0].weight.shape[0]

    @property
    def parameter_count(self) -> int:
        """Numbers that decide."""
        return sum(layer.weight.numel() + layer.bias.numel() for layer in self.layers)

    @property
    def columns(self) -> tuple[tuple[Member, ...], ...]:
        """Members by column: the experts that answer together."""
        found: list[list[Member]] = [[] for _ in range(len(self.layers[-1].bias))]
        for member in self.members:
            found[member.column].append(member)
        return tuple(tuple(sorted(column, key=lambda m: m.task)) for column in found)

    def column_of(self, task: str) -> int:
        """The column that stands for ``task``."""
        return next(member.column for member in self.members if member.task == task)

    def candidates(self, shapes: Sequence[RowShape]) -> Tensor:
        """``[rows, columns]`` bool: the columns that may answer rows of these shapes."""
        reads = [{shape for m in column for shape in m.reads} for column in self.columns]
        return candidates(shapes, reads)

    def scores(self, features: Tensor) -> Tensor:
        """Gate scores ``[rows, columns]`` in float64 for ``features [rows, dimension]``.

        Double precision makes the choice independent of how rows were batched, up to the
        float16 rounding of the features themselves.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        if features.shape[1] != self.dimension:
            raise IntegrityError(
                f"the router reads features of width {self.dimension}, got {features.shape[1]}"
            )
        return gate_scores(self.layers, features)

    def route(self, features: Tensor, shapes: Sequence[RowShape] | None = None) -> Choice:
        """Choose a column for every row.

        Args:
            features: ``[rows, dimension]``.
            shapes: per row what it brings: only experts that were trained on such rows are
                candidates, see ``candidates``. ``None`` lifts the restriction.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        scores = self.scores(features)
        allowed = None
        if shapes is not None:
            allowed = self.candidates(shapes).to(scores.device)
            scores = scores.masked_fill(~allowed, float("-inf"))
        probabilities = torch.softmax(scores / self.temperature, dim=1)
        index = scores.argmax(1)
        confidence = probabilities.gather(1, index.unsqueeze(1)).squeeze(1)
        if self.unknown is None:
            return Choice(index.cpu(), confidence.cpu())
        score = self.unknown.score(features, allowed).cpu()
        return Choice(index.cpu(), confidence.cpu(), score, score > self.unknown.threshold)

    def probabilities(self, features: Tensor, shapes: Sequence[RowShape]) -> Tensor:
        """Every column's probability among a row's candidates; 0 for those that are none.

        Args:
            features: ``[rows, dimension]``.
            shapes: as in ``route``.

        Returns:
            ``[rows, columns]`` float64.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        scores = self.scores(features)
        scores = scores.masked_fill(~self.candidates(shapes).to(scores.device), float("-inf"))
        return torch.softmax(scores / self.temperature, dim=1).cpu()

    def lead(self, features: Tensor, shapes: Sequence[RowShape] | None = None) -> Tensor:
        """How far the chosen column's score is above the next candidate's.

        Args:
            features: ``[rows, dimension]``.
            shapes: as in ``route``.

        Returns:
            ``[rows]`` float64, infinite where a row has one candidate only.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        scores = self.scores(features)
        if shapes is not None:
            allowed = self.candidates(shapes).to(scores.device)
            scores = scores.masked_fill(~allowed, float("-inf"))
        if scores.shape[1] == 1:
            return torch.full((len(scores),), float("inf"), dtype=scores.dtype)
        top = scores.topk(2, dim=1).values
        return (top[:, 0] - top[:, 1]).cpu()

    def subset(self, tasks: Sequence[str]) -> Router:
        """The same gate with only the columns of ``tasks``, in their old order.

        What the unknown score knows of the other columns goes too: their rows become unknown.
        """
        kept = [member for member in self.members if member.task in set(tasks)]
        columns = sorted({member.column for member in kept})
        return replace(
            self,
            members=tuple(replace(m, column=columns.index(m.column)) for m in kept),
            layers=(*self.layers[:-1], self.layers[-1].only(columns)),
            unknown=None if self.unknown is None else self.unknown.only(columns),
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
            "layers": len(self.layers),
            "unknown": None if self.unknown is None else self.unknown.facts(),
        }
        tensors = {} if self.unknown is None else self.unknown.tensors()
        for number, layer in enumerate(self.layers):
            tensors[f"layers.{number}.weight"] = layer.weight.contiguous()
            tensors[f"layers.{number}.bias"] = layer.bias.contiguous()
        data: bytes = save(tensors, metadata={METADATA_KEY: canonical_json(metadata)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Router:
        """Read and check a router file.

        Raises:
            IntegrityError: not a router file, or shapes that do not fit its members.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            if metadata["format"] != FORMAT:
                raise IntegrityError(f"{where}: router format {metadata['format']} is not known")
            layers = tuple(
                Layer(tensors.pop(f"layers.{number}.weight"), tensors.pop(f"layers.{number}.bias"))
                for number in range(min(int(metadata["layers"]), len(tensors)))
            )
            router = cls(
                str(metadata["kind"]),
                tuple(_member(*fields) for fields in metadata["members"]),
                str(metadata["feature_spec_digest"]),
                float(metadata["temperature"]),
                layers,
                UnknownModel.read(tensors, metadata["unknown"], where),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{where}: router metadata is malformed ({error!r})") from error
        if tensors:
            raise IntegrityError(f"{where}: unexpected tensors {sorted(tensors)[:5]}")
        router._check(where)
        return router

    def _check(self, where: str) -> None:
        columns = {member.column for member in self.members}
        width = len(columns)
        fits = columns == set(range(width)) and width > 0 and bool(self.layers)
        fits = fits and 0 < self.temperature < float("inf")
        fits = fits and all(layer.weight.dim() == 2 for layer in self.layers)
        fits = fits and all(layer.bias.shape == layer.weight.shape[1:] for layer in self.layers)
        fits = fits and all(
            below.weight.shape[1] == above.weight.shape[0]
            for below, above in zip(self.layers, self.layers[1:], strict=False)
        )
        if not fits or self.layers[-1].weight.shape[1] != width:
            raise IntegrityError(f"{where}: gate shapes do not fit {len(self.members)} members")
        for tensor in (t for layer in self.layers for t in (layer.weight, layer.bias)):
            if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
                raise IntegrityError(f"{where}: gate weights are not finite float32")
        if self.unknown is not None:
            self.unknown.check(self.dimension, width, where)


def gate_scores(layers: Sequence[Layer], features: Tensor) -> Tensor:
    """Scores ``[rows, columns]`` in float64 of ``features [rows, dimension]``."""
    values = features.double()
    for number, layer in enumerate(layers):
        values = values if number == 0 else torch.relu(values)
        values = values @ layer.weight.double() + layer.bias.double()
    return values


def _member(
    name: str, digest: str, task: str, kind: TaskKind, column: int, reads: Sequence[RowShape]
) -> Member:
    """A member as its file says.

    Raises:
        ValueError: a kind or shape that there is not, or a column that is no number.
    """
    known = kind in TASK_KINDS and set(reads) <= set(ROW_SHAPES)
    if not known or type(column) is not int:
        raise ValueError(f"{name}: kind {kind!r}, reads {reads!r}, column {column!r}")
    return Member(name, digest, task, kind, column, tuple(reads))
