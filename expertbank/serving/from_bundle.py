"""States of a bundle: its router, and the one expert of each of its tasks."""

from __future__ import annotations

from pathlib import Path

from expertbank.artifacts.bundle import BundleReader
from expertbank.artifacts.listed import MANIFEST
from expertbank.artifacts.store import sha256_bytes
from expertbank.backbones.backbone import Backbone
from expertbank.errors import MALFORMED, ExpertBankError, IntegrityError
from expertbank.files.durable import os_errors_translated
from expertbank.files.paths import given_path
from expertbank.serving.catalogue import KnownTask, state_of
from expertbank.serving.live import ServingState
from expertbank.workflows.answering.decision import Answerer
from expertbank.workflows.answering.serve import open_bundle


class BundleSource:
    """States of a bundle's folder, which may be replaced by another export.

    A state's experts are read when it is warmed, as many as the pool keeps; of a bundle that holds
    more, the others are read when they are needed and cannot be once the folder was replaced.

    Args:
        folder: of the bundle.
        backbone: where to find the backbone; default as ``load_bundle``.
        device: where to run; default as ``load_bundle``.
    """

    report = None

    def __init__(
        self, folder: str | Path, backbone: str | None = None, device: str | None = None
    ) -> None:
        self.folder = given_path(folder, "the bundle")
        self._backbone = backbone
        self._device = device

    def load(self, earlier: ServingState | None) -> ServingState:
        """See ``Source.load``; errors are those of ``load_bundle``."""
        opened = open_bundle(self.folder)
        content = opened.reader.manifest.content
        try:
            version, digest = content["router"]["version"], str(content["router"]["digest"])
            version = None if version is None else int(version)
            known = _tasks(opened.reader)
        except MALFORMED as error:
            raise IntegrityError(f"{self.folder}: the manifest is malformed ({error!r})") from error
        backbone: str | Backbone | None = self._backbone
        if earlier is not None and earlier.backbone_digest == opened.record.digest:
            backbone = earlier.predictor.model.backbone
        loaded = opened.predictor(backbone, self._device)
        return state_of(earlier, loaded, known, version, digest, opened.reader.manifest.digest)

    def changed(self, served: ServingState) -> bool:
        """See ``Source.changed``; compares the manifest's digest."""
        path = self.folder / MANIFEST
        try:
            with os_errors_translated(path, "read"):
                return sha256_bytes(path.read_bytes()) != served.fingerprint
        except ExpertBankError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                told = f"{self.folder} holds no bundle any more; export one there again"
                raise ExpertBankError(told) from error
            raise


def _tasks(reader: BundleReader) -> list[KnownTask]:
    """The tasks as the manifest tells them."""
    told = {entry["digest"]: entry for entry in reader.manifest.content["experts"]}
    return [
        KnownTask(
            {expert.version: Answerer.of(expert)},
            told[expert.digest].get("group"),
            dict(told[expert.digest].get("metrics") or {}),
        )
        for expert in reader.manifest.experts
    ]
