"""``add --list --on``: several experts at once, the same to the bit, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import COMMAND, TASKS, Answer, call, done, write_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them"),
]


@pytest.fixture(scope="module")
def listed(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Words that add three tasks, and one that cannot be."""
    folder = tmp_path_factory.mktemp("listed")
    entries = [f"- {{task: {t}, data: {write_task(folder / f'{t}.csv', t, 80)}}}" for t in TASKS]
    entries.append(f"- {{task: lost, data: {folder / 'nowhere.csv'}}}")
    (folder / "list.yaml").write_text("\n".join(entries))
    words = ["add", "--list", folder / "list.yaml", "--epochs", 2]
    return [*words, "--backbone", backbone_folder("bert")]


@pytest.fixture(scope="module")
def one_by_one(listed: list[object], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the experts, added one after the other by one thread."""
    home = tmp_path_factory.mktemp("serial") / "bank"
    words = [*COMMAND, "--home", home, "--json", *listed]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run([str(word) for word in words], capture_output=True, env=env, check=False)
    return digests(Answer(found.returncode, found.stdout.decode(), found.stderr.decode()))


def digests(answer: Answer) -> dict[str, str]:
    """Of what was added; the one task without data fails, and alone."""
    document = answer.document
    assert [one["task"] for one in document["failed"]] == ["lost"], answer.err
    assert answer.code == 2
    return {one["task"]: one["expert"]["digest"] for one in document["added"]}


def test_processes_give_the_experts_that_one_gives_and_leave_out_what_fails(
    listed: list[object], one_by_one: dict[str, str], tmp_path: Path
) -> None:
    home = ("--home", tmp_path / "bank")
    answer = call(*home, "--json", *listed, "--on", "processes:2", "--threads", 1)
    assert digests(answer) == one_by_one
    assert list(one_by_one) == list(TASKS), "in the list's order"
    done(*home, "retrain-router")
    assert done(*home, "verify")


def workers_of(pid: int) -> Iterator[int]:
    """Processes that were spawned by one."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            status = (entry / "status").read_text()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        spawned = any(b"spawn_main" in word for word in words)
        if f"PPid:\t{pid}\n" in status and spawned:
            yield int(entry.name)


def test_a_worker_that_is_killed_changes_nothing_but_the_time(
    listed: list[object], one_by_one: dict[str, str], tmp_path: Path
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to find the workers")
    words = [*COMMAND, "--home", tmp_path / "bank", "--json", *listed]
    words += ["--on", "processes:1", "--threads", 1]
    with subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        killed: set[int] = set()
        deadline = time.monotonic() + 300
        while not killed and time.monotonic() < deadline:
            for worker in workers_of(command.pid):
                time.sleep(1.0)
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
            time.sleep(0.02)
        out, err = command.communicate(timeout=300)
    assert killed
    assert digests(Answer(command.returncode, out.decode(), err.decode())) == one_by_one


def test_ctrl_c_ends_the_workers_and_keeps_what_was_added(
    listed: list[object], tmp_path: Path
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to find the workers")
    home = tmp_path / "bank"
    words = [*COMMAND, "--home", home, *listed, "--on", "processes:2"]
    words += ["--epochs", 1000, "--patience", 1000]
    # A shell starts what runs in its background with SIGINT ignored.
    with subprocess.Popen(
        [str(word) for word in words],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command:
        deadline = time.monotonic() + 300
        while len(workers := list(workers_of(command.pid))) < 2:
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=60)
    assert command.returncode == 130
    assert not [one for one in workers if Path(f"/proc/{one}").exists()]


@pytest.mark.parametrize("where", ["processes", "processes:0", "processes:x", "slurm", "ray:one"])
def test_workers_that_there_are_not_are_refused_with_what_there_is(
    listed: list[object], tmp_path: Path, where: str
) -> None:
    answer = call("--home", tmp_path / "bank", "--json", *listed, "--on", where)
    assert answer.code == 2
    assert "expected processes:N, ray, or ray://HEAD:PORT" in answer.error["message"]
    assert not (tmp_path / "bank").exists()


def test_a_search_for_settings_is_not_done_at_once(listed: list[object], tmp_path: Path) -> None:
    home = ("--home", tmp_path / "bank", "--json")
    answer = call(*home, *listed, "--on", "processes:1", "--tune", 2)
    assert answer.code == 2
    assert all("--tune" in one["message"] for one in answer.document["failed"])
    assert answer.document["added"] == []


def test_one_task_alone_is_not_trained_at_once(tmp_path: Path) -> None:
    answer = call("--home", tmp_path, "--json", "add", "--task", "boolq", "--on", "processes:2")
    assert answer.code == 2
    assert "--list" in answer.error["message"]


def test_a_ray_cluster_gives_the_same_experts(
    listed: list[object], one_by_one: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    words = [*COMMAND, "--home", tmp_path / "bank", "--json", *listed, "--on", "ray"]
    found = subprocess.run([str(w) for w in words], capture_output=True, check=False, timeout=500)
    answer = Answer(found.returncode, found.stdout.decode(), found.stderr.decode())
    assert digests(answer) == one_by_one
    assert json.loads(answer.out)["added"]
