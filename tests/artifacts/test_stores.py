"""A store is named by a URL without secrets, and one from outside keeps the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from outside_stores import HELD, MemoryStore

from expertbank.artifacts.local import LocalStore
from expertbank.artifacts.store import ArtifactStore
from expertbank.artifacts.stores import METHODS, OPTIONAL, STORES, open_store
from expertbank.errors import InputError, NotFoundError
from expertbank.testing.stores import StoreConformance


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store(self) -> Iterator[ArtifactStore]:
        yield MemoryStore("memory://conformance")
        HELD.pop("conformance")

    def damage(self, store: ArtifactStore, digest: str, data: bytes) -> None:
        assert isinstance(store, MemoryStore)
        store.damage(digest, data)


def test_a_url_opens_the_store_of_its_scheme(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    assert isinstance(store, LocalStore)
    assert store.location == str(tmp_path)
    assert isinstance(open_store("memory://some"), MemoryStore)
    assert list(tmp_path.iterdir()) == [], "opening makes nothing"


def test_what_nothing_opens_is_named_with_what_would_help() -> None:
    with pytest.raises(
        NotFoundError, match=r"no store named 'memry'; did you mean memory.*install"
    ):
        open_store("memry://some")


@pytest.mark.parametrize("url", ["", "objects", "/data/objects", "//host/objects", "file"])
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InputError, match="file:///data/objects"):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "memory://me:hunter2@host/objects",
        "memory://hunter2@host/objects",
        "memory://me%3Ahunter2%40host/objects",
        "memory://bucket/objects?access_key_id=hunter2",
        "memory://bucket/objects?X-Amz-Signature=hunter2",
        "memory://bucket/objects?X-Amz-Security-Token=hunter2",
        "memory://bucket/objects?sv=1&sig=hunter2",
        "memory://bucket/objects?PASSWORD=hunter2",
        "memory://bucket/objects?token",
        "memory://bucket/objects?endpoint=https%3A%2F%2Fme%3Ahunter2%40host",
        "memory://bucket/objects#hunter2",
        "memory://me:hunter2@[host/objects",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError) as refused:
        open_store(url)
    assert "hunter2" not in str(refused.value)


def test_options_without_secrets_are_the_stores_own_business() -> None:
    url = "memory://bucket/objects?region=eu-1&endpoint=http%3A%2F%2Fhost%3A9000"
    assert open_store(url).location == url


def test_a_store_that_lacks_something_is_refused_with_what_is_missing() -> None:
    STORES.register("half", lambda url: SimpleNamespace(put=1, get=1))  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match=r"half://x is no store: it lacks location, where, chunks"):
        open_store("half://x")


def test_every_method_of_the_protocol_is_asked_for() -> None:
    assert {"location", *METHODS, *OPTIONAL} == {
        name for name in vars(ArtifactStore) if not name.startswith("_")
    }
