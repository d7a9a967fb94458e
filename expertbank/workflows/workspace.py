"""A bank, opened: registry, store, and the backbone when something needs it.

Torch is imported only by what needs it, so listing and showing stay instant.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.cached import CACHE_BYTES, CachedStore
from expertbank.artifacts.lock import WAIT_SECONDS
from expertbank.artifacts.store import ArtifactStore
from expertbank.backbones.forks import busy
from expertbank.config import DEFAULT_BACKBONE, FeatureSpec
from expertbank.data import TaskSpec
from expertbank.data.spec import check_task_name
from expertbank.errors import InputError, IntegrityError, LockedError, NotFoundError
from expertbank.files.durable import make_folder, write_durably
from expertbank.kinds import KINDS
from expertbank.records import BackboneRecord, ExpertRecord, RouterRecord
from expertbank.registry.names import forgotten
from expertbank.registry.registry import Registry
from expertbank.workflows.digest_cache import DIGEST_CACHE, DigestCache
from expertbank.workflows.home import FolderHome, Home, home_at

if TYPE_CHECKING:
    from expertbank.adapters.pool import CollapsedExpert
    from expertbank.backbones.backbone import Backbone
    from expertbank.models.expert_file import ExpertFile
    from expertbank.models.routed import RoutedModel
    from expertbank.routing.router import Router

CHECKPOINTS = "checkpoints"
COPIES = "copies"
PACKAGES = ("expertbank", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def now() -> str:
    """UTC ISO-8601 to the microsecond."""
    return datetime.now(timezone.utc).isoformat()


class Workspace:
    """One open bank.

    Args:
        home: where the bank is or will be.
        create: whether ``making`` may make a bank that is not there.
        read_only: never write to the registry.
        reference: backbone named by the caller, overriding the recorded reference; its
            digest must still be the bank's.
        device: where to run the backbone; default as ``load_backbone``.
        lock_wait: seconds to wait for commands that need the bank alone.
        store_url: store named by the caller; for a bank that has a backbone, the recorded one.
        cache_bytes: most bytes to keep on this machine of what a distant store holds.
    """

    def __init__(
        self,
        home: Home,
        *,
        create: bool = False,
        read_only: bool = False,
        reference: str | None = None,
        device: str | None = None,
        lock_wait: float = WAIT_SECONDS,
        store_url: str | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.home = home
        self.lock = home.lock(lock_wait)
        self._cache_bytes = cache_bytes
        self.store_url = store_url
        self._stores: dict[str | None, ArtifactStore] = {}
        self._checkpoints: dict[tuple[str, str], CheckpointFile] = {}
        self._location = home.location
        self._may_create = create
        self._read_only = read_only
        self._registry: Registry | None = None
        self._folder: Path | None = None
        self.reference = reference
        self._device = device
        self._loading = RLock()
        self._backbone: tuple[str, str, Backbone] | None = None
        self._complaints: dict[tuple[str, str], str] = {}
        self._model: RoutedModel | None = None

    @classmethod
    def open(
        cls,
        home: str | Path | Home,
        *,
        create: bool = False,
        read_only: bool = False,
        reference: str | None = None,
        device: str | None = None,
        lock_wait: float = WAIT_SECONDS,
        store_url: str | None = None,
        cache: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> Workspace:
        """Open the bank at ``home``; with ``create`` there may be none, until something is written.

        ``cache`` is this machine's folder for banks in databases.

        Raises:
            NotFoundError: there is none.
            InputError: ``store_url`` is not the recorded one, or a name is empty.
        """
        for what, name in (("backbone", reference), ("store", store_url)):
            if name == "":
                raise InputError(f"the {what} must not be empty; leave it out if it is not meant")
        opened = cls(
            home_at(home, cache),
            create=create,
            read_only=read_only,
            reference=reference,
            device=device,
            lock_wait=lock_wait,
            store_url=store_url,
            cache_bytes=cache_bytes,
        )
        if opened.exists or not create:
            _ = opened.registry
            opened.require_store(store_url)
        return opened

    @property
    def registry(self) -> Registry:
        """The open registry, as it is: looking at a bank never makes one.

        Raises:
            NotFoundError: there is no bank.
        """
        if self._registry is None:
            try:
                self._registry = self._location.open(read_only=self._read_only)
            except NotFoundError:
                if self._location.exists():
                    raise
                raise NotFoundError(
                    f"no bank at {self.home}; make one with: expertbank init, "
                    "or expertbank add --task T"
                ) from None
        return self._registry

    @property
    def exists(self) -> bool:
        """Whether the bank has a registry yet; one that was opened is there for good."""
        return self._registry is not None or self._location.exists()

    @property
    def folder(self) -> Path:
        """This machine's own folder of the bank: unfinished training, caches."""
        if isinstance(self.home, FolderHome):
            return self.home.folder
        if not self.exists:
            return self.home.scratch(None)
        if self._folder is None:
            self._folder = self.home.scratch(self.registry.bank_id())
        return self._folder

    def close(self) -> None:
        """Let go of the database; what needs it later opens it again."""
        if self._registry is not None:
            self._registry.close()

    # -- the store ---------------------------------------------------------------------------

    @property
    def store(self) -> ArtifactStore:
        """Where the bank's artifacts are: the store recorded with the backbone.

        Raises:
            NotFoundError: nothing installed opens its URL.
        """
        record = self.registry.backbone() if self.exists else None
        url = record.store if record else self.store_url
        if url not in self._stores:
            self._stores[url] = self._kept_here(self.home.store(url))
        return self._stores[url]

    def _kept_here(self, store: ArtifactStore) -> ArtifactStore:
        if not getattr(store, "distant", False):
            return store
        return CachedStore(store, self.folder / COPIES, self._cache_bytes)

    def claim_store(self) -> None:
        """Make sure that the store, where it is not in the bank's own folder, is this bank's.

        Raises:
            InputError: it is another bank's.
        """
        record = self.registry.backbone()
        url = record.store if record else self.store_url
        claim = getattr(self.store, "claim", None)
        if url is not None and claim is not None:
            claim(self.registry.bank_id())

    def require_store(self, url: str | None) -> None:
        """Refuse another store than the one that is recorded, if any is asked for.

        Raises:
            InputError: the bank keeps its files elsewhere.
        """
        record = self.registry.backbone() if url is not None and self.exists else None
        if record is not None and record.store != url:
            raise InputError(
                f"the bank at {self.home} keeps its files at "
                f"{self.home.store_words(record.store)}, not at {url}, and that cannot change; "
                "leave the store out, or start another bank with --home DIR"
            )

    def require_usable(self, url: str | None) -> None:
        """Refuse a store that a bank without a backbone could not keep its files in.

        Raises:
            InputError: its URL is none, or it holds files already.
            NotFoundError: nothing installed opens it.
            ExpertBankError: it cannot be reached or written.
        """
        store = self.home.store(url)
        store.probe()
        if url is not None and next(store.digests(), None) is not None:
            raise InputError(
                f"the store at {store.location} holds files of another bank, and gc would delete "
                "them: give every bank a store of its own, such as a folder or prefix in it"
            )

    def probe_writable(self) -> None:
        """Fail before long work rather than after it where registry or store cannot be written.

        Raises:
            ExpertBankError: one of them cannot.
        """
        self.registry.probe_writable()
        self.store.probe()

    # -- the backbone ----------------------------------------------------------------------

    @property
    def backbone_record(self) -> BackboneRecord:
        """The bank's backbone and feature spec.

        Raises:
            NotFoundError: the bank was never initialised.
        """
        record = self.registry.backbone()
        if record is None:
            raise NotFoundError("the bank has no backbone yet; run: expertbank init")
        return record

    @property
    def spec(self) -> FeatureSpec:
        """The bank's feature spec."""
        return self.backbone_record.feature_spec

    @property
    def backbone(self) -> Backbone:
        """The loaded backbone, checked against the bank's digest; kept while it is the bank's.

        Raises:
            IntegrityError: it is another model than the bank was made with.
        """
        record = self.registry.backbone()
        known = record.reference if record else DEFAULT_BACKBONE
        reference = known if self.reference is None else self.reference
        dtype = record.feature_spec.dtype if record else "float32"
        with self._loading:
            if self._backbone is not None and self._backbone[:2] == (reference, dtype):
                held = self._backbone[2]
                if record is None or held.digest == record.digest:
                    return held
            loaded = self.load_backbone(reference, dtype, record)
            if record is not None:
                require_backbone(loaded, record.digest, f"the bank at {self.home}")
                self._complete(record, loaded)
            self._backbone = reference, dtype, loaded
            return loaded

    def load_backbone(
        self, reference: str, dtype: str, record: BackboneRecord | None = None
    ) -> Backbone:
        """Load a backbone, its identity kept by the state of its files.

        Args:
            reference: a folder, or a Hub name.
            dtype: type of the weights while they run.
            record: what the bank recorded; the backbone goes by its digest if it is the one.
        """
        from expertbank.backbones.backbone import load_backbone

        with busy():
            loaded = load_backbone(
                reference,
                revision=record.revision_of(reference) if record else None,
                device=self._device,
                dtype=dtype,
                record=record,
                known=self._digests.find,
            )
        self._remember(loaded)
        return loaded

    def use(self, loaded: Backbone) -> None:
        """Work with a backbone that was loaded to make the bank, instead of loading another."""
        with self._loading:
            self._backbone = loaded.reference, self.spec.dtype, loaded
        self._remember(loaded)

    @property
    def _digests(self) -> DigestCache:
        return DigestCache(self.folder / DIGEST_CACHE)

    def _remember(self, loaded: Backbone) -> None:
        if not self.exists or self.registry.read_only:
            return
        self._digests.remember(loaded.place.path, loaded.identity)
        for (digest, dtype), complaint in self._complaints.items():
            self._digests.remember_agreement(digest, checked_with(dtype), complaint)

    def require_agreement(self, loaded: Backbone) -> None:
        """Refuse to make or to grow a bank with a model and a tokenizer that do not fit each other.

        Worked out once for a backbone and the installed libraries, and then remembered.

        Raises:
            InputError: what does not fit, and what to do.
        """
        from expertbank.models.agreement import disagreement

        digest, dtype = loaded.identity.digest, loaded.dtype
        complaint = self._digests.find_agreement(digest, checked_with(dtype))
        if complaint is None:
            complaint = self._complaints[digest, dtype] = disagreement(loaded)
            self._remember(loaded)
        if complaint:
            raise InputError(f"backbone {loaded.reference!r} cannot be used: {complaint}")

    def recheck_backbone(self) -> None:
        """Hash the backbone's files anew, whatever the cache says; the loaded model stays.

        Raises:
            IntegrityError: it is another model than the bank was made with.
        """
        from expertbank.backbones.identity import identity_of

        loaded = self.backbone
        found = identity_of(loaded.place.path)
        if found != loaded.identity:
            raise IntegrityError(
                f"the files of backbone {loaded.reference!r} in {loaded.place.path} give digest "
                f"{found.digest} now; the model that was loaded from them, and the bank at "
                f"{self.home}, have {loaded.identity.digest}"
            )

    def _complete(self, record: BackboneRecord, loaded: Backbone) -> None:
        """Record the lasting identity of a backbone of expertbank 0.1, and the Hub's commit."""
        if self.registry.read_only:
            return
        identity = record.identity or loaded.identity.digest
        revision = record.revision
        if loaded.reference == record.reference:
            revision = revision or loaded.place.revision
        if (revision, identity) != (record.revision, record.identity):
            # It can be recorded by the next command as well: no reason for this one to fail.
            with suppress(LockedError):
                self.registry.complete_backbone(revision=revision, identity=identity)

    # -- experts and routers ---------------------------------------------------------------

    def expert_file(self, record: ExpertRecord) -> ExpertFile:
        """An expert's contents, rehashed and checked.

        Raises:
            IntegrityError: the file changed, or belongs to another backbone or task.
        """
        file = self._expert_file(record.digest, f"expert {record.id}", self.spec)
        if (file.task, file.labels) != (record.task, record.labels):
            raise IntegrityError(f"expert {record.id}: its file is of task {file.task!r}")
        return file

    def _expert_file(self, digest: str, where: str, spec: FeatureSpec) -> ExpertFile:
        from expertbank.models.expert_file import ExpertFile

        file = ExpertFile.from_bytes(self.store.get(digest), where)
        if file.backbone_digest != spec.backbone_digest:
            raise IntegrityError(f"{where} belongs to backbone {file.backbone_digest}")
        return file

    def data_of(self, record: ExpertRecord) -> tuple[TaskSpec, str]:
        """How to read rows of an expert's task, and the source that it was trained on.

        Columns and labels belong to the version: a later one may have been trained on others. The
        task's own are the first version's, and speak only where a run of old does not.

        Raises:
            NotFoundError: the expert's kind is not installed.
        """
        KINDS.get(record.kind)
        data = self.registry.run(record.run_id).data if record.run_id is not None else {}
        spec = data.get("spec") or self.registry.task(record.task).spec
        return TaskSpec.from_dict(spec, record.id), str(data.get("source", ""))

    def router(self, record: RouterRecord) -> Router:
        """A router's gate and members, rehashed and checked.

        Raises:
            NotFoundError: it was forgotten.
            IntegrityError: the file changed.
        """
        from expertbank.routing.router import Router

        if record.forgotten_at is not None:
            raise forgotten(record.version)
        return Router.from_bytes(self.store.get(record.digest), f"router@{record.version}")

    @property
    def model(self) -> RoutedModel:
        """The one-pass model over this bank's experts, by digest, loaded as batches need them."""
        import torch

        from expertbank.adapters.pool import ExpertPool
        from expertbank.models.routed import RoutedModel

        with self._loading:
            backbone, spec = self.backbone, self.spec
            held = self._model
            if held is not None and held.backbone is backbone and held.spec == spec:
                return held
            device, dtype = backbone.device, getattr(torch, spec.dtype)

            def load(digest: str) -> CollapsedExpert:
                file = self._expert_file(digest, f"expert {digest}", spec)
                return file.collapse(digest, device, dtype)

            self._model = RoutedModel(backbone, spec, ExpertPool(load))
            return self._model

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep ``gc`` and ``db restore`` out between the first stored byte and its row.

        Raises:
            LockedError: one of them kept the bank for longer than the wait.
        """
        _ = self.registry  # no folder and no lock for a bank that is not there
        with self.lock.shared():
            yield

    @contextmanager
    def making(self) -> Iterator[None]:
        """As ``writing``, for what makes the bank first if there is none and that was asked for.

        Raises:
            NotFoundError: there is none, and it may not be made.
            LockedError: as ``writing``.
        """
        if not self._may_create:
            _ = self.registry
        self.home.prepare()
        with self.lock.shared():
            if not self.exists:
                self._registry = self._location.create()
            yield

    def checkpoint(self, task: str, of: str = "") -> CheckpointFile:
        """Where ``task``'s unfinished training or search is kept; the name is one path part."""
        if (task, of) not in self._checkpoints:
            ending = "json" if of else "safetensors"
            file = self.folder / CHECKPOINTS / of / f"{check_task_name(task)}.{ending}"
            self._checkpoints[task, of] = CheckpointFile(file)
        return self._checkpoints[task, of]

    def unfinished(self) -> tuple[str, ...]:
        """Tasks whose training was begun here and whose state is kept, to go on from."""
        found = [task for (task, _), file in self._checkpoints.items() if file.current]
        return tuple(dict.fromkeys(found))

    def environment(self) -> dict[str, Any]:
        """What the numbers of a measurement depend on besides data and weights."""
        return environment_of(str(self.backbone.device), self.spec.dtype)


def environment_of(device: str, dtype: str) -> dict[str, Any]:
    """What numbers that are computed in this process depend on besides data and weights."""
    import torch

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": device,
        "dtype": dtype,
        "packages": package_versions(),
    }


def require_backbone(loaded: Backbone, digest: str, owner: str) -> None:
    """Refuse a backbone that is not the one ``owner`` was made with.

    Raises:
        IntegrityError: the digests differ; the message shows both.
    """
    if loaded.digest != digest:
        raise IntegrityError(
            f"{loaded.reference!r} is not the backbone of {owner}: "
            f"it has digest {loaded.digest}, expected {digest}. "
            "Experts only work on the weights and tokenizer they were trained on"
        )


def checked_with(dtype: str) -> dict[str, str]:
    """What the check of model and tokenizer depends on besides both of them."""
    return {**package_versions(), "dtype": dtype}


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found = {name: _version(name) for name in PACKAGES}
    return {name: number for name, number in found.items() if number is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class CheckpointFile:
    """The state of one task's unfinished training; replaced whole, removed when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier = self._file()

    @property
    def current(self) -> bool:
        """Whether there is a state, of the training that goes on here and no earlier one's."""
        return self._file() not in {None, self._earlier}

    def _file(self) -> tuple[int, int] | None:
        """Which file there is: each write makes another."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def read(self) -> bytes | None:
        """The last state, if a run was interrupted, which goes on here."""
        self._earlier = None
        return self.path.read_bytes() if self.path.is_file() else None

    def write(self, data: bytes) -> None:
        """Keep a newer state."""
        make_folder(self.path.parent)
        write_durably(self.path, data, 0o644)

    def remove(self) -> None:
        """Forget the state: its expert is registered."""
        self.path.unlink(missing_ok=True)
