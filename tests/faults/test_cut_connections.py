"""A bank in PostgreSQL and S3 outlives cut connections, restarts and failing requests.

A sample; ``examples/benchmarks/postgres_faults.py`` tries every fault at every statement.
"""

from __future__ import annotations

from collections.abc import Iterator

import cutting
import pytest
from bucket_server import Bucket
from cutting_proxy import CUTS
from postgres_server import PostgresServer

STORE_FAULTS = ("drop-answer", "truncate", "503", "garbage")


@pytest.fixture
def in_a_folder(postgres: PostgresServer, fresh_postgres: str) -> Iterator[cutting.Bench]:
    bench = cutting.Bench(postgres, fresh_postgres, None)
    yield bench
    bench.close()


@pytest.fixture
def in_s3(postgres: PostgresServer, fresh_postgres: str, bucket: Bucket) -> Iterator[cutting.Bench]:
    bench = cutting.Bench(postgres, fresh_postgres, bucket)
    yield bench
    bench.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "sample"),
    [(CUTS, 32), (cutting.SESSION, 8), (cutting.RESTARTS, 4)],
    ids=["cut", "session", "server"],
)
def test_a_fault_at_any_statement_loses_nothing_and_does_nothing_twice(
    in_a_folder: cutting.Bench, kinds: tuple[str, ...], sample: int
) -> None:
    judged = [in_a_folder.judge(case) for case in cutting.cases(in_a_folder, kinds, sample, 0, 4)]
    assert [one for one in judged if one.wrong] == []
    assert [one for one in judged if one.outcome == "told, was done"] == []


@pytest.mark.slow
def test_a_fault_at_any_request_of_the_store_loses_nothing_and_does_nothing_twice(
    in_s3: cutting.Bench,
) -> None:
    judged = [in_s3.judge(case) for case in cutting.cases(in_s3, STORE_FAULTS, 16, 0, 4)]
    assert [one for one in judged if one.wrong] == []
