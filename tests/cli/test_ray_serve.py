"""The server as a deployment of a real Ray Serve, on a cluster of this machine."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import done

from expertbank.errors import InputError

ray = pytest.importorskip("ray")
pytest.importorskip("ray.serve")
pytestmark = pytest.mark.slow

ROOT = "http://127.0.0.1:8765"


def asked(texts: list[str]) -> list[dict[str, object]]:
    """Answers to texts, through the proxy of the cluster."""
    body = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    request = urllib.request.Request(
        f"{ROOT}/predict", body, {"Content-Type": "application/x-ndjson"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [json.loads(line) for line in answer.read().splitlines()]


@pytest.fixture
def cluster() -> Iterator[None]:
    from ray import serve

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": 8765})
    yield
    serve.shutdown()
    ray.shutdown()


def test_replicas_answer_as_the_bank_does_and_a_new_router_rolls_over_them(
    bank: Path, cluster: None
) -> None:
    from ray import serve

    from expertbank.http.ray import build

    texts = ["film plot good", "vote law yes", "goal match dark"]
    expected = [line["label"] for line in done("--home", bank, "--json", "predict", *texts).lines]
    serve.run(build({"home": str(bank), "replicas": "2", "reload_seconds": "0.2"}))
    first = asked(texts)
    assert [one["label"] for one in first] == expected
    before = {one["router_digest"] for one in first}
    assert len(before) == 1

    seen: list[set[object]] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.append({one["router_digest"] for one in asked(texts)})
            except (OSError, ValueError, urllib.error.URLError) as error:
                failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    made = done("--home", bank, "--json", "retrain-router", "--kind", "ridge").document["router"]
    deadline = time.monotonic() + 120
    while (
        time.monotonic() < deadline
        and len([one for one in seen[-20:] if one == {made["digest"]}]) < 20
    ):
        time.sleep(0.2)
    stop.set()
    thread.join()
    assert not failures
    assert all(len(one) == 1 for one in seen), "no answer mixes two routers"
    assert set().union(*seen) == before | {made["digest"]}


@pytest.mark.parametrize("given", [{}, {"home": "a", "bundle": "b"}, {"home": "a", "speed": 3}])
def test_arguments_that_there_are_not_are_refused(given: dict[str, object]) -> None:
    from expertbank.http.ray import build

    with pytest.raises(InputError):
        build(given)
