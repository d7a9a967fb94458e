"""Backbones from a Hub that answers over HTTP: which commit, which files, and what if not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import tiny
from hub_cache import ONE, TWO, as_sentence_transformer

from expertbank.backbones.identity import identity_of

LOAD = """
import json, sys
from expertbank.errors import ExpertBankError
from expertbank.backbones.hub import fetch
from expertbank.backbones.identity import identity_of
try:
    place = fetch(sys.argv[1], sys.argv[2] or None)
except ExpertBankError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
else:
    files = sorted(path.name for path in place.path.iterdir())
    digest = identity_of(place.path).digest
    print(json.dumps({"digest": digest, "revision": place.revision, "files": files}))
"""


class Hub:
    """A Hub with one repository, ``org/tiny``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.commits: dict[str, Path] = {}
        self.names: dict[str, str] = {}
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        parts = path.split("?")[0].strip("/").split("/")
        if parts[:4] == ["api", "models", "org", "tiny"]:
            revision = parts[5] if len(parts) > 5 else "main"
            commit = self.names.get(revision, revision)
            if commit in self.commits:
                files = sorted(p for p in self.commits[commit].rglob("*") if p.is_file())
                names = [p.relative_to(self.commits[commit]).as_posix() for p in files]
                told: object = {
                    "id": "org/tiny",
                    "sha": commit,
                    "siblings": [{"rfilename": name} for name in names],
                }
                if parts[4:5] == ["tree"]:
                    sizes = [file.stat().st_size for file in files]
                    told = [
                        {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                        for name, size in zip(names, sizes, strict=True)
                    ]
                return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
        if parts[:3] == ["org", "tiny", "resolve"] and parts[3] in self.commits:
            data = (self.commits[parts[3]] / "/".join(parts[4:])).read_bytes()
            etag = hashlib.sha256(data).hexdigest()
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": parts[3]}, data
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"


@pytest.fixture
def hub() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, data = server.hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *args: object) -> None: ...

    class Server(ThreadingHTTPServer):
        hub: Hub

    with Server(("127.0.0.1", 0), Handler) as server:
        server.hub = Hub(f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.hub
        server.shutdown()


@pytest.fixture
def one(backbone_folder, tmp_path: Path) -> Path:
    folder: Path = shutil.copytree(backbone_folder("bert"), tmp_path / "one")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return as_sentence_transformer(folder)


def load(hub: Hub, home: Path, reference: str, revision: str = "") -> dict:
    """What a fresh process with its cache in ``home`` gets."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", LOAD, reference, revision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_name_means_a_commit_whose_needed_files_are_downloaded_once(
    hub: Hub, one: Path, tmp_path: Path
) -> None:
    hub.commits, hub.names = {ONE: one}, {"main": ONE}
    found = load(hub, tmp_path, "org/tiny")
    assert (found["digest"], found["revision"]) == (identity_of(one).digest, ONE)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(found["files"])
    assert not {"pytorch_model.bin", "1_Pooling", "README.md"} & set(found["files"])
    hub.asked.clear()
    assert load(hub, tmp_path, "org/tiny", ONE) == found
    assert hub.asked == [], "a commit never comes to mean other files"


def test_a_commit_is_had_after_the_branch_moved_on(hub: Hub, one: Path, tmp_path: Path) -> None:
    two = tiny.build(tmp_path / "two", "bert", seed=1)
    hub.commits, hub.names = {ONE: one, TWO: two}, {"main": TWO, "v1": ONE}
    asked, tagged = load(hub, tmp_path, "org/tiny", ONE), load(hub, tmp_path, "org/tiny@v1")
    assert asked == tagged
    assert load(hub, tmp_path, "org/tiny")["revision"] == TWO
    assert load(hub, tmp_path, "org/tiny@main", ONE) == asked, "what was recorded goes before"


def test_a_commit_that_the_hub_lost_is_told_with_the_one_it_has(
    hub: Hub, one: Path, tmp_path: Path
) -> None:
    hub.commits, hub.names = {TWO: one}, {"main": TWO}
    found = load(hub, tmp_path, "org/tiny", ONE)
    assert found["error"] == "SourceUnavailableError"
    assert f"at commit {ONE}" in found["message"]
    assert f"--backbone org/tiny@{TWO}" in found["message"]


def test_without_the_hub_the_last_download_serves(hub: Hub, one: Path, tmp_path: Path) -> None:
    hub.commits, hub.names = {ONE: one}, {"main": ONE}
    before = load(hub, tmp_path, "org/tiny")
    hub.commits.clear()
    assert load(hub, tmp_path, "org/tiny") == before
