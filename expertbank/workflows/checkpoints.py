"""The state of unfinished training, kept in the bank's folder on this machine."""

from __future__ import annotations

from pathlib import Path

from expertbank.files.durable import make_folder, write_durably


class CheckpointFile:
    """The state of one task's unfinished training; replaced whole, removed when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier = self._file()

    @property
    def current(self) -> bool:
        """Whether there is a state, of the training that goes on here and no earlier one's."""
        return self._file() not in {None, self._earlier}

    def _file(self) -> tuple[int, int] | None:
        """Which file there is: each write makes another."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def read(self) -> bytes | None:
        """The last state, if a run was interrupted, which goes on here."""
        self._earlier = None
        return self.path.read_bytes() if self.path.is_file() else None

    def write(self, data: bytes) -> None:
        """Keep a newer state."""
        make_folder(self.path.parent)
        write_durably(self.path, data, 0o644)

    def remove(self) -> None:
        """Forget the state: its expert is registered."""
        self.path.unlink(missing_ok=True)
