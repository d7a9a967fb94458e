"""What leaves the bank says no more of the maker's machine than its receiver needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_bank import add, texts

from expertbank import Bank, Row, load_bundle
from expertbank.reports.html import forgetting_page
from expertbank.reports.markdown import forgetting_markdown


@pytest.fixture
def secret(own_backbone: Path, tmp_path: Path) -> Path:
    """A folder whose name nobody else should learn, with a backbone, data and a bank in it."""
    folder = tmp_path / "home-of-maker"
    folder.mkdir()
    backbone = shutil.move(own_backbone, folder / "model")
    with Bank.open(folder / "bank", backbone=str(backbone)) as bank:
        for task in ("films", "laws"):
            add(bank, task, folder)
            bank.retrain_router()
    return folder


def files_with(folder: Path, text: str) -> list[str]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        one.relative_to(folder).as_posix() for one in found if text.encode() in one.read_bytes()
    ]


def test_an_export_for_peft_and_a_whole_bundle_name_no_folder_of_here(
    secret: Path, tmp_path: Path
) -> None:
    with Bank.open(secret / "bank") as bank:
        bank.export(tmp_path / "peft", format="peft")
        bank.export(tmp_path / "whole", with_backbone=True)
        expected = bank.predict(texts(3))
    for name in ("peft", "whole"):
        assert files_with(tmp_path / name, secret.name) == []
        assert files_with(tmp_path / name, str(tmp_path)) == []
    shutil.rmtree(secret)
    assert list(load_bundle(tmp_path / "whole").predict(map(Row, texts(3)))) == expected


def test_a_light_bundle_says_in_its_manifest_alone_where_its_backbone_is_here(
    secret: Path, tmp_path: Path
) -> None:
    with Bank.open(secret / "bank") as bank:
        bank.export(tmp_path / "light")
        digest = bank.backbone().digest
    assert files_with(tmp_path / "light", secret.name) == ["manifest.json"]
    manifest = json.loads((tmp_path / "light" / "manifest.json").read_text())
    assert manifest["backbone"].pop("reference") == str(secret / "model")
    assert secret.name not in json.dumps(manifest)
    text = (tmp_path / "light" / "README.md").read_text()
    assert "`model`" in text
    assert digest in text


def test_the_report_names_data_and_backbone_without_their_folders(
    secret: Path, tmp_path: Path
) -> None:
    with Bank.open(secret / "bank") as bank:
        report = bank.forgetting_report()
    for text in (
        forgetting_page(report),
        forgetting_markdown(report),
        json.dumps(report.to_dict()),
    ):
        assert secret.name not in text


def test_a_bank_made_by_importing_a_whole_bundle_finds_the_backbone_in_it(
    secret: Path, tmp_path: Path
) -> None:
    with Bank.open(secret / "bank") as bank:
        bank.export(tmp_path / "whole", with_backbone=True, for_import=True)
    shutil.rmtree(secret)
    with Bank.open(tmp_path / "other") as bank:
        bank.import_bundle(tmp_path / "whole")
        bank.retrain_router()
        assert bank.predict(texts(2))
