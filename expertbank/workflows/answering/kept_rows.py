"""Rows of groups as JSON lines: on disk from the first on, in their groups' order at the end."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO

from expertbank.errors import ExistsError, InputError
from expertbank.files.durable import os_errors_translated, sync_folder
from expertbank.files.paths import given_path
from expertbank.records import Row


class KeptRows:
    """Rows that a user wants kept; before ``write`` nothing of them can be seen in the folder.

    Args:
        target: the file to make.

    Raises:
        ExistsError: it is there already.
        InputError: its folder is not.
        ExpertBankError: the disk refused.
    """

    def __init__(self, target: str | Path) -> None:
        self.target = given_path(target, "the file to write")
        if self.target.exists():
            raise ExistsError(
                f"{self.target} is there already, and may hold labels by now; name another file"
            )
        if not self.target.parent.is_dir():
            raise InputError(
                f"cannot write {self.target}: there is no folder {self.target.parent}; name a file "
                "in one that exists"
            )
        self._stack = ExitStack()
        with os_errors_translated(self.target):
            file = TemporaryFile(dir=self.target.parent)  # noqa: SIM115  # closed by the stack
            self._file: IO[bytes] = self._stack.enter_context(file)

    def __enter__(self) -> KeptRows:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What a full disk did not take of the rows is tried once more here, and no longer wanted.
        with suppress(OSError):
            self._stack.close()

    def put(self, row: Row) -> int:
        """Keep a row; where it lies, for ``write``.

        Raises:
            ExpertBankError: the disk refused.
        """
        fields: dict[str, object] = {"text": row.text}
        if row.text_pair is not None:
            fields["text_pair"] = row.text_pair
        if row.choices:
            fields["choices"] = row.choices
        with os_errors_translated(self.target):
            place = self._file.tell()
            self._file.write(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
        return place

    def write(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Make the file, whole or not at all.

        Args:
            rows: of each line the group's number, how often the row stood in the input, and what
                ``put`` said.

        Raises:
            ExistsError: it was made meanwhile.
            ExpertBankError: the disk refused.
        """
        temporary = self.target.parent / f".tmp-{secrets.token_hex(8)}"
        with os_errors_translated(self.target):
            try:
                with temporary.open("xb") as file:
                    for group, count, place in rows:
                        self._file.seek(place)
                        line = self._file.readline()
                        file.write(b'{"group": %d, "rows": %d, ' % (group, count) + line[1:])
                    file.flush()
                    os.fsync(file.fileno())
                if self.target.exists():
                    raise ExistsError(f"{self.target} was made meanwhile; name another file")
                os.replace(temporary, self.target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_folder(self.target.parent)
