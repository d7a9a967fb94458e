"""What people build today: FastAPI over one PEFT model whose adapter is set for every request.

``serving.py`` runs it: python others/peft_server.py HOME PORT. The adapters and heads are the
bank's own; the caller names the task, so that nothing is left to decide. A lock keeps requests
apart.
"""

import sys
from pathlib import Path
from threading import Lock

import torch
import uvicorn
from fastapi import FastAPI
from mixed_batches import as_peft
from pydantic import BaseModel

from expertbank import Bank
from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.features import pool, scale_to_unit_rms


class Asked(BaseModel):
    """One request."""

    text: str
    task: str


def main(home: Path, port: int) -> None:
    with Bank.open(home, read_only=True) as bank:
        predictor = bank.predictor()
        record = bank.backbone()
        assert record is not None
        names = {one.task: (one.id, one.digest, one.labels) for one in bank.experts()}
        kept = predictor.model.pool
        experts = {name: kept.expert(digest) for name, digest, _ in names.values()}
        length = record.feature_spec.max_length
        backbone = load_backbone(record.reference)
    model, lock = as_peft(backbone, experts), Lock()
    app = FastAPI()

    @app.post("/predict")
    def predict(asked: Asked) -> dict[str, object]:
        name, _, labels = names[asked.task]
        inputs = backbone.tokenizer(
            asked.text, return_tensors="pt", truncation=True, max_length=length
        )
        with lock, torch.inference_mode():
            model.set_adapter(name.replace("@", "_"))
            states = model(**inputs).last_hidden_state
            pooled = scale_to_unit_rms(pool(states, inputs["attention_mask"], "mean"))
            expert = experts[name]
            scores = torch.softmax(pooled @ expert.head_weight.T + expert.head_bias, dim=1)[0]
        return {"label": labels[int(scores.argmax())], "scores": scores.tolist()}

    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
