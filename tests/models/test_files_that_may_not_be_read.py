"""A backbone's file that may not be read is told as that, and not as one that is not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny

from expertbank.backbones.backbone import load_backbone
from expertbank.errors import SourceUnavailableError


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Be a user whom permissions bind, also under root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A backbone where other users may enter."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        if not all(parent.stat().st_mode & 0o001 for parent in root.parents):
            pytest.skip("other users may not enter the folder for temporary files")
        root.chmod(0o755)
        yield tiny.build(root / "backbone", "bert")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions of files")
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_file_and_the_reason_are_told(folder: Path, name: str) -> None:
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    load_backbone(str(folder))  # what is imported late is there before permissions bind
    (folder / name).chmod(0)
    with bound_by_permissions(), pytest.raises(SourceUnavailableError) as told:
        load_backbone(str(folder))
    assert f"cannot read {folder / name}: Permission denied" in str(told.value)
    assert "Offline" not in str(told.value)
