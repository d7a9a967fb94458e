"""Clients for the benchmark of serving: many connections, few instructions a request.

``closed`` asks again as soon as it is answered, which finds the most that a server does; ``open``
asks at moments drawn beforehand, whether or not earlier answers came, and counts from these, so
that a slow answer is not hidden by the questions that it held back.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """An answer: status (0 where the connection broke), body, and seconds it took."""

    status: int
    body: bytes
    seconds: float


@dataclass
class Connection:
    """One connection of HTTP/1.1 that is kept open and made anew when it breaks."""

    url: str
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes, kind: str = "application/json") -> Reply:
        """Send a body and read the answer."""
        return await self.send("POST", path, body, kind)

    async def send(self, method: str, path: str, body: bytes = b"", kind: str = "") -> Reply:
        """Send a request and read the answer."""
        started = time.perf_counter()
        try:
            if self.writer is None:
                where = urlsplit(self.url)
                self.reader, self.writer = await asyncio.open_connection(where.hostname, where.port)
            head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n"
            head += f"Content-Type: {kind}\r\n\r\n" if kind else "\r\n"
            self.writer.write(head.encode() + body)
            status, found = await self._read()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return Reply(0, b"", time.perf_counter() - started)
        return Reply(status, found, time.perf_counter() - started)

    async def _read(self) -> tuple[int, bytes]:
        assert self.reader is not None
        head = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        names = dict(line.lower().split(b": ", 1) for line in head[1:] if b": " in line)
        if names.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            body = await self.reader.readexactly(int(names.get(b"content-length", b"0")))
        if names.get(b"connection") == b"close":
            self.close()
        return int(head[0].split()[1]), body

    def close(self) -> None:
        """Let go of it; the next request makes it anew."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


@dataclass
class Load:
    """What came back, how long it all took, and how many requests were under way at once."""

    replies: list[Reply] = field(default_factory=list)
    seconds: float = 0.0
    most: int = 0

    def with_status(self, *statuses: int) -> list[Reply]:
        """Answers with one of these."""
        return [reply for reply in self.replies if reply.status in statuses]

    def rate(self, rows: int = 1) -> float:
        """Rows answered a second."""
        return rows * len(self.with_status(200)) / self.seconds

    def quantile(self, share: float, *statuses: int) -> float:
        """Seconds that such a share of the answers took at most."""
        taken = sorted(reply.seconds for reply in self.with_status(*(statuses or (200,))))
        return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else float("nan")


def body_of(texts: Sequence[str], **parameters: object) -> bytes:
    """A request of the Open Inference Protocol."""
    entry = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    return json.dumps({"inputs": [entry], "parameters": parameters}).encode()


async def closed(url: str, path: str, bodies: Sequence[bytes], clients: int) -> Load:
    """All bodies once, by so many clients at a time."""
    load, left = Load(), iter(bodies)
    started = time.perf_counter()

    async def client() -> None:
        connection = Connection(url)
        for body in left:
            load.replies.append(await connection.post(path, body))
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    return load


async def open_loop(
    url: str, path: str, body: Callable[[], bytes], rate: float, seconds: float, seed: int
) -> Load:
    """Requests at the moments of a Poisson process; each takes an idle connection or a new one."""
    rng, load, idle = random.Random(seed), Load(), list[Connection]()
    under_way: set[asyncio.Task[None]] = set()
    started = time.perf_counter()

    async def one(due: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        reply = await connection.post(path, body())
        load.replies.append(Reply(reply.status, reply.body, time.perf_counter() - due))
        idle.append(connection)

    due = started
    while (due := due + rng.expovariate(rate)) < started + seconds:
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        task = asyncio.create_task(one(due))
        under_way.add(task)
        load.most = max(load.most, len(under_way))
        task.add_done_callback(under_way.discard)
    # What was answered by now counts; the rest is waited for and told, not counted as goodput.
    load.seconds = time.perf_counter() - started
    if under_way:
        await asyncio.wait(under_way, timeout=60)
    for connection in idle:
        connection.close()
    return load
