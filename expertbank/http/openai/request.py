"""Requests for completions and chats: what is read of them, and what is refused."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expertbank.errors import InputError
from expertbank.http.documents import among, json_object, optional, texts
from expertbank.http.problems import malformed
from expertbank.serving.asking import AUTO
from expertbank.writing import LONGEST, Sampling

_READ = frozenset(
    {"model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature"}
    | {"top_p", "seed", "stop", "stream", "stream_options", "user"}
)
_IDLE: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "metadata": ({},),
    "response_format": ({"type": "text"},),
}
"""Fields that change nothing with these values; with others they are not supported."""
_IDLE_IN_CHAT: Mapping[str, tuple[Any, ...]] = {
    # Of plain prompts it is how many besides the token's own, and 0 asks for that one.
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "modalities": (["text"],),
}
"""More of them in conversations."""
_STOPS = 4
"""Most stop texts of one request, as at OpenAI."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request.

    Attributes:
        model: ``auto``, a task or a group.
        sampling: how to write.
        seeded: whether the caller gave the seed.
        stream: whether as events.
        usage: whether the last event counts tokens.
    """

    model: str
    sampling: Sampling
    seeded: bool
    stream: bool
    usage: bool


def wanted_of(asked: Mapping[str, Any], *, chat: bool) -> Wanted:
    """What a request wants.

    Raises:
        RefusedError: a field that is not supported, is not what it should be, or is out of bounds.
    """
    idle = {**_IDLE, **_IDLE_IN_CHAT} if chat else _IDLE
    for name, value in asked.items():
        if name not in _READ and value is not None and not among(value, idle.get(name, ())):
            raise malformed(f"{name[:40]!r} is not supported here; leave it out")
    newer = optional(asked.get("max_completion_tokens"), int, "'max_completion_tokens'")
    older = optional(asked.get("max_tokens"), int, "'max_tokens'")
    if newer is not None and not 1 <= newer <= LONGEST:
        raise malformed(f"max_completion_tokens must be 1 to {LONGEST}, got {newer}")
    stops = stops_of(asked)
    if len(stops) > _STOPS:
        raise malformed(f"'stop' may hold {_STOPS} texts, and holds {len(stops)}")
    options = optional(asked.get("stream_options"), dict, "'stream_options'") or {}
    temperature, top_p = _number(asked, "temperature", 0.0), _number(asked, "top_p", 1.0)
    given = optional(asked.get("seed"), int, "'seed'")
    seed = secrets.randbits(63) if given is None else given  # who draws twice wants two answers
    try:
        most = older if newer is None else newer
        sampling = Sampling(temperature, top_p, seed, most, tuple(stops))
    except InputError as error:
        raise malformed(str(error)) from error
    return Wanted(
        optional(asked.get("model"), str, "'model'") or AUTO,
        sampling,
        given is not None,
        optional(asked.get("stream"), bool, "'stream'") or False,
        optional(options.get("include_usage"), bool, "'include_usage'") or False,
    )


def messages_of(value: object) -> list[dict[str, str]]:
    """The messages of a conversation.

    Raises:
        RefusedError: something else; parts that are not text.
    """
    if not isinstance(value, list) or not value:
        raise malformed("'messages' must be an array of messages, at least one")
    found = []
    for number, one in enumerate(value):
        message = json_object(one, f"messages[{number}]")
        role = optional(message.get("role"), str, f"messages[{number}]: 'role'")
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(_part(part, f"messages[{number}]: 'content'") for part in content)
        if not role or not isinstance(content, str):
            raise malformed(f"messages[{number}] must have a 'role' and a 'content' of text")
        found.append({"role": role, "content": content})
    return found


def stops_of(asked: Mapping[str, Any]) -> list[str]:
    """The texts at which a caller wants answers to end; none where nothing is said.

    Raises:
        RefusedError: something else.
    """
    stop = asked.get("stop")
    return [] if stop in (None, "", []) else texts(stop, "'stop'")


def _part(value: object, what: str) -> str:
    """The text of one part of a message."""
    part = json_object(value, what)
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, str):
        raise malformed(f"{what}: only parts of text are read: type 'text' with a 'text'")
    return text


def _number(asked: Mapping[str, Any], name: str, default: float) -> float:
    value = asked.get(name)
    if value is None:
        return default
    if type(value) not in {int, float} or not abs(value) <= sys.float_info.max:
        raise malformed(f"{name!r} must be a number")
    return float(value)
