"""The pages of reference are what the program says."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transcripts import ROOT

from expertbank import errors


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_page_of_commands_is_made_from_them() -> None:
    remake = "run: python -m expertbank_cli.reference commands > docs/commands.md"
    # A process of its own: plugins that other tests registered here are in the help too.
    words = [sys.executable, "-m", "expertbank_cli.reference", "commands"]
    made = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout.decode()
    assert _page("commands.md") == made, remake


def test_every_promised_field_of_json_is_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "cli"))
    contract = importlib.import_module("test_machine_contract")
    text = _page("json.md")
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    parts |= dict(re.findall(r"^\| `([a-z -]+)` \| (.*) \|$", text, re.MULTILINE))
    predicted = contract.PREDICTION | contract.OF_SOME | {"explanation"} | contract.EXPLANATION
    asked = {**contract.TOP, "predict": predicted}
    for (command, path), fields in [*contract.INNER.items(), *contract.LEAST.items()]:
        asked[command] = asked[command] | fields | set(path.split("."))
    for command, fields in asked.items():
        assert command in parts, f"docs/json.md does not have {command}"
        missing = [one for one in sorted(fields) if f"`{one}`" not in parts[command]]
        assert not missing, f"docs/json.md, {command}: {missing}"


def test_the_page_of_operations_has_every_exit_code() -> None:
    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ExpertBankError)
    }
    text = _page("operations.md")
    paragraph = text.split("Exit codes:")[1].split("\n\n")[0]
    listed = {int(number) for number in re.findall(r"(?:^|, |\s)(\d+) [a-z]", paragraph)}
    assert listed == codes | {0, 130}
    rows = re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE)
    assert {int(one) for row in rows for one in row.split(",")} == listed | {143}


def test_every_page_is_in_the_navigation_and_the_site_builds_without_a_broken_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("material", reason="install expertbank[docs]")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
    told = [one.getMessage() for one in caplog.records if one.name.startswith("mkdocs")]
    assert not [one for one in caplog.records if one.levelname in {"WARNING", "ERROR"}], told
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "what happens to old tasks" in page.lower()
    assert (tmp_path / "site" / "bank.svg").is_file()


def test_the_citation_and_the_readme_name_the_version() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (built,) = re.findall(r'^version = "(.+)"', project, re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == built
    assert f"dist/expertbank-{built}-py3" in (ROOT / "README.md").read_text(encoding="utf-8")
