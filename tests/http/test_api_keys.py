"""Keys: who gets in, what stays open, and what happens when the file changes."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from answering import Answering, answering, problem, text_input

from expertbank.errors import InputError
from expertbank.http.keys import KeyFile, offered_keys, parse_keys

ONE, TWO, THREE = "one-key-0123456789", "two-key-0123456789", "three-key-0123456789"


def _write(path: Path, *keys: str) -> Path:
    """Replace the file as an editor would, so that its inode changes."""
    aside = path.with_suffix(".new")
    aside.write_text("# keys\n\n" + "".join(f"{key}\n" for key in keys))
    os.replace(aside, path)
    return path


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("keys") / "keys", ONE, TWO)


@pytest.fixture(scope="module")
def keyed(served_home: Path, key_file: Path) -> Iterator[Answering]:
    with answering(served_home, keys=key_file) as found:
        yield found


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ONE}"},
        {"Authorization": f"bearer  {TWO}"},
        {"X-API-Key": ONE},
        {"Authorization": _basic(TWO)},
        {"Authorization": "Bearer wrong", "X-API-Key": ONE},
    ],
)
def test_any_key_of_the_file_gets_in(keyed: Answering, headers: dict[str, str]) -> None:
    body = {"inputs": [text_input("film bad")]}
    assert keyed.post("/v2/models/auto/infer", body, headers=headers).status_code == 200
    assert keyed.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {ONE}x"},
        {"Authorization": f"Bearer {ONE[:-1]}"},
        {"Authorization": ONE},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic !!!"},
        {"Authorization": _basic("wrong")},
        {"X-API-Key": ""},
        {"X-API-Key": f"{ONE}, {TWO}"},
        {"X-API-Key": "# keys"},
    ],
)
@pytest.mark.parametrize(
    "path", ["/v2", "/v1/models", "/", "/metrics", "/openapi.json", "/nope", "/v2/health/ready/"]
)
def test_nothing_but_health_answers_without_one(
    keyed: Answering, path: str, headers: dict[str, str]
) -> None:
    refused = keyed.get(path, headers=headers)
    problem(refused, 401)
    assert ONE not in refused.text
    assert refused.headers.get_list("www-authenticate")[0].startswith("Bearer")


@pytest.mark.parametrize(
    "path", ["/predict", "/classify", "/admin/reload", "/v2/models/auto/infer"]
)
def test_nobody_asks_or_reloads_without_one(keyed: Answering, path: str) -> None:
    problem(keyed.post(path, {"text": "film bad"}), 401)


def test_probes_need_no_key(keyed: Answering) -> None:
    assert keyed.get("/v2/health/live").status_code == 200
    assert keyed.get("/v2/health/ready").status_code == 200


def test_a_changed_file_counts_at_once(
    keyed: Answering, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def status(key: str) -> int:
        return keyed.get("/v2", headers={"X-API-Key": key}).status_code

    try:
        _write(key_file, TWO, THREE)
        assert (status(ONE), status(TWO), status(THREE)) == (401, 200, 200)
        with caplog.at_level(logging.WARNING, "expertbank.http"):
            _write(key_file)  # no key at all: nobody is locked out, and the log tells
            assert (status(ONE), status(TWO)) == (401, 200)
            key_file.unlink()
            assert (status(ONE), status(TWO)) == (401, 200)
        assert "stay as they were" in caplog.text
        assert TWO not in caplog.text
    finally:
        _write(key_file, ONE, TWO)
    assert status(ONE) == 200


@pytest.mark.parametrize(
    ("text", "about"),
    [("", "no key"), ("# a\n\n", "no key"), ("short\n", "16"), ("with a space in it\n", "ASCII")],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, about: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=about):
        parse_keys(text, "keys")
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InputError, match=about):
        KeyFile(tmp_path / "keys")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        KeyFile(tmp_path / "none")


def test_keys_are_found_wherever_they_may_stand() -> None:
    headers = [
        (b"authorization", b"Bearer a b"),
        (b"x-api-key", b" c "),
        (b"authorization", _basic("d:e").encode()),
        (b"cookie", b"f"),
    ]
    assert offered_keys(headers) == ("a b", "c", "d:e")
