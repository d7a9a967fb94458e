"""A router in front of an engine, and experts that write: asked as they were trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, answering, problem
from served import running
from small_engine import SmallEngine
from small_writing import PROMPT

from expertbank import Row
from expertbank.http.engine import router
from expertbank.http.limits import EngineConfig
from expertbank.serving.engine import Engine

OTHER = "goal team is the sky"
"""A prompt of the expert that has a head."""


@pytest.fixture(scope="module")
def engine() -> SmallEngine:
    return SmallEngine("paint", "mood")


@pytest.fixture(scope="module")
def front(writing_home: Path, engine: SmallEngine) -> Iterator[Answering]:
    with (
        running(engine.app) as url,
        answering(
            writing_home, engine=lambda s, k: router(s, Engine.of(url), EngineConfig(), k)
        ) as found,
    ):
        yield found


def sent(front: Answering, engine: SmallEngine, **asked: Any) -> dict[str, Any]:
    answered = front.post("/v1/completions", asked)
    assert answered.status_code == 200, answered.text
    found: dict[str, Any] = json.loads(engine.seen[-1])
    return found


def test_the_template_stands_behind_the_prompt_and_the_experts_own_end_where_none_is_given(
    front: Answering, engine: SmallEngine
) -> None:
    own = {"model": "paint", "stop": ["river"]}
    both = [PROMPT, "green river of the"]
    assert sent(front, engine, prompt=PROMPT) == {**own, "prompt": f"{PROMPT}\n", "max_tokens": 6}
    found = sent(front, engine, model="auto", prompt=both, max_tokens=3, stop="sky", top_p=0.5)
    assert found == {
        **own,
        "prompt": [f"{text}\n" for text in both],
        "max_tokens": 3,
        "stop": ["river", "sky"],
        "top_p": 0.5,
    }


@pytest.mark.parametrize("stop", [5, {"a": 1}, ["sky", 5], False])
def test_a_stop_that_is_no_text_is_refused_and_not_sent_on(
    front: Answering, engine: SmallEngine, stop: object
) -> None:
    seen = len(engine.seen)
    problem(front.post("/v1/completions", {"prompt": PROMPT, "stop": stop}), 400)
    assert len(engine.seen) == seen


def test_what_has_a_head_or_is_named_or_is_a_chat_is_asked_as_it_stands(
    front: Answering, engine: SmallEngine
) -> None:
    assert sent(front, engine, prompt=OTHER) == {"model": "mood", "prompt": OTHER}
    named = {"model": "paint", "prompt": PROMPT}
    assert sent(front, engine, **named) == named
    messages = [{"role": "user", "content": PROMPT}]
    assert front.post("/v1/chat/completions", {"messages": messages}).status_code == 200
    assert json.loads(engine.seen[-1]) == {"model": "paint", "messages": messages}


def test_to_choose_an_adapter_no_expert_is_asked_and_it_is_the_one_that_would_answer(
    front: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = front.server.current.predictor
    asked = [PROMPT, OTHER, "green river of the"]
    expected = list(front.bank.predict(asked))

    def branch(*args: Any) -> None:
        raise AssertionError("an expert was asked")

    monkeypatch.setattr(type(predictor.model), "stack", branch)
    found = front.server.submit(Engine.of("http://nowhere").asks(asked)).result().predictions
    assert [(one.task, one.expert_digest, one.confidence) for one in found] == [
        (one.task, one.expert_digest, pytest.approx(one.confidence, abs=1e-4)) for one in expected
    ]
    assert [one.unknown for one in found] == [one.unknown for one in expected]
    assert {(one.written, one.label) for one in found} == {(None, None)}


def test_no_request_reads_the_file_of_the_expert_it_is_routed_to(
    front: Answering, engine: SmallEngine
) -> None:
    pool = front.server.current.predictor.model.pool
    pool.keep_only(())
    assert sent(front, engine, prompt=PROMPT)["max_tokens"] == 6, "as its file says"
    assert pool.nbytes == 0, "none was loaded"


def test_what_is_only_routed_shares_a_pass_with_what_is_answered(front: Answering) -> None:
    predictor = front.server.current.predictor
    questions = predictor.questions([Row(PROMPT), Row(OTHER), Row(PROMPT)], predictor.decision())
    mixed = [replace(questions[0], only_routed=True), *questions[1:]]
    routed, *answered = predictor.answer(mixed)
    assert answered == predictor.answer(questions[1:])
    assert (routed.index, routed.task, routed.written) == (0, "paint", None)
