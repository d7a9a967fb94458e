"""Triton's own client, unmodified, in both of its modes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from answering import Answering

triton = pytest.importorskip("tritonclient.http", reason="install expertbank[test]")

TEXTS = ["film bad is the sky", "goal red of a river", "naïve 文 text"]
NAMES = ("label", "probabilities", "unknown", "choice", "task", "expert_digest", "router_digest")


@pytest.fixture
def client(live: Answering) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(live.host) as found:
        yield found


def _text(texts: list[str], *, binary: bool, column: bool = False) -> triton.InferInput:
    values = np.array(texts, dtype=np.object_)
    values = values[:, None] if column else values
    made = triton.InferInput("text", list(values.shape), "BYTES")
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype == np.object_:
        plain = [v if isinstance(v, str) else v.decode() for v in one.flatten()]
        return plain == [v if isinstance(v, str) else v.decode() for v in other.flatten()]
    return bool(np.allclose(one, other, atol=1e-5))


def test_health_and_metadata(live: Answering, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("auto")
    assert client.is_model_ready("mood", "1")
    assert not client.is_model_ready("nope")
    assert client.get_server_metadata()["name"] == "expertbank"
    assert client.get_model_metadata("topic")["versions"] == ["1"]
    assert client.get_model_metadata("topic", "1")["name"] == "topic"


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True, None])
def test_every_mode_gives_the_banks_answers(
    live: Answering,
    client: triton.InferenceServerClient,
    binary_in: bool,
    binary_out: bool | None,
    column: bool,
) -> None:
    wanted = None
    if binary_out is not None:
        wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in NAMES]
    given = _text(TEXTS, binary=binary_in, column=column)
    result = client.infer("auto", [given], outputs=wanted, request_id="7", timeout=20_000_000)
    assert result.get_response()["id"] == "7"
    expected = live.bank.predict(TEXTS)
    assert _same(
        result.as_numpy("task"), np.array([one.task for one in expected], dtype=np.object_)
    )
    width = max(len(one.scores) for one in expected)
    padded = [[*one.scores.values(), *[0.0] * (width - len(one.scores))] for one in expected]
    assert _same(result.as_numpy("probabilities"), np.array(padded))
    assert result.as_numpy("unknown").dtype == np.bool_
    assert result.as_numpy("choice").tolist() == [-1] * len(TEXTS)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, encoding: str) -> None:
    plain = client.infer("auto", [_text(TEXTS, binary=True)])
    packed = client.infer(
        "auto", [_text(TEXTS, binary=True)], request_compression_algorithm=encoding
    )
    assert _same(plain.as_numpy("label"), packed.as_numpy("label"))


def test_choices_and_a_named_version(client: triton.InferenceServerClient) -> None:
    choices = triton.InferInput("choices", [1, 3], "BYTES")
    values = np.array([["law party", "tax match", ""]], dtype=np.object_)
    choices.set_data_from_numpy(values)
    text = _text(["is the sky"], binary=True)
    result = client.infer("pick", [text, choices], model_version="1")
    assert result.as_numpy("labels").tolist() == [[b"law party", b"tax match"]]
    assert result.get_response()["model_version"] == "1"


def test_requests_at_once_each_get_their_own_answer(live: Answering) -> None:
    with triton.InferenceServerClient(live.host, concurrency=8) as client:
        asked = [
            client.async_infer("auto", [_text([text], binary=True)], request_id=str(number))
            for number, text in enumerate(TEXTS * 8)
        ]
        found = [one.get_result() for one in asked]
    expected = [one.task.encode() for one in live.bank.predict(TEXTS)] * 8
    assert [one.as_numpy("task")[0] for one in found] == expected
    assert [one.get_response()["id"] for one in found] == [str(n) for n in range(len(found))]


@pytest.mark.parametrize(
    ("model", "version", "status"), [("nope", "", "404"), ("mood", "9", "404")]
)
def test_errors_reach_the_client_as_one_sentence(
    client: triton.InferenceServerClient, model: str, version: str, status: str
) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(model, [_text(TEXTS, binary=True)], model_version=version)
    assert caught.value.status() == status
    assert "no" in caught.value.message()


def test_an_empty_text_is_refused_and_the_client_told(
    client: triton.InferenceServerClient,
) -> None:
    with pytest.raises(triton.InferenceServerException, match="empty") as caught:
        client.infer("auto", [_text(["film bad", ""], binary=True)])
    assert caught.value.status() == "422"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"timeout": 20_000_000},
        {"priority": 0, "sequence_id": 0},
        {"priority": 3, "parameters": {"content_type": "str"}},
        {"outputs": [triton.InferRequestedOutput("label")], "request_id": "7"},
        {"parameters": {"abstain": True}},
        {"parameters": {"fallback": "mood"}},
    ],
)
def test_what_the_client_sends_by_itself_is_taken(
    client: triton.InferenceServerClient, given: dict[str, object]
) -> None:
    result = client.infer("auto", [_text(TEXTS, binary=True)], **given)
    assert len(result.as_numpy("label")) == len(TEXTS)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sequence_id": 5, "sequence_start": True}, "'sequence_id' is not supported"),
        (
            {"parameters": {"abstian": True}},
            "no parameter 'abstian', did you mean abstain",
        ),
    ],
)
def test_what_would_be_passed_over_is_refused_by_its_name(
    client: triton.InferenceServerClient, given: dict[str, object], told: str
) -> None:
    with pytest.raises(triton.InferenceServerException, match=told) as caught:
        client.infer("auto", [_text(TEXTS, binary=True)], **given)
    assert caught.value.status() == "400"
