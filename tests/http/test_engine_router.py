"""A router in front of an engine: content chooses the adapter, the answer comes back as it is."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from answering import Answering, answering, problem
from served import running
from small_engine import SmallEngine

from expertbank.http.app import make_app
from expertbank.http.engine import router
from expertbank.http.limits import EngineConfig
from expertbank.serving.engine import Engine
from expertbank.serving.limits import ServeConfig

openai = pytest.importorskip("openai", reason="install expertbank[test]")

FILM, GOAL = "film is the bad sky", "goal red goal match"
QUICK = EngineConfig(engine_connect_seconds=2, engine_seconds=1)


@pytest.fixture(scope="module")
def engine() -> SmallEngine:
    return SmallEngine("mood", "tickets-v2", "base")


@pytest.fixture(scope="module")
def front(served_home: Path, engine: SmallEngine) -> Iterator[Answering]:
    """A server in front of the engine, which calls the group's adapter by another name."""
    with running(engine.app) as url, in_front_of(url, served_home) as found:
        yield found


@contextmanager
def in_front_of(url: str, home: Path, keys: Path | None = None) -> Iterator[Answering]:
    there = Engine.of(url, ["topic=tickets-v2"])
    with answering(home, keys=keys, engine=lambda s, k: router(s, there, QUICK, k)) as found:
        yield found


@pytest.fixture
def client(front: Answering) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{front.url}/v1", api_key="of the engine", max_retries=0)


def last(engine: SmallEngine) -> dict:
    return json.loads(engine.seen[-1])


@pytest.mark.parametrize(("text", "model"), [(FILM, "mood"), (GOAL, "tickets-v2")])
def test_content_chooses_the_adapter_and_the_client_gets_its_answer(
    client: openai.OpenAI, engine: SmallEngine, text: str, model: str
) -> None:
    made = client.completions.create(model="auto", prompt=text, temperature=0.25, seed=7)
    assert made.choices[0].text == f"{model} answers"
    assert made.model == model
    assert last(engine) == {"model": model, "prompt": text, "temperature": 0.25, "seed": 7}
    messages = [
        {"role": "system", "content": "law and tax and party"},
        {"role": "user", "content": "another text altogether"},
        {"role": "assistant", "content": "vote law"},
        {"role": "user", "content": [{"type": "text", "text": text}]},
    ]
    chat = client.chat.completions.create(model="auto", messages=messages)  # type: ignore[arg-type]
    assert chat.choices[0].message.content == f"{model} answers"
    assert last(engine)["messages"] == messages


def test_the_headers_say_what_was_chosen_and_a_missing_model_routes_too(front: Answering) -> None:
    answered = front.post("/v1/completions", {"prompt": FILM})
    assert answered.json()["model"] == "mood"
    expected = front.bank.predict([FILM])[0]
    assert answered.headers["x-expertbank-task"] == expected.task == "mood"
    assert float(answered.headers["x-expertbank-confidence"]) == pytest.approx(
        expected.confidence, abs=1e-4
    )
    assert answered.headers["x-expertbank-unknown"] == str(expected.unknown).lower()


def test_a_named_model_passes_byte_for_byte_and_nothing_is_routed(
    front: Answering, engine: SmallEngine
) -> None:
    body = b'{"model" : "base",\n "prompt": [1, 2, 3], "odd": 1e2}'
    answered = front.post("/v1/completions", body, headers={"content-type": "application/json"})
    assert answered.json()["model"] == "base"
    assert "x-expertbank-task" not in answered.headers
    assert engine.seen[-1] == body


def test_headers_of_any_bytes_come_to_the_engine(front: Answering, engine: SmallEngine) -> None:
    headers = {"authorization": b"Bearer caf\xe9", "accept": b"caf\xe9"}
    answered = front.post("/v1/completions", {"prompt": FILM}, headers=headers)
    assert answered.json()["model"] == "mood"
    assert engine.headers[-1]["authorization"] == "Bearer caf\xe9"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_comes_through_unchanged_and_as_it_comes(
    front: Answering, client: openai.OpenAI, engine: SmallEngine, path: str
) -> None:
    asked = {"prompt": FILM, "messages": [{"role": "user", "content": FILM}], "stream": True}
    del asked["messages" if path == "/v1/completions" else "prompt"]
    with httpx.stream("POST", front.url + path, json=asked, timeout=30) as answered:
        assert answered.headers["content-type"].startswith("text/event-stream")
        assert answered.headers["x-expertbank-model"] == "mood"
        through = b"".join(answered.iter_raw())
    direct = json.loads(engine.seen[-1])
    assert direct == {**asked, "model": "mood"}
    events = [one.removeprefix(b"data: ") for one in through.split(b"\n\n") if one]
    assert events[-1] == b"[DONE]"
    assert [json.loads(one)["model"] for one in events[:-1]] == ["mood"] * 4
    if path == "/v1/completions":
        parts = client.completions.create(model="auto", prompt=FILM, stream=True)
        assert "".join(part.choices[0].text for part in parts) == "0 1 2 3 "


def test_a_client_that_leaves_ends_the_engines_work(
    client: openai.OpenAI, engine: SmallEngine
) -> None:
    engine.left.clear()
    parts = client.completions.create(model="auto", prompt=FILM, stream=True, user="endless")
    assert next(iter(parts)).choices[0].text == "0 "
    parts.close()
    assert engine.left.wait(10)


def test_the_engines_own_refusal_comes_back_as_it_is(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError, match="busy"):
        client.completions.create(model="auto", prompt=FILM, user="overloaded")


def test_the_clients_key_goes_to_the_engine_and_the_banks_own_never(
    front: Answering, client: openai.OpenAI, engine: SmallEngine, served_home: Path, tmp_path: Path
) -> None:
    client.completions.create(model="auto", prompt=FILM)
    assert engine.headers[-1]["authorization"] == "Bearer of the engine"
    keys = tmp_path / "keys"
    keys.write_text("a key of the bank's own\n".replace(" ", "-"))
    bearer = "a-key-of-the-bank's-own"
    with running(engine.app) as url, in_front_of(url, served_home, keys) as kept:
        body = {"prompt": FILM}
        assert kept.post("/v1/completions", body).status_code == 401
        own = {"authorization": f"Bearer {bearer}"}
        assert kept.post("/v1/completions", body, headers=own).status_code == 200
        assert "authorization" not in engine.headers[-1]
        both = {"x-api-key": bearer, "authorization": "Bearer of the engine"}
        assert kept.post("/v1/completions", body, headers=both).status_code == 200
        assert engine.headers[-1]["authorization"] == "Bearer of the engine"
        assert "x-api-key" not in engine.headers[-1]


# -- what goes wrong -----------------------------------------------------------------------


def test_an_engine_that_is_away_is_told_at_once_with_the_adapter_that_was_meant(
    served_home: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with in_front_of(url, served_home) as front:
            began = time.monotonic()
            told = problem(front.post("/v1/completions", {"prompt": FILM}), 502)
            assert time.monotonic() - began < 5
            assert "cannot be reached" in told["detail"]
            assert "'mood'" in told["detail"]
            assert url not in json.dumps(told), "where the engine is, is nobody's business"
            front.still_answers()


def test_an_engine_that_is_silent_is_given_up_in_time(front: Answering) -> None:
    began = time.monotonic()
    answered = front.post("/v1/completions", {"prompt": GOAL, "user": "silent"})
    assert 0.9 < time.monotonic() - began < 10
    assert "adapter 'tickets-v2' of task 'topic'" in problem(answered, 504)["detail"]


def test_an_engine_without_the_adapter_is_told_with_what_to_do(
    served_home: Path, tmp_path: Path
) -> None:
    with running(SmallEngine("base").app) as url, in_front_of(url, served_home) as front:
        told = problem(front.post("/v1/completions", {"prompt": FILM}), 404)
        assert "does not have adapter 'mood'" in told["detail"]
        assert "--engine-model mood=NAME" in told["detail"]
        named = front.post("/v1/completions", {"prompt": FILM, "model": "nope"})
        assert named.status_code == 404
        assert named.json()["error"]["type"] == "NotFoundError", "the engine's own words"


@pytest.mark.parametrize(
    ("words", "said"), [("break", "broke off"), ("pause", "silent"), ("end", "ended before")]
)
def test_a_stream_that_fails_half_way_ends_with_the_reason_after_whole_events(
    client: openai.OpenAI, front: Answering, words: str, said: str
) -> None:
    parts = client.completions.create(model="auto", prompt=FILM, stream=True, user=words)
    got = []

    def read() -> None:
        for part in parts:
            got.append(part.choices[0].text)

    with pytest.raises(openai.APIError, match=said) as failed:
        read()
    assert "'mood'" in str(failed.value)
    assert got == ["0 ", "1 "]
    front.still_answers()


def test_the_openapi_document_names_the_routes_and_is_valid(front: Answering) -> None:
    validating = pytest.importorskip("openapi_spec_validator")
    document = front.get("/openapi.json").json()
    validating.validate(document)
    for path in ("/v1/completions", "/v1/chat/completions"):
        assert {"200", "404", "422", "502", "504"} <= set(
            document["paths"][path]["post"]["responses"]
        )


@pytest.mark.parametrize(
    "words",
    [
        ["--engine", "ftp://host"],
        ["--engine", "host:8000"],
        ["--engine", "http://user:secret@host"],
        ["--engine", "http://host", "--engine-model", "mood"],
        ["--engine", "http://host", "--engine-model", "a=b", "--engine-model", "a=c"],
        ["--engine", "http://host", "--engine-model", "a=b\n"],
        ["--engine-model", "a=b"],
    ],
)
def test_what_is_no_engine_is_refused_before_anything_is_loaded(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from expertbank_cli.main import run

    with pytest.raises(SystemExit) as ended:
        run(["--home", str(tmp_path / "none"), "serve", *words])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "--engine" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/v1/completions", {"prompt": [1, 2]}, 400, "token ids"),
        ("/v1/completions", {"prompt": []}, 400, "no text"),
        ("/v1/completions", {}, 400, "'prompt'"),
        ("/v1/completions", {"prompt": "x", "model": 3}, 400, "'model'"),
        ("/v1/completions", {"prompt": [FILM, GOAL]}, 422, "2 adapters"),
        ("/v1/completions", {"prompt": " "}, 422, "prompt 0"),
        ("/v1/chat/completions", {"messages": "x"}, 400, "array"),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}]}, 400, "user"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": []}]}, 400, "no text"),
    ],
)
def test_what_cannot_be_routed_never_reaches_the_engine(
    front: Answering, engine: SmallEngine, path: str, body: dict, status: int, word: str
) -> None:
    before = len(engine.seen)
    assert word in problem(front.post(path, body), status)["detail"]
    assert len(engine.seen) == before


@pytest.mark.parametrize(("stream", "words"), [(True, "endless"), (False, "asleep")])
def test_an_engines_answer_that_a_stop_does_not_wait_for_is_told_so(
    served_home: Path, engine: SmallEngine, stream: bool, words: str
) -> None:
    heard: list[httpx.Response] = []
    patient = EngineConfig(engine_seconds=60)
    config = ServeConfig(reload="off", drain_seconds=0.2)
    with running(engine.app) as url:
        there, before = Engine.of(url, ["topic=tickets-v2"]), len(engine.seen)
        with answering(
            served_home, config, engine=lambda s, k: router(s, there, patient, k)
        ) as found:
            body = {"prompt": FILM, "stream": stream, "user": words}
            asking = threading.Thread(
                target=lambda: heard.append(found.post("/v1/completions", body)), daemon=True
            )
            asking.start()
            while len(engine.seen) == before:
                time.sleep(0.005)
            time.sleep(0.1)
        asking.join(30)
    if stream:
        assert "the server is stopping" in heard[0].text
        assert heard[0].text.endswith("data: [DONE]\n\n")
    else:
        problem(heard[0], 503)


def test_a_number_that_json_cannot_hold_is_not_passed_on(
    front: Answering, engine: SmallEngine
) -> None:
    before = len(engine.seen)
    body, form = b'{"prompt": "sky", "seed": 1e999}', {"content-type": "application/json"}
    told = problem(front.post("/v1/completions", body, headers=form), 400)
    assert "cannot be read" in told["detail"]
    assert len(engine.seen) == before


@pytest.mark.parametrize("stream", [False, True])
def test_whenever_its_caller_leaves_the_engines_connection_is_let_go(
    front: Answering, engine: SmallEngine, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    send, received = httpx.AsyncClient.send, list[httpx.Response]()
    body = json.dumps({"model": "base", "prompt": FILM, "stream": stream}).encode()

    async def once(url: str, turns: int) -> None:
        """One request, whose caller leaves so many turns of the loop before the answer is there."""
        leaving, given = asyncio.Event(), [{"type": "http.request", "body": body}]

        async def sent(client: httpx.AsyncClient, *asked: Any, **options: Any) -> httpx.Response:
            received.append(await send(client, *asked, **options))
            leaving.set()
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
            except BaseException:
                await received[-1].aclose()
                raise
            return received[-1]

        async def receive() -> Any:
            if not given:
                await leaving.wait()
            return given.pop() if given else {"type": "http.disconnect"}

        async def told(message: Any) -> None:
            await asyncio.sleep(0)

        monkeypatch.setattr(httpx.AsyncClient, "send", sent)
        there = Engine.of(url)
        app = make_app(front.server, engine=lambda server: router(server, there, QUICK, None))
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b""}
        headers = [(b"content-type", b"application/json")]
        await app({**scope, "headers": headers}, receive, told)
        assert received[-1].is_closed

    with running(engine.app) as url:
        for turns in range(8):
            asyncio.run(once(url, turns))
    assert len(received) == 8
