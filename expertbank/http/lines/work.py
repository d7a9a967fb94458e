"""One request for many rows, while it is answered: slice after slice, line after line."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fastapi import Request

from expertbank.errors import DataError, ExpertBankError, InputError
from expertbank.http.asking import awaited, deadline_of
from expertbank.http.documents import encode
from expertbank.http.lines.query import Options
from expertbank.http.problems import malformed
from expertbank.http.seen import failed, tell
from expertbank.http.told import document_of
from expertbank.records import Row
from expertbank.serving.errors import QueueFullError, TooLargeError
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server
from expertbank.workflows.answering.prediction import Prediction

Numbered = tuple[int, Row]
"""A row and its place in the body, from 0."""
Placed = tuple[int, bytes]
"""A line of the answer and the place of its row."""


def kept(
    found: Sequence[Row | InputError], options: Options
) -> tuple[list[Numbered], dict[int, str]]:
    """The rows that can be asked, and what is wrong with the others.

    Raises:
        RefusedError: one of them is no JSON, and bad rows are not to be skipped.
        InputError: one of them is no row, likewise.
    """
    rows: list[Numbered] = []
    skipped: dict[int, str] = {}
    for index, one in enumerate(found):
        if isinstance(one, Row):
            rows.append((index, one))
        elif options.skip_bad:
            skipped[index] = str(one)
        elif isinstance(one, DataError) and one.fault == "JSON":
            raise malformed(str(one))
        else:
            raise one
    return rows, skipped


@dataclass(slots=True)
class Work:
    """One request while it is answered, slice after slice, all of them by one state.

    A deadline that the caller named is the whole request's, the server's own each slice's: files of
    any size are answered.
    """

    server: Server
    request: Request
    options: Options
    state: ServingState
    deadline: float | None = None

    def cut(self, rows: Sequence[Numbered]) -> list[Sequence[Numbered]]:
        """The rows in slices that are asked one after the other."""
        size = self.server.config.max_rows
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    async def stream(
        self,
        first: Sequence[Placed],
        rest: Sequence[Sequence[Numbered]],
        skipped: Mapping[int, str],
    ) -> AsyncIterator[bytes]:
        """Lines in the rows' order, each slice's while the next is answered."""
        left = deque((index, _skipped(index, why)) for index, why in sorted(skipped.items()))
        coming: asyncio.Future[list[Placed]] | None = None
        answered = first
        try:
            for following in rest:
                coming = asyncio.ensure_future(self.lines(following, patient=True))
                for line in _with_skipped(answered, left):
                    yield line
                answered = await coming
            for line in _with_skipped(answered, left):
                yield line
            for _, line in left:
                yield line
        except Exception as error:  # noqa: BLE001 (the status was sent long ago)
            problem = failed(self.request.scope, error, self.server.state)
            yield encode(problem.to_dict(self.request.state.request_id)) + b"\n"
        finally:
            if coming is not None:
                coming.cancel()

    async def lines(self, rows: Sequence[Numbered], patient: bool = False) -> list[Placed]:
        """The lines of one slice.

        Args:
            rows: of the slice.
            patient: wait for room in a full queue, up to the deadline.

        Raises:
            ExpertBankError: as ``awaited``.
        """
        ask = self.options.ask(row for _, row in rows)
        deadline = self.deadline or deadline_of(self.request, self.server.config.deadline_ms)
        while True:
            try:
                answered = await awaited(self.server, ask, deadline, self.state)
                break
            except QueueFullError as error:
                pause = min(max(error.retry_after, 0.01), 1.0)
                if not patient or time.monotonic() + pause > deadline:
                    raise
                await asyncio.sleep(pause)
            except TooLargeError:
                raise
            except InputError as error:
                if not self.options.skip_bad:
                    raise
                return await self._without_bad(rows, error, patient)
        tell(self.request.scope, answered, ask.rows)
        return [
            (index, _line(prediction, index, answered.state))
            for prediction, (index, _) in zip(answered.predictions, rows, strict=True)
        ]

    async def _without_bad(
        self, rows: Sequence[Numbered], error: ExpertBankError, patient: bool
    ) -> list[Placed]:
        """The lines of a slice that holds a row which cannot be answered: by halves."""
        if len(rows) == 1:
            return [(rows[0][0], _skipped(rows[0][0], str(error)))]
        middle = len(rows) // 2
        return [
            *await self.lines(rows[:middle], patient),
            *await self.lines(rows[middle:], patient),
        ]


def _line(prediction: Prediction, index: int, state: ServingState) -> bytes:
    placed = replace(
        prediction,
        index=index,
        answers=tuple(replace(one, index=index) for one in prediction.answers),
    )
    return encode(document_of(placed, state)) + b"\n"


def _with_skipped(answered: Iterable[Placed], left: deque[Placed]) -> Iterator[bytes]:
    """Lines of answers, and of the skipped rows before them, which are taken from ``left``."""
    for index, line in answered:
        while left and left[0][0] < index:
            yield left.popleft()[1]
        yield line


def _skipped(index: int, why: str) -> bytes:
    return encode({"index": index, "skipped": why}) + b"\n"
