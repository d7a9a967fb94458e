"""The Open Inference Protocol over real HTTP."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import pytest
from answering import Answering, outputs, problem, text_input

TEXTS = ("film bad is the sky", "goal red of a river", "film good and money", "gene cell blue")


def test_the_server_says_what_it_is(live: Answering) -> None:
    document = live.get("/v2").json()
    assert document["name"] == "expertbank"
    assert "binary_tensor_data" in document["extensions"]
    assert live.get("/v2/health/live").json() == {"live": True}
    assert live.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/mood", "/"])
def test_head_is_answered_as_get_is_and_without_a_body(live: Answering, path: str) -> None:
    told, whole = httpx.head(live.url + path), live.get(path)
    assert (told.status_code, told.content) == (200, b"")
    assert told.headers["content-type"] == whole.headers["content-type"]


def test_head_is_refused_where_get_is(live: Answering) -> None:
    assert httpx.head(live.url + "/classify").status_code == 405


def test_a_models_metadata_names_labels_versions_and_tensors(live: Answering) -> None:
    document = live.get("/v2/models/topic").json()
    assert document["name"] == "topic"
    assert document["versions"] == ["1"]
    assert document == live.get("/v2/models/topic/versions/1").json()
    assert {one["name"] for one in document["inputs"]} == {"text", "text_pair", "choices"}
    expert = live.bank.registry.expert("topic@1")
    assert document["parameters"]["labels"] == list(expert.labels)
    assert document["parameters"]["expert_digest"] == expert.digest
    answered = outputs(live.infer("goal red", model="topic"))
    assert list(answered) == [one["name"] for one in document["outputs"]]
    assert {name: one["datatype"] for name, one in answered.items()} == {
        one["name"]: one["datatype"] for one in document["outputs"]
    }


@pytest.mark.parametrize("path", ["/v2/models/mood/ready", "/v2/models/mood/versions/1/ready"])
def test_a_model_and_its_version_are_ready(live: Answering, path: str) -> None:
    assert live.get(path).json() == {"name": "mood", "ready": True}


@pytest.mark.parametrize(
    "path",
    [
        "nope",
        "nope/ready",
        "nope/versions/1",
        "nope/versions/1/ready",
        "mood/versions/9",
        "mood/versions/9/ready",
        "mood/versions/x",
        "mood/versions/-1",
        "mood/versions/1e3",
    ],
)
def test_what_nobody_has_is_not_found(live: Answering, path: str) -> None:
    assert problem(live.get(f"/v2/models/{path}"), 404)["code"] == 10


def test_rows_are_answered_in_order_and_as_the_bank_answers_them(live: Answering) -> None:
    found = outputs(live.infer(*TEXTS))
    expected = live.bank.predict(list(TEXTS))
    assert found["task"]["data"] == [one.task for one in expected]
    assert found["expert"]["data"] == [one.expert for one in expected]
    documents = [json.loads(text) for text in found["answer"]["data"]]
    for document, prediction in zip(documents, expected, strict=True):
        wanted = prediction.to_dict()
        assert document["index"] == wanted["index"]
        assert document["label"] == wanted["label"]
        assert document.get("labels") == wanted.get("labels")
        assert document["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
    router = live.bank.registry.router()
    assert found["router_digest"]["data"] == [router.digest] * len(TEXTS)
    digests = [live.bank.registry.expert(one.expert).digest for one in expected]
    assert found["expert_digest"]["data"] == digests


def test_probabilities_are_of_the_labels_beside_them(live: Answering) -> None:
    found = outputs(live.infer(*TEXTS))
    rows, width = found["probabilities"]["shape"]
    assert found["labels"]["shape"] == [rows, width]
    expected = live.bank.predict(list(TEXTS))
    for place, prediction in enumerate(expected):
        own = slice(place * width, (place + 1) * width)
        values, labels = found["probabilities"]["data"][own], found["labels"]["data"][own]
        count = len(prediction.scores)
        assert labels == [*prediction.scores, *[""] * (width - count)]
        assert values[:count] == pytest.approx(list(prediction.scores.values()), abs=1e-5)
        assert values[count:] == [0.0] * (width - count)


def test_a_named_task_answers_whatever_the_text(live: Answering) -> None:
    found = outputs(live.infer("goal red", "film bad", model="mood"))
    assert found["task"]["data"] == ["mood", "mood"]
    assert found["confidence"]["data"] == [1.0, 1.0]
    assert found["assessed"]["data"] == [False, False]


def test_a_group_answers_with_all_its_experts(live: Answering) -> None:
    found = outputs(live.infer("goal red", model="ticket"))
    (answer,) = (json.loads(text) for text in found["answer"]["data"])
    assert {one["task"] for one in answer["answers"]} == {"topic", "urgency"}
    assert all(one["expert_digest"] for one in answer["answers"])


def test_choices_go_to_a_multiple_choice_expert(live: Answering) -> None:
    choices = {
        "name": "choices",
        "shape": [2, 3],
        "datatype": "BYTES",
        "data": [["law party", "tax match", ""], ["tax match", "law party", "sky blue"]],
    }
    response = live.post(
        "/v2/models/auto/infer", {"inputs": [text_input("is the sky", "of a river"), choices]}
    )
    found = outputs(response)
    assert found["task"]["data"] == ["pick", "pick"]
    assert found["labels"]["data"][:3] == ["law party", "tax match", ""]
    assert all(place >= 0 for place in found["choice"]["data"])


def test_several_labels_are_a_json_array_in_one_text(live: Answering) -> None:
    found = outputs(live.infer("cell gene", model="marks"))
    (answer,) = (json.loads(text) for text in found["answer"]["data"])
    assert json.loads(found["label"]["data"][0]) == answer["labels"]


def test_only_outputs_that_were_asked_for_come_back_in_their_order(live: Answering) -> None:
    wanted = [{"name": "task"}, {"name": "label"}]
    assert list(outputs(live.infer("film bad", outputs=wanted))) == ["task", "label"]


def test_a_request_that_abstains_leaves_unknown_rows_without_an_answer(live: Answering) -> None:
    found = outputs(live.infer("money loan", parameters={"abstain": True}))
    assert found["abstained"]["data"] == found["unknown"]["data"]


def test_a_fallback_answers_unknown_rows(live: Answering) -> None:
    found = outputs(live.infer("money loan", parameters={"fallback": "mood"}))
    if found["unknown"]["data"] == [True]:
        assert found["task"]["data"] == ["mood"]


def test_the_callers_id_comes_back(live: Answering) -> None:
    assert live.infer("film bad", id="seven").json()["id"] == "seven"
    assert "id" not in live.infer("film bad").json()


def test_binary_and_json_say_the_same(live: Answering) -> None:
    blob = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in TEXTS)
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": "text",
                "shape": [len(TEXTS)],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(blob)},
            }
        ],
        "parameters": {"binary_data_output": True},
        "outputs": [
            {"name": "label"},
            {"name": "confidence", "parameters": {"binary_data": False}},
            {"name": "probabilities"},
        ],
    }
    json_part = json.dumps(head).encode()
    response = live.post(
        "/v2/models/auto/infer",
        json_part + blob,
        headers={
            "Inference-Header-Content-Length": str(len(json_part)),
            "Content-Type": "application/octet-stream",
        },
    )
    assert response.status_code == 200
    length = int(response.headers["Inference-Header-Content-Length"])
    document, rest = json.loads(response.content[:length]), response.content[length:]
    sizes = [one.get("parameters", {}).get("binary_data_size") for one in document["outputs"]]
    assert sizes[1] is None
    assert "data" in document["outputs"][1]
    assert len(rest) == sizes[0] + sizes[2]
    plain = outputs(live.infer(*TEXTS))
    count = len(plain["probabilities"]["data"])
    assert list(struct.unpack(f"<{count}d", rest[sizes[0] :])) == pytest.approx(
        plain["probabilities"]["data"], abs=1e-5
    )
    labels = []
    place = 0
    while place < sizes[0]:
        (size,) = struct.unpack_from("<I", rest, place)
        labels.append(rest[place + 4 : place + 4 + size].decode())
        place += 4 + size
    assert labels == plain["label"]["data"]


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2], [["film good", "film bad"], []]),
        ([2, 1], [["film good", "film bad"], []]),
        ([1, 1], ["film good", []]),
    ],
)
def test_data_that_is_nested_otherwise_than_its_shape_is_refused(
    live: Answering, shape: list[int], data: list[Any]
) -> None:
    given = {"name": "text", "datatype": "BYTES", "shape": shape, "data": data}
    problem(live.post("/v2/models/auto/infer", {"inputs": [given]}), 400)


def test_a_body_without_a_type_is_not_taken_from_a_page_of_another_site(live: Answering) -> None:
    given = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["film good"]}
    for site, status in (("cross-site", 403), ("same-origin", 200)):
        answer = httpx.post(
            f"{live.url}/v2/models/auto/infer",
            content=json.dumps({"inputs": [given]}),
            headers={"Sec-Fetch-Site": site},
        )
        assert answer.status_code == status


def test_nested_data_and_a_column_of_texts_are_taken(live: Answering) -> None:
    nested = {
        **text_input("film bad", "goal red"),
        "shape": [2, 1],
        "data": [["film bad"], ["goal red"]],
    }
    found = outputs(live.post("/v2/models/auto/infer", {"inputs": [nested]}))
    assert found["label"] == outputs(live.infer("film bad", "goal red"))["label"]


def test_a_deadline_that_cannot_be_held_is_a_504(live: Answering) -> None:
    response = live.post(
        "/v2/models/auto/infer",
        {"inputs": [text_input(*TEXTS)]},
        headers={"X-Deadline-Ms": "0.001"},
    )
    problem(response, 504)
    problem(live.infer("film bad", parameters={"timeout": 1}), 504)
    live.still_answers()
