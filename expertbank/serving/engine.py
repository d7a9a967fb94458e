"""Which adapter of an engine a request is for: its content is routed, and the name is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from expertbank.errors import InputError
from expertbank.records import Row
from expertbank.serving.answered import Answered
from expertbank.serving.asking import AUTO, Ask
from expertbank.texts import fits_a_header
from expertbank.writing import Writing


@dataclass(frozen=True, slots=True)
class Chosen:
    """The adapter that content was sent to.

    Attributes:
        task: the task that the router chose; of a group the first one.
        model: what the engine calls its adapter.
        confidence: the router's probability of it; of several texts the least.
        unknown: whether a text is like no task; ``None`` where that cannot be told.
        writing: how answers of the expert that was chosen are written, if it writes.
    """

    task: str
    model: str
    confidence: float
    unknown: bool | None
    writing: Writing | None = None


@dataclass(frozen=True, slots=True)
class Engine:
    """A server of models, with an adapter for each of a bank's tasks.

    Attributes:
        url: where it is, such as ``http://host:8000``; without a slash at its end.
        names: task to the name of its adapter there, where that is neither the one that the bank
            was told of an expert answered elsewhere, nor the task's own.
    """

    url: str
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, url: str, names: Sequence[str] = ()) -> Engine:
        """An engine by its address and pairs ``TASK=NAME``.

        Raises:
            InputError: no address of HTTP, or a pair that is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise InputError(f"--engine {url!r}: expected an address such as http://host:8000")
        if parts.username or parts.password:
            raise InputError("--engine holds no user or password; callers send the engine's key")
        found: dict[str, str] = {}
        for pair in names:
            task, _, name = pair.partition("=")
            if not task or not name or task in found:
                raise InputError(f"--engine-model {pair!r}: expected TASK=NAME, once for each task")
            if not fits_a_header(name):  # where answers name it
                raise InputError(f"--engine-model {pair!r}: a name is printable ASCII")
            found[task] = name
        return cls(url.rstrip("/").removesuffix("/v1"), found)

    def asks(self, texts: Sequence[str]) -> Ask:
        """What the bank is asked, to know where texts go."""
        rows = tuple(Row(text, origin=f"prompt {place}") for place, text in enumerate(texts))
        return Ask(rows, AUTO, only_routed=True)

    def chosen(self, answered: Answered) -> Chosen:
        """The adapter that all texts of a request are for.

        Raises:
            InputError: they are for several, which no engine answers in one request.
        """
        lines = answered.predictions
        tasks = list(dict.fromkeys(line.task for line in lines))
        if len(tasks) > 1:
            raise InputError(
                f"the prompts of this request are for {len(tasks)} adapters "
                f"({', '.join(tasks[:5])}); send them one by one, or name a model"
            )
        known = [line.unknown for line in lines if line.unknown is not None]
        return Chosen(
            tasks[0],
            self.names.get(tasks[0], lines[0].external_adapter or tasks[0]),
            min(line.confidence for line in lines),
            any(known) if known else None,
            answered.state.writings.get(lines[0].expert_digest),
        )
