from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from answering import Answering, answering
from served import make_bank
from small_writing import make_writing_bank

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def served_home(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with a task of every kind and a group; never write to it."""
    home = tmp_path_factory.mktemp("served") / "bank"
    make_bank(home, backbone_folder("bert"))
    return home


@pytest.fixture(scope="session")
def writing_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with an expert that writes; never write to it."""
    return make_writing_bank(tmp_path_factory.mktemp("writing"))


@pytest.fixture(scope="session")
def live(served_home: Path) -> Iterator[Answering]:
    """A server that all tests share: no test may leave it other than it was."""
    with answering(served_home) as found:
        yield found
