"""A folder that several make at once is made, and none of them takes it for a file."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from expertbank.errors import InputError
from expertbank.files.durable import make_folder


def test_a_folder_that_another_process_makes_in_between_is_the_folder_asked_for(
    tmp_path: Path,
) -> None:
    wanted, looked = tmp_path / "a" / "b", Path.is_dir

    def looked_too_early(path: Path) -> bool:
        there = looked(path)
        if path == wanted and not there:
            os.makedirs(wanted, exist_ok=True)  # the other process, right after the look
        return there

    with patch.object(Path, "is_dir", looked_too_early):
        make_folder(wanted)
    assert wanted.is_dir()


@pytest.mark.parametrize("below", ["", "c", "c/d"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"")
    with pytest.raises(InputError, match=f"cannot write {file}: it is a file"):
        make_folder(file / below)
