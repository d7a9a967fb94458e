"""States of a bundle: its router, and the one expert of each of its tasks."""

from __future__ import annotations

from pathlib import Path

from expertbank.serving.live import ServingState


class BundleSource:
    """States of a bundle's folder, which may be replaced by another export.

    Args:
        folder: of the bundle.
        backbone: where to find the backbone; default as ``load_bundle``.
        device: where to run; default as ``load_bundle``.
    """

    def __init__(
        self, folder: str | Path, backbone: str | None = None, device: str | None = None
    ) -> None:
        self.folder = folder

    def load(self, earlier: ServingState | None) -> ServingState:
        """See ``Source.load``; all experts are read, for the folder may be replaced later."""
        raise NotImplementedError

    def changed(self, served: ServingState) -> bool:
        """See ``Source.changed``; compares the manifest's digest."""
        raise NotImplementedError
