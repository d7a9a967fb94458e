"""Tensor-train algebra: shapes, cores, their exact collapse to two factors, and the way back.

Knows nothing of models, tasks or files. Source: TT-LoRA MoE, arXiv 2504.21190, section 3.1.
"""

from expertbank.tt.contract import collapse, decompose, dense
from expertbank.tt.cores import initial_cores
from expertbank.tt.shape import TTShape, factorise

__all__ = ["TTShape", "collapse", "decompose", "dense", "factorise", "initial_cores"]
