"""``doctor``: is all well around the bank? Looks and never repairs, nearly always without torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from expertbank.artifacts.lock import LOCK_FILE, BankLock
from expertbank.errors import ExpertBankError
from expertbank.files.mounts import filesystem_of
from expertbank.kinds import KINDS
from expertbank.plugins import Plugins, refused
from expertbank.records import BackboneRecord
from expertbank.references import cached, locate
from expertbank.registry import schema
from expertbank.registry.names import ACTIVE
from expertbank.registry.sqlite.copying import journal_of
from expertbank.routing.gates import GATES
from expertbank.workflows.digest_cache import DIGEST_CACHE, DigestCache
from expertbank.workflows.workspace import DATABASE, checked_with, database_of, store_at

State = Literal["ok", "warning", "problem"]
NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs"}
WAL_RESET = ((3, 7, 0), (3, 51, 2))
"""SQLite versions, first and last, in which resetting a write-ahead log can corrupt it."""
LITTLE_SPACE, NO_SPACE = 1 << 30, 64 << 20
VARIABLES = (
    "EXPERTBANK_HOME",
    "EXPERTBANK_LOCK_WAIT",
    "EXPERTBANK_TRACEBACK",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "TRANSFORMERS_OFFLINE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NO_COLOR",
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
_LOGIN = re.compile(r"//[^/@\s]+@")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+).*?(extra == ['\"](?P<extra>[^'\"]+)['\"])?$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        state: ``problem`` stops some command from working, ``warning`` does not yet.
        found: what is the case.
        todo: what to do; empty when nothing is to do.
    """

    subject: str
    state: State
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What ``doctor`` found.

    Attributes:
        home: the bank's folder.
        findings: everything that was looked at.
        packages: versions of what is installed.
        environment: variables that matter, secrets hidden.
    """

    home: Path
    findings: tuple[Finding, ...]
    packages: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem; warnings do not count."""
        return all(finding.state != "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "healthy": self.healthy,
            "home": str(self.home),
            "findings": [
                {"subject": f.subject, "state": f.state, "found": f.found, "todo": f.todo}
                for f in self.findings
            ],
            "packages": dict(self.packages),
            "environment": dict(self.environment),
        }


def diagnose(home: Path, environment: Mapping[str, str], *, rehash: bool = False) -> Diagnosis:
    """Look at the bank in ``home`` and at what it runs on.

    Args:
        home: the bank's folder; it need not exist.
        environment: the caller's environment variables.
        rehash: hash the backbone's files, whatever is remembered of them.
    """
    home = home.absolute()
    looks: tuple[Callable[[Path], Iterator[Finding]], ...] = (
        _python,
        _sqlite,
        _extras,
        _filesystem,
        _space,
        _writable,
        _lock,
        _plugins,
        partial(_database, rehash=rehash),
    )
    findings = [finding for look in looks for finding in look(home)]
    return Diagnosis(home, tuple(findings), _packages(), _shown(environment))


def _python(home: Path) -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _sqlite(home: Path) -> Iterator[Finding]:
    found = f"{sqlite3.sqlite_version}; the bank uses a rollback journal, no write-ahead log"
    if WAL_RESET[0] <= sqlite3.sqlite_version_info <= WAL_RESET[1]:
        found += ", so the WAL-reset defect of this version cannot touch it"
    yield Finding("sqlite", "ok", found)


def _extras(home: Path) -> Iterator[Finding]:
    """Optional packages by extra, as this installation's own metadata lists them."""
    extras: dict[str, list[str]] = {}
    for line in requires("expertbank") or ():
        match = _REQUIREMENT.match(line)
        if match and match["extra"]:
            extras.setdefault(match["extra"], []).append(match["name"])
    for extra, names in sorted(extras.items()):
        missing = [name for name in names if _version(name) is None]
        if extra == "test":
            continue  # for expertbank's own developers
        if not missing:
            yield Finding(f"extra {extra}", "ok", "installed")
            continue
        found = f"not installed: {', '.join(missing)}"
        yield Finding(
            f"extra {extra}", "ok", found, f"if wanted: pip install 'expertbank[{extra}]'"
        )


def _filesystem(home: Path) -> Iterator[Finding]:
    kind = filesystem_of(_existing(home))
    if kind is None:
        yield Finding("filesystem", "ok", "type not known on this platform")
    elif kind in NETWORK_FILESYSTEMS or kind.startswith("fuse.ssh"):
        yield Finding(
            "filesystem",
            "warning",
            f"{kind}, a network filesystem: SQLite's locks may not hold there",
            "keep the bank on a local disk and ship bundles instead (expertbank export)",
        )
    else:
        yield Finding("filesystem", "ok", kind)


def _space(home: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(home)).free
    found = f"{free / (1 << 30):.1f} GiB free"
    if free < NO_SPACE:
        yield Finding("space", "problem", found, "free some space: add and db need it")
    elif free < LITTLE_SPACE:
        yield Finding("space", "warning", found, "free some space soon")
    else:
        yield Finding("space", "ok", found)


def _writable(home: Path) -> Iterator[Finding]:
    places = [path for path in (home, home / DATABASE) if path.exists()]
    refused = [path for path in places or [_existing(home)] if not os.access(path, os.W_OK)]
    if refused:
        yield Finding(
            "writable",
            "warning",
            f"{', '.join(map(str, refused))} cannot be written",
            "reading commands work; for the others make it writable or name another --home",
        )
    else:
        yield Finding("writable", "ok", "yes")


def _lock(home: Path) -> Iterator[Finding]:
    try:
        state = BankLock(home / LOCK_FILE).state()
    except (OSError, sqlite3.Error) as error:
        yield Finding("lock", "warning", f"cannot be asked for: {error}", "see `writable`")
        return
    said = {
        "free": "held by nobody",
        "shared": "held by a command that writes",
        "exclusive": "held by gc or db restore",
    }
    yield Finding("lock", "ok", said[state])


def _plugins(home: Path) -> Iterator[Finding]:
    for one in refused():
        yield Finding(
            f"{one.what} {one.name}",
            "warning",
            one.why,
            f"update or uninstall the package {one.package}",
        )


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


def _database(home: Path, *, rehash: bool) -> Iterator[Finding]:
    database = database_of(home)
    if not database.path.is_file():
        todo = "make one with: expertbank init, or expertbank add --task T; or check --home"
        yield Finding("bank", "warning", f"none at {home}", todo)
        return
    if journal_of(database.path).exists():
        yield Finding(
            "journal",
            "warning",
            "a transaction is under way, or its process died",
            "nothing: the next command undoes what is unfinished; never delete the file",
        )
    try:
        revision = database.revision()
        if revision is not None:
            schema.require_known(revision, database.path)
    except ExpertBankError as error:
        yield Finding("database", "problem", str(error), _todo(error))
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
            kinds = {task.kind: f"task {task.name}" for task in registry.tasks()}
            active = [one for one in registry.aliases() if one.name == ACTIVE]
            gates = {registry.router(one.router_version).kind: "the router" for one in active}
        counts = database.counts(("experts", "routers"))
    except ExpertBankError as error:
        yield Finding("database", "problem", str(error), _todo(error))
        return
    yield Finding(
        "bank",
        "ok",
        f"{counts['experts']} experts, {counts['routers']} routers (expertbank verify rehashes "
        "the files)",
    )
    yield from _needed(KINDS, kinds)
    yield from _needed(GATES, gates)
    yield _store(home, record)
    if record is not None:
        yield from _backbone(home, record, rehash=rehash)


def _store(home: Path, record: BackboneRecord | None) -> Finding:
    try:
        store = store_at(home, None if record is None else record.store)
    except ExpertBankError as error:
        return Finding("store", "problem", str(error), "install what opens it")
    try:
        store.probe()
    except ExpertBankError as error:
        return Finding("store", "warning", str(error), "no command that adds files works")
    return Finding("store", "ok", store.location)


def _todo(error: ExpertBankError) -> str:
    if error.exit_code == 12:
        return "upgrade expertbank, or restore an older backup: expertbank db restore FILE"
    if error.exit_code == 11:
        return "wait, then ask again"
    return "restore a backup: expertbank db restore FILE"


def _backbone(home: Path, record: BackboneRecord, *, rehash: bool) -> Iterator[Finding]:
    """Where the recorded reference leads, whether its digest is the bank's, and whether it fits."""
    from expertbank.backbones.identity import identity_of

    name = record.reference
    elsewhere = "name where it is now: --backbone FOLDER"
    try:
        place = locate(name, record.revision)
    except ExpertBankError as error:
        yield Finding("backbone", "problem", str(error), elsewhere)
        return
    if place is None:
        wanted = f"{name} at commit {record.revision}" if record.revision else name
        other = cached(name) if record.revision else None
        there = f"; commit {other.revision} is" if other else ""
        todo = f"needs the network once, or {elsewhere}"
        yield Finding("backbone", "warning", f"{wanted} is not on this machine{there}", todo)
        return
    found = f"{name} at {place.path}"
    if place.revision:
        found += f", commit {place.revision}"
    cache = DigestCache(home / DIGEST_CACHE)
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


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _packages() -> dict[str, str]:
    """Versions of everything that expertbank asks for and that is installed."""
    names = {"expertbank"}
    for line in requires("expertbank") or ():
        match = _REQUIREMENT.match(line)
        if match:
            names.add(match["name"])
    found = {name: _version(name) for name in sorted(names)}
    return {name: number for name, number in found.items() if number is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _shown(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that matter; what could be a secret is only said to be set."""
    shown = {}
    for name in VARIABLES:
        value = environment.get(name, environment.get(name.lower()))
        if value is not None:
            shown[name] = "(set, hidden)" if _SECRET.search(name) else _LOGIN.sub("//***@", value)
    return shown
