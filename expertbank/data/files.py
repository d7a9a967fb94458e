"""Files and folders on disk: which file is which split, and folders whose names are labels.

A split is told by the start of a name: ``train``; ``valid``, ``val``, ``dev`` or ``eval``;
``test``. A test set is never used beside other splits: its labels are for a last measurement,
not for one that is taken at every ``add``. It serves only where a folder holds nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expertbank.data.lines import read_text
from expertbank.data.readers import SUFFIXES, Record, Table, read_table
from expertbank.data.spec import SourceSpec
from expertbank.errors import DataError, InputError

Split = Literal["train", "validation", "test"]
_PREFIXES: tuple[tuple[str, Split], ...] = (
    ("train", "train"),
    ("val", "validation"),
    ("dev", "validation"),
    ("eval", "validation"),
    ("test", "test"),
)


@dataclass(frozen=True, slots=True)
class Tables:
    """What a source holds. Without ``validation`` the rows of ``train`` are still to be split."""

    train: tuple[Table, ...]
    validation: tuple[Table, ...] = ()


def split_of(name: str, source: SourceSpec) -> Split | None:
    """The split that a file, folder or Hub split called ``name`` belongs to, if any."""
    named: dict[Split, str | None] = {
        "train": source.train_split,
        "validation": source.validation_split,
    }
    for split, known in named.items():
        if name == known:
            return split
    for prefix, split in _PREFIXES:
        if name.lower().startswith(prefix):
            # A split that the source names has that name and no other.
            return None if named.get(split) else split
    return None


def choose(names: Sequence[str], source: SourceSpec, where: str) -> tuple[list[str], list[str]]:
    """Part names into those to train on and those to validate on.

    Names that tell no split are left out where others tell theirs. With no training split, the
    validation or test split, or a single file of any name, takes its place.

    Raises:
        InputError: several names of which none tells its split.
    """
    parts: dict[Split | None, list[str]] = {"train": [], "validation": [], "test": [], None: []}
    for name in sorted(names):
        parts[split_of(name, source)].append(name)
    if parts["train"]:
        return parts["train"], parts["validation"]
    only = parts["validation"] or parts["test"] or parts[None]
    if only and (only != parts[None] or len(only) == 1):
        return only, []
    raise InputError(
        f"{where}: cannot tell which of {', '.join(sorted(names)) or 'no files'} is for training; "
        "name them train… and validation…, or give one file"
    )


def read_path(path: Path, name: str, source: SourceSpec) -> Tables:
    """Read a file, a folder of split files, or a folder whose sub-folders are the labels.

    Args:
        path: where it is.
        name: what to call it in messages.
        source: peculiarities of the source.

    Raises:
        DataError: a file is malformed.
        InputError: the folder holds nothing that can be read, or its splits are unclear.
    """
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{name}: unknown file type; use one of {', '.join(SUFFIXES)}")
        return Tables((read_table(path, name, source.encoding_fallback),))
    files, folders = _listing(path)
    if files:
        train, validation = choose(list(files), source, name)
        return Tables(
            *(
                tuple(
                    read_table(files[file], f"{name}/{file}", source.encoding_fallback)
                    for file in _one_format(part, name)
                )
                for part in (train, validation)
            )
        )
    if any(split_of(folder, source) == "train" for folder in folders):
        train, validation = choose(list(folders), source, name)
        return Tables(
            *(
                tuple(
                    table
                    for folder in part
                    for table in _split_folder(folders[folder], f"{name}/{folder}", source)
                )
                for part in (train, validation)
            )
        )
    return Tables((_class_folder(folders, name, source),))


def _listing(path: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Data files and sub-folders by name, without hidden ones and Python's own."""
    entries = [
        entry
        for entry in sorted(path.iterdir())
        if not entry.name.startswith(".") and entry.name != "__pycache__"
    ]
    return (
        {item.name: item for item in entries if item.is_file() and item.suffix.lower() in SUFFIXES},
        {item.name: item for item in entries if item.is_dir()},
    )


def _one_format(files: list[str], name: str) -> list[str]:
    """Refuse two formats of one split: they are most likely copies of the same rows."""
    if len({Path(file).suffix.lower() for file in files}) > 1:
        raise InputError(f"{name}: {' and '.join(files)} are one split in two formats; keep one")
    return files


def _split_folder(path: Path, name: str, source: SourceSpec) -> list[Table]:
    """One split that is a folder: data files (shards), or sub-folders for the labels."""
    files, folders = _listing(path)
    if files:
        return [
            read_table(files[file], f"{name}/{file}", source.encoding_fallback)
            for file in _one_format(list(files), name)
        ]
    return [_class_folder(folders, name, source)]


def _class_folder(folders: dict[str, Path], name: str, source: SourceSpec) -> Table:
    """Text files whose folder is their label, as a table of ``text``, ``label`` and ``file``."""
    records: list[Record] = []
    for label, folder in folders.items():
        paths = [path for path in folder.iterdir() if path.suffix.lower() == ".txt"]
        for path in sorted(paths):
            inner = f"{label}/{path.name}"
            origin = f"{name}/{inner}:1"
            # White space around an article is the file's, not the text's.
            text = read_text(path, f"{name}/{inner}", source.encoding_fallback)
            text = text.replace("\r\n", "\n").strip()
            if not text:
                raise DataError(f"{origin}: the file holds no text")
            records.append(Record({"text": text, "label": label, "file": inner}, origin))
    if not records:
        raise InputError(
            f"{name}: holds no data; expected files ({', '.join(SUFFIXES)}) or one sub-folder of "
            ".txt files for each label"
        )
    return Table(name, ("text", "label", "file"), records)
