"""How answers that a language model writes begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from expertbank.errors import InputError
from expertbank.plain import plain, settle
from expertbank.settings import check, setting
from expertbank.texts import is_text

NEW_LINE = "\n"
LONGEST = 65_536
"""Most tokens that an answer may have."""


def _require_text(name: str, *texts: str) -> None:
    for text in texts:
        if not is_text(text):
            raise InputError(f"{name} holds a NUL or bytes that are not UTF-8: {text!r}")


@dataclass(frozen=True, slots=True)
class WritingConfig:
    """How a task's answers are written, where its kind writes them (generation)."""

    response_template: str | None = setting(
        None,
        "What stands between a prompt and its answer (generation). The router reads the prompt "
        "without it.",
        unset="a new line",
    )
    stop: tuple[str, ...] = setting(
        (),
        "Text at which an answer ends, and which is left out of it; repeat it for more "
        "(generation).",
    )
    max_tokens: int | None = setting(
        None,
        "Most tokens of an answer (generation).",
        least=1,
        most=LONGEST,
        unset="those of the longest answer trained on",
    )

    def __post_init__(self) -> None:
        check(self)
        _require_text("response_template", self.template)
        _require_text("stop", *self.stop)

    @property
    def template(self) -> str:
        """What stands between prompt and answer."""
        return NEW_LINE if self.response_template is None else self.response_template

    def over(self, base: WritingConfig) -> WritingConfig:
        """These settings, with ``base`` wherever nothing is given here."""
        return replace(base, **self.given())

    def given(self) -> dict[str, Any]:
        """What is not as it is by default, as plain values."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        default = {item.name: item.default for item in fields(self)}
        return {name: value for name, value in found.items() if value != default[name]}


@dataclass(frozen=True, slots=True)
class Writing:
    """How an expert's answers are written; part of its file.

    Attributes:
        template: text between prompt and answer.
        stop: texts at which an answer ends.
        max_tokens: most tokens of an answer, the one that ends it included.
        head: SHA-256 of the language-model head that it was trained with, see
            ``backbones.language``.
    """

    template: str
    stop: tuple[str, ...]
    max_tokens: int
    head: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        found: dict[str, Any] = plain(self)
        return found

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Writing:
        """Inverse of ``to_dict``.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        template, stop, most, head = (value[item.name] for item in fields(cls))
        texts = (template, head, *stop)
        if not all(isinstance(text, str) for text in texts) or "" in stop or len(value) != 4:
            raise ValueError(f"no way to write: {dict(value)!r}")
        if type(most) is not int or not 1 <= most <= LONGEST:
            raise ValueError(f"answers of at most {most!r} tokens")
        return cls(template, tuple(stop), most, head)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What one caller wants of an answer that is written; by default what the expert has.

    Attributes:
        temperature: 0 takes the likeliest token each time; above it tokens are drawn.
        top_p: draw among the likeliest tokens only, that have this probability together.
        seed: of what is drawn: the same one draws the same answer, whatever else is asked.
        max_tokens: fewer than the expert's, or more; ``None`` for the expert's.
        stop: texts at which the answer ends too.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settle(self, "sampling")
        if not 0 <= self.temperature <= 100:
            raise InputError(f"temperature must be 0 to 100, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not -(2**63) <= self.seed < 2**63:
            raise InputError(f"seed must be a whole number of 64 bits, got {self.seed}")
        if self.max_tokens is not None and not 1 <= self.max_tokens <= LONGEST:
            raise InputError(f"max_tokens must be 1 to {LONGEST}, got {self.max_tokens}")
        if "" in self.stop:
            raise InputError("a stop text must not be empty")
        _require_text("stop", *self.stop)


GREEDY = Sampling()
"""The likeliest token each time."""
FIRST = Sampling(max_tokens=1)
"""The first token alone: how sure an expert is that writes, and all that routing asks of it."""


def end_of(tokenizer: Any) -> int:
    """The token that ends a text.

    Raises:
        InputError: the tokenizer has none.
    """
    for found in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if found is not None:
            return int(found)
    raise InputError("the backbone's tokenizer has no token that ends a text (eos_token)")
