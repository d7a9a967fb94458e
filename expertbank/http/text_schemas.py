"""Schemas of requests and answers in words, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from expertbank.http import schemas

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_WHOLE: Schema = {"type": "integer"}
_OPTIONS: Schema = {
    "model": {**_TEXT, "default": "auto", "description": "auto, a task or a group."},
    "max_tokens": {**_WHOLE, "minimum": 1, "description": "Default the expert's own."},
    "max_completion_tokens": {**_WHOLE, "minimum": 1, "description": "Goes before max_tokens."},
    "temperature": {"type": "number", "minimum": 0, "maximum": 100, "default": 0},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1},
    "seed": _WHOLE,
    "stop": {**_TEXTS, "description": "At most four, beside the expert's own."},
    "stream": {"type": "boolean", "default": False},
    "stream_options": {
        "type": "object",
        "properties": {"include_usage": {"type": "boolean", "default": False}},
    },
}
_MESSAGE: Schema = {
    "type": "object",
    "properties": {"role": _TEXT, "content": _TEXT},
    "required": ["role", "content"],
}
_ANSWERED: Schema = {
    "type": "object",
    "properties": {**_MESSAGE["properties"], "refusal": {"type": "null"}},
    "required": ["role", "content", "refusal"],
}
_ASKED: Schema = {
    **_MESSAGE,
    "properties": {
        "role": _TEXT,
        "content": {
            "anyOf": [
                _TEXT,
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"type": {"const": "text"}, "text": _TEXT},
                        "required": ["type", "text"],
                    },
                },
            ]
        },
    },
}
"""A message of a request: its content may come in parts."""
_CHOICE: Schema = {
    "index": _WHOLE,
    "logprobs": {"type": "null"},
    "finish_reason": {"enum": ["stop", "length"]},
    "task": _TEXT,
    "expert": _TEXT,
    "expert_digest": _TEXT,
    "router_digest": {"anyOf": [_TEXT, {"type": "null"}]},
    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    "unknown": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
}


def _whole(name: str, text: Schema) -> Schema:
    choice = {**_CHOICE, **text}
    answers = {"answers": {**schemas.ANSWERS, "description": "Of a group."}}
    properties: Schema = {
        "id": _TEXT,
        "object": {"const": name},
        "created": _WHOLE,
        "model": _TEXT,
        "choices": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {**choice, **answers},
                "required": list(choice),
            },
        },
        "usage": {
            "type": "object",
            "properties": dict.fromkeys(
                ("prompt_tokens", "completion_tokens", "total_tokens"), _WHOLE
            ),
        },
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


SCHEMAS: Schema = {
    "CompletionRequest": {
        "type": "object",
        "properties": {"prompt": _TEXTS, **_OPTIONS},
        "required": ["prompt"],
    },
    "ChatRequest": {
        "type": "object",
        "properties": {"messages": {"type": "array", "items": _ASKED}, **_OPTIONS},
        "required": ["messages"],
    },
    "Completion": _whole("text_completion", {"text": _TEXT}),
    "ChatCompletion": _whole("chat.completion", {"message": _ANSWERED}),
}


def answers(name: str) -> dict[int | str, Schema]:
    """What such a route answers with: one document, or events."""
    found = schemas.answers(name, *schemas.ASKING)
    found[200]["content"]["text/event-stream"] = {"schema": _TEXT}
    return found


def _body(name: str) -> Schema:
    return {
        "parameters": [schemas.DEADLINE],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
        },
    }


COMPLETION_BODY = _body("CompletionRequest")
CHAT_BODY = _body("ChatRequest")
