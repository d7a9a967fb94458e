"""Tensor-train algebra: shapes, cores, and their exact collapse to two factors.

Knows nothing of models, tasks or files. Source: TT-LoRA MoE, arXiv 2504.21190, section 3.1.
"""

from expertbank.tt.contract import collapse, dense
from expertbank.tt.cores import initial_cores
from expertbank.tt.shape import TTShape, factorise

__all__ = ["TTShape", "collapse", "dense", "factorise", "initial_cores"]
