"""The paper's gate, trained on cached features."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.routing.examples import Examples, Rows
from expertbank.routing.gates import GateKind
from expertbank.routing.gates.layers import Layer, LayeredGate, read_layers
from expertbank.routing.gates.settings import ByGradient

EPOCHS = 60
LR = 1e-2


def fit_noisy_top1(examples: Examples, settings: ByGradient) -> LayeredGate:
    """The paper's gate: ``h W_gate + N(0,1) · softplus(h W_noise)``, noise in training only.

    (arXiv 2504.21190, section 3.2; after Shazeer et al., arXiv 1701.06538, eq. 4.) Trained by
    cross-entropy among each row's candidates, every column weighted equally. The noise weights
    have done their work when training ends and are not kept.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    rows = Rows.of(examples)
    dimension, columns = rows.features.shape[1], len(examples.features)
    gate = torch.zeros(dimension, columns, requires_grad=True)
    bias = torch.zeros(columns, requires_grad=True)
    noise = torch.zeros(dimension, columns, requires_grad=True)
    # Features have root mean square 1: dividing by √d keeps the scores' scale free of width.
    scale = dimension**-0.5
    epochs, lr = settings.epochs or EPOCHS, settings.lr or LR
    optimiser = torch.optim.Adam([gate, bias, noise], lr=lr * dimension**0.5 / 4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in rows.batches(generator):
            h = rows.features[batch] * scale
            spread = F.softplus(h @ noise)
            draw = torch.randn(spread.shape, generator=generator)
            loss = rows.loss(h @ gate + bias + draw * spread, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimiser.step()
        schedule.step()
    return LayeredGate((Layer(gate.detach() * scale, bias.detach()),))


NOISY_TOP1 = GateKind(ByGradient, fit_noisy_top1, read_layers)
