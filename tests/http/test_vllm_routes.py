"""``/v1/models`` and ``/classify``, as callers of vLLM expect them."""

from __future__ import annotations

import pytest
from answering import Answering, problem


def test_every_name_that_can_be_asked_is_a_model(live: Answering) -> None:
    document = live.get("/v1/models").json()
    assert document["object"] == "list"
    names = [one["id"] for one in document["data"]]
    assert names[0] == "auto"
    assert {"mood", "topic", "ticket", "pick", "marks"} <= set(names)
    assert all(one["object"] == "model" and one["max_model_len"] > 0 for one in document["data"])


@pytest.mark.parametrize("given", ["film bad", ["film bad"]])
def test_one_text_and_a_list_of_one_are_answered_alike(live: Answering, given: object) -> None:
    document = live.post("/classify", {"model": "auto", "input": given}).json()
    assert document["object"] == "list"
    assert document["id"].startswith("classify-")
    assert document["model"] == "auto"
    (answer,) = document["data"]
    (expected,) = live.bank.predict(["film bad"])
    assert answer["index"] == 0
    assert answer["label"] == expected.label
    assert answer["labels"] == list(expected.scores)
    assert answer["probs"] == pytest.approx(list(expected.scores.values()), abs=1e-5)
    assert answer["num_classes"] == len(expected.scores)
    assert answer["expert"] == expected.expert
    # Two words between the first and the last special token.
    assert document["usage"]["prompt_tokens"] == document["usage"]["total_tokens"] == 4


def test_several_texts_come_back_in_order(live: Answering) -> None:
    texts = ["film bad", "goal red", "film good"]
    data = live.post("/classify", {"model": "mood", "input": texts}).json()["data"]
    assert [one["index"] for one in data] == [0, 1, 2]
    assert [one["label"] for one in data] == [
        one.label for one in live.bank.predict(texts, task="mood")
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nope", "input": "a"}, 404),
        ({"model": "auto"}, 400),
        ({"model": "auto", "input": []}, 400),
        ({"model": "auto", "input": [1, 2]}, 400),
        ({"model": "auto", "input": [[1, 2]]}, 400),
        ({"model": 7, "input": "a"}, 400),
        ({"model": "auto", "messages": []}, 400),
        ({"model": "auto", "input": ["film bad", "  "]}, 422),
        ({"model": "pick", "input": "film bad"}, 422),
        (["film bad"], 400),
    ],
)
def test_what_cannot_be_answered_is_refused(live: Answering, body: object, status: int) -> None:
    problem(live.post("/classify", body), status)
    live.still_answers()


def test_a_group_answers_with_all_its_tasks(live: Answering) -> None:
    data = live.post("/classify", {"model": "ticket", "input": ["goal red"]}).json()["data"][0]
    assert [one["task"] for one in data["answers"]] == ["topic", "urgency"]
    labels = [live.bank.predict(["goal red"], task=task)[0].label for task in ("topic", "urgency")]
    assert [one["label"] for one in data["answers"]] == labels


@pytest.mark.parametrize(
    "more",
    [
        *({"abstain": True}, {"abstain": {}}, {"abstain": 0}, {"fallback": "mood"}),
        *({"softmax": False}, {"softmax": []}, {"softmax": {}}, {"softmax": 1}),
        *({"truncate_prompt_tokens": 4}, {"truncate_prompt_tokens": []}),
    ],
)
def test_what_would_change_the_answer_elsewhere_is_refused_here(
    live: Answering, more: dict[str, object]
) -> None:
    told = problem(live.post("/classify", {"input": "film bad", **more}), 400)
    assert next(iter(more)) in told["detail"]


@pytest.mark.parametrize("abstain", [None, False])
def test_what_changes_nothing_is_accepted(live: Answering, abstain: bool | None) -> None:
    asked = {"input": "film bad", "softmax": True, "abstain": abstain}
    assert live.post("/classify", asked).status_code == 200
