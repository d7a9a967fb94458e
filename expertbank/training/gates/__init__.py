"""Gate kinds by name: a further one is one file, one entry here and one in ``config``."""

from __future__ import annotations

from expertbank.config import GateKind
from expertbank.training.gates.examples import Block, Examples, Fit, competing
from expertbank.training.gates.lda import fit_lda
from expertbank.training.gates.mlp import fit_mlp
from expertbank.training.gates.noisy_top1 import fit_noisy_top1
from expertbank.training.gates.ridge import fit_ridge

FITS: dict[GateKind, Fit] = {
    "lda": fit_lda,
    "ridge": fit_ridge,
    "noisy-top1": fit_noisy_top1,
    "mlp": fit_mlp,
}
FROM_MOMENTS: frozenset[GateKind] = frozenset({"lda", "ridge"})
"""Kinds that need nothing but moments."""

__all__ = ["FITS", "FROM_MOMENTS", "Block", "Examples", "Fit", "competing"]
