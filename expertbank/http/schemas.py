"""What the OpenAPI document says of bodies: schemas, and which answers a route gives."""

from __future__ import annotations

from typing import Any

from expertbank.http.binary import LENGTH_HEADER
from expertbank.http.problems import MEDIA_TYPE

ASKING = (400, 404, 408, 413, 415, 422, 429, 500, 503, 504)
"""Problems that whoever asks for answers may meet."""
_MEANINGS = {
    400: "The request is not what this interface takes.",
    401: "The server asks for a key, and this is none.",
    403: "A page of another site asked for this.",
    404: "No such model or version.",
    408: "The body arrived too slowly.",
    413: "Too large a body, or too many rows.",
    415: "A body of another media type.",
    422: "The request is well-formed, and one of its rows cannot be answered.",
    429: "Too many rows wait; Retry-After says when to come again.",
    431: "Too large headers.",
    500: "Failed inside; the server's log tells why.",
    502: "The engine behind the router cannot be reached, or broke off.",
    503: "The server cannot answer now.",
    504: "The deadline passed.",
}

Schema = dict[str, Any]


def _object(properties: dict[str, Schema], *required: str, **more: Any) -> Schema:
    names = list(required) if required else list(properties)
    return {"type": "object", "properties": properties, "required": names, **more}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_ANY: Schema = {"type": "object", "additionalProperties": True}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_SHAPE = _list(_WHOLE)
_ANSWER_FIELDS: dict[str, Schema] = {
    "index": _WHOLE,
    "task": _TEXT,
    "expert": _TEXT,
    "confidence": _SHARE,
    "unknown": _or_null(_FLAG),
    "unknown_score": _or_null(_NUMBER),
    "unknown_p_value": _or_null(_NUMBER),
    "abstained": _FLAG,
    "truncated": _FLAG,
    "label": {"type": ["string", "number", "null"]},
    "scores": {"type": "object", "additionalProperties": _SHARE},
    "choice": _WHOLE,
    "labels": _list(_TEXT),
    "text": _TEXT,
    "finish": {"enum": ["stop", "length"]},
    "external_adapter": _TEXT,
    "thresholds": {"type": "object", "additionalProperties": _NUMBER},
    "expert_digest": _TEXT,
}
_ANSWER_REQUIRED = (
    "index",
    "task",
    "expert",
    "confidence",
    "unknown",
    "unknown_score",
    "unknown_p_value",
    "abstained",
    "truncated",
    "label",
    "scores",
    "expert_digest",
)
_CLASSIFIED: dict[str, Schema] = {
    "index": _WHOLE,
    "label": _TEXT,
    "probs": _list(_SHARE),
    "num_classes": _WHOLE,
    "labels": _list(_TEXT),
    "task": _TEXT,
    "expert": _TEXT,
    "expert_digest": _TEXT,
    "router_digest": _or_null(_TEXT),
    "confidence": _SHARE,
    "unknown": _or_null(_FLAG),
    "unknown_score": _or_null(_NUMBER),
    "unknown_p_value": _or_null(_NUMBER),
    "abstained": _FLAG,
}
ANSWERS: Schema = _list(_object(_ANSWER_FIELDS, *_ANSWER_REQUIRED))
"""The answers of a group's tasks."""
SCHEMAS: dict[str, Schema] = {
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri"},
            "title": _TEXT,
            "status": _WHOLE,
            "detail": {**_TEXT, "description": "One sentence."},
            "instance": {"type": "string", "format": "uri"},
            "code": {**_WHOLE, "description": "Exit code of the command line for the same."},
            "meaning": {**_TEXT, "description": "What that code means."},
            "error": {
                "type": ["string", "object"],
                "description": "The sentence again, for protocol clients; under `/v1/` as OpenAI "
                "has it: `message`, `type`, `param` and `code`.",
            },
        }
    ),
    "Live": _object({"live": _FLAG}),
    "Ready": _object({"ready": _FLAG}),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "TensorMetadata": _object(
        {"name": _TEXT, "datatype": _TEXT, "shape": _SHAPE, "parameters": _ANY},
        "name",
        "datatype",
        "shape",
    ),
    "ModelMetadata": _object(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list(_ref("TensorMetadata")),
            "outputs": _list(_ref("TensorMetadata")),
            "parameters": _object(
                {
                    "kind": _TEXT,
                    "labels": _list(_TEXT),
                    "tasks": _list(_TEXT),
                    "expert": _TEXT,
                    "expert_digest": _TEXT,
                    "group": _TEXT,
                    "router": _WHOLE,
                    "router_digest": _TEXT,
                    "backbone_digest": _TEXT,
                },
                "kind",
                "labels",
                "tasks",
                "backbone_digest",
            ),
        }
    ),
    "ModelReady": _object({"name": _TEXT, "ready": _FLAG}),
    "InferInput": _object(
        {
            "name": {"enum": ["text", "text_pair", "choices"]},
            "shape": _SHAPE,
            "datatype": {"const": "BYTES"},
            "parameters": {
                **_ANY,
                "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
            },
            "data": {"type": "array", "items": {"type": ["string", "array"]}},
        },
        "name",
        "shape",
        "datatype",
    ),
    "InferRequest": _object(
        {
            "id": _TEXT,
            "parameters": {
                **_ANY,
                "properties": {
                    "abstain": _FLAG,
                    "fallback": _TEXT,
                    "timeout": {"type": "integer", "description": "Microseconds."},
                    "binary_data_output": _FLAG,
                },
            },
            "inputs": _list(_ref("InferInput")),
            "outputs": _list(
                _object(
                    {
                        "name": _TEXT,
                        "parameters": {**_ANY, "properties": {"binary_data": _FLAG}},
                    },
                    "name",
                )
            ),
        },
        "inputs",
    ),
    "InferOutput": _object(
        {
            "name": _TEXT,
            "datatype": {"enum": ["BYTES", "BOOL", "INT64", "FP64"]},
            "shape": _SHAPE,
            "parameters": _ANY,
            "data": {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
        },
        "name",
        "datatype",
        "shape",
    ),
    "InferResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": _object({"router_digest": _TEXT, "backbone_digest": _TEXT}),
            "outputs": _list(_ref("InferOutput")),
        },
        "model_name",
        "outputs",
    ),
    "Models": _object(
        {
            "object": {"const": "list"},
            "data": _list(_ref("Model")),
        }
    ),
    "Model": _object(
        {
            "id": _TEXT,
            "object": {"const": "model"},
            "created": _WHOLE,
            "owned_by": _TEXT,
            "root": _TEXT,
            "parent": _or_null(_TEXT),
            "max_model_len": _WHOLE,
            "permission": _list(_ANY),
        }
    ),
    "ClassifyRequest": _object(
        {
            "model": {**_TEXT, "default": "auto"},
            "input": {"anyOf": [_TEXT, _list(_TEXT)]},
        },
        "input",
    ),
    "Classified": _object(
        {
            "id": _TEXT,
            "object": {"const": "list"},
            "created": _WHOLE,
            "model": _TEXT,
            "data": _list(
                _object(
                    {
                        **_CLASSIFIED,
                        "answers": ANSWERS,
                        "external_adapter": _TEXT,
                    },
                    *_CLASSIFIED,
                )
            ),
            "usage": _object(
                {
                    "prompt_tokens": _WHOLE,
                    "total_tokens": _WHOLE,
                    "completion_tokens": _WHOLE,
                    "prompt_tokens_details": {"type": "null"},
                }
            ),
        }
    ),
    "GivenRow": _object(
        {"text": _TEXT, "text_pair": _or_null(_TEXT), "choices": _or_null(_list(_TEXT))}, "text"
    ),
    "RowAnswer": _object(
        {
            **_ANSWER_FIELDS,
            "answers": ANSWERS,
            "router": _or_null(_WHOLE),
            "router_digest": _or_null(_TEXT),
        },
        *_ANSWER_REQUIRED,
        "router",
        "router_digest",
    ),
    "SkippedRow": _object({"index": _WHOLE, "skipped": {**_TEXT, "description": "Why."}}),
    "Reloaded": _object(
        {
            "reloaded": _FLAG,
            "state": _WHOLE,
            "router": _or_null(_WHOLE),
            "router_digest": _or_null(_TEXT),
            "backbone_digest": _TEXT,
            "loaded_at": _TEXT,
            "models": _list(_TEXT),
        }
    ),
}


def problems(*statuses: int) -> dict[int | str, Schema]:
    """The problems that a route may answer with."""
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        for status in statuses
    }


def _done(name: str) -> Schema:
    return {"description": "Done.", "content": {"application/json": {"schema": _ref(name)}}}


def answers(name: str, *statuses: int) -> dict[int | str, Schema]:
    """A route that answers with one JSON document, or with a problem."""
    return {200: _done(name), **problems(*statuses)}


_BINARY: Schema = {"type": "string", "format": "binary"}


def infer_answers() -> dict[int | str, Schema]:
    """What ``infer`` answers with: JSON, or JSON and binary data behind it."""
    done = _done("InferResponse")
    done["content"]["application/octet-stream"] = {"schema": _BINARY}
    done["headers"] = {
        LENGTH_HEADER: {
            "description": "Bytes of JSON, where binary data stands behind it.",
            "schema": _WHOLE,
        }
    }
    return {200: done, **problems(*ASKING, 403)}


def line_answers() -> dict[int | str, Schema]:
    """What ``predict`` answers with: one document a line."""
    done = {
        "description": "One line a row, in the rows' order; with `skip_bad` a row that cannot be "
        "answered is a line too. What ends the work early is told in a last line, as a problem.",
        "content": {
            "application/x-ndjson": {
                "schema": {"anyOf": [_ref("RowAnswer"), _ref("SkippedRow"), _ref("Problem")]}
            }
        },
    }
    return {200: done, **problems(*ASKING)}


def _query(name: str, schema: Schema, about: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": about}


DEADLINE: Schema = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Milliseconds after which the request is given up.",
}
INFER_BODY: Schema = {
    "parameters": [
        DEADLINE,
        {
            "name": LENGTH_HEADER,
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 0},
            "description": "Bytes of JSON, where binary data stands behind it.",
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _ref("InferRequest")},
            "application/octet-stream": {"schema": _BINARY},
        },
    },
}
CLASSIFY_BODY: Schema = {
    "parameters": [DEADLINE],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _ref("ClassifyRequest")}},
    },
}
LINES_BODY: Schema = {
    "parameters": [
        DEADLINE,
        _query("task", _TEXT, "The task that answers; default the router's choice."),
        _query("abstain", _FLAG, "Answer unknown to rows that are like no task."),
        _query("fallback", _TEXT, "The task that answers such rows instead."),
        _query("skip_bad", _FLAG, "Leave out rows that cannot be answered."),
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {"schema": _ref("GivenRow")},
            "application/json": {"schema": {"anyOf": [_ref("GivenRow"), _list(_ref("GivenRow"))]}},
        },
    },
}
