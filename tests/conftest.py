"""Tiny real backbones, built once a session; every test loads what it needs from the folder."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from bucket_server import Bucket
    from postgres_server import PostgresServer

    from expertbank.backbones.backbone import Backbone

# A worker's programs write into pipes, whatever the terminal of who started the tests is wide.
os.environ.pop("COLUMNS", None)

# What is imported and collected stays: no need to look through it for garbage often.
gc.set_threshold(100_000)

# Machines differ: a slow example is no failure.
settings.register_profile("expertbank", deadline=None)
settings.load_profile("expertbank")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, or a worker would be left alone with it at the end."""
    items.sort(key=lambda item: "slow" not in item.keywords)


def pytest_unconfigure() -> None:
    gc.freeze()  # nor to look through it once more at the exit


FolderOf = Callable[[str], Path]
BackboneOf = Callable[[str], "Backbone"]
_BUCKETS = itertools.count()


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """Family name to the folder of a tiny random backbone; shared, so never write to it.

    ``llama, tied`` is the whole language model, see ``tiny.build``.
    """
    made: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in made:
            from tiny import build

            name, _, language = family.partition(", ")
            folder = tmp_path_factory.mktemp(f"backbone-{name}")
            made[family] = build(folder, name, language=language or None)
        return made[family]

    return folder_of


@pytest.fixture
def load_tiny(backbone_folder: FolderOf) -> BackboneOf:
    """Family name to a freshly loaded tiny backbone, without anyone's hooks."""

    def load(family: str) -> Backbone:
        from expertbank.backbones.backbone import load_backbone

        return load_backbone(str(backbone_folder(family)), device="cpu")

    return load


@pytest.fixture
def bert(load_tiny: BackboneOf) -> Backbone:
    """A freshly loaded tiny BERT."""
    return load_tiny("bert")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the session's own, where its programs are installed."""
    import postgres_server

    if why := postgres_server.lacking():
        pytest.skip(why)
    with postgres_server.running() as server:
        yield server


@pytest.fixture(scope="session")
def fresh_postgres(postgres: PostgresServer) -> str:
    """Name of a database with a new registry, to be copied: making one takes longer."""
    from expertbank.registry.postgres.database import PostgresDatabase

    name = postgres.make()
    PostgresDatabase.at(postgres.url(name)).create().close()
    return name


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[int]:
    """Port of an S3 of the session's own."""
    import bucket_server

    with bucket_server.running() as port:
        yield port


@pytest.fixture
def bucket(bucket_server: int, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket there, with credentials in the environment."""
    from bucket_server import ENVIRONMENT, Bucket

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return Bucket(bucket_server, f"bucket-{next(_BUCKETS)}")
