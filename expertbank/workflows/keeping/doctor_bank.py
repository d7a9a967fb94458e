"""``doctor``: the bank itself, wherever it is: schema, what its tasks need, store, backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from expertbank.adapters import ADAPTERS
from expertbank.artifacts.rehash import WORKERS
from expertbank.config import DEFAULT_ADAPTER
from expertbank.errors import ExpertBankError
from expertbank.kinds import KINDS
from expertbank.plugins import Plugins
from expertbank.records import BackboneRecord, RouterRecord
from expertbank.references import cached, locate
from expertbank.registry import schema
from expertbank.registry.names import ACTIVE
from expertbank.registry.registry import Registry
from expertbank.routing.gates import GATES
from expertbank.wording import few
from expertbank.workflows.digest_cache import DIGEST_CACHE, DigestCache
from expertbank.workflows.environment import checked_with
from expertbank.workflows.home import DATABASE, Home
from expertbank.workflows.keeping.doctor_folder import journal
from expertbank.workflows.keeping.findings import Finding

"""Experts whose files are gone that are named."""


def bank_at(home: Home, *, rehash: bool, backbone: str | None = None) -> Iterator[Finding]:
    """The registry, and all that it names.

    Args:
        home: where the bank is.
        rehash: hash the backbone's files, whatever is remembered of them.
        backbone: where the backbone is now, if it has moved.
    """
    database = home.location
    folder = home.folder is not None
    if home.folder is not None and not (home.folder / DATABASE).exists():
        todo = f"make one with: {home.making}; or check --home"
        yield Finding("bank", "warning", f"none at {home}", todo)
        return
    if home.folder is not None:
        yield from journal(home.folder)
    try:
        revision = database.revision()
        if revision is not None:
            schema.require_known(revision, database.describe())
    except ExpertBankError as error:
        yield Finding("database", "problem", str(error), _todo(error, folder=folder))
        return
    if revision is None and not folder:
        todo = f"make one with: {home.making}; or check --home"
        yield Finding("bank", "warning", f"none at {home}", todo)
        return
    if revision != schema.HEAD:
        known = revision in schema.REVISIONS
        todo = "run: expertbank db upgrade" if known else "run: expertbank init"
        yield Finding("schema", "problem", f"{revision}, head is {schema.HEAD}", todo)
        return
    yield Finding("schema", "ok", f"{revision}, which is the head")
    try:
        with database.open(read_only=True) as registry:
            record = registry.backbone()
            scratch = home.scratch(registry.bank_id())
            kinds = {task.kind: f"task {task.name}" for task in registry.tasks()}
            active = [one for one in registry.aliases() if one.name == ACTIVE]
            adapters = _adapters(registry)
            routers = [registry.router(one.router_version) for one in active]
            gates = {router.kind: "the router" for router in routers}
            files = _files(registry, routers)
        counts = database.counts(("experts", "routers"))
    except ExpertBankError as error:
        yield Finding("database", "problem", str(error), _todo(error, folder=folder))
        return
    yield Finding(
        "bank",
        "ok",
        f"{counts['experts']} experts, {counts['routers']} routers (expertbank verify rehashes "
        "the files)",
    )
    yield from _needed(KINDS, kinds)
    yield from _needed(ADAPTERS, adapters)
    yield from _needed(GATES, gates)
    yield _store(home, record, files)
    if record is not None:
        yield from _backbone(scratch, record, backbone or record.reference, rehash=rehash)


def _adapters(registry: Registry) -> dict[str, str]:
    """Kinds of adapter that live experts have, each with one that does."""
    found = {}
    for expert in registry.members():
        if expert.run_id:
            config = registry.run(expert.run_id).config
            found[str(config.get("adapter", {}).get("kind", DEFAULT_ADAPTER))] = expert.id
    return found


def _needed(plugins: Plugins[Any], users: Mapping[str, str]) -> Iterator[Finding]:
    """What the bank's tasks or router need and cannot use here; ``users`` is by name."""
    broken = {one.name for one in plugins.refused()} if set(users) - set(plugins.own) else set()
    for name, user in users.items():
        subject, installed = f"{plugins.what} {name}", name in plugins.names()
        if not installed:
            found = f"{user} needs it, and no package here brings it"
            todo = f"install the package that does (entry point {plugins.group})"
            yield Finding(subject, "problem", found, todo)
        elif name in broken and name not in plugins.own:
            yield Finding(subject, "problem", f"{user} needs it, and it was refused", "see above")


def _files(registry: Registry, routers: Sequence[RouterRecord]) -> dict[str, str]:
    """Files that answers are made of, each with whose it is: active routers and their members.

    Without a router they are those of the experts that can be named.
    """
    digests = {expert.id: expert.digest for expert in registry.experts()}
    members = {name for router in routers for name in router.members}
    names = members or {expert.id for expert in registry.members()}
    files = {digests[name]: name for name in sorted(names)}
    return {router.digest: f"router@{router.version}" for router in routers} | files


def _store(home: Home, record: BackboneRecord | None, files: Mapping[str, str]) -> Finding:
    try:
        store = home.store(None if record is None else record.store)
    except ExpertBankError as error:
        return Finding("store", "problem", str(error), "install what opens it")
    try:
        with ThreadPoolExecutor(WORKERS, "doctor") as pool:
            states = list(pool.map(store.state, files))
    except ExpertBankError as error:
        return Finding("store", "problem", f"no answer is possible: {error}", "see what it says")
    gone = [files[digest] for digest, state in zip(files, states, strict=True) if state is None]
    if gone:
        found = f"no answer is possible without what {store.location} lacks: {few(gone, 3)}"
        return Finding("store", "problem", found, "bring its files back, or restore a backup")
    try:
        store.probe()
    except ExpertBankError as error:
        return Finding("store", "warning", str(error), "no command that adds files works")
    return Finding("store", "ok", store.location)


def _todo(error: ExpertBankError, *, folder: bool) -> str:
    if error.exit_code == 12:
        return "upgrade expertbank, or restore an older backup: expertbank db restore FILE"
    if error.exit_code == 11:
        return "wait, then ask again"
    if not folder:
        return "see what it says; a backup is restored by: pg_restore"
    return "restore a backup: expertbank db restore FILE"


def _backbone(
    scratch: Path, record: BackboneRecord, name: str, *, rehash: bool
) -> Iterator[Finding]:
    """Where a reference leads, whether its digest is the bank's, and whether it fits."""
    from expertbank.backbones.identity import identity_of

    elsewhere = "name where it is now: --backbone FOLDER"
    revision = record.revision_of(name)
    try:
        place = locate(name, revision)
    except ExpertBankError as error:
        yield Finding("backbone", "problem", str(error), elsewhere)
        return
    if place is None:
        wanted = f"{name} at commit {revision}" if revision else name
        other = cached(name) if revision else None
        there = f"; commit {other.revision} is" if other else ""
        todo = f"needs the network once, or {elsewhere}"
        yield Finding("backbone", "warning", f"{wanted} is not on this machine{there}", todo)
        return
    found = f"{name} at {place.path}"
    if place.revision:
        found += f", commit {place.revision}"
    cache = DigestCache(scratch / DIGEST_CACHE)
    try:
        known = None if rehash else cache.find(place.path)
        hashed = "" if known else ", hashed now"
        identity = known or identity_of(place.path)
    except ExpertBankError as error:
        yield Finding("backbone", "problem", str(error), elsewhere)
        return
    if record.identity is None:
        # Only the loaded model can be held against a digest of expertbank 0.1.
        yield Finding("backbone", "ok", f"{found}; its digest is checked when loaded")
    elif identity.answers_to(record.identity, record.architecture):
        yield Finding("backbone", "ok", f"{found}, digest as recorded{hashed}")
    else:
        found = (
            f"{place.path} has digest {identity.digest}, the bank was made with {record.identity}"
        )
        yield Finding("backbone", "problem", found, elsewhere)
        return
    yield _agreement(cache, place.path, identity.digest, record.feature_spec.dtype)


def _agreement(cache: DigestCache, folder: Path, digest: str, dtype: str) -> Finding:
    """What the check at ``init`` said; made now for a bank that is older than it."""
    complaint = cache.find_agreement(digest, checked_with(dtype))
    if complaint is None:
        # The one case in which torch is needed here: once, until the bank is next written to.
        from expertbank.backbones.backbone import load_backbone
        from expertbank.models.agreement import disagreement

        try:
            loaded = load_backbone(str(folder), device="cpu", dtype=dtype)
        except ExpertBankError as error:
            return Finding("model and tokenizer", "problem", str(error), "name another --backbone")
        complaint = disagreement(loaded)
    if not complaint:
        return Finding("model and tokenizer", "ok", "they fit each other")
    todo = (
        "texts that run into it are refused by name; to add more, start a bank on the mended "
        "backbone: --home DIR --backbone FOLDER"
    )
    return Finding("model and tokenizer", "problem", complaint, todo)
