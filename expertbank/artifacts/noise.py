"""What comes to lie beside a bundle's files on its way, and is none of them.

No file of a bundle that is loaded is hidden or has a name like these, so none is ever left out.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

GITATTRIBUTES = ".gitattributes"
AS_THEY_ARE = b"# Every byte counts here: git must not change line ends.\n* -text\n"
"""What a bundle says to git. Other exports have it not: whoever loads them checks no digests."""

_SYSTEMS = re.compile(
    r"\.DS_Store|\.localized|\._.*|Icon\r|(eh)?thumbs\.db|desktop\.ini|\.directory", re.IGNORECASE
)
_NOISE = re.compile(
    r"\.(?!gitattributes$).*"  # .git, .cache, Kubernetes' ..data, .nfs0001, .#lock of an editor
    r"|__MACOSX|lost\+found|__pycache__|@eaDir|\$RECYCLE\.BIN|System Volume Information"
    r"|.*~|~\$.*|#.*#|.*\.(bak|orig|rej|swp|swo|tmp|part)",
    re.IGNORECASE,
)
_DOCUMENT = re.compile(
    r".*\.(md|rst)|\.gitattributes"
    r"|(readme|licen[cs]e|notice|copying|changelog)(\.txt)?",
    re.IGNORECASE,
)


def made_by_system(name: str) -> bool:
    """Whether a file manager made the file, and would make it again."""
    return _SYSTEMS.fullmatch(PurePosixPath(name).name) is not None


def is_noise(name: str) -> bool:
    """Whether systems, version control or editors leave files of this name; no part may be ours."""
    return any(
        _NOISE.fullmatch(part) or _SYSTEMS.fullmatch(part) for part in PurePosixPath(name).parts
    )


def is_document(name: str) -> bool:
    """Whether a file is for people, or git, alone: nothing loads it, whatever is in it."""
    return _DOCUMENT.fullmatch(PurePosixPath(name).name) is not None
