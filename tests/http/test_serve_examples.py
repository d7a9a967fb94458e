"""What `examples/serve` and `docs/serving.md` show works against the command that users run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm

pytest.importorskip("fastapi")

from served import make_bank

from expertbank.http.limits import EngineConfig, HttpConfig
from expertbank.serving.limits import ServeConfig
from expertbank.settings import options_of

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "examples" / "serve"
SETTINGS = (ServeConfig, HttpConfig, EngineConfig)
KEY = "a-key-of-sixteen-characters-or-more"


@pytest.fixture(scope="module")
def home(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("served") / "bank"
    make_bank(home, backbone_folder("bert"))
    return home


@pytest.fixture(scope="module", params=["open", "with keys"])
def served(home: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Address of a server in a process of its own, and a key that it takes."""
    words = [*warm.command(), "--json", "--home", str(home), "serve", "--port", "0"]
    if request.param == "with keys":
        keys = home.parent / "keys"
        keys.write_text(f"# ours\n{KEY}\n")
        words += ["--api-key-file", str(keys)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["serving"], KEY
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode in {0, 143}


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=120, check=False
    )


def test_the_client_prints_where_each_text_went_and_what_was_answered(served) -> None:
    address, key = served
    told = run(
        *(sys.executable, SERVE / "client.py", "--url", address, "--key", key),
        *("film bad the sky", "goal red the sky"),
    )
    assert told.returncode == 0, told.stderr
    first, second = (line.split("\t") for line in told.stdout.splitlines())
    assert first[0] == "mood"
    assert second[0] == "topic"
    assert second[1] in {"red", "green"}
    assert second[3] == "goal red the sky"


def test_the_client_shows_one_sentence_where_it_is_refused(served) -> None:
    address, key = served
    words = (sys.executable, SERVE / "client.py", "--url", address, "--key", key)
    told = run(*words, "--model", "nobody", "sky")
    assert told.returncode == 1
    assert told.stderr.startswith("404: ")
    assert "Traceback" not in told.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_line_of_the_script_for_curl_is_answered(served) -> None:
    address, key = served
    told = run("bash", SERVE / "curl.sh", address, key)
    assert told.returncode == 0, told.stdout + told.stderr
    parts = told.stdout.split("# ")
    assert len(parts) == 8
    by_title = {part.partition("\n")[0]: part.partition("\n")[2] for part in parts[1:]}
    lines = by_title["JSON lines in and out, as they come"].split()
    assert len([line for line in lines if "confidence" in line]) >= 1
    assert '"outputs"' in by_title["Open Inference Protocol: the router chooses"]
    assert "expertbank_answers_total{" in by_title["Metrics"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_of_the_page_of_documentation_is_answered(served) -> None:
    address, key = served
    text = (ROOT / "docs" / "serving.md").read_text()
    lines = re.findall(r"^\$ curl -s localhost:8000(/\S+) (.+)$", text, re.MULTILINE)
    assert len(lines) >= 3
    for path, rest in lines:
        sent = ["-H", f"Authorization: Bearer {key}", "-w", "\n%{http_code}", *shlex.split(rest)]
        told = run("curl", "-s", address + path, *sent)
        body, _, status = told.stdout.rpartition("\n")
        assert status == "200", told
        assert json.loads(body.splitlines()[0].removeprefix("data: "))


def test_the_container_has_what_it_copies_and_runs_without_rights() -> None:
    text = (SERVE / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
    assert text.rindex("\nUSER expertbank") > text.rindex("\nRUN ")
    assert re.search(r"^VOLUME /bank$", text, re.MULTILINE)
    assert "/v2/health/ready" in text.partition("HEALTHCHECK")[2]
    _known(shlex.split(" ".join(json.loads(re.findall(r"^CMD (\[.+\])$", text, re.M)[-1]))))


def test_the_unit_starts_a_command_that_there_is_and_drops_every_right() -> None:
    text = (SERVE / "expertbank.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    _known(shlex.split(start.partition(" serve ")[2]))
    for right in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert f"\n{right}\n" in text
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(stop) > ServeConfig().drain_seconds, "a drain ends before it is killed"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_can_read_the_unit() -> None:
    told = run("systemd-analyze", "verify", "--man=no", SERVE / "expertbank.service")
    odd = [
        line
        for line in told.stderr.splitlines()
        if "expertbank.service" in line and "not executable" not in line
    ]
    assert odd == []


def test_the_page_of_documentation_names_options_that_there_are() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    _known(re.findall(r"`(--[a-z][a-z-]+)", text))


def _known(words: list[str]) -> None:
    """Every option among the words is one of `serve`, or of all commands."""
    own = {option.flag for cls in SETTINGS for option in options_of(cls)}
    own |= {"--bundle", "--host", "--port", "--api-key-file", "--log-texts", "--backbone"}
    own |= {"--engine", "--engine-model"}
    own |= {"--external"}  # of `add`, for what an engine holds
    own |= {"--home", "--json", "--device", "--quiet"}
    assert {word for word in words if word.startswith("--")} <= own
