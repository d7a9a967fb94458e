"""Files and folders on disk: which file is which split, and folders whose names are labels.

A split is told by the start of a name: ``train``; ``valid``, ``val``, ``dev`` or ``eval``;
``test``. A test set is never used beside other splits: its labels are for a last measurement,
not for one that is taken at every ``add``. It serves only where a folder holds nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from expertbank.data.formats import (
    SUFFIXES,
    FileFacts,
    Found,
    ReadAs,
    Record,
    Table,
    bare_name,
    open_table,
    suffix_of,
)
from expertbank.data.formats.lines import text_of
from expertbank.data.formats.stream import failure
from expertbank.data.spec import SourceSpec
from expertbank.errors import DataError, InputError
from expertbank.records import ProgressCallback, ProgressEvent
from expertbank.wording import few

Split = Literal["train", "validation", "test"]
_PREFIXES: tuple[tuple[str, Split], ...] = (
    ("train", "train"),
    ("val", "validation"),
    ("dev", "validation"),
    ("eval", "validation"),
    ("test", "test"),
)
_SHOWN = 5
_BESIDE = frozenset(
    {"readme", "license", "licence", "dataset_infos", "dataset_info", "thumbs", "desktop"}
)
"""Names of files that belong to data and are none."""
_NEVER_DATA = frozenset({"__pycache__", "__MACOSX", "lost+found"})
_ABOUT_DATA = frozenset({"dataset_infos.json", "dataset_info.json", "dataset_dict.json"})
"""What ``datasets`` notes beside data."""


Open = Callable[[], Table]
"""Opens one table: of many files only the one that is being read is open."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What a source holds. Without ``validation`` the rows of ``train`` are still to be split.

    Attributes:
        train: tables to train on.
        validation: tables to validate on.
        test: tables of a test split, which takes no part in an expert's training.
        held_out: column and values that tell which rows of ``train`` are for validation.
        remarks: what of a folder was left out, as sentences.
        beside: the same where the test split takes part.
    """

    train: tuple[Open, ...]
    validation: tuple[Open, ...] = ()
    test: tuple[Open, ...] = ()
    held_out: tuple[str, frozenset[str]] | None = None
    remarks: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def split_of(name: str, source: SourceSpec) -> Split | None:
    """The split that a file, folder or Hub split called ``name`` belongs to, if any."""
    named = _named_splits(source)
    for split, known in named.items():
        if known in {name, bare_name(name)}:
            return split
    for prefix, split in _PREFIXES:
        if name.lower().startswith(prefix):
            # A split that the source names has that name and no other.
            return None if split in named else split
    return None


def _named_splits(source: SourceSpec) -> dict[Split, str]:
    """The splits that the source names, by what they are for."""
    named: dict[Split, str | None] = {
        "train": source.train_split,
        "validation": source.validation_split,
    }
    return {split: name for split, name in named.items() if name is not None}


def _require_splits(names: Collection[str], source: SourceSpec, where: str) -> None:
    """Refuse a split that the source names and that is not among ``names``.

    Another one in its place would be trained or measured on without a word.

    Raises:
        InputError: there is one; the message lists those that are there.
    """
    there = {*names, *map(bare_name, names)}
    for split, name in _named_splits(source).items():
        if name not in there:
            raise InputError(
                f"{where}: there is no {split}_split {name!r}, which source {source.name} names; "
                f"there are: {few(sorted(names), _SHOWN) or 'no splits'}"
            )


def choose(
    names: Sequence[str], source: SourceSpec, where: str
) -> tuple[list[str], list[str], list[str]]:
    """Part names into those to train on, those to validate on and those of a test split.

    Names that tell no split are left out where others tell theirs. With no training split, the
    validation or test split, or a single file of any name, takes its place, unless the source
    names what it validates on.

    Raises:
        InputError: several names of which none tells its split, or a split that the source names
            and that is not there.
    """
    _require_splits(names, source, where)
    parts: dict[Split | None, list[str]] = {"train": [], "validation": [], "test": [], None: []}
    for name in sorted(names):
        parts[split_of(name, source)].append(name)
    if parts["train"]:
        return parts["train"], parts["validation"], parts["test"]
    only = parts["validation"] or parts["test"] or parts[None]
    if only and (only != parts[None] or len(only) == 1) and source.validation_split is None:
        return only, [], []
    raise InputError(
        f"{where}: cannot tell which of {few(sorted(names), _SHOWN) or 'no files'} is for "
        "training; name them train… and validation…, or give one file; a task file can name them "
        "by train_split and validation_split"
    )


@dataclass(frozen=True, slots=True)
class Reader:
    """How the files of one source are read.

    Attributes:
        source: peculiarities of the source.
        read_as: what is known of its text.
        progress: told how far a file was read.
    """

    source: SourceSpec
    read_as: ReadAs
    progress: ProgressCallback

    def path(self, path: Path | None, name: str) -> Tables:
        """A file or pipe, a folder of split files, or a folder whose sub-folders are the labels.

        Args:
            path: where it is; ``None`` for standard input.
            name: what to call it in messages.

        Raises:
            DataError: a file is malformed.
            InputError: the folder holds nothing that can be read, its splits are unclear, or a
                split that the source names is not there.
        """
        if path is None or not path.is_dir():
            _require_splits((), self.source, name)
            return Tables((self._file(path, name),))
        entries = _listing(path)
        _require_not_saved(entries, name)
        named = set(_named_splits(self.source).values())
        if entries.files and self.source.label_from_file and not named:
            tables = self._files(entries.files, list(entries.files), name)
            return Tables(tables, remarks=_left_out(name, {*entries.folders, *entries.others}))
        if self.source.label_from_file and named:
            _require_splits(entries.folders, self.source, name)
        if entries.files and not named & set(entries.folders):
            train, validation, test = choose(list(entries.files), self.source, name)
            return Tables(
                self._files(entries.files, train, name),
                self._files(entries.files, validation, name),
                self._test_files(entries.files, test, name),
                remarks=_left_out(name, entries.names - {*train, *validation}),
                beside=_left_out(name, entries.names - {*train, *validation, *test}),
            )
        if named or any(split_of(folder, self.source) == "train" for folder in entries.folders):
            train, validation, test = choose(list(entries.folders), self.source, name)
            return Tables(
                self._splits(entries.folders, train, name),
                self._splits(entries.folders, validation, name),
                self._splits(entries.folders, test, name),
                remarks=_left_out(name, entries.names - {*train, *validation}),
                beside=_left_out(name, entries.names - {*train, *validation, *test}),
            )
        if len(entries.folders) == 1 and not entries.files:
            (inner,) = entries.folders
            if _listing(entries.folders[inner]).files:
                found = self.path(entries.folders[inner], f"{name}/{inner}")
                return replace(found, remarks=(*_left_out(name, entries.others), *found.remarks))
        table = self._class_folder(entries.folders, name)
        return Tables((table,), remarks=_left_out(name, entries.others))

    def _file(self, path: Path | None, name: str) -> Open:
        return partial(open_table, path, name, self.read_as, self.progress)

    def _test_files(
        self, files: dict[str, Path], names: Sequence[str], where: str
    ) -> tuple[Open, ...]:
        """As ``_files``; what is wrong with them hinders only whoever reads them."""
        try:
            return self._files(files, names, where)
        except InputError as error:
            refusal = error

        def refused() -> Table:
            raise refusal

        return (refused,)

    def _files(self, files: dict[str, Path], names: Sequence[str], where: str) -> tuple[Open, ...]:
        """Tables of one split, of one format: of two they are most likely copies."""
        if len({suffix_of(name) for name in names}) > 1:
            raise InputError(
                f"{where}: {' and '.join(names)} are one split in two formats; keep one"
            )
        tables = {name: self._file(files[name], f"{where}/{name}") for name in names}
        if not self.source.label_from_file:
            return tuple(tables.values())
        labels = Counter(map(bare_name, names))
        twice = [name for name in names if labels[bare_name(name)] > 1]
        if twice:
            raise InputError(
                f"{where}: {' and '.join(twice)} would have one label by their names; join or "
                "rename them"
            )
        return tuple(_labelled(table, bare_name(name)) for name, table in tables.items())

    def _splits(self, folders: dict[str, Path], names: list[str], where: str) -> tuple[Open, ...]:
        """Tables of splits that are folders: of shards, or of sub-folders for the labels."""
        tables: list[Open] = []
        for name in names:
            entries, inner = _listing(folders[name]), f"{where}/{name}"
            if entries.files:
                tables += self._files(entries.files, list(entries.files), inner)
            elif not entries.folders:
                raise InputError(
                    f"{inner}: a split by its name, and it holds neither files of rows "
                    f"({', '.join(SUFFIXES)}) nor a sub-folder for each label; if {name} is "
                    f"itself a label, call the folder _{name}, and the label {name} again with "
                    "label_names in a task file"
                )
            else:
                tables.append(self._class_folder(entries.folders, inner))
        return tuple(tables)

    def _class_folder(self, folders: dict[str, Path], name: str) -> Open:
        """Text files whose folder is their label: columns ``text``, ``label`` and ``file``."""
        texts: list[tuple[str, Path]] = []
        others: list[str] = []
        for label, folder in folders.items():
            before = len(texts)
            for path in _visible(folder):
                # A pipe among texts would be waited for.
                if path.suffix.lower() == ".txt" and path.is_file():
                    texts.append((label, path))
                else:
                    others.append(f"{label}/{path.name}")
            if len(texts) == before:
                others.append(f"{label} (no text in it)")
        if not texts:
            deeper = [inner for inner, folder in folders.items() if _listing(folder).files]
            if deeper:
                raise InputError(
                    f"{name}: its rows lie deeper, in {few(sorted(deeper), _SHOWN)}; name one of "
                    f"these folders, such as {name}/{deeper[0]}"
                )
            raise InputError(
                f"{name}: holds no data; expected files ({', '.join(SUFFIXES)}) or one sub-folder "
                "of .txt files for each label"
            )

        def rows(wanted: Collection[str]) -> Iterator[Found]:
            for number, (label, path) in enumerate(texts):
                self.progress(ProgressEvent(f"reading {name}", number, len(texts), "files"))
                yield self._text(path, label, name)

        return lambda: Table(
            FileFacts(name, "folder"),
            ("text", "label", "file"),
            rows,
            remarks=list(_left_out(name, others)),
        )

    def _text(self, path: Path, label: str, name: str) -> Found:
        inner = f"{label}/{path.name}"
        where = f"{name}/{inner}"
        try:
            data = path.read_bytes()
            text = text_of(data, where, self.read_as.encoding, self.read_as.fallback)
        except OSError as error:
            raise failure(error, where) from error
        except DataError as error:
            return error.kept()
        # White space around an article is the file's, not the text's.
        text = text.replace("\r\n", "\n").strip()
        if not text:
            return DataError(f"{where}:1: the file holds no text", "empty text")
        return Record({"text": text, "label": label, "file": inner}, f"{where}:1")


def _labelled(open_unlabelled: Open, label: str) -> Open:
    """The same table with one label for all of its rows."""

    def opened() -> Table:
        table = open_unlabelled()

        def rows(wanted: Collection[str]) -> Iterator[Found]:
            for found in table.rows(set(wanted) - {"label"}):
                if isinstance(found, DataError):
                    yield found
                else:
                    yield Record({**found.values, "label": label}, found.origin)

        return replace(table, columns=(*table.columns, "label"), read=rows)

    return opened


@dataclass(frozen=True, slots=True)
class _Entries:
    """What a folder holds, hidden things and those of systems aside.

    Attributes:
        files: data files by name.
        folders: sub-folders by name.
        others: names of everything else.
    """

    files: dict[str, Path]
    folders: dict[str, Path]
    others: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset({*self.files, *self.folders, *self.others})


def _listing(path: Path) -> _Entries:
    entries = _visible(path)
    folders = {item.name: item for item in entries if item.is_dir()}
    files = {
        item.name: item
        for item in entries
        if item.name not in {*folders, *_ABOUT_DATA} and suffix_of(item.name) in SUFFIXES
    }
    names = frozenset(item.name for item in entries)
    return _Entries(files, folders, names - {*files, *folders})


def _require_not_saved(entries: _Entries, where: str) -> None:
    """Refuse what ``datasets`` wrote with ``save_to_disk``: its rows are in Arrow files.

    Raises:
        InputError: it is.
    """
    several = "dataset_dict.json" in entries.others
    if several or ("state.json" in entries.files and "dataset_info.json" in entries.others):
        what = 'dataset["train"]' if several else "dataset"
        raise InputError(
            f"{where}: this is a folder of save_to_disk, whose Arrow files are not read; save it "
            f'as Parquet: datasets.load_from_disk(…), then {what}.to_parquet("train.parquet")'
        )


def _visible(path: Path) -> list[Path]:
    """Entries of a folder without hidden ones and those that systems and programs leave behind."""
    return [
        entry
        for entry in sorted(path.iterdir())
        if not entry.name.startswith(".") and entry.name not in _NEVER_DATA
    ]


def _left_out(where: str, names: Collection[str]) -> tuple[str, ...]:
    """That files or folders take no part; a README and the like need no word."""
    told = [name for name in names if Path(name).stem.lower() not in _BESIDE]
    if not told:
        return ()
    shown = few(sorted(told), _SHOWN)
    return (f"{where}: left out, as neither training nor validation rows: {shown}",)
