"""What of a request to a language model is routed by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expertbank.http.documents import kind_of, texts
from expertbank.http.openai.request import stops_of
from expertbank.http.problems import malformed
from expertbank.writing import Writing

NAME_ONE = "name a model to send it on as it is"


def of_completion(asked: Mapping[str, Any]) -> list[str]:
    """The prompts of ``/v1/completions``.

    Raises:
        RefusedError: they are no texts; token ids say nothing to the router.
    """
    prompt = asked.get("prompt")
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(first, int | list):
        raise malformed(f"'prompt' holds token ids, which cannot be routed; {NAME_ONE}")
    return texts(prompt, "'prompt'")


def of_chat(asked: Mapping[str, Any]) -> list[str]:
    """The text of a chat's last message from its user: what is to be answered.

    Instructions to the system are mostly the same whatever is asked, and say nothing of the task.

    Raises:
        RefusedError: no such message, or none with text.
    """
    messages = asked.get("messages")
    if not isinstance(messages, list):
        raise malformed(f"'messages' must be an array, got {kind_of(messages)}")
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            text = _text_of(message.get("content"))
            if text:
                return [text]
            raise malformed(f"the user's last message holds no text to route by; {NAME_ONE}")
    raise malformed(f"'messages' holds no message of the user to route by; {NAME_ONE}")


def as_trained(asked: Mapping[str, Any], writing: Writing) -> dict[str, Any]:
    """A request of ``/v1/completions`` as an expert that writes was trained on it.

    Callers do not know which expert that will be, so they cannot put its response template behind
    their prompt. Its stop texts are stopped at besides theirs; of tokens it writes the most that
    it was trained on, unless they say how many.

    Args:
        asked: the request, whose prompts are texts.
        writing: how the expert's answers are written.

    Raises:
        RefusedError: its stop texts are none.
    """
    prompt, stops, most = asked["prompt"], stops_of(asked), asked.get("max_tokens")
    told = {**asked, "max_tokens": writing.max_tokens if most is None else most}
    if isinstance(prompt, str):
        told["prompt"] = prompt + writing.template
    else:
        told["prompt"] = [one + writing.template for one in prompt]
    if writing.stop:
        told["stop"] = [*writing.stop, *stops]
    return told


def _text_of(content: Any) -> str:
    """A message's text: itself, or its parts of text in order."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    found = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in found if isinstance(text, str))
