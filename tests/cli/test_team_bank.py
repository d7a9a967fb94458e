"""A bank in PostgreSQL with its files in S3 does what a folder does, by the same commands."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import warm
from bucket_server import ENVIRONMENT, Bucket
from command_line import TASKS, Answer, call, done, write_task
from postgres_server import PostgresServer, free_port

from expertbank import Bank
from expertbank.registry.postgres.database import PostgresDatabase
from expertbank.registry.postgres.lock import DatabaseLock
from expertbank.workflows.home import home_at

SECRETS = (
    "s3cr3t-word",
    *(ENVIRONMENT[f"AWS_{name}"] for name in ("SECRET_ACCESS_KEY", "SESSION_TOKEN")),
)
_PREFIXES = itertools.count()


@dataclass
class Team:
    """Where a team's bank is, and how to run commands on it."""

    server: PostgresServer
    database: str
    store: str
    cache: Path

    @property
    def url(self) -> str:
        """With a password, which nothing may show; the server asks for none."""
        return (
            f"postgresql+psycopg://tester:s3cr3t-word@127.0.0.1:{self.server.port}/{self.database}"
        )

    @property
    def shown(self) -> str:
        return self.url.replace(":s3cr3t-word", "")

    def call(self, *words: object) -> Answer:
        answer = call("--home", self.url, *words)
        assert not any(secret in answer.out + answer.err for secret in SECRETS)
        return answer

    def done(self, *words: object) -> Answer:
        answer = self.call(*words)
        assert answer.code == 0, f"{words} exited {answer.code}: {answer.err}"
        return answer


@pytest.fixture
def team(
    postgres: PostgresServer, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Team]:
    """A place for a bank, with nothing in it."""
    monkeypatch.setenv("EXPERTBANK_CACHE", str(tmp_path / "cache"))
    name = postgres.make()
    yield Team(postgres, name, bucket.url(f"bank{next(_PREFIXES)}"), tmp_path / "cache")
    postgres.drop(name)


def test_the_whole_job_and_the_same_weights_as_in_a_folder(
    team: Team, made_bank: Path, backbone: Path, tmp_path: Path
) -> None:
    made = team.done("--json", "init", "--backbone", backbone, "--store", team.store).document
    assert (made["home"], made["store"]) == (team.shown, team.store)
    for task in TASKS:
        data = made_bank / f"{task}.csv"
        routed = ["--retrain-router"] if task != "mood" else []
        team.done("add", "--task", task, "--data", data, "--epochs", 2, *routed)
    for command in ("list", "history", "tasks"):
        assert team.done("--json", command).document
    assert team.done("--json", "show", "mood").document["expert"]["id"] == "mood@1"
    # Bit for bit what the folder has: experts and routers.
    folder = done("--home", made_bank / "bank", "--json", "list").document
    ours = team.done("--json", "list").document
    for what in ("experts", "routers"):
        assert [one["digest"] for one in ours[what]] == [one["digest"] for one in folder[what]]
    report = team.done("--json", "forgetting-report", "--verify").document
    assert report["weights_unchanged"]
    answer = team.done("--json", "predict", "vote good law").lines
    assert answer == done("--home", made_bank / "bank", "--json", "predict", "vote good law").lines
    bundle = team.done("--json", "export", tmp_path / "bundle").document
    other = done("--home", made_bank / "bank", "--json", "export", tmp_path / "other").document
    assert bundle["verified"]
    assert bundle["experts"] == other["experts"]
    verified = team.done("--json", "verify").document
    assert verified["ok"]
    assert verified["artifacts"] > 10
    doctor = team.done("--json", "doctor").document
    assert doctor["healthy"], doctor["findings"]
    assert doctor["home"] == team.shown
    # A task goes, and with it its files; nothing of the machine's own lies in the working folder.
    team.done("remove", "--task", "sport", "--yes")
    team.done("retrain-router")
    gone = team.done("--json", "gc", "--purge-removed", "--yes").document
    assert gone["purged"] == ["sport"]
    assert gone["deleted"]
    assert team.done("--json", "verify").document["ok"]
    assert [path.name for path in team.cache.iterdir() if path.name != "unnamed"] == [
        PostgresDatabase.at(team.url).open().bank_id()
    ]


def test_experts_of_a_folder_are_imported_and_those_of_a_team_by_a_folder(
    team: Team, importable: Path, backbone: Path, tmp_path: Path
) -> None:
    team.done("init", "--backbone", backbone, "--store", team.store)
    team.done("import", importable)
    team.done("retrain-router")
    team.done("export", tmp_path / "out", "--for-import")
    home = tmp_path / "bank"
    done("--home", home, "init", "--backbone", backbone)
    taken = done("--home", home, "--json", "import", tmp_path / "out").document
    assert len(taken["imported"]) == len(TASKS)


def test_a_bank_in_a_database_needs_a_store_and_keeps_no_secret(
    team: Team, backbone: Path, tmp_path: Path
) -> None:
    answer = team.call("--json", "init", "--backbone", backbone)
    assert answer.code == 2
    assert "--store s3://bucket/prefix" in answer.error["message"]
    assert not PostgresDatabase.at(team.url).exists()
    answer = team.call("--json", "list")
    assert answer.code == 10
    assert team.shown in answer.error["message"]
    team.done("init", "--backbone", backbone, "--store", (tmp_path / "files").as_uri())
    rows = team.server.execute(team.database, "SELECT * FROM backbones")
    assert not any(secret in str(rows) for secret in SECRETS)


def test_two_banks_cannot_take_one_prefix_and_the_second_is_not_made(
    team: Team, postgres: PostgresServer, bank: Path, backbone: Path, tmp_path: Path
) -> None:
    team.done("init", "--backbone", backbone, "--store", team.store)
    store = ("--store", team.store)
    second = PostgresDatabase.at(postgres.url(postgres.make()))
    for home in (second.address.url, str(tmp_path / "bank2")):
        for words in (["--home", home, "init", "--backbone", backbone], ["db", "copy", bank, home]):
            answer = call("--json", *words, *store)
            assert answer.code == 2
            assert "another bank's" in answer.error["message"]
    assert not second.exists()
    assert not (tmp_path / "bank2").exists()


def test_what_a_database_cannot_do_says_what_to_use_instead(
    team: Team, backbone: Path, tmp_path: Path
) -> None:
    team.done("init", "--backbone", backbone, "--store", (tmp_path / "files").as_uri())
    answer = team.call("--json", "db", "backup", tmp_path / "copy.db")
    assert (answer.code, "pg_dump" in answer.error["message"]) == (2, True)
    answer = team.call("--json", "db", "restore", tmp_path / "copy.db", "--yes")
    assert (answer.code, "pg_restore" in answer.error["message"]) == (2, True)
    upgraded = team.done("--json", "db", "upgrade").document
    assert upgraded["before"] == upgraded["after"]


def test_every_trouble_with_the_server_is_one_line_and_one_code(
    team: Team, backbone: Path, postgres: PostgresServer, tmp_path: Path
) -> None:
    nobody = f"postgresql+psycopg://tester:s3cr3t-word@127.0.0.1:{free_port()}/bank"
    foreign = postgres.make()
    postgres.execute(foreign, "CREATE TABLE bookmarks (id int)")
    for home, code, words in (
        (nobody, 1, "cannot be reached"),
        (postgres.url("nowhere"), 10, "no database"),
        (postgres.url(foreign), 13, "another program"),
        ("mysql://me:s3cr3t-word@host/db", 2, "postgresql+psycopg://user@host/database"),
        ("postgresql+psycopg://me:s3cr3t-word@host", 2, "postgresql+psycopg://user@host/database"),
    ):
        for command in (["list"], ["init", "--backbone", backbone, "--store", team.store]):
            answer = call("--home", home, "--json", *command)
            assert answer.code == code, (home, answer.err)
            assert words in answer.error["message"]
            assert "s3cr3t-word" not in answer.out + answer.err
    report = call("--home", nobody, "--json", "doctor")
    assert report.code == 1
    assert "cannot be reached" in report.out
    assert "s3cr3t-word" not in report.out + report.err


def test_every_trouble_with_the_store_is_one_line_and_leaves_no_bank(
    team: Team, backbone: Path, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    bucket.name = "nowhere"
    for store, code, words in (
        (bucket.url("x"), 1, "no such bucket"),
        ("s3://bucket/x?endpoint=http://127.0.0.1:9", 1, "cannot be reached"),
        ("s3://key:s3cr3t-word@bucket/x", 2, "holds a login"),
        ((tmp_path / "file").as_uri(), 1, "cannot be written"),
        ("nfs://host/x", 10, "nfs"),
    ):
        answer = team.call("--json", "init", "--backbone", backbone, "--store", store)
        assert answer.code == code, (store, answer.err)
        assert words in answer.error["message"]
        assert not PostgresDatabase.at(team.url).exists()


def test_what_the_refusal_of_a_copy_without_a_store_says_to_do_works(
    team: Team, bank: Path
) -> None:
    answer = call("--json", "db", "copy", bank, team.url)
    assert answer.code == 2
    assert "init" not in answer.error["message"]
    assert "name one with --store" in answer.error["message"]
    assert done("--json", "db", "copy", bank, team.url, "--store", team.store).document["experts"]


def test_a_user_who_may_only_read_ships_it_and_is_told_that_nobody_noted_it(
    team: Team, bank: Path, tmp_path: Path
) -> None:
    done("db", "copy", bank, team.url, "--store", (tmp_path / "files").as_uri())
    team.server.execute(
        team.database,
        *("DROP ROLE IF EXISTS reading", "CREATE ROLE reading LOGIN"),
        *("GRANT USAGE ON SCHEMA public TO reading",),
        *("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reading",),
    )
    home = team.url.replace("tester", "reading")
    for form in ("bundle", "peft"):
        answer = done("--home", home, "--json", "export", tmp_path / form, "--format", form)
        assert answer.document["recorded"] is False
        assert "not recorded in its history" in answer.err
    assert done("--json", "predict", "--bundle", tmp_path / "bundle", "a good film").lines
    assert call("--home", home, "remove", "--task", "mood", "--yes").code == 1


def test_a_bucket_that_is_gone_or_out_of_reach_is_a_problem_to_doctor(
    team: Team, bank: Path, bucket: Bucket
) -> None:
    done("db", "copy", bank, team.url, "--store", team.store)
    away = (bucket.url("nowhere", port=free_port()), team.store.replace("/bucket", "/gone"))
    for store, words in zip((*away,), ("cannot read", "lacks"), strict=True):
        trigger = "ALTER TABLE backbones {} TRIGGER USER"
        team.server.execute(
            team.database,
            trigger.format("DISABLE"),
            f"UPDATE backbones SET store = '{store}'",
            trigger.format("ENABLE"),
        )
        answer = team.call("--json", "doctor")
        assert answer.code == 1
        (found,) = (one for one in answer.document["findings"] if one["subject"] == "store")
        assert found["state"] == "problem"
        assert "no answer is possible" in found["found"]
        assert words in found["found"]


def test_the_command_that_makes_a_bank_can_be_pasted_as_it_is_shown(team: Team) -> None:
    home = team.url + "?application_name=a%27b;&connect_timeout=5"
    doctor = call("--home", home, "--json", "doctor").document["findings"]
    (todo,) = (one["todo"] for one in doctor if one["subject"] == "bank")
    listed = call("--home", home, "--json", "list").error["message"]
    for said in (todo, listed):
        words = shlex.split(said.partition("make one with: ")[2].partition("; or check")[0])
        assert words[1] == "--home"
        assert home_at(words[2]) == home_at(home.replace(":s3cr3t-word", ""))
        assert words[3:5] == ["init", "--store"]


def test_the_environment_is_shown_by_doctor_without_its_secrets(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPERTBANK_HOME", team.url)
    monkeypatch.setenv("PGPASSWORD", "s3cr3t-word")
    answer = call("--json", "doctor")
    assert not any(secret in answer.out + answer.err for secret in SECRETS)
    assert answer.document["environment"]["PGPASSWORD"] == "(set, hidden)"
    assert "127.0.0.1" in answer.document["environment"]["EXPERTBANK_HOME"]


def test_gc_waits_for_whoever_writes_and_keeps_writers_out(
    team: Team, backbone: Path, tmp_path: Path, made_bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.done("init", "--backbone", backbone, "--store", (tmp_path / "files").as_uri())
    monkeypatch.setenv("EXPERTBANK_LOCK_WAIT", "0.2")
    lock = DatabaseLock(PostgresDatabase.at(team.url).address, 5)
    with lock.shared():
        answer = team.call("--json", "gc", "--yes")
        assert answer.code == 11
        assert "other commands are writing" in answer.error["message"]
        assert DatabaseLock(lock.address, 0).state() == "shared"
    with lock.exclusive() as still_held:
        still_held()
        data = made_bank / "mood.csv"
        answer = team.call("--json", "add", "--task", "mood", "--data", data, "--epochs", 1)
        assert answer.code == 11
        assert "gc is at work" in answer.error["message"]
        assert DatabaseLock(lock.address, 0).state() == "exclusive"
    assert DatabaseLock(lock.address, 0).state() == "free"
    team.done("gc", "--yes")


def test_a_lock_that_was_lost_is_noticed_before_the_next_file_is_deleted(
    team: Team, backbone: Path, tmp_path: Path
) -> None:
    from expertbank.errors import LockedError

    team.done("init", "--backbone", backbone, "--store", (tmp_path / "files").as_uri())
    lock = DatabaseLock(PostgresDatabase.at(team.url).address, 5)
    with lock.exclusive() as still_held:
        team.server.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{team.database}'",
        )
        with pytest.raises(LockedError, match="was lost"):
            still_held()
    assert lock.state() == "free"


@pytest.mark.slow
def test_a_server_answers_from_it_and_takes_over_the_next_router(
    team: Team, backbone: Path, made_bank: Path
) -> None:
    team.done("init", "--backbone", backbone, "--store", team.store)
    team.done("add", "--task", "mood", "--data", made_bank / "mood.csv", "--retrain-router")
    environment = {**os.environ, "EXPERTBANK_HOME": team.url, "HF_HUB_OFFLINE": "1"}
    command = [*warm.command(), "--device", "cpu", "--json", "serve", "--port", "0"]
    command += ["--reload", "off"]  # else it may have taken the router over before it is told to
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first, process.stderr and process.stderr.read()
            at = json.loads(first)["serving"]

            def ask() -> str:
                headers = {"Content-Type": "application/x-ndjson"}
                body = json.dumps({"text": "vote good law"}) + "\n"
                answer = httpx.post(f"{at}/predict", content=body, headers=headers, timeout=60)
                assert answer.status_code == 200, answer.text
                return str(json.loads(answer.text.splitlines()[0])["router_digest"])

            before = ask()
            team.done("add", "--task", "poll", "--data", made_bank / "poll.csv")
            after = team.done("--json", "retrain-router").document["router"]["digest"]
            told = httpx.post(f"{at}/admin/reload", timeout=60).json()
            assert (told["reloaded"], told["router_digest"]) == (True, after)
            assert before != ask() == after
        finally:
            process.kill()
            said = "".join(process.communicate())
    assert not any(secret in first + said for secret in SECRETS)


@pytest.mark.slow
def test_two_machines_add_report_and_collect_at_once_and_nothing_is_lost(
    team: Team, backbone: Path, tmp_path: Path
) -> None:
    """Processes with caches of their own, as on several machines, on one bank."""
    team.done("init", "--backbone", backbone, "--store", team.store)
    data = {task: write_task(tmp_path / f"{task}.csv", task, 40) for task in TASKS}
    plan = [
        ["add", "--task", task, "--data", data[task], "--epochs", 1, "--retrain-router"]
        for task in TASKS
    ]
    plan.append(["gc", "--yes", "--grace", 0])
    children = []
    for number, words in enumerate(plan):
        environment = {
            **os.environ,
            "EXPERTBANK_HOME": team.url,
            "EXPERTBANK_CACHE": str(tmp_path / f"machine{number % 2}"),
            "OMP_NUM_THREADS": "1",
        }
        command = [*warm.command(), "--json", *map(str, words)]
        children.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    for child in children:
        out, err = child.communicate(timeout=300)
        # A router that was trained over what is no longer the bank is told, with its expert kept.
        assert child.returncode in {0, 4}, err
        assert not any(secret in out + err for secret in SECRETS)
    team.done("retrain-router")
    listed = team.done("--json", "list").document
    assert {one["task"] for one in listed["experts"]} == set(TASKS)
    assert team.done("--json", "verify").document["ok"]


def test_python_opens_it_too_and_shows_no_secret(
    team: Team, backbone: Path, tmp_path: Path
) -> None:
    store = (tmp_path / "files").as_uri()
    with Bank.open(team.url, backbone=str(backbone), store=store, cache=tmp_path / "c") as bank:
        assert bank.init().store == store
        assert "s3cr3t-word" not in repr(bank._workspace.home) + str(bank._workspace.home)
    with Bank.open(team.url, read_only=True, cache=tmp_path / "c") as bank:
        assert bank.backbone() is not None
        assert bank.verify().ok
