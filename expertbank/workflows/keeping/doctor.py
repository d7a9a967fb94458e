"""``doctor``: is all well around the bank? Looks and never repairs, nearly always without torch."""

from __future__ import annotations

import platform
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import requires
from typing import Any

from expertbank.errors import ExpertBankError
from expertbank.plain import plain
from expertbank.plugins import refused
from expertbank.workflows.environment import installed
from expertbank.workflows.home import DatabaseHome, FolderHome, Home, home_at
from expertbank.workflows.keeping import doctor_bank, doctor_folder, doctor_server
from expertbank.workflows.keeping.findings import Finding

HOME = "EXPERTBANK_HOME"
VARIABLES = (
    HOME,
    "EXPERTBANK_CACHE",
    "EXPERTBANK_CACHE_BYTES",
    "EXPERTBANK_LOCK_WAIT",
    "EXPERTBANK_TRACEBACK",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "TRANSFORMERS_OFFLINE",
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSSLMODE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NO_COLOR",
)
_HIDDEN = "(set, hidden)"
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
_LOGIN = re.compile(r"^((?:[\w+.-]+:)?//|(?!/)).*@", re.DOTALL)
_IN_QUERY = re.compile(r"([?&][^=&]*(?:passw|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+).*?(extra == ['\"](?P<extra>[^'\"]+)['\"])?$")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What ``doctor`` found.

    Attributes:
        home: the bank's folder, or its database without secrets.
        findings: everything that was looked at.
        packages: versions of what is installed.
        environment: variables that matter, secrets hidden.
    """

    home: str
    findings: tuple[Finding, ...]
    packages: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem; warnings do not count."""
        return all(finding.state != "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {"healthy": self.healthy, **plain(self)}


def diagnose(
    home: Home,
    environment: Mapping[str, str],
    *,
    rehash: bool = False,
    backbone: str | None = None,
) -> Diagnosis:
    """Look at the bank in ``home`` and at what it runs on.

    Args:
        home: where the bank is; it need not exist.
        environment: the caller's environment variables.
        rehash: hash the backbone's files, whatever is remembered of them.
        backbone: where the backbone is now, if it has moved.
    """
    if home.folder is not None:
        home = FolderHome(home.folder.absolute())
    findings = tuple(_findings(home, rehash=rehash, backbone=backbone))
    return Diagnosis(str(home), findings, _packages(), _shown(environment))


def _findings(home: Home, *, rehash: bool, backbone: str | None) -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield from _extras()
    reached = True
    if home.folder is not None:
        yield from doctor_folder.looks(home.folder)
    elif isinstance(home, DatabaseHome):
        looks = list(doctor_server.looks(home))
        yield from looks
        reached = all(found.state != "problem" for found in looks)
    yield from _plugins()
    if reached:
        yield from _lock(home)
        yield from doctor_bank.bank_at(home, rehash=rehash, backbone=backbone)


def _extras() -> Iterator[Finding]:
    """Optional packages by extra, as this installation's own metadata lists them."""
    extras: dict[str, list[str]] = {}
    for line in requires("expertbank") or ():
        match = _REQUIREMENT.match(line)
        if match and match["extra"]:
            extras.setdefault(match["extra"], []).append(match["name"])
    for extra, names in sorted(extras.items()):
        missing = [name for name in names if installed(name) is None]
        if extra == "test":
            continue  # for expertbank's own developers
        if not missing:
            yield Finding(f"extra {extra}", "ok", "installed")
            continue
        found = f"not installed: {', '.join(missing)}"
        yield Finding(
            f"extra {extra}", "ok", found, f"if wanted: pip install 'expertbank[{extra}]'"
        )


def _lock(home: Home) -> Iterator[Finding]:
    try:
        state = home.lock(0).state()
    except (OSError, sqlite3.Error, ExpertBankError) as error:
        yield Finding("lock", "warning", f"cannot be asked for: {error}", "see `writable`")
        return
    said = {
        "free": "held by nobody",
        "shared": "held by a command that writes",
        "exclusive": "held by gc or db restore",
    }
    yield Finding("lock", "ok", said[state])


def _plugins() -> Iterator[Finding]:
    for one in refused():
        yield Finding(
            f"{one.what} {one.name}",
            "warning",
            one.why,
            f"update or uninstall the package {one.package}",
        )


def _packages() -> dict[str, str]:
    """Versions of everything that expertbank asks for and that is installed."""
    names = {"expertbank"}
    for line in requires("expertbank") or ():
        match = _REQUIREMENT.match(line)
        if match:
            names.add(match["name"])
    found = {name: installed(name) for name in sorted(names)}
    return {name: number for name, number in found.items() if number is not None}


def _shown(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that matter; what could be a secret is only said to be set."""
    shown = {}
    for name in VARIABLES:
        value = environment.get(name, environment.get(name.lower()))
        if value is not None:
            shown[name] = _HIDDEN if _SECRET.search(name) else _without_login(name, value)
    return shown


def _without_login(name: str, value: str) -> str:
    """``value`` without what may be a login; of a strange one too much is hidden."""
    if name != HOME:
        return _IN_QUERY.sub(r"\1***", _LOGIN.sub(r"\1***@", value))
    try:
        return str(home_at(value))
    except ExpertBankError:
        return _HIDDEN
