"""Routing: features of rows, gates that score them, routers that choose among experts.

Knows nothing of tasks' texts, of the registry or of the backbone. Source: TT-LoRA MoE,
arXiv 2504.21190, section 3.2.
"""
