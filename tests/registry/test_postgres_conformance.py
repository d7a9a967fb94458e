"""The PostgreSQL registry keeps every promise of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from postgres_server import PostgresServer, places

from expertbank.registry.postgres.database import PostgresDatabase
from expertbank.testing.registries import RegistryConformance

Place = Callable[[], PostgresDatabase]


class TestPostgres(RegistryConformance):
    @pytest.fixture
    def nowhere(self, postgres: PostgresServer) -> Iterator[Place]:
        with places(postgres) as place:
            yield place

    @pytest.fixture
    def somewhere(self, postgres: PostgresServer, fresh_postgres: str) -> Iterator[Place]:
        with places(postgres, fresh_postgres) as place:
            yield place
