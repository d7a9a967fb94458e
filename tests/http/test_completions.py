"""Answers in words over HTTP, as OpenAI's own client asks for them: whole and streamed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import openai
import pytest
from answering import Answering, answering, problem
from small_writing import PROMPT

from expertbank import Row
from expertbank.models import writing as writer
from expertbank.serving.asking import Ask
from expertbank.serving.limits import ServeConfig
from expertbank.serving.server import Server


@pytest.fixture(scope="module")
def writing(writing_home: Path) -> Iterator[Answering]:
    """Nobody but a caller tries again what failed."""
    with answering(writing_home, ServeConfig(reload="off", reload_seconds=3600)) as found:
        yield found


@pytest.fixture
def client(writing: Answering) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{writing.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_the_client_gets_what_the_bank_writes(writing: Answering, client: openai.OpenAI) -> None:
    prompts = [PROMPT, "green river of the"]
    found = client.completions.create(model="paint", prompt=prompts)
    expected = list(writing.bank.predict(prompts, task="paint"))
    assert [one.text for one in found.choices] == [one.written for one in expected]
    assert [one.finish_reason for one in found.choices] == [one.finish for one in expected]
    assert found.usage is not None
    assert found.usage.completion_tokens == sum(one.written_tokens for one in expected)
    assert found.usage.prompt_tokens == sum(len(text.split()) + 2 for text in prompts)


def test_auto_routes_each_prompt_and_a_label_is_a_text_too(
    writing: Answering, client: openai.OpenAI
) -> None:
    prompts = [PROMPT, "goal team is the sky"]
    found = client.completions.create(model="auto", prompt=prompts)
    expected = list(writing.bank.predict(prompts))
    assert [one.text for one in found.choices] == [one.text for one in expected]
    assert [one.task for one in found.choices] == [one.task for one in expected]  # type: ignore[attr-defined]


def test_what_is_streamed_adds_up_to_the_answer(client: openai.OpenAI) -> None:
    prompts = [PROMPT, "green river of the"]
    whole = client.completions.create(model="paint", prompt=prompts)
    parts = ["", ""]
    finished: dict[int, str] = {}
    events = 0
    usage = None
    stream = client.completions.create(
        model="paint", prompt=prompts, stream=True, stream_options={"include_usage": True}
    )
    for event in stream:
        usage = event.usage or usage
        for choice in event.choices:
            events += 1
            parts[choice.index] += choice.text
            if choice.finish_reason:
                finished[choice.index] = choice.finish_reason
    assert parts == [one.text for one in whole.choices]
    assert finished == {one.index: one.finish_reason for one in whole.choices}
    assert events > 2, "more than one event a prompt"
    assert usage == whole.usage


def test_a_stop_text_is_never_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="paint", prompt=PROMPT, max_tokens=6).choices[0].text
    words = whole.split()
    assert len(words) > 1
    stream = client.completions.create(model="paint", prompt=PROMPT, stop=words[1], stream=True)
    text = "".join(event.choices[0].text for event in stream)
    assert text == whole[: whole.index(words[1])]


def test_the_same_prompt_several_times_is_drawn_several_times(client: openai.OpenAI) -> None:
    asked = {"model": "paint", "prompt": [PROMPT] * 6, "temperature": 2.0}
    drawn = client.completions.create(**asked)
    assert len({choice.text for choice in drawn.choices}) > 1
    told = client.completions.create(**asked, seed=5)
    assert len({choice.text for choice in told.choices}) == 1


def test_a_seed_draws_the_same_answer_and_tokens_can_be_fewer(client: openai.OpenAI) -> None:
    def drawn(seed: int) -> str:
        made = client.completions.create(model="paint", prompt=PROMPT, temperature=2.0, seed=seed)
        return made.choices[0].text

    assert drawn(3) == drawn(3)
    assert len({drawn(seed) for seed in range(6)}) > 1
    anew = [
        client.completions.create(model="paint", prompt=PROMPT, temperature=2.0) for _ in range(6)
    ]
    assert len({one.choices[0].text for one in anew}) > 1
    short = client.completions.create(model="paint", prompt=PROMPT, max_tokens=1)
    assert short.usage is not None
    assert short.usage.completion_tokens == 1


def test_a_conversation_is_asked_by_the_chat_template(
    writing: Answering, client: openai.OpenAI
) -> None:
    messages = [{"role": "user", "content": "the sky"}, {"role": "user", "content": "is red"}]
    (expected,) = writing.bank.predict(["the sky is red"], task="paint")
    found = client.chat.completions.create(model="paint", messages=messages)  # type: ignore[arg-type]
    assert found.choices[0].message.content == expected.written
    assert found.usage is not None
    assert found.usage.prompt_tokens == 4 + 2, "special tokens stand once, as in the template"
    stream = client.chat.completions.create(model="paint", messages=messages, stream=True)  # type: ignore[arg-type]
    text = "".join(event.choices[0].delta.content or "" for event in stream)
    assert text == expected.written


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nope", "prompt": "a"}, 404),
        ({"model": "paint"}, 400),
        ({"model": "paint", "prompt": []}, 400),
        ({"model": "paint", "prompt": [[1, 2]]}, 400),
        ({"model": "paint", "prompt": "  "}, 422),
        ({"model": "paint", "prompt": "a", "n": 2}, 400),
        ({"model": "paint", "prompt": "a", "stop": ["a", "b", "c", "d", "e"]}, 400),
        ({"model": "paint", "prompt": "a", "temperature": "hot"}, 400),
        ({"model": "paint", "prompt": "a", "temperature": 10**400}, 400),
        ({"model": "paint", "prompt": "a", "top_p": 10**400}, 400),
        ({"model": "paint", "prompt": "a", "temperature": -1}, 400),
        ({"model": "paint", "prompt": "a", "top_p": 0}, 400),
        ({"model": "paint", "prompt": "a", "seed": 2**63}, 400),
        ({"model": "paint", "prompt": "a", "max_tokens": 0}, 400),
        ({"model": "paint", "prompt": "a", "max_completion_tokens": 0}, 400),
        ({"model": "paint", "prompt": "a", "stop": ["a", ""]}, 400),
        ({"model": "paint", "prompt": "a", "logit_bias": {"1": 2}}, 400),
        ({"model": "paint", "prompt": "a", "logprobs": 0}, 400),
        ({"model": "paint", "prompt": "a", "n": True}, 400),
        ({"model": "paint", "prompt": "a", "stream_options": []}, 400),
        ({"model": "paint", "prompt": "a", "stream_options": 0}, 400),
        ({"model": "paint", "prompt": "a", "stop": "\0"}, 400),
    ],
)
def test_what_cannot_be_written_is_refused(
    writing: Answering, body: dict[str, object], status: int
) -> None:
    problem(writing.post("/v1/completions", body), status)
    assert writing.post("/v1/completions", {"prompt": PROMPT}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "kind", "code", "sentence"),
    [
        ({"model": "nope"}, openai.NotFoundError, "not-found", "no model named 'nope'"),
        ({"n": 2}, openai.BadRequestError, "malformed", "'n' is not supported here"),
        ({"prompt": " "}, openai.UnprocessableEntityError, "input", "is empty"),
        ({"stop": list("abcde")}, openai.BadRequestError, "malformed", "may hold 4 texts"),
        (
            {"extra_headers": {"X-Deadline-Ms": "0.001"}},
            openai.InternalServerError,
            "deadline",
            "not answered within its deadline",
        ),
        (
            {"extra_headers": {"X-Junk": "a" * 40_000}},
            openai.APIStatusError,
            "headers",
            "the headers have more than",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_exceptions_say_what_is_wrong(
    client: openai.OpenAI,
    asked: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    sentence: str,
    stream: bool,
) -> None:
    with pytest.raises(kind) as refused:
        client.completions.create(**{"model": "paint", "prompt": PROMPT, "stream": stream, **asked})
    assert sentence in str(refused.value)
    assert refused.value.code == code
    server = refused.value.status_code >= 500
    assert refused.value.type == ("server_error" if server else "invalid_request_error")


def test_the_client_lists_models_and_retrieves_each(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert [client.models.retrieve(one.id) for one in listed] == listed
    with pytest.raises(openai.NotFoundError, match="no model named 'nope'; known: auto, mood"):
        client.models.retrieve("nope")
    with pytest.raises(openai.NotFoundError, match="there is nothing at this address"):
        client.embeddings.create(model="auto", input="a")


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_prompt_that_would_be_cut_is_refused_as_openai_does(
    writing: Answering, client: openai.OpenAI, more: dict[str, object]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="paint", prompt="sky " * 30, **more)
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "prompt"
    assert "more than 16 tokens" in str(refused.value)
    problem(writing.post("/v1/completions", {"model": "paint", "prompt": "sky " * 30}), 400)


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [{"role": "user"}],
        [{"role": "user", "content": [{"type": "image"}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "text", "text": None}]}],
        [{"role": "user", "content": [{"type": "text", "text": 7}]}],
    ],
)
def test_messages_that_are_no_text_are_refused(writing: Answering, messages: object) -> None:
    body = {"model": "paint", "messages": messages}
    problem(writing.post("/v1/chat/completions", body), 400)


def test_a_conversation_that_is_too_long_is_called_one(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "sky " * 30}]
    with pytest.raises(openai.BadRequestError, match="the conversation: it has more than 16") as no:
        client.chat.completions.create(model="paint", messages=messages)
    assert (no.value.code, no.value.param) == ("context_length_exceeded", "messages")


def test_a_backbone_without_a_chat_template_says_so(live: Answering) -> None:
    messages = [{"role": "user", "content": "film"}]
    answer = live.post("/v1/chat/completions", {"model": "mood", "messages": messages})
    assert "no chat template" in problem(answer, 422)["detail"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_group_gives_the_answers_of_all_its_tasks(live: Answering, stream: bool) -> None:
    asked = {"model": "ticket", "prompt": "goal red", "stream": stream}
    told = live.post("/v1/completions", asked).text
    document = json.loads(told.splitlines()[0].removeprefix("data: ") if stream else told)
    (choice,) = document["choices"]
    assert [one["task"] for one in choice["answers"]] == ["topic", "urgency"]
    assert choice["text"] == choice["answers"][0]["label"]


def fail_passes(server: Server, count: int) -> None:
    """Passes that fail for what the caller asks, one after another."""

    def refuses(index: int, text: str) -> bool:
        raise RuntimeError("not this row")

    for _ in range(count):
        with pytest.raises(RuntimeError, match="not this row"):
            server.submit(Ask((Row(PROMPT),), "paint", told=refuses)).result(30)


def test_that_every_pass_fails_is_over_with_the_first_that_does_not(writing: Answering) -> None:
    fail_passes(writing.server, 2)
    assert writing.server.state == "ready"
    fail_passes(writing.server, 1)
    assert writing.get("/v2/health/ready").status_code == 503
    assert writing.post("/v1/completions", {"prompt": PROMPT}).status_code == 200
    assert writing.get("/v2/health/ready").status_code == 200


def test_rows_that_always_fail_do_not_keep_a_server_broken_that_nobody_asks(
    writing_home: Path,
) -> None:
    with answering(writing_home, ServeConfig(reload="off", reload_seconds=0.5)) as found:
        fail_passes(found.server, 3)
        end = monotonic() + 30
        while found.server.state != "ready":
            assert monotonic() < end
            sleep(0.02)


def test_the_smallest_temperatures_take_the_likeliest_tokens(client: openai.OpenAI) -> None:
    likeliest = client.completions.create(model="paint", prompt=PROMPT)
    found = client.completions.create(model="paint", prompt=PROMPT, temperature=1e-320)
    assert found.choices[0].text == likeliest.choices[0].text


class Slow:
    """Steps of the backbone in writing, made slow, and counted."""

    def __init__(self, seconds: float) -> None:
        self.taken, self._seconds, self._step = 0, seconds, writer.step_backbone

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.taken += 1
        sleep(self._seconds)
        return self._step(*args, **named)


def long_body(writing: Answering) -> dict[str, Any]:
    """A request whose answer goes on until there is no room."""
    for word in ("sky", "river", "law", "goal", "red", "team", "cell", "vote"):
        body = {"model": "paint", "prompt": word, "max_tokens": 50}
        (choice,) = writing.post("/v1/completions", body).json()["choices"]
        if choice["finish_reason"] == "length":
            return body
    pytest.fail("every answer came to its end")


def test_what_ends_a_stream_inside_stands_in_the_log(
    writing: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(writer, "step_backbone", breaks)
    body = {"model": "paint", "prompt": PROMPT, "stream": True}
    told = writing.post("/v1/completions", body)
    assert json.loads(told.text.split("data: ")[-1])["error"]["code"] == "defect"
    assert "out of order" not in told.text
    assert f"request {told.headers['x-request-id']} failed: RuntimeError: out of order" in (
        caplog.text
    )
    monkeypatch.undo()
    assert writing.post("/v1/completions", body).status_code == 200


@pytest.mark.parametrize("leaves", [True, False])
def test_an_answer_that_nobody_waits_for_is_not_written_on(
    leaves: bool, writing: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = long_body(writing)
    slow = Slow(0.05)
    monkeypatch.setattr(writer, "step_backbone", slow)
    whole = writing.post("/v1/completions", body)
    assert whole.status_code == 200
    most, slow.taken = slow.taken, 0
    assert most > 30
    url = f"{writing.url}/v1/completions"
    if leaves:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=0.3)
    else:
        late = httpx.post(url, json=body, headers={"X-Deadline-Ms": "300"}, timeout=30)
        problem(late, 504)
    short = writing.post("/v1/completions", {"model": "paint", "prompt": "sky", "max_tokens": 1})
    assert short.status_code == 200
    assert slow.taken < most - 10


def test_an_answer_that_a_stop_does_not_wait_for_is_told_so(
    writing_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(writing_home, ServeConfig(reload="off", drain_seconds=0.2)) as found:
        body = long_body(found)
        monkeypatch.setattr(writer, "step_backbone", Slow(0.05))
        heard: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: heard.append(found.post("/v1/completions", body)), daemon=True
        )
        asking.start()
        while found.server._batcher.serves(None):  # type: ignore[arg-type]  # until it is open
            sleep(0.005)
    asking.join(30)
    assert "it is stopped" in problem(heard[0], 503)["detail"]
    assert found.server.given_up == 1


def test_who_speaks_is_said_once(client: openai.OpenAI) -> None:
    said = [{"role": "user", "content": "the sky is red"}]
    with client.chat.completions.stream(model="paint", messages=said) as stream:  # type: ignore[arg-type]
        for _ in stream:
            pass
        found = stream.current_completion_snapshot.choices[0].message
    whole = client.chat.completions.create(model="paint", messages=said)  # type: ignore[arg-type]
    assert (found.role, found.content) == ("assistant", whole.choices[0].message.content)


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": {"type": "text"}},
        {"logprobs": False, "top_logprobs": 0},
        {"tools": [], "tool_choice": "none"},
        {"n": 1, "presence_penalty": 0.0, "metadata": {}},
    ],
)
def test_what_changes_nothing_may_be_sent(writing: Answering, more: dict[str, Any]) -> None:
    body = {"model": "paint", "messages": [{"role": "user", "content": "the sky is red"}]}
    plain, found = (writing.post("/v1/chat/completions", {**body, **m}).json() for m in ({}, more))
    assert found["choices"] == plain["choices"]


def test_a_caller_who_leaves_holds_up_nobody(writing: Answering) -> None:
    body = {"model": "paint", "prompt": PROMPT, "stream": True, "max_tokens": 40}
    with httpx.stream("POST", f"{writing.url}/v1/completions", json=body, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        next(answer.iter_lines())
    assert writing.post("/v1/completions", {"prompt": PROMPT}).status_code == 200
