"""What is no request for inference gets the right refusal, and the next caller an answer."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import Any

import httpx
import pytest
from answering import Answering, problem, text_input

TEXT = text_input("film bad")
INFER = "/v2/models/auto/infer"


def _blob(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in elements)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe{}", 400),
        (b'{"inputs": NaN}', 400),
        (b'{"inputs": ' + b"9" * 5000 + b"}", 400),
        (b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        ({}, 400),
        ({"inputs": []}, 400),
        ({"inputs": {}}, 400),
        ({"inputs": ["text"]}, 400),
        ({"inputs": [{**TEXT, "name": "words"}]}, 400),
        ({"inputs": [{**TEXT, "name": None}]}, 400),
        ({"inputs": [TEXT, TEXT]}, 400),
        ({"inputs": [{**TEXT, "datatype": "INT64"}]}, 400),
        ({"inputs": [{**TEXT, "datatype": None}]}, 400),
        ({"inputs": [{**TEXT, "shape": [2]}]}, 400),
        ({"inputs": [{**TEXT, "shape": [-1]}]}, 400),
        ({"inputs": [{**TEXT, "shape": []}]}, 400),
        ({"inputs": [{**TEXT, "shape": [1, 1, 1]}]}, 400),
        ({"inputs": [{**TEXT, "shape": [True]}]}, 400),
        ({"inputs": [{**TEXT, "shape": [1.0]}]}, 400),
        ({"inputs": [{**TEXT, "shape": "1"}]}, 400),
        ({"inputs": [{**TEXT, "shape": [1, 2], "data": ["a", "b"]}]}, 400),
        ({"inputs": [{**TEXT, "shape": [2**31, 2**31]}]}, 400),
        ({"inputs": [{**TEXT, "shape": [0], "data": []}]}, 400),
        ({"inputs": [{**TEXT, "data": None}]}, 400),
        ({"inputs": [{**TEXT, "data": [1]}]}, 400),
        ({"inputs": [{**TEXT, "data": [None]}]}, 400),
        ({"inputs": [{**TEXT, "data": [[["a"]]]}]}, 400),
        ({"inputs": [{**TEXT, "parameters": []}]}, 400),
        ({"inputs": [{**TEXT, "parameters": {"binary_data_size": 5}}]}, 400),
        ({"inputs": [{**TEXT, "parameters": {"shared_memory_region": "x"}}]}, 400),
        ({"inputs": [TEXT, {**TEXT, "name": "text_pair", "shape": [2], "data": ["a", "b"]}]}, 400),
        ({"inputs": [TEXT, {**TEXT, "name": "choices"}]}, 400),
        ({"inputs": [TEXT], "id": 7}, 400),
        ({"inputs": [TEXT], "parameters": {"abstian": True}}, 400),
        ({"inputs": [TEXT], "parameters": {"sequence_start": 0}}, 400),
        ({"inputs": [TEXT], "outputs": [{"name": "nope"}]}, 400),
        ({"inputs": [TEXT], "outputs": "label"}, 400),
        ({"inputs": [TEXT], "outputs": [{"name": "label"}, {"name": "label"}]}, 400),
        (
            {"inputs": [TEXT], "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
            400,
        ),
        ({"inputs": [TEXT], "parameters": {"timeout": -1}}, 400),
        ({"inputs": [TEXT], "parameters": {"timeout": "soon"}}, 400),
        ({"inputs": [TEXT], "parameters": {"timeout": 10**400}}, 400),
        ({"inputs": [TEXT], "parameters": {"abstain": "yes"}}, 400),
        ({"inputs": [TEXT], "parameters": {"fallback": 1}}, 400),
        ({"inputs": [TEXT], "parameters": {"fallback": "nope"}}, 404),
        ({"inputs": [TEXT], "parameters": {"fallback": "mood", "abstain": True}}, 422),
        ({"inputs": [text_input("")]}, 422),
        ({"inputs": [text_input("film bad", " \u200b ")]}, 422),
        ({"inputs": [text_input("a\0b")]}, 422),
        ({"inputs": [text_input("\ud800")]}, 422),
        ({"inputs": [text_input(*["film bad"] * 513)]}, 413),
    ],
)
def test_json_that_is_no_request_is_refused(live: Answering, body: Any, status: int) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    problem(live.post(INFER, sent), status)
    live.still_answers()


@pytest.mark.parametrize(
    ("blob", "size", "shape"),
    [
        (_blob(b"film bad"), 3, [1]),
        (_blob(b"film bad"), 400, [1]),
        (_blob(b"film bad"), -1, [1]),
        (_blob(b"film bad"), "12", [1]),
        (_blob(b"film bad"), 12, [2]),
        (_blob(b"film bad", b"goal"), 20, [1]),
        (_blob(b"film bad") + b"rest", 12, [1]),
        (struct.pack("<I", 2**32 - 1) + b"film", 8, [1]),
        (_blob(b"\xff\xfe"), 6, [1]),
        (b"\x01\x00", 2, [1]),
        (b"", 0, [1]),
    ],
)
def test_binary_data_that_does_not_fit_is_refused(
    live: Answering, blob: bytes, size: object, shape: list[int]
) -> None:
    tensor = {"name": "text", "shape": shape, "datatype": "BYTES"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    problem(live.post(INFER, head + blob, headers=headers), 400)
    live.still_answers()


@pytest.mark.parametrize("told", ["x", "-1", "99999999", "1.5", "0x10", "9" * 40])
def test_a_json_length_that_is_none_is_refused(live: Answering, told: str) -> None:
    body = json.dumps({"inputs": [TEXT]}).encode()
    problem(live.post(INFER, body, headers={"Inference-Header-Content-Length": told}), 400)


def test_choices_without_an_expert_for_them_are_refused(live: Answering) -> None:
    choices = {"name": "choices", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "b"]}
    body = {"inputs": [TEXT, choices]}
    told = problem(live.post("/v2/models/mood/infer", body), 422)
    assert "choices" in told["detail"]
    told = problem(live.post("/v2/models/pick/infer", {"inputs": [TEXT]}), 422)
    assert "choices" in told["detail"]
    live.still_answers()


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/xml"])
def test_other_media_types_are_refused(live: Answering, kind: str) -> None:
    body = json.dumps({"inputs": [TEXT]}).encode()
    problem(live.post(INFER, body, headers={"Content-Type": kind}), 415)


def test_a_body_of_ten_megabytes_is_refused_and_told_so(live: Answering) -> None:
    told = problem(live.post(INFER, b"x" * 10_000_000), 413)
    assert "4000000" in told["detail"]
    live.still_answers()


def test_a_small_body_that_unpacks_to_a_large_one_is_refused(live: Answering) -> None:
    packed = gzip.compress(b" " * 50_000_000)
    problem(live.post(INFER, packed, headers={"Content-Encoding": "gzip"}), 413)
    problem(live.post(INFER, b"no gzip", headers={"Content-Encoding": "gzip"}), 400)
    problem(live.post(INFER, packed[:-9], headers={"Content-Encoding": "br"}), 415)
    live.still_answers()


def test_a_gzip_body_of_several_members_is_read(live: Answering) -> None:
    body = json.dumps({"inputs": [TEXT]}).encode()
    packed = gzip.compress(body[:9]) + gzip.compress(b"") + gzip.compress(body[9:])
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert live.post(INFER, packed, headers=headers).status_code == 200
    problem(live.post(INFER, packed[:-3], headers=headers), 400)
    problem(live.post(INFER, packed + b"no gzip", headers=headers), 400)
    bomb = gzip.compress(b" " * 3_000_000) * 2
    problem(live.post(INFER, bomb, headers=headers), 413)
    twice = zlib.compress(body) * 2
    problem(live.post(INFER, twice, headers={**headers, "Content-Encoding": "deflate"}), 400)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/", "GET, HEAD, POST"),
        ("PUT", "/v2", "GET, HEAD"),
        ("GET", "/classify", "POST"),
        ("OPTIONS", "/openapi.json", "GET, HEAD"),
        ("POST", "/v2/models/mood", "GET, HEAD"),
    ],
)
def test_allow_names_every_method_of_an_address(
    live: Answering, method: str, path: str, allowed: str
) -> None:
    told = httpx.request(method, live.url + path, timeout=30)
    problem(told, 405)
    assert told.headers["allow"] == allowed


def test_addresses_and_methods_that_are_none(live: Answering) -> None:
    problem(live.get("/v2/models"), 404)
    problem(live.get("/docs"), 404)
    problem(live.get(INFER), 405)
    assert "POST" in live.get(INFER).headers["allow"]
    problem(live.post("/v2/health/live", b""), 405)
    problem(live.get("/v2/models/..%2f..%2fetc%2fpasswd"), 404)
    problem(live.get("/" + "a" * 5000), 404)


@pytest.mark.parametrize("told", ["0", "-5", "soon", "nan", "inf"])
def test_a_deadline_that_is_no_time_is_refused(live: Answering, told: str) -> None:
    problem(live.post(INFER, {"inputs": [TEXT]}, headers={"X-Deadline-Ms": told}), 400)


def test_a_request_id_comes_back_unless_it_could_do_harm(live: Answering) -> None:
    named = live.get("/v2", headers={"X-Request-ID": "run-7:row.3"})
    assert named.headers["x-request-id"] == "run-7:row.3"
    for harmful in ("a b", "<script>", "x" * 500, '"'):
        found = live.get("/v2", headers={"X-Request-ID": harmful}).headers["x-request-id"]
        assert found != harmful
        assert len(found) == 32


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/predict", b'{"text": "film bad", "text": "goal red"}', "text"),
        ("/classify", b'{"input": "film bad", "input": "goal red"}', "input"),
        ("/classify", b'{"input": "film", "model": "mood", "x": {"a": 1, "a": 2}}', "a"),
        ("/v1/completions", b'{"prompt": "film", "model": "mood", "model": "topic"}', "model"),
        (INFER, b'{"inputs": [{"name": "text", "name": "choices"}]}', "name"),
    ],
)
def test_a_key_that_stands_twice_is_refused_and_named(
    live: Answering, path: str, body: bytes, key: str
) -> None:
    answer = live.post(path, body, headers={"Content-Type": "application/json"})
    told = problem(answer, answer.status_code)
    assert told["status"] in {400, 422}
    assert f"key '{key}' stands twice in one object; keep one of them" in told["detail"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": ' * 100_000, "nested too deeply"),
        (b'[{"text": %s}]' % (b"9" * 5000), "a whole number of too many digits"),
        (b'{"text": %s}' % (b"9" * 5000), "a whole number of too many digits"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_lines_that_python_cannot_read_are_told_without_its_own_words(
    live: Answering, body: bytes, why: str, kind: str
) -> None:
    detail = problem(live.post("/predict", body, headers={"Content-Type": kind}), 400)["detail"]
    assert why in detail
    assert "recursion" not in detail
    assert "sys." not in detail


@pytest.mark.parametrize("path", ["/classify", "/predict"])
def test_a_byte_order_mark_in_front_is_no_part_of_the_body(live: Answering, path: str) -> None:
    body = b'\xef\xbb\xbf{"input": "film bad", "text": "film bad"}'
    answer = live.post(path, body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
