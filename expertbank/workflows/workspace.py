"""A bank, opened: registry, store, and the backbone when something needs it.

Torch is imported only by what needs it, so listing and showing stay instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.cached import CACHE_BYTES, CachedStore
from expertbank.artifacts.claims import claim, owner_of, require_own
from expertbank.artifacts.lock import WAIT_SECONDS
from expertbank.artifacts.store import ArtifactStore
from expertbank.config import FeatureSpec
from expertbank.data import TaskSpec
from expertbank.data.spec import check_task_name
from expertbank.errors import InputError, IntegrityError, NotFoundError, ReadOnlyError
from expertbank.kinds import KINDS
from expertbank.records import BackboneRecord, ExpertRecord, RouterRecord
from expertbank.registry.names import forgotten
from expertbank.registry.registry import Registry
from expertbank.settings import number
from expertbank.workflows.checkpoints import CheckpointFile
from expertbank.workflows.environment import environment_of
from expertbank.workflows.held_backbone import HeldBackbone
from expertbank.workflows.home import Home, home_at

if TYPE_CHECKING:
    from expertbank.adapters.stack import CollapsedExpert
    from expertbank.backbones.backbone import Backbone
    from expertbank.models.expert_file import ExpertFile
    from expertbank.models.routed import RoutedModel
    from expertbank.routing.router import Router

CHECKPOINTS = "checkpoints"
COPIES = "copies"
LONGEST_WAIT = 1_000_000
"""Most seconds that anybody waits for a bank's lock."""


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
        self.held = HeldBackbone(
            f"the bank at {home}",
            lambda: self.exists,
            lambda: self.registry,
            lambda: self.folder,
            reference,
            device,
        )
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
            InputError: ``store_url`` is not the recorded one, or a name or number cannot be one.
        """
        for what, name in (("backbone", reference), ("store", store_url)):
            if name == "":
                raise InputError(f"the {what} must not be empty; leave it out if it is not meant")
        lock_wait = number(lock_wait, "lock_wait", "Bank.open", float, least=0, most=LONGEST_WAIT)
        cache_bytes = number(cache_bytes, "cache_bytes", "Bank.open", int, least=0)
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
                    f"no bank at {self.home}; make one with: {self.home.making}"
                ) from None
        return self._registry

    def require_writable(self) -> None:
        """Refuse what would write where this was opened for reading.

        Raises:
            ReadOnlyError: it was.
        """
        if self._read_only:
            raise ReadOnlyError.opened(f"the bank at {self.home}")

    @property
    def exists(self) -> bool:
        """Whether the bank has a registry yet; one that was opened is there for good."""
        return self._registry is not None or self._location.exists()

    @property
    def folder(self) -> Path:
        """This machine's own folder of the bank: unfinished training, caches."""
        if self.home.folder is not None:
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
        if url is not None:
            claim(self.store, self.registry.bank_id())

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

    def require_usable(self, url: str | None, bank: str | None = None) -> None:
        """Refuse a store that a bank without a backbone could not keep its files in.

        Args:
            url: the store's; ``None`` for the one that it has anyway.
            bank: the name it will have, where that is known; default the one it has.

        Raises:
            InputError: its URL is none, it holds files already, or it is another bank's.
            NotFoundError: nothing installed opens it.
            ExpertBankError: it cannot be reached or written.
        """
        store = self.home.store(url)
        store.probe()
        if url is None:
            return
        if owner_of(store) is None and next(store.digests(), None) is not None:
            raise InputError(
                f"the store at {store.location} holds files of another bank, and gc would delete "
                "them: give every bank a store of its own, such as a folder or prefix in it"
            )
        if bank is None and self.exists:
            bank = self.registry.bank_id()
        require_own(store, bank)

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
        return self.held.backbone

    # -- experts and routers ---------------------------------------------------------------

    def expert_file(self, record: ExpertRecord) -> ExpertFile:
        """An expert's contents, rehashed and checked.

        Raises:
            IntegrityError: the file changed, or belongs to another feature spec or task.
        """
        file = self._expert_file(record.digest, f"expert {record.id}", self.spec)
        if (file.task, file.kind, file.labels) != (record.task, record.kind, record.labels):
            raise IntegrityError(f"expert {record.id}: its file is of {file.kind} {file.task!r}")
        return file

    def _expert_file(self, digest: str, where: str, spec: FeatureSpec) -> ExpertFile:
        from expertbank.models.expert_file import ExpertFile

        data = self._stored(digest, where, "or train it again: expertbank add --new-version")
        file = ExpertFile.from_bytes(data, where)
        if (file.backbone_digest, file.feature_spec_digest) != (spec.backbone_digest, spec.digest):
            raise IntegrityError(f"{where} belongs to another backbone or feature spec")
        return file

    def _stored(self, digest: str, where: str, otherwise: str) -> bytes:
        """A file's bytes; the store does not know what it is, nor what else would help."""
        try:
            return self.store.get(digest)
        except IntegrityError as error:
            raise IntegrityError(f"{where}: {error}, {otherwise}") from error

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
        where = f"router@{record.version}"
        data = self._stored(record.digest, where, "or fit another: expertbank retrain-router")
        return Router.from_bytes(data, where)

    @property
    def model(self) -> RoutedModel:
        """The one-pass model over this bank's experts, by digest, loaded as batches need them."""
        import torch

        from expertbank.adapters.pool import ExpertPool
        from expertbank.models.routed import RoutedModel

        with self.held.loading:
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
