"""Words of the OpenAPI document that every protocol uses: kinds of value, problems, bodies."""

from __future__ import annotations

from typing import Any

from expertbank.http.problems import KINDS, MEDIA_TYPE

ASKING = (400, 404, 408, 413, 415, 422, 429, 500, 503, 504)
"""Problems that whoever asks for answers may meet."""
Schema = dict[str, Any]


def record(properties: dict[str, Schema], *required: str) -> Schema:
    """An object; without names of what it must have, it has all."""
    names = list(required) if required else list(properties)
    return {"type": "object", "properties": properties, "required": names}


def array(items: Schema) -> Schema:
    """As many of these as there are."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """The schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
ANY: Schema = {"type": "object", "additionalProperties": True}


def nullable(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


ANSWER_FIELDS: dict[str, Schema] = {
    "index": WHOLE,
    "task": TEXT,
    "expert": TEXT,
    "confidence": SHARE,
    "unknown": nullable(FLAG),
    "unknown_score": nullable(NUMBER),
    "unknown_p_value": nullable(NUMBER),
    "abstained": FLAG,
    "truncated": FLAG,
    "label": {"type": ["string", "number", "null"]},
    "scores": {"type": "object", "additionalProperties": SHARE},
    "choice": WHOLE,
    "labels": array(TEXT),
    "text": TEXT,
    "finish": {"enum": ["stop", "length"]},
    "external_adapter": TEXT,
    "thresholds": {"type": "object", "additionalProperties": NUMBER},
    "expert_digest": TEXT,
}
_SOMETIMES = {"choice", "labels", "text", "finish", "external_adapter", "thresholds"}
ANSWER_REQUIRED = tuple(name for name in ANSWER_FIELDS if name not in _SOMETIMES)
ANSWERS: Schema = array(record(ANSWER_FIELDS, *ANSWER_REQUIRED))
"""The answers of a group's tasks."""
TOLD_FIELDS: dict[str, Schema] = {
    **ANSWER_FIELDS,
    "answers": ANSWERS,
    "router": nullable(WHOLE),
    "router_digest": nullable(TEXT),
}
"""What stands in the document of an answer; some protocols tell only a part of it."""
PROBLEM: Schema = record(
    {
        "type": {"type": "string", "format": "uri"},
        "title": TEXT,
        "status": WHOLE,
        "detail": {**TEXT, "description": "One sentence."},
        "instance": {"type": "string", "format": "uri"},
        "code": {**WHOLE, "description": "Exit code of the command line for the same."},
        "meaning": {**TEXT, "description": "What that code means."},
        "error": {
            "type": ["string", "object"],
            "description": "The sentence again, for protocol clients; under `/v1/` as OpenAI "
            "has it: `message`, `type`, `param` and `code`.",
        },
    }
)


def problems(*statuses: int) -> dict[int | str, Schema]:
    """The problems that a route may answer with."""
    return {
        str(status): {
            "description": KINDS[status].meaning,
            "content": {MEDIA_TYPE: {"schema": ref("Problem")}},
        }
        for status in statuses
    }


def json_body(name: str) -> Schema:
    """A body of this schema."""
    return {"application/json": {"schema": ref(name)}}


def answers(name: str, *statuses: int) -> dict[int | str, Schema]:
    """A route that answers with one JSON document, or with a problem."""
    return {"200": {"description": "Done.", "content": json_body(name)}, **problems(*statuses)}


DEADLINE: Schema = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Milliseconds after which the request is given up.",
}


def asking(content: Schema, *parameters: Schema) -> Schema:
    """A route that takes such bodies, and a deadline.

    Args:
        content: schemas by media type.
        parameters: more that it takes.
    """
    body = {"required": True, "content": content}
    return {"parameters": [DEADLINE, *parameters], "requestBody": body}
