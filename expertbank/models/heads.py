"""How an expert's head reads the backbone's last hidden states."""

from __future__ import annotations

from torch import Tensor

from expertbank.adapters.targets import HeadPooling
from expertbank.models.features import pool, scale_to_unit_rms


def head_input(last: Tensor, mask: Tensor, pooling: HeadPooling) -> Tensor:
    """One vector per sequence, scaled to root mean square 1.

    Backbones differ tenfold in the size of their last states; scaled, one learning rate and
    one initialisation fit all heads.

    Args:
        last: ``[sequences, tokens, hidden]``.
        mask: ``[sequences, tokens]``, 1 on real tokens.
        pooling: the family's choice.

    Returns:
        ``[sequences, hidden]`` in float32.
    """
    return scale_to_unit_rms(pool(last, mask, pooling))
