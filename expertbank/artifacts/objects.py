"""The store of objects in a bucket of S3, or of what speaks its protocol, by obstore.

``s3://bucket/prefix`` names it, with ``?endpoint=https://host`` and ``&region=name`` where it is
not Amazon's. Credentials come from the environment or the machine's role, as obstore finds them,
and never stand in the URL. ``pip install 'expertbank[s3]'`` brings what is needed.

An object's name is its digest, so equal names are equal bytes and nothing is listed to be found.
Objects are made by puts that only create; what is there already is put again with the same bytes,
which makes it young and heals what was damaged.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.bucket import RETRY, opened, parts_of
from expertbank.artifacts.claims import MARKER, marker, owner_in, require_own
from expertbank.artifacts.refusals import REFUSED, BrokenOffError, broke_off, reason
from expertbank.artifacts.store import (
    ArtifactStore,
    Stored,
    Unfinished,
    is_digest,
    rehashed,
    require_digest,
    sha256_bytes,
)
from expertbank.errors import ExpertBankError, IntegrityError

if TYPE_CHECKING:
    from obstore.store import S3Store

_SUFFIX = ".safetensors"
_PROBE = ".probe-"
RESUMED = 4
"""How often an object is asked for whose bytes stop coming half-way."""
PART = 8 << 20
"""Bytes that come at once of an object that is read."""


class ObjectStore(ArtifactStore):
    """Objects ``<prefix>/ab/<sha256>.safetensors``: a folder of files under the same names.

    Args:
        url: ``s3://bucket/prefix``.
        retry: how often requests are tried again, as obstore takes it.

    Raises:
        InputError: a URL of another form.
        ExpertBankError: obstore is not installed, or the credentials cannot be read.
    """

    distant = True

    def __init__(self, url: str, retry: dict[str, Any] | None = None) -> None:
        self._location = url.rstrip("/")
        bucket, self._prefix, options = parts_of(url)
        self._bucket = bucket
        self._process = os.getpid()
        self._objects = opened(bucket, options, retry or RETRY)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ObjectStore, (self._location,))

    @property
    def location(self) -> str:
        """The URL."""
        return self._location

    def where(self, digest: str) -> str:
        """The object's URL."""
        return f"s3://{self._bucket}/{self._name(digest)}"

    def put(self, data: bytes) -> str:
        """Store ``data`` and return its digest.

        Raises:
            ExpertBankError: the store refused, or cannot be reached.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        digest = sha256_bytes(data)
        name = self._name(digest)
        with self._told("write", name):
            try:
                obstore.put(self._store, name, data, mode="create")
            except AlreadyExistsError:
                # Put before, or by an attempt whose answer was lost.
                obstore.put(self._store, name, data, mode="overwrite", use_multipart=False)
        return digest

    def chunks(self, digest: str) -> Iterator[bytes]:
        """The object's bytes in order, hashed on the way.

        Raises:
            IntegrityError: missing or, at the end, changed.
            ExpertBankError: the store cannot be reached, or refuses.
        """
        return rehashed(digest, self._blocks(digest), self.where(digest))

    def _blocks(self, digest: str) -> Iterator[bytes]:
        """The bytes; a connection that breaks is taken up where it broke, a few times."""
        name, read = self._name(digest), 0
        for left in reversed(range(RESUMED)):
            try:
                for block in self._stream(digest, name, read):
                    read += len(block)
                    yield block
            except BrokenOffError:
                if not left:
                    raise
            else:
                return

    def _stream(self, digest: str, name: str, start: int) -> Iterator[bytes]:
        import obstore

        with self._told("read", name):
            try:
                asked: Any = {"range": {"offset": start}} if start else None
                found = obstore.get(self._store, name, options=asked)
                for block in found.stream(min_chunk_size=PART):
                    yield bytes(block)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise IntegrityError(
                    f"artifact {digest} is gone: there is no {self.where(digest)}; "
                    "restore it from a backup"
                ) from None

    def digests(self) -> Iterator[str]:
        """Digests of all stored objects, ascending."""
        found = (
            (name.rpartition("/")[2].removesuffix(_SUFFIX), name) for name, _ in self._listed()
        )
        # Below this prefix there may be that of another bank.
        yield from sorted(one for one, name in found if is_digest(one) and name == self._name(one))

    def state(self, digest: str) -> Stored | None:
        """Size and age of the object; ``None`` when there is none."""
        import obstore

        name = self._name(digest)
        with self._told("read", name):
            try:
                found = obstore.head(self._store, name)
            except FileNotFoundError:
                return None
        return Stored(found["size"], found["last_modified"].timestamp())

    def delete(self, digest: str) -> None:
        """Delete the object, if it is there; whether it may go is not asked here."""
        self._delete(self._name(digest))

    def unfinished(self) -> Iterator[Unfinished]:
        """What a probe left that was killed; a put leaves nothing."""
        own = self._key(_PROBE)
        for name, stored in self._listed():
            if name.startswith(own) and "/" not in name[len(own) :]:
                where = f"s3://{self._bucket}/{name}"
                yield Unfinished(where, stored.bytes, stored.modified)

    def discard(self, unfinished: Unfinished) -> None:
        """Delete what a probe left.

        Raises:
            IntegrityError: it is not one of this store.
        """
        ours = f"s3://{self._bucket}/{self._key(_PROBE)}"
        if not unfinished.where.startswith(ours) or "/" in unfinished.where[len(ours) :]:
            raise IntegrityError(f"{unfinished.where} is no leftover of the store {self.location}")
        self._delete(unfinished.where.removeprefix(f"s3://{self._bucket}/"))

    def probe(self) -> None:
        """Make an object, be refused to make it again, delete it.

        Raises:
            ExpertBankError: it cannot be reached or written, or it lets a put that only creates
                replace what is there.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        name = self._key(_PROBE + secrets.token_hex(8))
        with self._told("write", name):
            with suppress(AlreadyExistsError):  # ours, of an attempt whose answer was lost
                obstore.put(self._store, name, b"first", mode="create")
            try:
                obstore.put(self._store, name, b"second", mode="create")
                refused = False
            except AlreadyExistsError:
                refused = True
            self._delete(name)
        if not refused:
            raise ExpertBankError(
                f"{self.location} ignores If-None-Match: a put that must only create replaced "
                "what was there, so two banks could take the same prefix; use a server that "
                "honours it"
            )

    def claim(self, bank: str) -> None:
        """Take the prefix for one bank, for good; see ``ArtifactStore``.

        Raises:
            InputError: it is another bank's.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        name = self._key(MARKER)
        with self._told("write", name):
            try:
                obstore.put(self._store, name, marker(bank), mode="create")
            except AlreadyExistsError:
                require_own(self, bank)

    def owner(self) -> str | None:
        """The bank that claimed the prefix, if one did.

        Raises:
            ExpertBankError: the store cannot be reached, or refuses.
        """
        import obstore

        name = self._key(MARKER)
        with self._told("read", name):
            try:
                return owner_in(bytes(obstore.get(self._store, name).bytes()))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    # -- names and requests ------------------------------------------------------------------------

    @property
    def _store(self) -> S3Store:
        if self._process != os.getpid():
            raise ExpertBankError(
                f"{self.location} was opened before this process was forked, and its connections "
                "do not survive that: start processes with the method spawn"
            )
        return self._objects

    def _name(self, digest: str) -> str:
        require_digest(digest)
        return self._key(f"{digest[:2]}/{digest}{_SUFFIX}")

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _listed(self) -> Iterator[tuple[str, Stored]]:
        import obstore

        with self._told("read", self._prefix):
            for batch in obstore.list(self._store, self._prefix or None, chunk_size=1000):
                for one in batch:
                    yield one["path"], Stored(one["size"], one["last_modified"].timestamp())

    def _delete(self, name: str) -> None:
        import obstore

        with self._told("delete", name):
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise

    @contextmanager
    def _told(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except REFUSED() as error:
            told = f"cannot {action} s3://{self._bucket}/{name}: {reason(error)}"
            raise (BrokenOffError if broke_off(error) else ExpertBankError)(told) from None
