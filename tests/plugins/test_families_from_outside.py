"""A package that brings a model class and its family: a bank works with it as with our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from expertbank.backbones.families import BERT, FAMILIES
from expertbank.errors import InputError

pytestmark = pytest.mark.slow

TALK = """
from transformers import AutoConfig, AutoModel, MPNetConfig, MPNetModel

from expertbank.backbones.families import Family


class TalkConfig(MPNetConfig):
    model_type = "talk"


class TalkModel(MPNetModel):
    config_class = TalkConfig


AutoConfig.register("talk", TalkConfig)
AutoModel.register(TalkConfig, TalkModel)
NAMES = {"query": "attention.attn.q", "key": "attention.attn.k", "value": "attention.attn.v"}
FAMILY = Family("encoder.layer", NAMES, spent_positions=2)
"""

MAKE = """
import sys
import torch
from tiny import CONFIGS, tokenizer
from talk_family import TalkConfig, TalkModel

torch.manual_seed(0)
TalkModel(TalkConfig(**CONFIGS["mpnet"])).save_pretrained(sys.argv[1])
tokenizer("mpnet").save_pretrained(sys.argv[1])
"""

JOB = """
import sys
from pathlib import Path
from small_bank import add, texts
from expertbank import Bank, load_bundle
from expertbank.records import Row

backbone, folder = sys.argv[1], Path(sys.argv[2])
assert "talk_family" not in sys.modules
with Bank.open(folder / "bank", backbone=backbone) as bank:
    for task in ("films", "laws"):
        add(bank, task, folder)
    bank.retrain_router()
    bank.export(folder / "bundle")
    answers = bank.predict(texts(4))
    assert bank.forgetting_report(verify=True).weights_unchanged
assert list(load_bundle(folder / "bundle").predict([Row(text) for text in texts(4)])) == answers
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Where pip would have put the package."""
    site = tmp_path / "site"
    about = site / "talk_family-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: talk-family\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[expertbank.families]\ntalk = talk_family:FAMILY\n")
    (site / "talk_family.py").write_text(TALK)
    return site


def run(site: Path, code: str, *words: Path) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parents[1]
    paths = [site, tests, tests / "workflows"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_an_installed_family_is_trained_served_verified_and_shipped(
    installed: Path, tmp_path: Path
) -> None:
    made = run(installed, MAKE, tmp_path / "talk")
    assert made.returncode == 0, made.stderr
    done = run(installed, JOB, tmp_path / "talk", tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(installed)
    (tmp_path / "elsewhere").mkdir()
    gone = run(installed, JOB, tmp_path / "talk", tmp_path / "elsewhere")
    assert "SourceUnavailableError" in gone.stderr
    assert "talk" in gone.stderr.splitlines()[-1], "without the package the type is named"


def test_our_own_names_cannot_be_taken() -> None:
    with pytest.raises(InputError, match="'bert' is there already"):
        FAMILIES.register("bert", replace(BERT))


def test_half_a_family_is_refused_with_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FAMILIES, "_loaded", {})

    class Half:
        layers = "encoder.layer"

    with pytest.raises(InputError, match="lacks projections, pooling"):
        FAMILIES.register("half", Half())  # type: ignore[arg-type]
    assert "half" not in FAMILIES.names()
