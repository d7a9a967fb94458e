"""Answers of the Open Inference Protocol: JSON, and binary data behind it."""

from __future__ import annotations

import json
from typing import Any

from expertbank.http.oip import binary
from expertbank.http.oip.request import InferRequest
from expertbank.http.oip.tensors import Tensors


def write_answer(
    request: InferRequest, tensors: Tensors, model: str, version: str | None
) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON where binary data stands behind it."""
    document: dict[str, Any] = {"model_name": model}
    if version is not None:
        document["model_version"] = version
    if request.id is not None:
        document["id"] = request.id
    state = tensors.answered.state
    document["parameters"] = {
        "router_digest": state.router_digest or "",
        "backbone_digest": state.backbone_digest,
    }
    outputs, blobs = [], []
    for wanted in request.outputs:
        tensor = tensors.tensor(wanted.output)
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if wanted.binary:
            blob = binary.write(tensor.datatype, tensor.values)
            blobs.append(blob)
            entry["parameters"] = {"binary_data_size": len(blob)}
        else:
            entry["data"] = list(tensor.values)
        outputs.append(entry)
    document["outputs"] = outputs
    # In ASCII, for clients that count characters where they should count bytes.
    head = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    if not blobs:
        return head, None
    return b"".join((head, *blobs)), len(head)
