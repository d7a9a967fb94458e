"""The bank's folder, opened: registry, store, and the backbone when something needs it.

Torch is imported only by what needs it, so listing and showing stay instant.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.lock import LOCK_FILE, WAIT_SECONDS, BankLock
from expertbank.artifacts.store import LocalStore, make_folder, write_durably
from expertbank.config import DEFAULT_BACKBONE, FeatureSpec
from expertbank.errors import IntegrityError, LockedError, NotFoundError
from expertbank.records import BackboneRecord, ExpertRecord, RouterRecord
from expertbank.registry.registry import Registry
from expertbank.tasks.spec import check_task_name
from expertbank.workflows.digest_cache import DIGEST_CACHE, DigestCache

if TYPE_CHECKING:
    from expertbank.adapters.pool import CollapsedExpert
    from expertbank.models.backbone import Backbone
    from expertbank.models.expert_file import ExpertFile
    from expertbank.models.gates import Router
    from expertbank.models.routed import RoutedModel

DATABASE = "registry.db"
OBJECTS = "objects"
CHECKPOINTS = "checkpoints"
PACKAGES = ("expertbank", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def now() -> str:
    """UTC ISO-8601 to the microsecond."""
    return datetime.now(timezone.utc).isoformat()


class Workspace:
    """One open bank.

    Args:
        home: the bank's folder.
        open_registry: opens the registry, making it first where that was asked for; called
            when the registry is first needed, so bad input leaves no empty bank behind.
        reference: backbone named by the caller, overriding the recorded reference; its
            digest must still be the bank's.
        device: where to run the backbone; default as ``load_backbone``.
        lock_wait: seconds to wait for commands that need the bank alone.
    """

    def __init__(
        self,
        home: Path,
        open_registry: Callable[[], Registry],
        reference: str | None = None,
        device: str | None = None,
        lock_wait: float = WAIT_SECONDS,
    ) -> None:
        self.home = home
        self.lock = BankLock(home / LOCK_FILE, lock_wait)
        self._open_registry = open_registry
        self.store = LocalStore(home / OBJECTS)
        self.reference = reference
        self._device = device

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        create: bool = False,
        read_only: bool = False,
        reference: str | None = None,
        device: str | None = None,
        lock_wait: float = WAIT_SECONDS,
    ) -> Workspace:
        """Open the bank at ``home``; with ``create`` make it first if there is none.

        Raises:
            NotFoundError: there is none.
        """
        database = home / DATABASE
        if database.is_file():
            # A process killed while it made the bank may have left a file without tables.
            registry = (
                Registry.create(database)
                if create
                else Registry.open(database, read_only=read_only)
            )
            return cls(home, lambda: registry, reference, device, lock_wait)
        if not create:
            raise NotFoundError(
                f"no bank at {home}; make one with: expertbank init, or expertbank add --task T"
            )

        def make() -> Registry:
            make_folder(home.absolute())
            return Registry.create(database)

        return cls(home, make, reference, device, lock_wait)

    @cached_property
    def registry(self) -> Registry:
        """The open registry."""
        return self._open_registry()

    @property
    def exists(self) -> bool:
        """Whether there is a bank in the folder yet."""
        return (self.home / DATABASE).is_file()

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

    @cached_property
    def backbone(self) -> Backbone:
        """The loaded backbone, checked against the bank's digest.

        Raises:
            IntegrityError: it is another model than the bank was made with.
        """
        record = self.registry.backbone()
        reference = self.reference or (record.reference if record else DEFAULT_BACKBONE)
        dtype = record.feature_spec.dtype if record else "float32"
        loaded = self.load_backbone(reference, dtype, record)
        if record is not None:
            require_backbone(loaded, record.digest, f"the bank at {self.home}")
            self._complete(record, loaded)
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
        from expertbank.models.backbone import load_backbone

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
        self.backbone = loaded
        self._remember(loaded)

    @property
    def _digests(self) -> DigestCache:
        return DigestCache(self.home / DIGEST_CACHE)

    def _remember(self, loaded: Backbone) -> None:
        if self.exists and not self.registry.read_only:
            self._digests.remember(loaded.place.folder, loaded.identity)

    def recheck_backbone(self) -> None:
        """Hash the backbone's files anew, whatever the cache says; the loaded model stays.

        Raises:
            IntegrityError: it is another model than the bank was made with.
        """
        from expertbank.models.identity import identity_of

        loaded = self.backbone
        found = identity_of(loaded.place.folder)
        if found != loaded.identity:
            raise IntegrityError(
                f"the files of backbone {loaded.reference!r} in {loaded.place.folder} give digest "
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
        from expertbank.models.expert_file import ExpertFile

        file = ExpertFile.from_bytes(self.store.get(record.digest), f"expert {record.id}")
        if (file.task, file.labels) != (record.task, record.labels):
            raise IntegrityError(f"expert {record.id}: its file is of task {file.task!r}")
        if file.backbone_digest != self.spec.backbone_digest:
            raise IntegrityError(f"expert {record.id} belongs to backbone {file.backbone_digest}")
        return file

    def router(self, record: RouterRecord) -> Router:
        """A router's gate and members, rehashed and checked."""
        from expertbank.models.gates import Router

        return Router.from_bytes(self.store.get(record.digest), f"router@{record.version}")

    @cached_property
    def model(self) -> RoutedModel:
        """The one-pass model over this bank's experts, loaded as batches need them."""
        import torch

        from expertbank.adapters.pool import ExpertPool
        from expertbank.models.routed import RoutedModel

        backbone, dtype = self.backbone, getattr(torch, self.spec.dtype)

        def load(expert_id: str) -> CollapsedExpert:
            file = self.expert_file(self.registry.expert(expert_id))
            return file.collapse(expert_id, backbone.device, dtype)

        return RoutedModel(backbone, self.spec, ExpertPool(load))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep ``gc`` and ``db restore`` out between the first stored byte and its row.

        Raises:
            LockedError: one of them kept the bank for longer than the wait.
        """
        make_folder(self.home.absolute())
        with self.lock.shared():
            yield

    def checkpoint(self, task: str) -> CheckpointFile:
        """Where ``task``'s unfinished training is kept; the name is one, checked, path part."""
        return CheckpointFile(self.home / CHECKPOINTS / f"{check_task_name(task)}.safetensors")

    def environment(self) -> dict[str, Any]:
        """What the numbers of a measurement depend on besides data and weights."""
        import torch

        return {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(self.backbone.device),
            "dtype": self.spec.dtype,
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

    def read(self) -> bytes | None:
        """The last state, if a run was interrupted."""
        return self.path.read_bytes() if self.path.is_file() else None

    def write(self, data: bytes) -> None:
        """Keep a newer state."""
        make_folder(self.path.parent)
        write_durably(self.path, data, 0o644)

    def remove(self) -> None:
        """Forget the state: its expert is registered."""
        self.path.unlink(missing_ok=True)
