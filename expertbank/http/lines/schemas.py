"""The OpenAPI document's words for JSON lines."""

from __future__ import annotations

from expertbank.http.schemas import (
    ANSWER_REQUIRED,
    ASKING,
    FLAG,
    TEXT,
    TOLD_FIELDS,
    WHOLE,
    Schema,
    array,
    asking,
    nullable,
    problems,
    record,
    ref,
)

SCHEMAS: dict[str, Schema] = {
    "GivenRow": record(
        {"text": TEXT, "text_pair": nullable(TEXT), "choices": nullable(array(TEXT))}, "text"
    ),
    "RowAnswer": record(TOLD_FIELDS, *ANSWER_REQUIRED, "router", "router_digest"),
    "SkippedRow": record({"index": WHOLE, "skipped": {**TEXT, "description": "Why."}}),
}


def _query(name: str, schema: Schema, about: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": about}


LINES_BODY = asking(
    {
        "application/x-ndjson": {"schema": ref("GivenRow")},
        "application/json": {"schema": {"anyOf": [ref("GivenRow"), array(ref("GivenRow"))]}},
    },
    _query("task", TEXT, "The task that answers; default the router's choice."),
    _query("abstain", FLAG, "Answer unknown to rows that are like no task."),
    _query("fallback", TEXT, "The task that answers such rows instead."),
    _query("skip_bad", FLAG, "Leave out rows that cannot be answered."),
)


def line_answers() -> dict[int | str, Schema]:
    """What ``predict`` answers with: one document a line."""
    done = {
        "description": "One line a row, in the rows' order; with `skip_bad` a row that cannot be "
        "answered is a line too. What ends the work early is told in a last line, as a problem.",
        "content": {
            "application/x-ndjson": {
                "schema": {"anyOf": [ref("RowAnswer"), ref("SkippedRow"), ref("Problem")]}
            }
        },
    }
    return {"200": done, **problems(*ASKING)}
