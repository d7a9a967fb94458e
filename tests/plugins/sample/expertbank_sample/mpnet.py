"""A family of models: where MPNet keeps the projections of its attention."""

from expertbank.backbones.families import Family

MPNET = Family(
    layers="encoder.layer",
    projections={
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
    },
    spent_positions=2,  # like RoBERTa it counts positions from behind its padding index
)
