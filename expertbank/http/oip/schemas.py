"""The OpenAPI document's words for the Open Inference Protocol."""

from __future__ import annotations

from expertbank.http.oip.binary import LENGTH_HEADER
from expertbank.http.schemas import (
    ANY,
    ASKING,
    FLAG,
    TEXT,
    WHOLE,
    Schema,
    answers,
    array,
    asking,
    json_body,
    record,
    ref,
)

_BYTES: Schema = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_LENGTH = "Bytes of JSON, where binary data stands behind it."
_SHAPE = array(WHOLE)
SCHEMAS: dict[str, Schema] = {
    "ServerMetadata": record({"name": TEXT, "version": TEXT, "extensions": array(TEXT)}),
    "Live": record({"live": FLAG}),
    "Ready": record({"ready": FLAG}),
    "TensorMetadata": record(
        {"name": TEXT, "datatype": TEXT, "shape": _SHAPE, "parameters": ANY},
        "name",
        "datatype",
        "shape",
    ),
    "ModelMetadata": record(
        {
            "name": TEXT,
            "versions": array(TEXT),
            "platform": TEXT,
            "inputs": array(ref("TensorMetadata")),
            "outputs": array(ref("TensorMetadata")),
            "parameters": record(
                {
                    "kind": TEXT,
                    "labels": array(TEXT),
                    "tasks": array(TEXT),
                    "expert": TEXT,
                    "expert_digest": TEXT,
                    "group": TEXT,
                    "router": WHOLE,
                    "router_digest": TEXT,
                    "backbone_digest": TEXT,
                },
                "kind",
                "labels",
                "tasks",
                "backbone_digest",
            ),
        }
    ),
    "ModelReady": record({"name": TEXT, "ready": FLAG}),
    "InferInput": record(
        {
            "name": {"enum": ["text", "text_pair", "choices"]},
            "shape": _SHAPE,
            "datatype": {"const": "BYTES"},
            "parameters": {
                **ANY,
                "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
            },
            "data": {"type": "array", "items": {"type": ["string", "array"]}},
        },
        "name",
        "shape",
        "datatype",
    ),
    "InferRequest": record(
        {
            "id": TEXT,
            "parameters": {
                **ANY,
                "properties": {
                    "abstain": FLAG,
                    "fallback": TEXT,
                    "timeout": {"type": "integer", "description": "Microseconds."},
                    "binary_data_output": FLAG,
                },
            },
            "inputs": array(ref("InferInput")),
            "outputs": array(
                record(
                    {
                        "name": TEXT,
                        "parameters": {**ANY, "properties": {"binary_data": FLAG}},
                    },
                    "name",
                )
            ),
        },
        "inputs",
    ),
    "InferOutput": record(
        {
            "name": TEXT,
            "datatype": {"enum": ["BYTES", "BOOL", "INT64", "FP64"]},
            "shape": _SHAPE,
            "parameters": ANY,
            "data": {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
        },
        "name",
        "datatype",
        "shape",
    ),
    "InferResponse": record(
        {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "parameters": record({"router_digest": TEXT, "backbone_digest": TEXT}),
            "outputs": array(ref("InferOutput")),
        },
        "model_name",
        "outputs",
    ),
}
INFER_BODY = asking(
    {**json_body("InferRequest"), **_BYTES},
    {
        "name": LENGTH_HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": _LENGTH,
    },
)


def infer_answers() -> dict[int | str, Schema]:
    """What ``infer`` answers with: JSON, or JSON and binary data behind it."""
    found = answers("InferResponse", *ASKING, 403)
    found["200"]["content"] |= _BYTES
    found["200"]["headers"] = {LENGTH_HEADER: {"description": _LENGTH, "schema": WHOLE}}
    return found
