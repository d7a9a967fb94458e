"""What kind of filesystem a path is on, and whether its files' change times can be believed."""

from __future__ import annotations

import os
import re
from pathlib import Path

_WITH_CHANGE_TIMES = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "reiserfs"),
        *("tmpfs", "overlay"),
    }
)
"""Where the kernel itself notes every change. Not images (squashfs, iso9660), whose times are those
of their making, not FAT, which has none, and not what another machine or program answers for."""


def filesystem_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Type of the filesystem that ``path`` is on; ``None`` where Linux's list is not there."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    resolved, best, kind = path.resolve(), -1, None
    for line in lines:
        before, dash, after = line.partition(" - ")
        parts = before.split()
        if not dash or len(parts) < 5:
            continue
        # The kernel writes blanks and backslashes of mount points as octal.
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), parts[4]))
        # Later lines lie over earlier ones.
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def keeps_change_times(path: Path) -> bool:
    """Whether no file at ``path`` can change without its ``st_ctime`` telling so."""
    if os.name != "posix":
        return False  # on Windows st_ctime is the time of the file's making
    kind = filesystem_of(path)
    return kind is None or kind in _WITH_CHANGE_TIMES
