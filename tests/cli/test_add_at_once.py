"""``add --list --on``: several experts at once, the same to the bit, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import COMMAND, TASKS, Answer, call, done, write_task

from expertbank.errors import ExpertBankError
from expertbank.workflows.growing.on_ray import Ray

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


def test_ctrl_c_ends_the_workers_and_names_the_command_that_goes_on(
    listed: list[object], tmp_path: Path
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to find the workers")
    home = tmp_path / "bank"
    words = [*COMMAND, "--home", home, *listed, "--on", "processes:2"]
    words += ["--epochs", 1000, "--patience", 1000]
    kept = [home / "checkpoints" / f"{task}.safetensors" for task in list(TASKS)[:2]]
    # A shell starts what runs in its background with SIGINT ignored.
    with subprocess.Popen(
        [str(word) for word in words],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command:
        deadline = time.monotonic() + 300
        while not all(file.exists() for file in kept):
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = list(workers_of(command.pid))
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=60)
    assert command.returncode == 130
    told = err.decode().splitlines()[-1]
    assert "nothing half-done was kept" not in told
    assert all(task in told.partition("is kept so far")[0] for task in list(TASKS)[:2])
    assert told.endswith(" --resume")
    assert not [one for one in workers if Path(f"/proc/{one}").exists()]


@pytest.mark.parametrize(
    "where", ["processes", "processes:0", "processes:x", "slurm", "ray:one", "ray://", "ray://head"]
)
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


def test_threads_of_workers_that_there_are_not_are_refused(tmp_path: Path) -> None:
    answer = call("--home", tmp_path / "bank", "--json", "add", "--task", "boolq", "--threads", 2)
    assert answer.code == 2
    assert "--on" in answer.error["message"]
    assert not (tmp_path / "bank").exists()


# -- on Ray, where it is installed -----------------------------------------------------------------


@pytest.fixture
def on_ray(listed: list[object], tmp_path: Path) -> list[str]:
    """The command on a Ray of its own."""
    pytest.importorskip("ray")
    return [*map(str, [*COMMAND, "--home", tmp_path / "bank", "--json", *listed, "--on", "ray"])]


def below(pid: int) -> dict[int, str]:
    """Processes that come of one, with the words they show."""
    parents, found = {}, {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
    last = {pid}
    while last := {one for one, parent in parents.items() if parent in last}:
        for one in last:
            with suppress(OSError):
                found[one] = Path(f"/proc/{one}/cmdline").read_bytes().decode(errors="replace")
    return found


def seen(command: subprocess.Popen[bytes], shown: str) -> int:
    """A process below the command that shows these words, as soon as there is one."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert command.poll() is None
        for one, words in below(command.pid).items():
            if shown in words:
                return one
        time.sleep(0.05)
    raise AssertionError(f"no {shown} in time")


def test_a_ray_cluster_gives_the_same_experts(
    on_ray: list[str], one_by_one: dict[str, str]
) -> None:
    found = subprocess.run(on_ray, capture_output=True, check=False, timeout=500)
    answer = Answer(found.returncode, found.stdout.decode(), found.stderr.decode())
    assert digests(answer) == one_by_one
    assert json.loads(answer.out)["added"]


def test_what_ray_says_of_a_worker_that_is_killed_stays_out_of_the_document(
    on_ray: list[str], one_by_one: dict[str, str]
) -> None:
    with subprocess.Popen(on_ray, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        os.kill(seen(command, "ray::run_there"), signal.SIGKILL)
        out, err = command.communicate(timeout=300)
    assert digests(Answer(command.returncode, out.decode(), err.decode())) == one_by_one


def test_sigterm_on_ray_is_told_in_a_line_with_its_exit_code(on_ray: list[str]) -> None:
    words = [*on_ray, "--epochs", "1000", "--patience", "1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        seen(command, "ray::run_there")
        command.send_signal(signal.SIGTERM)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (143, b"")
    assert json.loads(err.splitlines()[-1])["error"]["message"].startswith("terminated")


def test_a_cluster_that_is_lost_is_no_defect_and_says_how_to_go_on(on_ray: list[str]) -> None:
    words = [*on_ray, "--epochs", "1000", "--patience", "1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        seen(command, "ray::run_there")
        os.kill(seen(command, "ray::_QueueActor"), signal.SIGKILL)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (1, b"")
    message = json.loads(err.splitlines()[-1])["error"]["message"]
    assert message.startswith("the Ray cluster was lost")
    assert "--resume" in message


def test_a_cluster_none_of_whose_machines_has_the_cores_is_refused_and_let_go() -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        with (
            pytest.raises(ExpertBankError, match=r"2 cores of one machine.* has 1"),
            Ray(cluster.address, threads=2),
        ):
            pass
        assert not ray.is_initialized()
    finally:
        cluster.shutdown()
