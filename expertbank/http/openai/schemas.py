"""The OpenAPI document's words for requests and answers in words."""

from __future__ import annotations

from expertbank.http.openai.answer import TOLD
from expertbank.http.schemas import (
    ANSWERS,
    ASKING,
    TEXT,
    TOLD_FIELDS,
    WHOLE,
    Schema,
    answers,
    array,
    asking,
    json_body,
    record,
)

_NULL: Schema = {"type": "null"}
_TEXTS: Schema = {"anyOf": [TEXT, array(TEXT)]}
_OPTIONS: Schema = {
    "model": {**TEXT, "default": "auto", "description": "auto, a task or a group."},
    "max_tokens": {**WHOLE, "minimum": 1, "description": "Default the expert's own."},
    "max_completion_tokens": {**WHOLE, "minimum": 1, "description": "Goes before max_tokens."},
    "temperature": {"type": "number", "minimum": 0, "maximum": 100, "default": 0},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1},
    "seed": WHOLE,
    "stop": {**_TEXTS, "description": "At most four, beside the expert's own."},
    "stream": {"type": "boolean", "default": False},
    "stream_options": {
        "type": "object",
        "properties": {"include_usage": {"type": "boolean", "default": False}},
    },
}
_ANSWERED = record({"role": TEXT, "content": TEXT, "refusal": _NULL})
_PART = record({"type": {"const": "text"}, "text": TEXT})
_ASKED = record({"role": TEXT, "content": {"anyOf": [TEXT, array(_PART)]}})
"""A message of a request: its content may come in parts."""
_CHOICE: Schema = {
    "index": WHOLE,
    "logprobs": _NULL,
    "finish_reason": {"enum": ["stop", "length"]},
    **{name: TOLD_FIELDS[name] for name in TOLD},
}
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def _whole(name: str, text: Schema) -> Schema:
    choice = {**_CHOICE, **text}
    of_a_group = {"answers": {**ANSWERS, "description": "Of a group."}}
    return record(
        {
            "id": TEXT,
            "object": {"const": name},
            "created": WHOLE,
            "model": TEXT,
            "choices": array(record({**choice, **of_a_group}, *choice)),
            "usage": {"type": "object", "properties": dict.fromkeys(_COUNTS, WHOLE)},
        }
    )


SCHEMAS: dict[str, Schema] = {
    "CompletionRequest": record({"prompt": _TEXTS, **_OPTIONS}, "prompt"),
    "ChatRequest": record({"messages": array(_ASKED), **_OPTIONS}, "messages"),
    "Completion": _whole("text_completion", {"text": TEXT}),
    "ChatCompletion": _whole("chat.completion", {"message": _ANSWERED}),
}
COMPLETION_BODY = asking(json_body("CompletionRequest"))
CHAT_BODY = asking(json_body("ChatRequest"))


def written(name: str) -> dict[int | str, Schema]:
    """What such a route answers with: one document, or events."""
    found = answers(name, *ASKING)
    found["200"]["content"]["text/event-stream"] = {"schema": TEXT}
    return found
