"""How `expertbank serve` does: at saturation, at half load, overloaded, reloading, and over time.

Run it with: OMP_NUM_THREADS=1 python examples/benchmarks/serving.py [PART ...] [--tiny]

Parts: throughput latency overload reload soak; default all. The server runs in a process of its own
with the threads of ``OMP_NUM_THREADS``, its clients in this one: leave them a core. ``throughput``,
``latency`` and ``overload`` use all-MiniLM-L6-v2, as weights matter there, unless ``--tiny`` is
given; ``reload`` and ``soak`` a tiny BERT. Every table is from one run, and what is compared runs
in turn. The experts are real ones, of a bank that is made first from made-up rows.

``soak`` injects, one after the other: clients that leave in the middle of a request, half-open
connections, a locked database, a damaged expert, kill -9 with a restart, and a full disk under the
log. A row counts as wrong if its answer is not that of `predict` under the router it names.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import importlib.util
import json
import os
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import torch
from http_load import Connection, Load, Reply, body_of, closed, open_loop
from machine import describe

from expertbank import Bank, TrainConfig
from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.running import call_backbone
from expertbank.config import DEFAULT_BACKBONE
from expertbank.records import EncodedRow
from expertbank.serving.asking import Ask
from expertbank.serving.errors import QueueFullError
from expertbank.serving.from_bank import BankSource
from expertbank.serving.server import Server
from expertbank.workflows.home import DATABASE

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from tiny import WORDS, build

HERE = Path(__file__).parent
INFER = "/v2/models/auto/infer"
CLIENTS = 64
PER_REQUEST = 32
"""Rows of a large request."""


# -- a bank, and processes that serve it -------------------------------------------------------


def make_bank(home: Path, backbone: str, tasks: int, length: int, seed: int) -> list[str]:
    """A bank of small experts and two routers, the first without the last task; texts to ask."""
    with Bank.open(home, backbone=backbone) as bank:
        bank.init(max_length=length)
        for number in range(tasks):
            data = home.parent / f"task{number}.csv"
            with data.open("w", encoding="utf-8", newline="") as file:
                rows = [
                    (text, ("no", "yes")[place % 2])
                    for place, text in enumerate(texts(24, seed + 1, tasks, number))
                ]
                csv.writer(file).writerows([("text", "label"), *rows])
            bank.add(f"task{number}", data=data, train=TrainConfig(epochs=1, seed=seed))
            if number >= tasks - 2:
                bank.retrain_router()
    return texts(512, seed, tasks)


def texts(count: int, seed: int, tasks: int, only: int | None = None) -> list[str]:
    """Texts of 8 to 44 words whose first ones tell their task."""
    rng, found = random.Random(f"{seed} {only}"), []
    for place in range(count):
        own = random.Random(place % tasks if only is None else only).choices(WORDS, k=4)
        found.append(" ".join([*own, *rng.choices(WORDS, k=rng.randint(4, 40))]))
    return found


@dataclass
class Process:
    """A server in a process of its own."""

    words: list[str]
    log: Path
    url: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self, full_disk: bool = False) -> None:
        """Start it and wait until it is ready."""
        out = open("/dev/full" if full_disk else self.log, "ab")  # noqa: SIM115 (the child's)
        # The other servers share code with the benchmarks here.
        paths = filter(None, [str(HERE), os.environ.get("PYTHONPATH")])
        self.process = subprocess.Popen(
            self.words,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        out.close()
        while not self.ready():
            if self.process.poll() is not None:
                raise SystemExit(f"{self.words} ended: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether it answers; of other servers, which have no such route, that is enough."""
        where = urlsplit(self.url)
        try:
            with socket.create_connection((where.hostname, where.port), timeout=5) as made:
                made.sendall(b"GET /v2/health/ready HTTP/1.0\r\n\r\n")
                return made.recv(64).split(b" ")[1:2] not in ([b"503"], [])
        except OSError:
            return False

    def memory(self) -> float:
        """Resident MiB of it and its children."""
        assert self.process is not None
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()
        return sum(resident(int(pid)) for pid in [self.process.pid, *children])

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)


def resident(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            kib = [int(line.split()[1]) for line in file if line.startswith("VmRSS")]
    except OSError:
        return 0.0
    return sum(kib) / 1024


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(home: Path, *words: object) -> Iterator[Process]:
    """`expertbank serve` over a bank."""
    port = free_port()
    command = [sys.executable, "-m", "expertbank_cli.main", "--home", str(home), "serve"]
    command += ["--port", str(port), *map(str, words)]
    with started(
        Process(command, home.parent / f"serve-{port}.log", f"http://127.0.0.1:{port}")
    ) as p:
        yield p


@contextlib.contextmanager
def other(name: str, home: Path) -> Iterator[Process]:
    port = free_port()
    command = [sys.executable, str(HERE / "others" / f"{name}_server.py"), str(home), str(port)]
    log = home.parent / f"{name}-{port}.log"
    with started(Process(command, log, f"http://127.0.0.1:{port}")) as made:
        yield made


@contextlib.contextmanager
def started(process: Process) -> Iterator[Process]:
    process.start()
    try:
        yield process
    finally:
        process.stop()


# -- throughput --------------------------------------------------------------------------------


def throughput(home: Path, rows: Sequence[str], options: argparse.Namespace) -> None:
    """Rows a second at saturation, all ways in turn."""
    rows = list(rows)[: options.rows]
    single = [body_of([row]) for row in rows]
    large = [body_of(rows[at : at + PER_REQUEST]) for at in range(0, len(rows), PER_REQUEST)]
    print(
        f"\n## Throughput: {len(rows)} rows a round, {options.rounds} rounds, {CLIENTS} clients\n"
    )
    with contextlib.ExitStack() as stack:
        bank = stack.enter_context(Bank.open(home, read_only=True))
        predictor = bank.predictor()
        core = Server(BankSource(bank))
        core.start()
        stack.callback(core.stop)
        core.wait_ready()
        ours = stack.enter_context(serving(home))
        ways: dict[str, Callable[[], float]] = {
            "`predict`": lambda: timed(lambda: list(predictor.predict(rows)), len(rows)),
            f"core, {PER_REQUEST} rows a request": lambda: in_process(core, rows),
            f"HTTP, {PER_REQUEST} rows a request": lambda: over_http(
                ours, INFER, large, PER_REQUEST
            ),
            "HTTP, one row a request": lambda: over_http(ours, INFER, single, 1),
        }
        asked = [
            json.dumps({"text": row, "task": f"task{n % options.tasks}"}).encode()
            for n, row in enumerate(rows)
        ]
        for name, told in (
            ("peft", "FastAPI and PEFT `set_adapter`, one row a request"),
            ("litserve", "LitServe over `predict`, one row a request"),
        ):
            if importlib.util.find_spec(name) is None:
                print(f"{name} is not installed: left out\n")
                continue
            process = stack.enter_context(other(name, home))
            ways[told] = lambda process=process: over_http(process, "/predict", asked, 1)
        found: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.rounds + 1):
            for name, way in ways.items():
                rate = way()
                if turn:  # the first round warms up
                    found[name].append(rate)
    print("| way | rows/s | beside `predict` |\n|---|---|---|")
    base = found["`predict`"]
    for name, rates in found.items():
        ratio = statistics.median(a / b for a, b in zip(rates, base, strict=True))
        print(f"| {name} | {statistics.median(rates):,.0f} | {ratio:.2f} |", flush=True)


def timed(work: Callable[[], object], rows: int) -> float:
    begun = time.perf_counter()
    work()
    return rows / (time.perf_counter() - begun)


def in_process(core: Server, rows: Sequence[str]) -> float:
    """Rows a second through the queue, as full as it will be."""
    from expertbank.data import as_rows

    def work() -> None:
        futures = []
        for at in range(0, len(rows), PER_REQUEST):
            ask = Ask(tuple(as_rows(rows[at : at + PER_REQUEST])))
            while True:
                try:
                    futures.append(core.submit(ask))
                    break
                except QueueFullError:
                    time.sleep(0.002)
        for future in futures:
            future.result()

    return timed(work, len(rows))


def over_http(process: Process, path: str, bodies: Sequence[bytes], rows: int) -> float:
    load = asyncio.run(closed(process.url, path, bodies, CLIENTS))
    odd = [reply for reply in load.replies if reply.status not in {200, 429}]
    if odd:
        raise SystemExit(f"{process.words}: {odd[0].status} {odd[0].body[:300]!r}")
    return load.rate(rows)


# -- latency -----------------------------------------------------------------------------------


def latency(home: Path, rows: Sequence[str], options: argparse.Namespace) -> None:
    """Milliseconds at half of the most, arrivals as they come, beside the bare model's."""
    bare = bare_times(home, rows)
    base = statistics.median(bare)
    bodies = [body_of([row]) for row in rows]
    rng = random.Random(options.seed)
    with serving(home) as process:
        most = capacity(process, bodies)
        alone = asyncio.run(closed(process.url, INFER, bodies[:100], 1))
        load = asyncio.run(
            open_loop(process.url, INFER, lambda: rng.choice(bodies), most / 2, options.seconds, 0)
        )
    failed = len(load.replies) - len(load.with_status(200))
    print(
        f"\n## Latency of one row: {most / 2:.0f} requests a second, half of {most:.0f}, for "
        f"{options.seconds:.0f} s ({len(load.replies):,} requests, {failed} without an answer)\n\n"
        "| way | p50, ms | p99, ms | p50, bare = 1 | p99, bare p50 = 1 |\n|---|---|---|---|---|"
    )
    for name, middle, slow in (
        ("bare model", base, sorted(bare)[int(0.99 * len(bare))]),
        ("HTTP, one client", alone.quantile(0.5), alone.quantile(0.99)),
        ("HTTP, half load", load.quantile(0.5), load.quantile(0.99)),
    ):
        figures = f"{1e3 * middle:.1f} | {1e3 * slow:.1f} | {middle / base:.2f} | {slow / base:.2f}"
        print(f"| {name} | {figures} |", flush=True)


def bare_times(home: Path, rows: Sequence[str]) -> list[float]:
    """Seconds of the backbone alone for single rows, tokens made before."""
    with Bank.open(home, read_only=True) as bank:
        record = bank.backbone()
    assert record is not None
    backbone = load_backbone(record.reference)
    length, taken = record.feature_spec.max_length, []
    for place, text in enumerate(rows[:200]):
        ids = tuple(backbone.tokenizer(text, truncation=True, max_length=length)["input_ids"])
        row = EncodedRow((ids,), ((0,) * len(ids),))
        batch = collate([row], [0], backbone.tokenizer.pad_token_id, backbone.device)
        begun = time.perf_counter()
        with torch.inference_mode():
            call_backbone(backbone, batch)
        if place >= 20:
            taken.append(time.perf_counter() - begun)
    return taken


def capacity(process: Process, bodies: Sequence[bytes]) -> float:
    """The most requests of one row a second, of three rounds after one that warms up."""
    rates = [asyncio.run(closed(process.url, INFER, bodies, CLIENTS)).rate() for _ in range(4)]
    return max(rates[1:])


# -- overload ----------------------------------------------------------------------------------


def overload(home: Path, rows: Sequence[str], options: argparse.Namespace) -> None:
    """Twice as many requests as can be answered, three times over; figures are of the first."""
    bodies = [body_of([row]) for row in rows]
    rng = random.Random(options.seed)
    loads, memory = list[Load](), list[float]()
    with serving(home, "--queue-rows", options.queue, "--max-rows", PER_REQUEST) as process:
        most = capacity(process, bodies)
        memory.append(process.memory())
        for turn in range(3):
            asked = open_loop(
                process.url, INFER, lambda: rng.choice(bodies), 2 * most, options.seconds, turn + 1
            )
            loads.append(asyncio.run(asked))
            memory.append(process.memory())
    load = loads[0]
    statuses = Counter(reply.status for reply in load.replies)
    print(
        f"\n## Overload: {2 * most:.0f} requests a second, twice {most:.0f}, for "
        f"{options.seconds:.0f} s, queue of {options.queue} rows\n\n"
        "| goodput beside the most | refused | refused within, p99 | answered within, p99 "
        "| other statuses | at once, most | memory before and after each, MiB |\n"
        "|---|---|---|---|---|---|---|\n"
        f"| {load.rate() / most:.2f} | {statuses[429] / len(load.replies):.2f} of all "
        f"| {1e3 * load.quantile(0.99, 429):.0f} ms | {1e3 * load.quantile(0.99):.0f} ms "
        f"| {dict(statuses - Counter({200: statuses[200], 429: statuses[429]})) or 'none'} "
        f"| {', '.join(str(one.most) for one in loads)} "
        f"| {', '.join(f'{one:.0f}' for one in memory)} |",
        flush=True,
    )


# -- what answers must be ----------------------------------------------------------------------


@dataclass
class Judge:
    """Tells whether answers are those of `predict` under the router that they name."""

    expected: dict[str, dict[str, tuple[str, str]]]
    wrong: int = 0
    mixed: int = 0
    rows: Counter[str] = field(default_factory=Counter)

    @classmethod
    def over(cls, home: Path, rows: Sequence[str]) -> Judge:
        """Ask a bank's two routers all rows."""
        expected = {}
        with Bank.open(home) as bank:
            for router in bank.routers()[-2:]:
                bank.set_alias("active", router.version)
                answers = bank.predict(list(rows))
                expected[router.digest] = {
                    row: (one.expert, str(one.label))
                    for row, one in zip(rows, answers, strict=True)
                }
        return cls(expected)

    def look(self, rows: Sequence[str], reply: Reply) -> None:
        """Judge one answer of the Open Inference Protocol."""
        found = {one["name"]: one["data"] for one in json.loads(reply.body)["outputs"]}
        digests = set(found["router_digest"])
        self.mixed += len(digests) != 1
        for row, digest, expert, label in zip(
            rows, found["router_digest"], found["expert"], found["label"], strict=True
        ):
            self.rows[digest] += 1
            self.wrong += self.expected[digest][row] != (expert, label)


@contextlib.asynccontextmanager
async def asking(
    process: Process, rows: Sequence[str], clients: int, judge: Judge, tally: Counter[int]
) -> AsyncIterator[None]:
    """Clients that ask 1 to 8 rows again and again while the body runs."""
    ending = asyncio.Event()

    async def client(number: int) -> None:
        rng, connection = random.Random(number), Connection(process.url)
        while not ending.is_set():
            asked = rng.sample(list(rows), rng.randint(1, 8))
            reply = await connection.post(INFER, body_of(asked))
            tally[reply.status] += 1
            if reply.status == 200:
                judge.look(asked, reply)
            else:
                await asyncio.sleep(0.02)
        connection.close()

    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    try:
        yield
    finally:
        ending.set()
        await asyncio.gather(*tasks)


# -- reload ------------------------------------------------------------------------------------


def reload(home: Path, rows: Sequence[str], options: argparse.Namespace) -> None:
    """Two routers in turn while requests run."""
    judge, tally = Judge.over(home, rows), Counter[int]()
    with serving(home, "--reload", "off") as process, Bank.open(home) as bank:
        versions = [router.version for router in bank.routers()[-2:]]

        async def swap() -> tuple[int, float]:
            connection, swapped, begun = Connection(process.url), 0, time.perf_counter()
            async with asking(process, rows, options.clients, judge, tally):
                for number in range(options.swaps):
                    bank.set_alias("active", versions[number % 2])
                    reply = await connection.send("POST", "/admin/reload")
                    swapped += reply.status == 200 and json.loads(reply.body)["reloaded"]
            return swapped, time.perf_counter() - begun

        before = process.memory()
        swapped, seconds = asyncio.run(swap())
        after = process.memory()
    print(
        f"\n## Reload: {options.swaps:,} swaps, {options.clients} clients, {seconds:.0f} s\n\n"
        "| swapped | requests by status | rows under each router | wrong | mixed | memory, MiB |\n"
        "|---|---|---|---|---|---|\n"
        f"| {swapped:,} | {dict(tally)} | {', '.join(f'{n:,}' for n in judge.rows.values())} "
        f"| {judge.wrong} | {judge.mixed} | {before:.0f} to {after:.0f} |",
        flush=True,
    )


# -- soak --------------------------------------------------------------------------------------


def soak(home: Path, rows: Sequence[str], options: argparse.Namespace) -> None:
    """So many minutes under load, with faults."""
    judge = Judge.over(home, rows)
    faults: dict[str, Callable[[Process, Path], object]] = {
        "nothing": lambda process, home: asyncio.sleep(0),
        "clients cut off": cut_off,
        "half-open connections": half_open,
        "database locked": locked,
        "expert damaged": damaged,
        "kill -9": killed,
        "log on a full disk": full_disk,
    }
    each = 60 * options.minutes / (len(faults) + 1)
    table: list[tuple[str, Counter[int], float, float]] = []
    with serving(home, "--reload-seconds", 1, "--read-seconds", 5) as process:

        async def whole() -> None:
            for name, fault in [*faults.items(), ("nothing, again", faults["nothing"])]:
                tally, begun = Counter[int](), time.perf_counter()
                async with asking(process, rows, CLIENTS, judge, tally):
                    await asyncio.sleep(each / 4)
                    await fault(process, home)
                    repaired = time.perf_counter()
                    calm = await recovered(process)
                    await asyncio.sleep(max(0.0, each - (time.perf_counter() - begun)))
                table.append((name, tally, calm - repaired, process.memory()))

        asyncio.run(whole())
    print(
        f"\n## Soak: {options.minutes:g} minutes, {CLIENTS} clients\n\n"
        "| fault | requests by status (0: connection broke) | ready again, s | memory, MiB |\n"
        "|---|---|---|---|"
    )
    for name, tally, seconds, memory in table:
        print(f"| {name} | {dict(sorted(tally.items()))} | {seconds:.1f} | {memory:.0f} |")
    print(
        f"\n{sum(judge.rows.values()):,} rows answered: {judge.wrong} wrong, {judge.mixed} mixed. "
        f"Memory at the end beside after warm-up: {table[-1][3] / table[0][3]:.3f}",
        flush=True,
    )


async def recovered(process: Process) -> float:
    """When it is ready again, and answers."""
    connection = Connection(process.url)
    while True:
        ready = await connection.send("GET", "/v2/health/ready")
        if ready.status == 200:
            connection.close()
            return time.perf_counter()
        await asyncio.sleep(0.02)


async def cut_off(process: Process, home: Path) -> None:
    """Requests whose callers leave: before the body ends, and before the answer."""
    where = urlsplit(process.url)
    for number in range(200):
        _, writer = await asyncio.open_connection(where.hostname, where.port)
        body = body_of([WORDS[number % len(WORDS)]] * 8)
        head = f"POST {INFER} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + (body if number % 2 else body[: len(body) // 2]))
        await writer.drain()
        writer.transport.abort()
        await asyncio.sleep(0.005)


async def half_open(process: Process, home: Path) -> None:
    """Connections that say nothing, or half a header, until the server ends them."""
    where = urlsplit(process.url)
    made = [await asyncio.open_connection(where.hostname, where.port) for _ in range(100)]
    for number, (_, writer) in enumerate(made):
        writer.write(b"POST /predict HTTP/1.1\r\nHost:" if number % 2 else b"")
    await asyncio.sleep(6)
    for _, writer in made:
        writer.close()


async def locked(process: Process, home: Path) -> None:
    """The database held by another program for five seconds."""
    with contextlib.closing(sqlite3.connect(home / DATABASE, timeout=10)) as held:
        held.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(5)
        held.rollback()


async def damaged(process: Process, home: Path) -> None:
    """A stored expert with one byte changed while a reload asks for it, then mended."""
    with Bank.open(home, read_only=True) as bank:
        digest = bank.experts()[0].digest
    (path,) = (home / "objects").rglob(f"{digest}*")
    good, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    connection = Connection(process.url)
    await connection.send("POST", "/admin/reload")
    await asyncio.sleep(4)
    path.write_bytes(good)
    path.chmod(mode)
    await connection.send("POST", "/admin/reload")
    connection.close()


async def killed(process: Process, home: Path) -> None:
    """The process killed, and started again as a supervisor would."""
    process.stop(signal.SIGKILL)
    await asyncio.to_thread(process.start)


async def full_disk(process: Process, home: Path) -> None:
    """The process started again with a log that takes nothing."""
    process.stop()
    await asyncio.to_thread(process.start, True)


PARTS = {
    "throughput": throughput,
    "latency": latency,
    "overload": overload,
    "reload": reload,
    "soak": soak,
}
WEIGHTS_MATTER = ("throughput", "latency", "overload")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--tiny", action="store_true", help="a tiny BERT everywhere")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--rows", type=int, default=512, help="rows a round of throughput")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="of latency and overload")
    parser.add_argument("--queue", type=int, default=256, help="rows that wait in overload")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16, help="of reload")
    parser.add_argument("--minutes", type=float, default=10, help="of soak")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    describe(options.seed)
    print(f"OMP_NUM_THREADS: {os.environ.get('OMP_NUM_THREADS', 'not set')}")
    made: dict[bool, tuple[Path, list[str]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.parts or PARTS:
            small = options.tiny or name not in WEIGHTS_MATTER
            if small not in made:
                folder = Path(scratch) / ("tiny" if small else "minilm")
                folder.mkdir()
                backbone = str(build(folder / "backbone")) if small else DEFAULT_BACKBONE
                rows = make_bank(
                    folder / "bank", backbone, options.tasks, 64 if small else 128, options.seed
                )
                made[small] = (folder / "bank", rows)
            PARTS[name](*made[small], options)


if __name__ == "__main__":
    main()
