"""Backups that come back, and what is said about a bank's surroundings."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from command_line import COMMAND, call, content, done, write_task

from expertbank.artifacts.lock import BankLock

ASSETS = Path(__file__).parents[1] / "assets"


def backup_of(bank: Path, folder: Path) -> Path:
    target = folder / "backup.db"
    done("--home", bank, "db", "backup", target)
    return target


def broken(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as raw:
        for statement in statements:
            raw.execute(statement)


# -- restore -------------------------------------------------------------------------------


def test_a_restored_backup_brings_the_earlier_bank_back(bank: Path, tmp_path: Path) -> None:
    before = done("--home", bank, "--json", "list").document
    backup = backup_of(bank, tmp_path)
    data = write_task(tmp_path / "late.csv", "mood", 60)
    done("--home", bank, "add", "--task", "late", "--data", data, "--epochs", 1)
    done("--home", bank, "remove", "--task", "mood", "--yes")
    restored = done("--home", bank, "--json", "db", "restore", backup, "--yes").document
    assert (restored["experts"], restored["routers"]) == (3, 2)
    assert done("--home", bank, "--json", "list").document == before
    assert done("--home", bank, "verify").code == 0
    # The database that was there is the backup now, and its files are still there for it.
    done("--home", bank, "gc", "--yes", "--grace", 0)
    done("--home", bank, "db", "restore", restored["backup"], "--yes")
    assert len(done("--home", bank, "--json", "list").document["experts"]) == 4
    assert done("--home", bank, "verify").code == 0


def test_restore_replaces_a_damaged_database_and_keeps_it(bank: Path, tmp_path: Path) -> None:
    backup = backup_of(bank, tmp_path)
    (bank / "registry.db").write_bytes(b"not a database" * 999)
    (bank / "registry.db-journal").write_bytes(b"of the damaged one")
    restored = done("--home", bank, "--json", "db", "restore", backup, "--yes").document
    assert Path(restored["backup"]).read_bytes().startswith(b"not a database")
    assert not (bank / "registry.db-journal").exists()
    assert done("--home", bank, "verify").code == 0


def test_restore_into_a_folder_whose_database_is_lost(bank: Path, tmp_path: Path) -> None:
    backup = backup_of(bank, tmp_path)
    (bank / "registry.db").unlink()
    assert (
        done("--home", bank, "--json", "db", "restore", backup, "--yes").document["backup"] is None
    )
    assert done("--home", bank, "predict", "a vote").code == 0


def refuses(bank: Path, source: Path, code: int, *texts: str) -> None:
    before = content(bank)
    answer = call("--home", bank, "db", "restore", source, "--yes")
    assert answer.code == code, answer.err
    for text in texts:
        assert text in answer.err
    after = content(bank)
    after.pop("bank.lock", None)
    before.pop("bank.lock", None)
    assert after == before


def test_restore_refuses_what_is_no_sound_backup_and_changes_nothing(
    bank: Path, tmp_path: Path
) -> None:
    refuses(bank, tmp_path / "missing.db", 10, "no file")
    refuses(bank, bank / "registry.db", 1, "present database")
    text = tmp_path / "text.db"
    text.write_text("hello " * 999)
    refuses(bank, text, 13, "not a SQLite database; name a file that db backup wrote")
    other = tmp_path / "other.db"
    broken(other, "CREATE TABLE songs (id)")
    refuses(bank, other, 13, "another program")

    newer = backup_of(bank, tmp_path)
    broken(newer, "UPDATE alembic_version SET version_num = '9999'")
    refuses(bank, newer, 12, "upgrade expertbank")
    newer.unlink()

    weakened = backup_of(bank, tmp_path)
    broken(weakened, "DROP TRIGGER frozen_experts_update")
    refuses(bank, weakened, 13, "frozen_experts_update")
    weakened.unlink()

    # A bank with other files: none of those it names is here.
    refuses(bank, ASSETS / "registry_0001.db", 13, "objects/")


def test_restore_refuses_a_backup_one_of_whose_files_is_gone(bank: Path, tmp_path: Path) -> None:
    backup = backup_of(bank, tmp_path)
    next(bank.glob("objects/*/*.safetensors")).unlink()
    refuses(bank, backup, 13, "1 files", "copy the objects/ folder")


def test_an_older_backup_is_upgraded_on_its_way_in(bank: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    shutil.copyfile(ASSETS / "registry_0001.db", old)
    # It counts on no files, so no alias may name a router either, or ever have named one.
    broken(old, "UPDATE artifacts SET purged_at = '2026'", "DELETE FROM aliases")
    with sqlite3.connect(old) as raw:
        kept = "SELECT sql FROM sqlite_master WHERE name = 'frozen_alias_events_delete'"
        (trigger,) = raw.execute(kept).fetchone()
    broken(old, "DROP TRIGGER frozen_alias_events_delete", "DELETE FROM alias_events", trigger)
    restored = call("--home", bank, "--json", "db", "restore", old, "--yes")
    # Its living tasks miss their files: not sound, and said so; nothing was changed.
    assert restored.code == 13
    broken(old, "UPDATE tasks SET removed_at = '2026', removals = 1")
    document = done("--home", bank, "--json", "db", "restore", old, "--yes").document
    assert document["revision"] == "0001"
    assert done("--home", bank, "verify").code == 0
    assert done("--home", bank, "--json", "db", "upgrade").document["backup"] is None


def test_restore_waits_for_nobody_too_long_and_a_dry_run_for_nobody(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = backup_of(bank, tmp_path)
    monkeypatch.setenv("EXPERTBANK_LOCK_WAIT", "0.05")
    with BankLock(bank / "bank.lock").shared():
        before = content(bank)
        assert call("--home", bank, "db", "restore", backup, "--yes").code == 11
        assert done("--home", bank, "db", "restore", backup, "--dry-run").code == 0
        assert content(bank) == before
    assert call("--home", bank, "db", "restore", backup).code == 2  # nobody to ask


# -- verify --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        (
            [
                "DROP TRIGGER frozen_router_members_update",
                "UPDATE router_members SET position = 9 WHERE router_id = 2 AND position = 0",
            ],
            "its file is over",
        ),
        (
            ["DROP TRIGGER frozen_feature_sets_update", "UPDATE feature_sets SET n_train = 3"],
            "train features of",
        ),
        (
            ["DROP TRIGGER frozen_evaluations_update", "UPDATE evaluations SET n = 999"],
            "counts 999 rows",
        ),
        (
            ["DROP TRIGGER frozen_artifacts_update", "UPDATE artifacts SET bytes = bytes + 1"],
            "the registry says",
        ),
        (["UPDATE artifacts SET purged_at = '2026' WHERE kind = 'expert'"], "its task is alive"),
        *(
            (["DROP TRIGGER frozen_experts_update", f"UPDATE experts SET {change}"], text)
            for change, text in (
                ('labels = \'["sweet","sour"]\'', "the row says ['sweet', 'sour']"),
                ("kind = 'regression'", "the row says 'regression'"),
                ("adapter_params = 7", "numbers in its adapter of"),
                ("head_params = 7", "numbers in its head of"),
                ("bytes = bytes + 1", "the registry says"),
            )
        ),
        *(
            (["DROP TRIGGER frozen_evaluations_update", f"UPDATE evaluations SET {change}"], text)
            for change, text in (
                ("correct = correct + 1 WHERE router_version IS NULL", "with the expert named"),
                ("correct = correct - 1 WHERE router_version = 2", "with router@2"),
                ("metrics = '{}' WHERE router_version IS NULL", "accuracy None"),
                ("metrics = '{\"quality\": 0.5}' WHERE router_version = 2", "quality 0.5"),
                (
                    "artifact_digest = (SELECT digest FROM routers LIMIT 1)",
                    "names a file that is not its evidence row by row",
                ),
                (
                    "artifact_digest = (SELECT max(artifact_digest) FROM evaluations WHERE "
                    "router_version IS NULL) WHERE router_version IS NULL",
                    "with the expert named",
                ),
                (
                    "artifact_digest = (SELECT min(artifact_digest) FROM evaluations WHERE "
                    "router_version = 1) WHERE router_version = 1",
                    "are not those that it was registered with",
                ),
                ("router_version = NULL", "2 evaluations with the expert named"),
            )
        ),
        *(
            (
                [
                    "DROP TRIGGER frozen_evaluations_delete",
                    f"DELETE FROM evaluations WHERE router_version {which}",
                ],
                text,
            )
            for which, text in (
                ("IS NULL", "0 evaluations with the expert named, expected one"),
                ("IS NOT NULL", "what it was measured under it is not stored"),
                ("= 2", "router@2 contains it"),
            )
        ),
    ],
)
def test_verify_finds_rows_that_do_not_fit_their_files(
    bank: Path, statements: list[str], text: str
) -> None:
    with sqlite3.connect(bank / "registry.db") as raw:
        triggers = dict(raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    dropped = [s.split()[-1] for s in statements if s.startswith("DROP")]
    broken(bank / "registry.db", *statements, *(triggers[name] for name in dropped))
    found = call("--home", bank, "--json", "verify")
    assert found.code == 13
    assert any(text in problem["what"] for problem in found.document["problems"]), found.out
    assert all(problem["todo"] for problem in found.document["problems"])
    assert "Error(" not in found.out


# -- doctor --------------------------------------------------------------------------------


def findings(answer) -> dict[str, dict[str, str]]:
    return {finding["subject"]: finding for finding in answer.document["findings"]}


def test_doctor_says_that_a_sound_bank_is_sound(bank: Path) -> None:
    answer = done("--home", bank, "--json", "doctor")
    assert answer.document["healthy"] is True
    found = findings(answer)
    assert "digest as recorded" in found["backbone"]["found"]
    assert "3 experts, 2 routers" in found["bank"]["found"]
    assert found["schema"]["state"] == "ok"
    assert answer.document["packages"]["torch"]
    assert done("--home", bank, "doctor").out


def test_doctor_begins_with_its_verdict_and_then_says_what_to_do(
    bank: Path, tmp_path: Path
) -> None:
    sound = done("--home", bank, "doctor").out.splitlines()
    assert sound[0] == "healthy: nothing to do"
    assert len(sound) < 30
    assert not any("mypy" in line for line in sound), "of no matter to a bank"
    assert any(line.startswith("versions") and "torch" in line for line in sound)
    none = done("--home", tmp_path / "none", "doctor").out.splitlines()
    assert none[0] == "healthy, with 1 warning"
    assert [line.split()[0] for line in none[1:3]] == ["warning", "to"]
    (bank / "objects").rename(tmp_path / "away")
    broken = call("--home", bank, "doctor")
    assert broken.code == 1
    assert broken.out.splitlines()[0] == "not healthy: 1 problem"
    assert broken.out.splitlines()[1].startswith("problem  store: ")


def test_doctor_hides_secrets(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:verysecret@proxy:3128")
    for flag in ([], ["--json"]):
        answer = done("--home", bank, *flag, "doctor")
        assert "verysecret" not in answer.out + answer.err
        assert "***@proxy:3128" in answer.out
        assert "HF_TOKEN" in answer.out


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("EXPERTBANK_HOME", "postgresql+psycopg://u:hun/verysecret@h/db", "://u@h/db"),
        ("EXPERTBANK_HOME", "postgresql+psycopg://u:hun verysecret@h/db", "://u@h/db"),
        ("EXPERTBANK_HOME", "postgresql+psycopg://u:hun@verysecret@h/db", "(set, hidden)"),
        ("EXPERTBANK_HOME", "postgresql:/u:verysecret@h/db", "(set, hidden)"),
        ("EXPERTBANK_HOME", "https://u:verysecret@h/db", "(set, hidden)"),
        ("EXPERTBANK_HOME", "/banks/me@work", "/banks/me@work"),
        ("HTTPS_PROXY", "http://me:very/verysecret@proxy:3128", "http://***@proxy:3128"),
        ("HTTPS_PROXY", "http://me:very @verysecret@proxy:3128", "http://***@proxy:3128"),
        ("HTTPS_PROXY", "me:verysecret@proxy:3128", "***@proxy:3128"),
        ("AWS_ENDPOINT_URL", "https://me:a/b verysecret@host", "https://***@host"),
        ("HF_HOME", "/home/me@work/hub", "/home/me@work/hub"),
    ],
)
def test_doctor_hides_a_password_whatever_its_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(name, value)
    for flag in ([], ["--json"]):
        answer = done("--home", tmp_path / "none", *flag, "doctor")
        assert "verysecret" not in answer.out + answer.err
    assert answer.document["environment"][name].endswith(shown)


def test_advice_repeats_no_password_of_a_home_that_is_no_full_url(tmp_path: Path) -> None:
    home = "postgresql+psycopg:/u:verysecret@h/db"
    answer = call("--home", home, "db", "copy", tmp_path / "none", tmp_path / "copy")
    assert "expertbank --home URL init" in answer.err
    assert "verysecret" not in answer.out + answer.err


def test_doctor_without_a_bank_says_how_to_make_one_and_makes_nothing(tmp_path: Path) -> None:
    answer = done("--home", tmp_path / "none" / "bank", "--json", "doctor")
    assert " init" in findings(answer)["bank"]["todo"]
    assert list(tmp_path.iterdir()) == []


def test_doctor_exits_1_and_says_what_to_do_where_something_is_wrong(
    bank: Path, tmp_path: Path
) -> None:
    database = bank / "registry.db"
    whole = database.read_bytes()
    broken(database, "UPDATE alembic_version SET version_num = '9999'")
    newer = call("--home", bank, "--json", "doctor")
    assert newer.code == 1
    assert "upgrade expertbank" in findings(newer)["database"]["todo"]
    database.write_bytes(b"no database" * 999)
    assert "db restore" in findings(call("--home", bank, "--json", "doctor"))["database"]["todo"]
    database.write_bytes(whole)
    broken(database, "DROP TRIGGER frozen_backbones_update")
    broken(database, f"UPDATE backbones SET reference = '{tmp_path / 'moved'}'")
    moved = call("--home", bank, "--json", "doctor")
    assert moved.code == 1
    assert "--backbone" in findings(moved)["backbone"]["todo"]


def test_a_bank_without_the_files_that_answer_is_a_problem_to_doctor(
    bank: Path, tmp_path: Path
) -> None:
    away = (bank / "objects").rename(tmp_path / "away")
    answer = call("--home", bank, "--json", "doctor")
    assert answer.code == 1
    store = findings(answer)["store"]
    assert store["state"] == "problem"
    assert "no answer is possible" in store["found"]
    assert "router@2" in store["found"]
    away.rename(bank / "objects")
    assert findings(done("--home", bank, "--json", "doctor"))["store"]["state"] == "ok"
    with sqlite3.connect(bank / "registry.db") as raw:
        (digest,) = raw.execute("SELECT digest FROM experts ORDER BY id LIMIT 1").fetchone()
    (bank / "objects" / digest[:2] / f"{digest}.safetensors").unlink()
    lost = findings(call("--home", bank, "--json", "doctor"))["store"]
    assert lost["state"] == "problem"
    assert "@1" in lost["found"]


def test_a_backbone_that_moved_is_named_to_doctor_and_verify(
    backbone_folder, tmp_path: Path
) -> None:
    first = Path(shutil.copytree(backbone_folder("bert"), tmp_path / "first"))
    home = tmp_path / "bank"
    done("--home", home, "init", "--backbone", first, "--max-length", 32)
    moved = first.rename(tmp_path / "moved")
    lost = call("--home", home, "--json", "doctor")
    assert lost.code == 1
    (problem,) = (one for one in lost.document["findings"] if one["state"] == "problem")
    assert problem["todo"] == "name where it is now: --backbone FOLDER"
    found = done("--home", home, "--json", "doctor", "--backbone", moved).document
    assert {one["state"] for one in found["findings"] if one["subject"] == "backbone"} == {"ok"}
    assert done("--home", home, "--json", "verify", "--backbone", moved).document["ok"]
    other = backbone_folder("gpt2")
    assert call("--home", home, "verify", "--backbone", other).code == 13
    assert call("--home", home, "doctor", "--backbone", other).code == 1


def test_doctor_says_that_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = call("--home", tmp_path / "file", "--json", "doctor")
    assert found.code == 1
    assert any(one["found"].endswith("is no folder") for one in found.document["findings"])


def test_doctor_tells_who_holds_the_lock(bank: Path) -> None:
    with BankLock(bank / "bank.lock").exclusive():
        held = findings(done("--home", bank, "--json", "doctor"))
    assert "gc or db restore" in held["lock"]["found"]


def test_filesystems_are_read_from_the_kernels_list(tmp_path: Path) -> None:
    from expertbank.files.mounts import filesystem_of

    deep = tmp_path / "with blank" / "bank"
    deep.mkdir(parents=True)
    listing = tmp_path / "mountinfo"
    point = str(tmp_path.resolve() / "with blank").replace(" ", r"\040")
    listing.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:40 / {point} rw,relatime shared:1 - nfs4 server:/x rw\n"
    )
    assert filesystem_of(deep, listing) == "nfs4"
    assert filesystem_of(tmp_path, listing) == "ext4"
    assert filesystem_of(deep, tmp_path / "missing") is None


def test_db_alone_shows_what_it_can_do() -> None:
    assert "restore" in done("db").out


# -- read-only -----------------------------------------------------------------------------


def _nobody(words: list[str]) -> list[str]:
    """``words`` as a user whom a folder's permissions bind, also under root."""
    if os.geteuid() != 0:
        return words
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("running as root without setpriv: permissions would not bind")
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *words]


def test_a_read_only_bank_answers_every_reading_command(
    bank: Path, made_bank: Path, backbone: Path, tmp_path: Path
) -> None:
    script = tmp_path / "every.py"
    script.write_text(
        "import contextlib, io, json, os, sys\n"
        "from expertbank_cli.main import run\n"
        "codes = {}\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    err = io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):\n"
        "            run(words)\n"
        "    except SystemExit as ended:\n"
        "        codes[' '.join(words[2:4])] = [ended.code, err.getvalue()]\n"
        "print(json.dumps(codes))\n"
    )
    import json

    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    home = str(bank)
    data = str(made_bank / "mood.csv")
    reading = [
        ["list"],
        ["show", "mood"],
        ["history"],
        ["verify"],
        ["doctor"],
        ["gc", "--dry-run"],
        ["alias"],
        ["predict", "a good film"],
        ["evaluate", "--task", "mood", "--data", data],
        ["forgetting-report", "--verify"],
        ["export", str(out / "bundle")],
    ]
    writing = [["remove", "--task", "mood", "--yes"], ["gc", "--yes"], ["retrain-router"]]
    calls = [["--home", home, *words] for words in reading + writing]
    before = content(bank)
    paths = [bank, *bank.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    ways = [parent for parent in (tmp_path, made_bank, backbone) for parent in parent.parents]
    opened = [
        (p, p.stat().st_mode) for p in {tmp_path, made_bank, backbone, *backbone.iterdir(), *ways}
    ]
    command = _nobody([COMMAND[0], str(script), json.dumps(calls)])
    try:
        if os.geteuid() == 0:
            for parent, mode in opened:
                if mode & 0o005 != 0o005:
                    parent.chmod(mode | 0o055)
        probe = subprocess.run(_nobody([COMMAND[0], "-c", "import expertbank_cli"]), check=False)
        if probe.returncode != 0:
            pytest.skip("another user cannot run this installation")
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "HOME": str(out), "HF_HOME": str(out)},
        )
    finally:
        for parent, mode in opened:
            if parent.stat().st_mode != mode:
                parent.chmod(mode)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert ended.returncode == 0, ended.stderr
    codes = json.loads(ended.stdout)
    assert len(codes) >= len(reading) + 2
    for words in reading:
        code, err = codes[" ".join(words[:2])]
        assert code == 0, (words, err)
    assert "not recorded" in codes[f"export {out / 'bundle'}"][1]
    for words in writing:
        code, err = codes[" ".join(words[:2])]
        assert code == 1, (words, err)
        assert "writ" in err
    assert content(bank) == before


def test_a_folder_in_the_place_of_the_database_is_a_problem_to_doctor(tmp_path: Path) -> None:
    (tmp_path / "bank" / "registry.db").mkdir(parents=True)
    answer = call("--home", tmp_path / "bank", "--json", "doctor")
    assert answer.code == 1
    (found,) = [one for one in answer.document["findings"] if one["state"] == "problem"]
    assert "is a folder" in found["found"]
    assert call("--home", tmp_path / "bank", "list").code == 13
