"""LoRA adapters that PEFT itself makes, trains and saves, on tiny backbones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from small_bank import TASKS, task_rows

LAYERS = {"layers_to_transform": [2, 3]}
"""Only layers of the branch; ``layers_pattern`` is left to PEFT."""


def classifier(backbone: Path, outputs: int = 2, seed: int = 0, **config: Any) -> Any:
    """The class for labelled sequences around a tiny backbone."""
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone, num_labels=outputs, **config
        )
    return model.eval()


def wrapped(model: Any, seed: int = 0, **settings: Any) -> Any:
    """``model`` with an adapter whose every parameter is far from its start."""
    import peft

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = peft.LoraConfig(**{"task_type": "SEQ_CLS", "r": 4, **settings})
        made = peft.get_peft_model(model, config)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.requires_grad:
                    parameter.normal_(0, 0.3)
    return made.eval()


def saved(folder: Path, backbone: Path, outputs: int = 2, **settings: Any) -> tuple[Path, Any]:
    """A folder of a random adapter with its head, and the model it was saved from."""
    model = wrapped(classifier(backbone, outputs), **settings)
    model.save_pretrained(str(folder))
    return folder, model


def encoded(backbone: Path, texts: Sequence[str]) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    inputs = tokenizer(list(texts), padding=True, return_tensors="pt")
    if "token_type_ids" not in tokenizer.model_input_names:
        inputs.pop("token_type_ids", None)
    return inputs


@torch.no_grad()
def logits(model: Any, backbone: Path, texts: Sequence[str]) -> torch.Tensor:
    """What the model answers with PEFT, one text at a time: no padding."""
    return torch.cat([model(**encoded(backbone, [text])).logits for text in texts])


def trained(folder: Path, backbone: Path, task: str, steps: int = 40, **settings: Any) -> Any:
    """An adapter that PEFT trained on a small task, saved with its head."""
    model = wrapped(classifier(backbone, seed=1), **settings)
    _learn([model], lambda inputs: model(**inputs).logits, backbone, task, steps)
    model.save_pretrained(str(folder))
    return model


def trained_bare(folder: Path, backbone: Path, task: str, steps: int = 40, **settings: Any) -> None:
    """An adapter that PEFT trained under a head which nobody saved."""
    from transformers import AutoModel

    settings = {"task_type": "FEATURE_EXTRACTION", **settings}
    model = wrapped(AutoModel.from_pretrained(backbone).eval(), **settings)
    with torch.random.fork_rng(devices=[]):
        # Else tests that ran before decide what is learnt, and how far rounding shows in it.
        torch.manual_seed(0)
        head = torch.nn.Linear(model.config.hidden_size, 2)
    _learn([model, head], lambda inputs: head(model(**inputs)[0].mean(1)), backbone, task, steps)
    model.save_pretrained(str(folder))


def _learn(parts: Any, outputs: Any, backbone: Path, task: str, steps: int) -> None:
    labels, _ = TASKS[task]
    rows = task_rows(task, 80)
    inputs = encoded(backbone, [text for text, _ in rows])
    targets = torch.tensor([labels.index(label) for _, label in rows])
    learning = [one for part in parts for one in part.parameters() if one.requires_grad]
    with torch.no_grad():
        for one in learning:
            one.mul_(0.1)
    optimiser = torch.optim.AdamW(learning, lr=2e-2)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(outputs(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
