"""A gate with one hidden layer, trained on cached features."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.config import RouterConfig
from expertbank.models.gates import Layer
from expertbank.training.gates.examples import BATCH, Examples, Rows

EPOCHS = 12
STEPS = 400
"""Few rows are passed over more often, for at least this many steps."""
LR = 1e-3
DROPOUT = 0.2
WEIGHT_DECAY = 1e-2


def fit_mlp(examples: Examples, config: RouterConfig) -> tuple[Layer, ...]:
    """One hidden layer of ``config.hidden`` ReLU units, then a score for every column.

    Features are standardised by the mixture's own mean and deviation; the standardisation is
    folded into the first layer, so the fitted gate reads plain features. Trained with AdamW and
    dropout by cross-entropy among each row's candidates, every column weighted equally.
    """
    generator = torch.Generator().manual_seed(config.seed)
    rows = Rows.of(examples)
    dimension, columns = rows.features.shape[1], len(examples.features)
    centre = examples.moments.mean.float()
    spread = examples.moments.covariance.diagonal().clamp_min(1e-8).sqrt().float()

    def drawn(into: int, out: int) -> torch.Tensor:
        weight: torch.Tensor = torch.randn(into, out, generator=generator) * (2 / into) ** 0.5
        return weight.requires_grad_()

    first, second = drawn(dimension, config.hidden), drawn(config.hidden, columns)
    biases = [torch.zeros(width, requires_grad=True) for width in (config.hidden, columns)]
    epochs = config.epochs or max(EPOCHS, -(-STEPS // -(-len(rows.targets) // BATCH)))
    parts = [
        {"params": [first, second], "weight_decay": WEIGHT_DECAY},
        {"params": biases, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(parts, lr=config.lr or LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in rows.batches(generator):
            h = (rows.features[batch] - centre) / spread
            hidden = F.relu(h @ first + biases[0])
            kept = torch.rand(hidden.shape, generator=generator) >= DROPOUT
            scores = (hidden * kept / (1 - DROPOUT)) @ second + biases[1]
            loss = rows.loss(scores, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimiser.step()
        schedule.step()
    weight = (first / spread.unsqueeze(1)).detach()
    return (
        Layer(weight, (biases[0] - centre @ weight).detach()),
        Layer(second.detach(), biases[1].detach()),
    )
