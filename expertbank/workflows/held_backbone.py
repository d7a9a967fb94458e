"""The bank's backbone in this process: loaded when it is needed, checked, and kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from expertbank.backbones.forks import busy
from expertbank.config import DEFAULT_BACKBONE
from expertbank.errors import InputError, IntegrityError, LockedError
from expertbank.records import BackboneRecord
from expertbank.registry.registry import Registry
from expertbank.workflows.digest_cache import DIGEST_CACHE, DigestCache
from expertbank.workflows.environment import checked_with

if TYPE_CHECKING:
    from expertbank.backbones.backbone import Backbone


class HeldBackbone:
    """Loads the backbone of one bank.

    Args:
        owner: what the bank is called in messages.
        exists: whether there is a bank yet.
        registry: gives its registry, or says that there is none.
        folder: gives this machine's own folder of the bank, where identities are remembered.
        reference: named by the caller, in place of the recorded one; its digest must still be
            the bank's. It may be set later.
        device: where to run it; default as ``load_backbone``.
    """

    def __init__(
        self,
        owner: str,
        exists: Callable[[], bool],
        registry: Callable[[], Registry],
        folder: Callable[[], Path],
        reference: str | None,
        device: str | None,
    ) -> None:
        self._owner = owner
        self._exists = exists
        self._registry = registry
        self._folder = folder
        self.reference = reference
        self._device = device
        self.loading = RLock()
        self._held: tuple[str, str, Backbone] | None = None
        self._complaints: dict[tuple[str, str], str] = {}

    @property
    def backbone(self) -> Backbone:
        """See ``Workspace.backbone``."""
        record = self._registry().backbone()
        known = record.reference if record else DEFAULT_BACKBONE
        reference = known if self.reference is None else self.reference
        dtype = record.feature_spec.dtype if record else "float32"
        with self.loading:
            if self._held is not None and self._held[:2] == (reference, dtype):
                held = self._held[2]
                if record is None or held.digest == record.digest:
                    return held
            loaded = self.load(reference, dtype, record)
            if record is not None:
                require_backbone(loaded, record.digest, self._owner)
                self._complete(record, loaded)
            self._held = reference, dtype, loaded
            return loaded

    def load(self, reference: str, dtype: str, record: BackboneRecord | None = None) -> Backbone:
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

    def use(self, loaded: Backbone, dtype: str) -> None:
        """Work with a backbone that was loaded to make the bank, instead of loading another."""
        with self.loading:
            self._held = loaded.reference, dtype, loaded
        self._remember(loaded)

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

    def recheck(self) -> None:
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
                f"{found.digest} now; the model that was loaded from them, and {self._owner}, "
                f"have {loaded.identity.digest}"
            )

    @property
    def _digests(self) -> DigestCache:
        return DigestCache(self._folder() / DIGEST_CACHE)

    def _remember(self, loaded: Backbone) -> None:
        if not self._exists() or self._registry().read_only:
            return
        self._digests.remember(loaded.place.path, loaded.identity)
        for (digest, dtype), complaint in self._complaints.items():
            self._digests.remember_agreement(digest, checked_with(dtype), complaint)

    def _complete(self, record: BackboneRecord, loaded: Backbone) -> None:
        """Record the lasting identity of a backbone of expertbank 0.1, and the Hub's commit."""
        registry = self._registry()
        if registry.read_only:
            return
        identity = record.identity or loaded.identity.digest
        revision = record.revision
        if loaded.reference == record.reference:
            revision = revision or loaded.place.revision
        if (revision, identity) != (record.revision, record.identity):
            # It can be recorded by the next command as well: no reason for this one to fail.
            with suppress(LockedError):
                registry.complete_backbone(revision=revision, identity=identity)


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
