"""The bank's folder, opened: registry, store, and the backbone when something needs it.

Torch is imported only by what needs it, so listing and showing stay instant.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.lock import LOCK_FILE, WAIT_SECONDS, BankLock
from expertbank.artifacts.store import LocalStore, make_folder, write_durably
from expertbank.config import DEFAULT_BACKBONE, FeatureSpec
from expertbank.errors import IntegrityError, NotFoundError
from expertbank.records import BackboneRecord, ExpertRecord, RouterRecord
from expertbank.registry.registry import Registry
from expertbank.tasks.spec import check_task_name

if TYPE_CHECKING:
    from expertbank.adapters.pool import CollapsedExpert
    from expertbank.models.backbone import Backbone
    from expertbank.models.expert_file import ExpertFile
    from expertbank.models.gates import Router
    from expertbank.models.routed import RoutedModel

DATABASE = "registry.db"
OBJECTS = "objects"
CHECKPOINTS = "checkpoints"
DIGEST_CACHE = "backbone-digests.json"
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
        self._trust_cache = True

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
        loaded = self.load_backbone(reference, dtype, trust_cache=self._trust_cache)
        if record is not None:
            require_backbone(loaded, record.digest, f"the bank at {self.home}")
        return loaded

    def recheck_backbone(self) -> None:
        """Load the backbone anew and hash its weights, whatever the cache says.

        Raises:
            IntegrityError: it is another model than the bank was made with.
        """
        self._trust_cache = False
        self.__dict__.pop("backbone", None)
        self.__dict__.pop("model", None)
        _ = self.backbone

    def load_backbone(self, reference: str, dtype: str, *, trust_cache: bool = True) -> Backbone:
        """Load a backbone, its digest cached by path, size and time of its files."""
        from expertbank.models.backbone import load_backbone

        cache = DigestCache(self.home / DIGEST_CACHE)
        loaded = load_backbone(
            reference,
            device=self._device,
            dtype=dtype,
            known_digest=cache.find if trust_cache else None,
        )
        if self.exists and not self.registry.read_only:
            cache.remember(loaded)
        return loaded

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


class DigestCache:
    """Backbone digests by the path, size and modification time of the files behind them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: str | None = None

    def find(self, location: Path | str) -> str | None:
        """The digest computed earlier for exactly these files, if any."""
        self._pending = self._key(location)
        return self._read().get(self._pending) if self._pending else None

    def remember(self, loaded: Backbone) -> None:
        """Keep the digest of the backbone that ``find`` was last asked about."""
        known = self._read()
        if self._pending and known.get(self._pending) != loaded.digest:
            known[self._pending] = loaded.digest
            text = json.dumps(known, indent=1, sort_keys=True)
            write_durably(self.path, text.encode(), 0o644)

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # a cache: absent or damaged means unknown
        return content if isinstance(content, dict) else {}

    def _key(self, location: Path | str) -> str | None:
        if not isinstance(location, Path):
            return None  # a Hub name: which files it means is the Hub's business
        files = sorted(path for path in location.iterdir() if path.is_file())
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return json.dumps([str(location.resolve()), package_versions(), states])
