"""Objects in S3 keep every promise of a store, over real HTTP, also when that fails."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bucket_server import FAULTS, Bucket, FaultProxy, failing
from outside_stores import MemoryStore

from expertbank.artifacts import open_store
from expertbank.artifacts.cached import CachedStore
from expertbank.artifacts.local import LocalStore
from expertbank.artifacts.objects import ObjectStore
from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.errors import ExpertBankError, InputError, IntegrityError
from expertbank.testing.stores import DATA, StoreConformance

SECRETS = ("s3cr3t-key", "s3cr3t-token")
QUICK = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {
        "init_backoff": timedelta(milliseconds=5),
        "max_backoff": timedelta(milliseconds=20),
        "base": 2,
    },
}


def damage(bucket: Bucket, store: ArtifactStore, digest: str, data: bytes) -> None:
    bucket.write(store.where(digest).partition(f"{bucket.name}/")[2], data)


class TestObjects(StoreConformance):
    @pytest.fixture(autouse=True)
    def _bucket(self, bucket: Bucket) -> None:
        self.bucket = bucket

    @pytest.fixture
    def store(self, bucket: Bucket) -> ArtifactStore:
        return open_store(bucket.url("team/bank"))

    @pytest.fixture
    def reopen(self, bucket: Bucket) -> Callable[[], ArtifactStore]:
        return functools.partial(ObjectStore, bucket.url("team/bank"))

    def damage(self, store: ArtifactStore, digest: str, data: bytes) -> None:
        damage(self.bucket, store, digest, data)

    def interrupt(self, store: ArtifactStore) -> None:
        self.bucket.write("team/bank/.probe-0123", b"first")


class TestCached(StoreConformance):
    @pytest.fixture(autouse=True)
    def _bucket(self, bucket: Bucket) -> None:
        self.bucket = bucket

    @pytest.fixture
    def store(self, bucket: Bucket, tmp_path: Path) -> ArtifactStore:
        return cached(bucket.url("bank"), tmp_path)

    @pytest.fixture
    def reopen(self, bucket: Bucket, tmp_path: Path) -> Callable[[], ArtifactStore]:
        return functools.partial(cached, bucket.url("bank"), tmp_path)

    def damage(self, store: ArtifactStore, digest: str, data: bytes) -> None:
        damage(self.bucket, store, digest, data)


def cached(url: str, folder: Path) -> CachedStore:
    return CachedStore(ObjectStore(url), folder / "cache")


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "s3:///prefix",
        "s3://UPPER/x",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/x?color=red",
        "s3://bucket/.hidden",
    ],
)
def test_a_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        open_store(url)


def test_credentials_in_the_url_are_refused_and_not_repeated() -> None:
    for url in ("s3://key:hunter2@bucket/x", "s3://bucket/x?aws_secret_access_key=hunter2"):
        with pytest.raises(InputError) as caught:
            open_store(url)
        assert "hunter2" not in str(caught.value)


def test_the_objects_are_a_folder_of_files_under_the_same_names(
    bucket: Bucket, tmp_path: Path
) -> None:
    store = ObjectStore(bucket.url("bank"))
    digest = store.put(DATA)
    below = store.where(digest).removeprefix(f"s3://{bucket.name}/bank/")
    assert LocalStore(tmp_path).where(digest) == str(tmp_path / below)


def test_two_prefixes_of_a_bucket_know_nothing_of_each_other(bucket: Bucket) -> None:
    one, two = (ObjectStore(bucket.url(prefix)) for prefix in ("team", "team2"))
    digest = one.put(DATA)
    assert two.state(digest) is None
    assert list(two.digests()) == []
    two.delete(digest)
    assert one.get(digest) == DATA


def test_a_store_can_be_sent_to_other_processes(bucket: Bucket) -> None:
    store = ObjectStore(bucket.url("bank"))
    assert pickle.loads(pickle.dumps(store)).get(store.put(DATA)) == DATA


# -- whose it is -----------------------------------------------------------------------------------


def stores_of(bucket: Bucket, tmp_path: Path) -> Iterator[Callable[[], ArtifactStore]]:
    yield lambda: ObjectStore(bucket.url("bank"))
    yield lambda: LocalStore(tmp_path / "objects")


def test_one_bank_takes_a_store_and_every_other_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    for reopen in stores_of(bucket, tmp_path):
        assert reopen().owner() is None
        for _ in range(2):
            reopen().claim("a" * 32)
        assert reopen().owner() == "a" * 32
        with pytest.raises(InputError, match="another bank's"):
            reopen().claim("b" * 32)
        assert list(reopen().digests()) == []
        assert list(reopen().unfinished()) == []


def test_what_a_killed_probe_left_is_discarded_and_nothing_else(bucket: Bucket) -> None:
    store = ObjectStore(bucket.url("bank"))
    digest = store.put(DATA)
    bucket.write("bank/.probe-12", b"first")
    (left,) = store.unfinished()
    with pytest.raises(IntegrityError):
        store.discard(type(left)(store.where(digest), 1, 1.0))
    store.discard(left)
    assert list(store.unfinished()) == []
    assert store.get(digest) == DATA


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[FaultProxy]:
    with failing(bucket.port) as one:
        yield one


def every_use(store: ObjectStore) -> None:
    """Everything a bank does with a store."""
    store.probe()
    store.claim("a" * 32)
    digest = store.put(DATA)
    assert store.put(DATA) == digest
    assert store.get(digest) == DATA
    state = store.state(digest)
    assert state is not None
    assert state.bytes == len(DATA)
    assert list(store.digests()) == [digest]
    store.delete(digest)
    assert store.state(digest) is None
    assert list(store.unfinished()) == []


def outcome(store: ObjectStore) -> ExpertBankError | None:
    try:
        every_use(store)
    except ExpertBankError as error:
        return error
    return None


def test_one_fault_at_any_request_is_survived_or_told_and_leaves_nothing_wrong(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    """Two kinds of fault at every request; ``postgres_faults.py`` tries them all at each."""
    every_use(ObjectStore(bucket.url("count", port=proxy.port), QUICK))
    requests = len(proxy.seen)
    assert requests > 10
    for turn, at in itertools.product((0, 3), range(requests)):
        fault = FAULTS[(at + turn) % len(FAULTS)]
        start = len(proxy.seen)
        proxy.fault = lambda number, *_, hit=start + at, fault=fault: (
            fault if number == hit else None
        )
        store = ObjectStore(bucket.url(f"{turn}/{at}", port=proxy.port), QUICK)
        told = outcome(store)
        # An answer that makes no sense is not asked for again.
        assert told is None or fault in {"garbage", "truncate"}, (fault, told)
        assert "\n" not in str(told)
        assert not any(secret in str(told) for secret in SECRETS)
        # Without a fault the same store does all of it, whatever was left.
        proxy.fault = lambda number, method, path: None
        digest = store.put(DATA)
        assert store.get(digest) == DATA
        assert list(store.digests()) == [digest]


@pytest.mark.parametrize("fault", ["drop", "500", "503"])
def test_a_server_that_stays_away_is_told_in_one_line(
    bucket: Bucket, proxy: FaultProxy, fault: str
) -> None:
    store = ObjectStore(bucket.url("bank", port=proxy.port), QUICK)
    digest = store.put(DATA)
    proxy.fault = lambda number, method, path: fault
    for use in (
        store.probe,
        lambda: store.put(b"new"),
        lambda: store.get(digest),
        lambda: store.state(digest),
        lambda: list(store.digests()),
        lambda: store.delete(digest),
    ):
        with pytest.raises(ExpertBankError) as caught:
            use()
        assert type(caught.value) is ExpertBankError
        assert "\n" not in str(caught.value)
    proxy.fault = lambda number, method, path: None
    assert store.get(digest) == DATA
    assert store.state(sha256_bytes(b"new")) is None


def test_credentials_that_expire_in_the_middle_are_told_and_never_shown(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    store = ObjectStore(bucket.url("bank", port=proxy.port), QUICK)
    digest = store.put(DATA)
    proxy.fault = lambda number, method, path: "expired"
    uses: list[Callable[[], object]] = [lambda: store.put(b"new"), lambda: store.get(digest)]
    for use in uses:
        with pytest.raises(ExpertBankError, match="credentials have expired") as caught:
            use()
        assert not any(secret in str(caught.value) for secret in SECRETS)
        assert caught.value.__suppress_context__
    with pytest.raises(ExpertBankError, match="credentials"):
        store.state(digest)


def test_bytes_that_stop_coming_are_taken_up_where_they_stopped(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    store = ObjectStore(bucket.url("bank", port=proxy.port), QUICK)
    data = os.urandom(3_000_000)
    digest = store.put(data)
    cut = iter(["truncate", "truncate", "truncate", None])
    proxy.fault = lambda number, method, path: next(cut)
    assert store.get(digest) == data


def test_an_answer_that_is_cut_off_each_time_is_never_taken_for_whole(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    store = ObjectStore(bucket.url("bank", port=proxy.port), QUICK)
    digest = store.put(DATA)
    proxy.fault = lambda number, method, path: "truncate" if method == "GET" else None
    with pytest.raises(ExpertBankError):
        store.get(digest)


def test_a_bucket_that_is_not_there_is_said_to_be_none(bucket: Bucket) -> None:
    bucket.name = "nowhere"
    store = ObjectStore(bucket.url("bank"))
    for use in (
        store.probe,
        lambda: store.put(DATA),
        lambda: store.get(sha256_bytes(DATA)),
        lambda: list(store.digests()),
    ):
        with pytest.raises(ExpertBankError, match="no such bucket") as caught:
            use()
        assert not isinstance(caught.value, IntegrityError)


def test_a_server_that_ignores_create_only_puts_is_refused(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.ignored = "If-None-Match"
    store = ObjectStore(bucket.url("bank", port=proxy.port))
    with pytest.raises(ExpertBankError, match="ignores If-None-Match"):
        store.probe()
    assert list(store.unfinished()) == []


def test_an_endpoint_without_tls_and_no_server_are_told(bucket: Bucket) -> None:
    store = ObjectStore("s3://bucket/x?endpoint=http://127.0.0.1:9", QUICK)
    with pytest.raises(ExpertBankError, match="cannot be reached"):
        store.put(DATA)


def test_a_forked_process_is_told_to_start_otherwise(bucket: Bucket) -> None:
    store = ObjectStore(bucket.url("bank"))
    store.put(DATA)
    child = os.fork()
    if not child:
        try:
            store.put(b"x")
        except ExpertBankError as error:
            os._exit(0 if "spawn" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_without_obstore_the_extra_is_named() -> None:
    code = (
        "import sys\nsys.modules['obstore'] = None\nsys.modules['obstore.store'] = None\n"
        "from expertbank.artifacts import open_store\n"
        "try:\n    open_store('s3://bucket/x')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ExpertBankError" in done.stdout, done
    assert "pip install 'expertbank[s3]'" in done.stdout


# -- copies ----------------------------------------------------------------------------------------


class CountingStore(LocalStore):
    """How often each artifact was really read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []

    def get(self, digest: str) -> bytes:
        self.read.append(digest)
        return super().get(digest)


def copies(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_was_read_once_is_read_here_from_then_on_also_by_other_processes(
    tmp_path: Path,
) -> None:
    inner = CountingStore(tmp_path / "objects")
    digest = inner.put(DATA)
    for _ in range(3):
        assert CachedStore(inner, tmp_path / "cache").get(digest) == DATA
    assert inner.read == [digest]


@pytest.mark.parametrize("change", [b"", DATA[:-1], DATA + b"!", b"!" + DATA[1:]])
def test_a_damaged_copy_is_thrown_away_and_read_again(tmp_path: Path, change: bytes) -> None:
    store = CachedStore(CountingStore(tmp_path / "objects"), tmp_path / "cache")
    digest = store.put(DATA)
    store.get(digest)
    (copy,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    copy.write_bytes(change)
    assert store.get(digest) == DATA
    assert copy.read_bytes() == DATA


def test_copies_stay_below_their_limit_and_those_that_are_read_stay(tmp_path: Path) -> None:
    inner = CountingStore(tmp_path / "objects")
    blobs = [bytes([number]) * 1000 for number in range(60)]
    digests = [inner.put(data) for data in blobs]
    store = CachedStore(inner, tmp_path / "cache", limit=10_000)
    past = itertools.count(-10_000)
    for digest in digests:
        store.get(digest)
        if digest != digests[0]:
            copy = tmp_path / "cache" / digest[:2] / digest
            os.utime(copy, (os.stat(copy).st_mtime + next(past),) * 2)
        assert copies(tmp_path / "cache") <= 11_000
        store.get(digests[0])
    assert inner.read.count(digests[0]) == 1
    big = inner.put(os.urandom(20_000))
    store.get(big)
    store.get(big)
    assert inner.read.count(big) == 2
    nothing = CachedStore(inner, tmp_path / "none", limit=0)
    assert nothing.get(digests[0]) == blobs[0]
    assert copies(tmp_path / "none") == 0


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = CachedStore(LocalStore(tmp_path / "objects"), tmp_path / "file" / "cache")
    digest = store.put(DATA)
    for _ in range(2):
        assert store.get(digest) == DATA


def test_a_distant_store_from_outside_need_not_remember_whose_it_is(tmp_path: Path) -> None:
    store = CachedStore(MemoryStore("memory://forgetful"), tmp_path / "cache")  # type: ignore[arg-type]
    store.claim("a" * 32)
    assert store.owner() is None


def test_verifying_reads_the_store_whatever_copies_there_are(tmp_path: Path) -> None:
    inner = LocalStore(tmp_path / "objects")
    store = CachedStore(inner, tmp_path / "cache")
    digest = store.put(DATA)
    store.get(digest)
    path = Path(inner.where(digest))
    path.chmod(0o644)
    path.write_bytes(b"other")
    assert store.get(digest) == DATA
    with pytest.raises(IntegrityError):
        list(store.chunks(digest))


def test_many_processes_share_the_copies(bucket: Bucket, tmp_path: Path) -> None:
    store = ObjectStore(bucket.url("bank"))
    digests = [store.put(bytes([number]) * 5000) for number in range(12)]
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from expertbank.artifacts.cached import CachedStore\n"
        "from expertbank.artifacts.objects import ObjectStore\n"
        "from expertbank.artifacts.store import sha256_bytes\n"
        "store = CachedStore(ObjectStore(sys.argv[1]), Path(sys.argv[2]), limit=20_000)\n"
        "for _ in range(5):\n"
        "    for digest in sys.argv[3:]:\n"
        "        assert sha256_bytes(store.get(digest)) == digest\n"
    )
    command = [sys.executable, "-c", code, bucket.url("bank"), str(tmp_path / "c"), *digests]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    assert copies(tmp_path / "c") <= 20_000 + 3 * 5000
    assert not list((tmp_path / "c").rglob(".tmp-*"))


def test_a_prefix_within_a_prefix_is_another_banks(bucket: Bucket) -> None:
    outer, inner = (ObjectStore(bucket.url(place)) for place in ("team", "team/bank"))
    outer.claim("a" * 32)
    inner.claim("b" * 32)
    shared, own = outer.put(DATA), inner.put(b"only within")
    inner.put(DATA)
    bucket.write("team/bank/.probe-0123", b"first")
    bucket.write("team/.probe-4567", b"first")
    assert list(outer.digests()) == [shared]
    assert sorted(inner.digests()) == sorted([shared, own])
    (left,) = outer.unfinished()
    assert left.where.endswith("/team/.probe-4567")
    outer.discard(left)
    assert not list(outer.unfinished())
    assert len(list(inner.unfinished())) == 1
