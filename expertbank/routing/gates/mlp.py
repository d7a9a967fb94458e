"""A gate with one hidden layer on top of the linear discriminants, trained on cached features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.routing.examples import BATCH, Examples, Rows, together
from expertbank.routing.gates import GateKind
from expertbank.routing.gates.layers import Layer, LayeredGate, read_layers
from expertbank.routing.gates.lda import fit_lda
from expertbank.routing.gates.settings import ByGradient, ClosedForm
from expertbank.settings import setting

EPOCHS = 6
STEPS = 400
"""Few rows are passed over more often, for at least this many steps."""
LR = 1e-3
DROPOUT = 0.2
WEIGHT_DECAY = 1e-2
START = 0.1
"""Scale of the second layer at the start: nearly nothing is added to the discriminants."""


@dataclass(frozen=True)
class MlpSettings(ClosedForm, ByGradient):
    """Settings of the discriminants, of the training, and of the hidden layer."""

    hidden: int = setting(256, "Width of the hidden layer.", least=1, most=8192)


def fit_mlp(examples: Examples, settings: MlpSettings) -> LayeredGate:
    """Linear discriminants, and what ``settings.hidden`` ReLU units find to correct in them.

    Features are standardised by the mixture's own mean and deviation; the standardisation is
    folded into the first layer, so the fitted gate reads plain features. Trained with AdamW and
    dropout by cross-entropy among each row's candidates, every column weighted equally. The
    discriminants pass the hidden layer as two units a column, one for each sign, so the gate
    is two plain layers.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    rows = Rows.of(examples)
    dimension, columns = rows.features.shape[1], len(examples.features)
    (line,) = fit_lda(examples.blocks, settings).layers
    moments = together(examples.blocks)
    centre = moments.mean.float()
    variance = moments.covariance.diagonal().clamp_min(0)
    # Features that hardly vary are not blown up.
    spread = (variance + 1e-2 * variance.mean()).clamp_min(1e-8).sqrt().float()

    def drawn(into: int, out: int, scale: float) -> Tensor:
        weight: Tensor = torch.randn(into, out, generator=generator) * (2 / into) ** 0.5 * scale
        return weight.requires_grad_()

    first, second = drawn(dimension, settings.hidden, 1.0), drawn(settings.hidden, columns, START)
    biases = [torch.zeros(width, requires_grad=True) for width in (settings.hidden, columns)]
    steps = -(-len(rows.targets) // BATCH)
    epochs = settings.epochs or max(EPOCHS, -(-STEPS // steps))
    parts = [
        {"params": [first, second], "weight_decay": WEIGHT_DECAY},
        {"params": biases, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(parts, lr=settings.lr or LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in rows.batches(generator):
            features = rows.features[batch]
            hidden = F.relu((features - centre) / spread @ first + biases[0])
            kept = torch.rand(hidden.shape, generator=generator) >= DROPOUT
            correction = (hidden * kept / (1 - DROPOUT)) @ second + biases[1]
            loss = rows.loss(features @ line.weight + line.bias + correction, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimiser.step()
        schedule.step()
    weight = (first / spread.unsqueeze(1)).detach()
    through = torch.eye(columns)
    below = Layer(
        torch.cat([weight, line.weight, -line.weight], 1),
        torch.cat([(biases[0] - centre @ weight).detach(), line.bias, -line.bias]),
    )
    above = Layer(torch.cat([second.detach(), through, -through]), biases[1].detach())
    return LayeredGate((below, above))


MLP = GateKind(MlpSettings, fit_mlp, read_layers)
