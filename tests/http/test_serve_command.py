"""``expertbank serve`` as a process: how it starts, what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import warm
from answering import text_input
from served import running
from small_engine import SmallEngine

from expertbank import Bank

pytestmark = pytest.mark.slow
COLD = (sys.executable, "-m", "expertbank_cli.main")
"""The command as a process of its own, which gets every signal itself."""


@contextmanager
def _serving(
    *words: object, home: Path, program: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as it runs, and where it answers; ended at the latest when this ends."""
    command = [
        *(program or warm.command()),
        "--home",
        str(home),
        "--device",
        "cpu",
        "--json",
        "serve",
        "--port",
        "0",
    ]
    with subprocess.Popen(
        [*command, "--port", "0", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            assert first, process.stderr and process.stderr.read()
            yield process, json.loads(first)["serving"]
        finally:
            process.kill()


def _fails(*words: object, home: Path, code: int) -> str:
    return _told([*warm.command(), "--home", home, "--device", "cpu", "serve", *words], code)


def _told(command: Sequence[object], code: int, **environment: str) -> str:
    ended = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_in_front_of_an_engine_it_passes_completions_on(served_home: Path) -> None:
    engine = SmallEngine("adapter-of-mood")
    with running(engine.app) as there:
        words = ["--engine", f"{there}/v1", "--engine-model", "mood=adapter-of-mood"]
        words += ["--engine-model", "moood=x"]
        with _serving(*words, home=served_home) as (process, url):
            answered = httpx.post(f"{url}/v1/completions", json={"prompt": "film bad"}, timeout=60)
            assert answered.status_code == 200, answered.text
            assert answered.json()["choices"][0]["text"] == "adapter-of-mood answers"
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=60)
            assert process.returncode == 0
            assert "no task 'moood' is served" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_with_a_line_for_every_request(
    served_home: Path, number: int
) -> None:
    with _serving(home=served_home) as (process, url):
        body = {"inputs": [text_input("film bad secret words")]}
        answered = httpx.post(
            f"{url}/v2/models/auto/infer", json=body, headers={"X-Request-ID": "mine"}, timeout=60
        )
        assert answered.status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    logged = [json.loads(line) for line in out.splitlines()]
    assert [one["id"] for one in logged] == ["mine"]
    assert "secret" not in out + err
    assert "Traceback" not in err


def test_sighup_has_it_look_for_what_is_new(served_home: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(served_home, tmp_path / "bank"))
    with _serving("--reload", "off", home=home, program=COLD) as (process, url):
        with Bank.open(home, device="cpu") as bank:
            router = bank.retrain_router("ridge").router
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while httpx.get(f"{url}/v2/models/auto").json()["versions"] != [str(router.version)]:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "SIGHUP: state 2 is served" in err


def test_a_signal_while_it_loads_ends_it_at_once_and_nothing_is_said_to_be_served(
    served_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizers.py").write_text("import time\ntime.sleep(60)\n")
    command = [*COLD, "--home", str(served_home)]
    with subprocess.Popen(
        [*command, "--device", "cpu", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    ) as process:
        try:
            assert process.stderr is not None
            url = re.search(r"http://\S+", process.stderr.readline()).group()
            until = time.monotonic() + 60
            while not _lives(url):
                assert time.monotonic() < until
                time.sleep(0.05)
            process.terminate()
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "stopped before anything was served" in err
    assert "serving " not in err
    assert "was answered" not in err
    assert {json.loads(line)["route"] for line in out.splitlines()} == {"/v2/health/live"}


def _lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/live", timeout=60).status_code == 200
    except httpx.ConnectError:
        return False


def test_a_bundle_is_served_without_a_bank(served_home: Path, tmp_path: Path) -> None:
    with Bank.open(served_home, read_only=True, device="cpu") as bank:
        bank.export(tmp_path / "bundle")
        expected = bank.predict("film bad")[0]
    with _serving("--bundle", tmp_path / "bundle", home=tmp_path / "none") as (process, url):
        found = httpx.post(f"{url}/predict", json={"text": "film bad"}, timeout=60).json()
        assert (found["task"], found["label"]) == (expected.task, expected.label)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert not (tmp_path / "none").exists()


def test_other_machines_without_keys_are_warned_of(served_home: Path, tmp_path: Path) -> None:
    with _serving("--host", "0.0.0.0", home=served_home) as (process, _):
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert "WARNING" in err
    assert "--api-key-file" in err
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length\n")
    with _serving("--host", "0.0.0.0", "--api-key-file", keys, home=served_home) as (process, _):
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert "WARNING" not in err


def test_an_address_that_is_taken_is_told(served_home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "in use" in _fails("--port", port, home=served_home, code=2)


@pytest.mark.parametrize(
    ("words", "code", "about"),
    [
        (("--max-rows", "0"), 2, "max_rows"),
        (("--max-rows", "2048"), 2, "queue_rows"),
        (("--host", "no.such.host.invalid"), 2, "cannot listen"),
        (("--api-key-file", "/no/such/file"), 2, "cannot read"),
        (("--bundle", "/no/such/bundle"), 10, "bundle"),
        (("--reload", "maybe"), 2, "auto"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    served_home: Path, words: tuple[str, ...], code: int, about: str
) -> None:
    assert about in _fails("--port", "0", *words, home=served_home, code=code)


def test_a_bank_that_is_none_ends_it_at_once(tmp_path: Path) -> None:
    _fails("--port", "0", home=tmp_path / "none", code=10)


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')\n"
    )
    command = [sys.executable, "-m", "expertbank_cli.main", "--home", tmp_path / "bank", "serve"]
    told = _told(command, 2, PYTHONPATH=str(tmp_path))
    assert "pip install 'expertbank[serve]'" in told


def test_other_commands_do_not_load_the_web_framework() -> None:
    code = (
        "import sys, expertbank_cli.app, expertbank_cli.serving;"
        "print([m for m in ('fastapi', 'starlette', 'uvicorn', 'torch') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
