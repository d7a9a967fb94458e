"""Many callers at once, of all interfaces: each gets its own answer, and nobody's is lost."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
from answering import QUIET, Answering, answering, lines, outputs

WORDS = ("film", "goal", "bad", "good", "red", "green", "sky", "blue", "river", "gene", "cell")


def _texts(seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, 9))) for _ in range(rng.randint(1, 5))]


def _ask(live: Answering, client: httpx.Client, seed: int) -> list[tuple[str, str]]:
    """Task and label of each of the seed's texts, by one interface or another."""
    texts = _texts(seed)
    if seed % 3 == 0:
        body = {
            "inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]
        }
        found = outputs(client.post(f"{live.url}/v2/models/auto/infer", json=body))
        return list(zip(found["task"]["data"], found["label"]["data"], strict=True))
    if seed % 3 == 1:
        data = client.post(f"{live.url}/classify", json={"input": texts}).json()["data"]
        return [(one["task"], one["label"]) for one in data]
    response = client.post(f"{live.url}/predict", json=[{"text": text} for text in texts])
    return [(one["task"], _label(one)) for one in lines(response)]


def _label(answer: dict[str, object]) -> str:
    if "labels" in answer:
        return json.dumps(answer["labels"])
    return str(answer["label"])


def test_answers_do_not_depend_on_who_else_asks(served_home: Path) -> None:
    config = replace(QUIET, max_batch_rows=8, max_wait_ms=2)
    with (
        answering(served_home, config) as live,
        httpx.Client(timeout=60, limits=httpx.Limits(max_connections=16)) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        found = list(threads.map(lambda seed: _ask(live, client, seed), range(150)))
        for seed, answers in enumerate(found):
            expected = live.bank.predict(_texts(seed))
            assert answers == [(one.task, _label(one.to_dict())) for one in expected]


def test_whoever_is_refused_is_refused_whole_and_the_others_are_answered(
    served_home: Path,
) -> None:
    config = replace(QUIET, queue_rows=6, max_rows=4, max_batch_rows=4)
    with (
        answering(served_home, config) as live,
        httpx.Client(timeout=60, limits=httpx.Limits(max_connections=24)) as client,
        ThreadPoolExecutor(24) as threads,
    ):

        def ask(seed: int) -> int:
            texts = _texts(seed)[:4]
            response = client.post(f"{live.url}/classify", json={"input": texts})
            if response.status_code == 200:
                assert len(response.json()["data"]) == len(texts)
            return response.status_code

        statuses = set(threads.map(ask, range(200)))
        assert 200 in statuses
        assert statuses <= {200, 429}
        live.still_answers()
