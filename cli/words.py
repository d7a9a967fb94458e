"""The words of a command: where its global options stand, and what is text."""

from __future__ import annotations

from itertools import zip_longest

from expertbank.config import DEFAULT_TRIALS
from expertbank.errors import InputError

TUNE = "--tune"
_FLAGS = ("--json", "--quiet")
_VALUED = ("--home", "--device")
GLOBALS = {*_FLAGS, *_VALUED}
"""Options that every command takes."""


def split_globals(words: list[str]) -> tuple[list[str], list[str]]:
    """The global options, each with its value in one word, and all other words.

    Raises:
        InputError: a global option without its value.
    """
    end = words.index("--") if "--" in words else len(words)
    words = [*_with_numbers(words[:end]), *words[end:]]
    end = words.index("--") if "--" in words else len(words)
    front, rest, left = [], [], iter(words[:end])
    for word in left:
        if word in _FLAGS or word.startswith(tuple(f"{option}=" for option in _VALUED)):
            front.append(word)
        elif word in _VALUED:
            value = next(left, None)
            if value is None:
                raise InputError(f"{word} needs a value")
            front.append(f"{word}={value}")
        else:
            rest.append(word)
    return front, rest + words[end:]


def _with_numbers(words: list[str]) -> list[str]:
    """``--tune`` may stand alone."""
    found = []
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        found.append(f"{word}={DEFAULT_TRIALS}" if word == TUNE and not after.isdecimal() else word)
    return found
