"""Answers to completions and chats, whole or in parts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from expertbank.errors import InputError
from expertbank.http.told import parts_of
from expertbank.serving.answered import Answered
from expertbank.workflows.answering.prediction import Prediction

TOLD = ("task", "expert", "expert_digest", "router_digest", "confidence", "unknown")
"""What of an answer's document stands in a choice; of a group its answers too."""


@dataclass(frozen=True, slots=True)
class Shape:
    """In which of the two ways it is answered: names of documents, and where a text stands."""

    prefix: str
    whole: str
    part: str
    chat: bool
    made: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: int = field(default_factory=lambda: int(time.time()))

    def document(self, model: str, choices: Sequence[Mapping[str, Any]], *, part: bool) -> Any:
        """A whole answer, or one event."""
        return {
            "id": f"{self.prefix}-{self.made}",
            "object": self.part if part else self.whole,
            "created": self.at,
            "model": model,
            "choices": list(choices),
        }

    def origin(self, index: int) -> str:
        """What a caller knows a prompt as."""
        return "the conversation" if self.chat else f"prompt {index}"

    def choice(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """One prompt's answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        own = {"message": message} if self.chat else {"text": text}
        return {"index": index, **own, "logprobs": None, "finish_reason": finish}

    def delta(self, index: int, text: str, finish: str | None, *, first: bool) -> dict[str, Any]:
        """A part of it. Clients add parts up, so who speaks is said in the first alone."""
        role = {"role": "assistant"} if first else {}
        own = {"delta": {**role, "content": text}} if self.chat else {"text": text}
        return {"index": index, **own, "logprobs": None, "finish_reason": finish}


def text_of(one: Prediction) -> str:
    """The answer as text; of an expert with a head its label.

    Raises:
        InputError: an adapter elsewhere is to answer.
    """
    if one.external_adapter is not None:
        raise InputError(
            f"prompt {one.index} is for the adapter {one.external_adapter!r} of an engine, which "
            "answers behind this server only where it was started with --engine URL; ask the "
            "engine, or name another model"
        )
    return one.text if one.written is None else one.written


def finish_of(one: Prediction) -> str:
    """Why the text ends: a label is whole."""
    return one.finish or "stop"


def usage_of(found: Answered) -> dict[str, int]:
    """Tokens read and written."""
    written = sum(one.written_tokens for one in found.predictions)
    return {
        "prompt_tokens": found.tokens,
        "completion_tokens": written,
        "total_tokens": found.tokens + written,
    }


def origin_of(one: Prediction, found: Answered) -> dict[str, Any]:
    """Which expert and which router it came from; of a group, whose first is the text, all."""
    return parts_of(one, found.state, (*TOLD, "answers"))
