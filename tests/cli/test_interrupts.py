"""Ctrl-C and SIGTERM: one line, the signal's exit code, and word of what can be gone on with."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import COMMAND, done, write_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them"),
]

# A runner in the background hands down an ignored SIGINT; a person's terminal does not.
_PERSON = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
# What comes before the signals are watched is Python's own start.
_WATCHED = "from expertbank_cli import main, signals; signals.watch(); sys.stderr.write('.'); "
_RUN = _PERSON + _WATCHED + "main.run()"


def started(*words: object) -> subprocess.Popen[str]:
    """A command as a process, from the moment at which it watches its signals."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(str(words[1])).parent,
    )
    assert process.stderr is not None
    assert process.stderr.read(1) == "."
    return process


def maps(process: subprocess.Popen[str]) -> str:
    """The files that a process has in memory: torch among them once its words are read."""
    place = Path(f"/proc/{process.pid}/maps")
    return place.read_text(encoding="utf-8") if place.exists() else "torch, for all we know"


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("after", [0.01, 0.03, 0.1, 0.4, 1.5])
def test_a_signal_at_any_moment_is_one_line_and_its_code(
    after: float, number: signal.Signals, made_bank: Path
) -> None:
    rows = made_bank / "many.jsonl"
    rows.write_text('{"text": "good film"}\n' * 200_000)
    process = started("--home", made_bank / "bank", "predict", "--file", rows)
    time.sleep(after)
    process.send_signal(number)
    code, err = ended(process)
    assert code == 128 + number
    assert re.fullmatch(r"expertbank: (interrupted|terminated); nothing .*\n", err)


def test_ctrl_c_in_training_names_the_command_that_goes_on_and_it_does(
    bank: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "rows of mine.csv", "mood", 200, seed=3)
    words = ["--home", bank, "add", "--task", "long", "--data", data, "--patience", 1000]
    process = started(*words, "--epochs", 1000)
    kept = bank / "checkpoints" / "long.safetensors"
    while not kept.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "nothing half-done was kept" not in err
    # Before it may stand how far slow work has come.
    assert [line.startswith("expertbank: ") for line in err.splitlines()].count(True) == 1
    again = shlex.split(err.partition("go on with: ")[2])
    assert again[0] == "expertbank"
    assert again[-1] == "--resume"
    for further in (False, True):
        before = kept.stat().st_mtime_ns
        process = started(*again[1:])
        while further and kept.stat().st_mtime_ns == before:
            time.sleep(0.01)
        while not further and "torch" not in maps(process):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        code, err = ended(process)
        assert code == 130
        assert shlex.split(err.partition("go on with: ")[2]) == again


def test_ctrl_c_before_anything_is_kept_promises_nothing(bank: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "rows.csv", "mood", 200, seed=3)
    process = started("--home", bank, "add", "--task", "long", "--data", data)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "--resume" not in err


def test_a_command_whose_parent_ignores_ctrl_c_ignores_it_too(made_bank: Path) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    code += "; from expertbank_cli.main import run; run()"
    words = [sys.executable, "-c", code, "--home", str(made_bank / "bank"), "list"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(0.15)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"mood@1" in out


def test_the_entry_imports_next_to_nothing() -> None:
    code = "import sys; from expertbank_cli import main"
    code += "; print(len(sys.modules), 'typer' in sys.modules)"
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(len(sys.modules))"],
        capture_output=True,
        check=True,
    )
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    count, heavy = ours.stdout.split()
    assert heavy == b"False"
    assert int(count) - int(bare.stdout) <= 3


def test_the_module_is_the_command(made_bank: Path) -> None:
    words = ["--home", str(made_bank / "bank"), "--json", "list"]
    ran = [
        subprocess.run([*command, *words], capture_output=True, check=True, timeout=60).stdout
        for command in ((sys.executable, "-m", "expertbank"), COMMAND)
    ]
    assert ran[0] == ran[1]
    for name in ("", "add", "tasks check", "db backup"):
        assert done(*name.split(), "-h").out == done(*name.split(), "--help").out


def test_the_package_lists_its_public_names() -> None:
    code = "import expertbank, sys; assert set(expertbank.__all__) <= set(dir(expertbank))"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_signal_that_python_could_not_raise_comes_again_and_is_told() -> None:
    code = (
        "import os, signal, time\n"
        "from expertbank_cli import signals\n"
        "class Closed:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.01)\n"
        "signals.watch(); signals.begin()\n"
        "try:\n"
        "    Closed(); time.sleep(20)\n"
        "except KeyboardInterrupt:\n"
        "    print(signals.received())\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, f"{int(signal.SIGTERM)}\n")
