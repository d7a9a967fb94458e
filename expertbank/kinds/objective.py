"""What a head, or a language model, is trained for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Objective(ABC):
    """A kind's part in training one expert, in float32. Only ``loss`` must be given."""

    __slots__ = ()

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over rows.

        Args:
            logits: ``[rows, width]``; of a kind that writes, ``[tokens, vocabulary]``.
            targets: ``[rows]`` or ``[rows, labels]`` float32, as ``Kind.target`` made them: a place
                among labels is a number too. Of a kind that writes, ``[tokens]`` int64, the tokens
                of the answers.
        """

    def score(self, logits: Tensor, targets: Tensor) -> float:
        """Mean quality of the rows' answers, which selects the checkpoint; higher is better."""
        return -float(self.loss(logits, targets))

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        """Rows' logits ``[rows, width]`` from the head's outputs ``[sequences, outputs]``.

        ``row_of [sequences]`` is the row of each; unless a row brings choices it is one sequence.
        """
        return outputs

    def start(
        self, features: Tensor, row_of: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """First head ``(weight [outputs, hidden], bias [outputs])`` from frozen features.

        ``features`` are ``[sequences, hidden]``. ``None`` starts from zeros, which costs the first
        steps; ``probe_head``, ``probe_flags`` and ``probe_value`` fit one in closed form.
        """
        return None

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The head as it is stored."""
        return weight, bias

    def thresholds(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """Logits ``[outputs]`` from which on an output counts, from held-out training rows.

        Asked for if the kind ``has_thresholds``.
        """
        return None
