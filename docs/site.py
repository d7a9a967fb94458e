"""What mkdocs does beside its own work: the README as the first page, and pages from outside docs/.

Links are written as they hold in the repository; here each is made to hold on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE")
FOLDERS = ("examples", "expertbank/data/catalog")
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
_FOLDER_PAGE = "README.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, the pages beside it, and what pages link to."""
    for path in OUTSIDE:
        files.append(_file(config, path, ROOT / path))
    files.append(_file(config, "index.md", ROOT / "README.md"))
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files.append(_file(config, path.relative_to(ROOT).as_posix(), path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into those of the site."""
    source = Path(page.file.abs_src_path or "").relative_to(ROOT).as_posix()
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        if (ROOT / target).is_dir():
            target = posixpath.join(target, _FOLDER_PAGE)
        elif target == "README.md":
            target = "index.md"
        return posixpath.relpath(target.removeprefix("docs/"), here or ".")

    return _LINK.sub(moved, markdown)


def _file(config: MkDocsConfig, uri: str, path: Path) -> File:
    return File.generated(config, uri, abs_src_path=str(path))
