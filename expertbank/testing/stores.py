"""Every promise of ``ArtifactStore``, to be run against a store of one's own with pytest.

class TestMyStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        return MyStore(...)

    def damage(self, store, digest, data):
        ...
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.errors import IntegrityError

DATA = b"an expert's bytes" * 1000
LARGE = 5 * (1 << 20) + 3
"""More bytes than are read at once, and not a round number of them."""
NOT_DIGESTS = (
    *("", "ab", "../../etc/passwd", "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"),
    f"../{'a' * 61}",
)
PATIENCE = 10.0
"""Longest wait, in seconds, for a store's clock to go on."""


class StoreConformance:
    """A store's promises as tests; give your subclass a name that begins with ``Test``.

    What must be given: the fixture ``store`` and the method ``damage``. The fixture ``reopen``
    and the method ``interrupt`` are for what not every store can do.
    """

    @pytest.fixture
    def store(self) -> ArtifactStore:
        """An empty store."""
        raise NotImplementedError("give the fixture `store`: an empty store")

    @pytest.fixture
    def reopen(self, store: ArtifactStore) -> Callable[[], ArtifactStore] | None:
        """Opens ``store`` once more, as another process would.

        It must be picklable, such as ``functools.partial(MyStore, path)``; ``None`` for a store
        that ends with its process.
        """
        return None

    def damage(self, store: ArtifactStore, digest: str, data: bytes) -> None:
        """Put other bytes under ``digest``, behind the store's back."""
        raise NotImplementedError("give the method `damage`")

    def interrupt(self, store: ArtifactStore) -> None:
        """Leave behind what a ``put`` that is killed half-way leaves."""
        pytest.skip("this store says that a killed put leaves nothing behind")

    # -- bytes in, bytes out -----------------------------------------------------------------

    def test_what_was_put_comes_back_under_its_hash(self, store: ArtifactStore) -> None:
        digest = store.put(DATA)
        assert digest == sha256_bytes(DATA)
        assert store.get(digest) == DATA
        assert b"".join(store.chunks(digest)) == DATA
        assert list(store.digests()) == [digest]

    def test_nothing_is_something_too(self, store: ArtifactStore) -> None:
        digest = store.put(b"")
        assert store.get(digest) == b""
        assert b"".join(store.chunks(digest)) == b""
        state = store.state(digest)
        assert state is not None
        assert state.bytes == 0

    def test_many_bytes_come_back_whole_and_in_order(self, store: ArtifactStore) -> None:
        data = os.urandom(1 << 16) * (LARGE >> 16) + b"end"
        digest = store.put(data)
        assert store.get(digest) == data
        assert b"".join(store.chunks(digest)) == data

    def test_equal_bytes_are_stored_once(self, store: ArtifactStore) -> None:
        assert store.put(DATA) == store.put(bytes(DATA))
        assert len(list(store.digests())) == 1

    def test_digests_lists_exactly_what_is_there_ascending(self, store: ArtifactStore) -> None:
        assert list(store.digests()) == []
        put = [store.put(bytes([number])) for number in range(30)]
        assert list(store.digests()) == sorted(put)
        for digest in put[::3]:
            store.delete(digest)
        assert list(store.digests()) == sorted(set(put) - set(put[::3]))

    # -- what is not as it was -----------------------------------------------------------------

    def test_missing_bytes_are_an_integrity_error_that_names_them(
        self, store: ArtifactStore
    ) -> None:
        digest = sha256_bytes(DATA)
        with pytest.raises(IntegrityError, match=digest):
            store.get(digest)
        with pytest.raises(IntegrityError, match=digest):
            list(store.chunks(digest))

    @pytest.mark.parametrize(
        "change",
        [b"", DATA[:-1], DATA + b"!", b"!" + DATA[1:], DATA[:-1] + b"!"],
        ids=["empty", "cut off", "longer", "first byte", "last byte"],
    )
    def test_changed_bytes_are_an_integrity_error_at_every_read(
        self, store: ArtifactStore, change: bytes
    ) -> None:
        digest = store.put(DATA)
        self.damage(store, digest, change)
        for _ in range(2):
            with pytest.raises(IntegrityError, match=digest):
                store.get(digest)
            with pytest.raises(IntegrityError, match=digest):
                list(store.chunks(digest))

    def test_damaged_bytes_heal_when_the_right_ones_are_put_again(
        self, store: ArtifactStore
    ) -> None:
        digest = store.put(DATA)
        self.damage(store, digest, DATA[:-1])
        assert store.put(DATA) == digest
        assert store.get(digest) == DATA

    @pytest.mark.parametrize("text", NOT_DIGESTS)
    def test_what_is_no_digest_is_refused_and_never_looked_for(
        self, store: ArtifactStore, text: str
    ) -> None:
        for refuses in (store.get, store.state, store.delete, store.where):
            with pytest.raises(IntegrityError):
                refuses(text)
        with pytest.raises(IntegrityError):
            list(store.chunks(text))

    # -- letting go ------------------------------------------------------------------------------

    def test_what_was_deleted_is_gone_and_deleting_it_again_is_harmless(
        self, store: ArtifactStore
    ) -> None:
        digest, other = store.put(DATA), store.put(b"other")
        for _ in range(2):
            store.delete(digest)
        assert store.state(digest) is None
        assert list(store.digests()) == [other]
        with pytest.raises(IntegrityError):
            store.get(digest)
        assert store.put(DATA) == digest
        assert store.get(digest) == DATA

    def test_state_tells_size_and_age_and_nothing_of_what_is_not_there(
        self, store: ArtifactStore
    ) -> None:
        assert store.state(sha256_bytes(DATA)) is None
        state = store.state(store.put(DATA))
        assert state is not None
        assert state.bytes == len(DATA)
        assert state.modified > 0

    def test_putting_equal_bytes_again_makes_them_young(self, store: ArtifactStore) -> None:
        digest = store.put(DATA)
        first = store.state(digest)
        assert first is not None
        patience = time.monotonic() + PATIENCE
        while True:
            time.sleep(0.05)
            assert store.put(DATA) == digest
            again = store.state(digest)
            assert again is not None
            if again.modified > first.modified:
                break
            assert time.monotonic() < patience, "a collector would take them for old"
        assert store.get(digest) == DATA

    def test_reading_does_not_make_bytes_young(self, store: ArtifactStore) -> None:
        digest = store.put(DATA)
        first = store.state(digest)
        time.sleep(0.05)
        store.get(digest)
        assert store.state(digest) == first

    # -- what killed writers leave -----------------------------------------------------------------

    def test_nothing_unfinished_is_listed_after_whole_puts(self, store: ArtifactStore) -> None:
        store.put(DATA)
        assert list(store.unfinished()) == []

    def test_leftovers_are_told_apart_and_discarded_alone(self, store: ArtifactStore) -> None:
        digest = store.put(DATA)
        self.interrupt(store)
        assert list(store.digests()) == [digest]
        (left,) = store.unfinished()
        assert left.where
        assert left.modified > 0
        for _ in range(2):
            store.discard(left)
        assert list(store.unfinished()) == []
        assert store.get(digest) == DATA

    # -- at once -----------------------------------------------------------------------------------

    def test_threads_may_put_read_and_delete_at_once(self, store: ArtifactStore) -> None:
        blobs = [bytes([number]) * 20_000 for number in range(8)]

        def work(turn: int) -> None:
            for step in range(10):
                data = blobs[(turn + step) % len(blobs)]
                assert store.get(store.put(data)) == data
                store.delete(sha256_bytes(b"%d" % step))
                list(store.digests())

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert list(store.digests()) == sorted(sha256_bytes(data) for data in blobs)
        assert all(store.get(sha256_bytes(data)) == data for data in blobs)
        assert list(store.unfinished()) == []

    def test_processes_may_put_the_same_bytes_at_once(
        self, store: ArtifactStore, reopen: Callable[[], ArtifactStore] | None
    ) -> None:
        if reopen is None:
            pytest.skip("this store ends with its process")
        with _processes(3) as pool:
            tasks = [pool.submit(_put_many, reopen) for _ in range(3)]
            put = [task.result() for task in tasks]
        assert put[0] == put[1] == put[2]
        assert list(store.digests()) == sorted(put[0])
        for digest in put[0]:
            assert sha256_bytes(store.get(digest)) == digest
        assert list(store.unfinished()) == []

    def test_what_was_put_outlives_the_process_that_put_it(
        self, store: ArtifactStore, reopen: Callable[[], ArtifactStore] | None
    ) -> None:
        if reopen is None:
            pytest.skip("this store ends with its process")
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_put_and_die, args=(reopen,))
        process.start()
        process.join()
        assert process.exitcode == 7
        assert store.get(sha256_bytes(DATA)) == DATA
        assert reopen().get(sha256_bytes(DATA)) == DATA

    # -- for people --------------------------------------------------------------------------------

    def test_people_are_told_where_the_store_and_each_artifact_are(
        self, store: ArtifactStore
    ) -> None:
        digest = sha256_bytes(DATA)
        before = store.where(digest)
        assert store.put(DATA) == digest
        assert store.where(digest) == before
        assert digest in before
        assert store.location

    def test_a_probe_of_a_usable_store_leaves_nothing(self, store: ArtifactStore) -> None:
        store.probe()
        assert list(store.digests()) == []
        assert list(store.unfinished()) == []


def _processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))


def _put_many(reopen: Callable[[], ArtifactStore]) -> list[str]:
    store = reopen()
    return [store.put(bytes([number]) * 50_000) for number in range(40)]


def _put_and_die(reopen: Callable[[], ArtifactStore]) -> None:
    reopen().put(DATA)
    os._exit(7)
