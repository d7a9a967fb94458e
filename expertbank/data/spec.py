"""What a task is: its columns, labels, sources and split, as one frozen value.

A ``TaskSpec`` comes from the catalog's YAML or from command-line flags, and its ``to_dict`` form
is stored in the registry and in bundles. Nothing here reads data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from expertbank.data.formats import ReadAs
from expertbank.data.refs import parse_source
from expertbank.errors import InputError
from expertbank.kinds import DEFAULT_KIND, EXTERNAL_KIND, KINDS, LabelRules, kind_for
from expertbank.plain import plain, read, settle, typed
from expertbank.writing import WritingConfig

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_task_name(name: str, what: str = "task") -> str:
    """Return ``name`` if it is a legal name of a task; those of groups follow the same rule.

    Args:
        name: the name.
        what: ``task`` or ``group``, for the message.

    Raises:
        InputError: anything but 1 to 64 of ``a-z 0-9 _ -``, starting with a letter or digit.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"bad {what} name {name!r}: use 1 to 64 lower-case letters, digits, '_' or '-', "
            "starting with a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what; ``None`` or empty means not given.

    Attributes:
        text: what the model reads first.
        text_pair: what it reads second, if the task has pairs.
        choices: one column that holds a list, or one column for each choice.
        label: the right answer.
        flags: one column of 0 and 1 for each label, instead of ``label``.
        separator: what parts several labels in ``label``; ``None`` where it holds one, or a list.
        group: columns whose values bind rows: rows that share any value stay in one split.
    """

    text: str | None = None
    text_pair: str | None = None
    choices: tuple[str, ...] = ()
    label: str | None = None
    group: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    separator: str | None = None

    def __post_init__(self) -> None:
        settle(self, "columns")
        if self.separator == "" or (self.separator and self.flags):
            raise InputError(
                "a label separator is what stands between labels in one column; "
                f"got {self.separator!r}" + (" and several columns" if self.flags else "")
            )

    @classmethod
    def named(
        cls,
        text: str | None,
        pair: str | None,
        choices: Sequence[str],
        labels: Sequence[str],
        separator: str | None,
    ) -> Columns:
        """The columns as a user names them: several of the label are one of 0 and 1 for each."""
        one = len(labels) == 1
        return cls(
            text,
            pair,
            tuple(choices),
            labels[0] if one else None,
            flags=() if one else tuple(labels),
            separator=separator,
        )

    def renamed(self, rename: Callable[[str], str]) -> Columns:
        """These columns under other names."""

        def one(name: str | None) -> str | None:
            return None if name is None else rename(name)

        return Columns(
            one(self.text),
            one(self.text_pair),
            tuple(map(rename, self.choices)),
            one(self.label),
            tuple(map(rename, self.group)),
            tuple(map(rename, self.flags)),
            self.separator,
        )

    def without_label(self) -> Columns:
        """These columns, of rows that have no label."""
        return replace(self, label=None, flags=(), separator=None)

    def over(self, base: Columns) -> Columns:
        """These columns, with ``base`` wherever nothing is given here."""
        return Columns(
            text=self.text or base.text,
            text_pair=self.text_pair or base.text_pair,
            choices=self.choices or base.choices,
            # One label column and several are two ways to say the same thing.
            label=self.label or (None if self.flags else base.label),
            group=self.group or base.group,
            flags=self.flags or (() if self.label or self.separator else base.flags),
            separator=self.separator or (None if self.flags else base.separator),
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Names the validation rows of a one-file source by a second file.

    A row belongs to validation when its value in ``column`` stands in ``column`` of ``ref``.
    """

    ref: str
    column: str

    def __post_init__(self) -> None:
        settle(self, "held_out")
        parse_source(self.ref)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One place that holds the task's rows, with what is peculiar to that place.

    Attributes:
        name: what people call it, for messages.
        ref: source reference as ``parse_source`` reads it.
        columns: columns named differently from the task's own.
        strip_title: separator that ends a title standing in front of the text pair; the pair
            starts after its first occurrence.
        encoding_fallback: encoding for files of this source that are not UTF-8.
        held_out: how validation rows are told from the others in a one-file source.
        train_split: name of the training split where it is not ``train*``: of a sub-folder, a
            file with or without what tells its format, or a split on the Hub. It must be there.
        validation_split: name of the validation split where guessing by name is not enough.
        label_from_file: whether a folder has one file of rows for each label and the file's name,
            without what tells its format (``.jsonl``, ``.csv.gz``), is the label: column ``label``
            of its rows.
    """

    name: str
    ref: str
    columns: Columns = field(default_factory=Columns)
    strip_title: str | None = None
    encoding_fallback: str | None = None
    held_out: HeldOut | None = None
    train_split: str | None = None
    validation_split: str | None = None
    label_from_file: bool = False

    def __post_init__(self) -> None:
        settle(self, f"source {self.name}")
        if parse_source(self.ref).scheme == "hub" and self.label_from_file:
            raise InputError(
                f"source {self.name}: label_from_file is for folders, and {self.ref} is none"
            )


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How validation rows are chosen where a source does not name them.

    The seed belongs to the task, not to a training run, so all versions of an expert are
    measured on the same rows.
    """

    share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        settle(self, "split")
        if not 0 < self.share < 1:
            raise InputError(f"split share must be above 0 and below 1, got {self.share}")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """Everything that turns files into the rows of one task.

    Lists and mappings are taken where tuples, pairs and the classes above are meant, as
    ``from_dict`` takes them.

    Attributes:
        name: the task's name; also checked wherever it might become part of a path.
        kind: name of the task's kind; empty: the one that its columns can only mean, else
            classification.
        description: one line for people.
        licence: terms of the data.
        columns: the task's columns; unset ones are guessed from names when rows are read.
        labels: shown label names in their fixed order; empty: those of ``label_names``, and then
            those of the training rows.
        label_names: raw label to shown name; one that is not in it is shown as it is.
        drop_labels: raw labels whose rows are dropped and counted, of several labels a row any;
            ``None`` is the missing one.
        sources: where the rows are, in the order to try.
        split: how validation rows are chosen where a source has none.
        read_as: separator and encoding of text files, where their own do not tell.
        writing: how answers are written, where the kind writes.

    Raises:
        InputError: a value of another type, a bad name, an unknown kind or one whose rows have no
            such columns, repeated labels, or label names that lead outside ``labels``.
    """

    name: str
    kind: str = ""
    description: str = ""
    licence: str = ""
    columns: Columns = field(default_factory=Columns)
    labels: tuple[str, ...] = ()
    label_names: tuple[tuple[str, str], ...] = ()
    drop_labels: tuple[str | None, ...] = ()
    sources: tuple[SourceSpec, ...] = ()
    split: SplitRule = field(default_factory=SplitRule)
    read_as: ReadAs = field(default_factory=ReadAs)
    writing: WritingConfig = field(default_factory=WritingConfig)

    def __post_init__(self) -> None:
        check_task_name(self.name)
        settle(self, f"task {self.name}")
        self._settle_kind()
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"task {self.name}: labels are repeated: {list(self.labels)}")
        outside = {shown for _, shown in self.label_names} - set(self.labels)
        if self.labels and outside:
            raise InputError(
                f"task {self.name}: label_names lead to {sorted(outside)}, "
                f"which are not among labels {list(self.labels)}"
            )

    def _settle_kind(self) -> None:
        """Let the columns say which kind it is, and refuse one that cannot read them."""
        named = (self.columns, *(source.columns for source in self.sources))
        choices = any(one.choices for one in named)
        rules = LabelRules(
            separator=next((one.separator for one in named if one.separator), None),
            flags=next((one.flags for one in named if one.flags), ()),
        )
        kind = self.kind or kind_for(DEFAULT_KIND, choices=choices, rules=rules)
        if kind not in KINDS.names():
            raise InputError(
                f"task {self.name}: unknown kind {kind!r}; known: {', '.join(KINDS.names())}"
            )
        object.__setattr__(self, "kind", kind)
        if not (choices or rules.flags or rules.separator):
            return  # without a look at the kind, which would import it
        refusal = KINDS.get(kind).refusal(choices=choices, rules=rules)
        if refusal is not None:
            meant = kind_for(kind, choices=choices, rules=rules)
            hint = "" if meant == kind else f", or make the kind {meant}"
            raise InputError(f"task {self.name}: {refusal}; leave that out{hint}")

    @property
    def label_rules(self) -> LabelRules:
        """How raw labels become those that rows carry."""
        return LabelRules(
            self.labels,
            dict(self.label_names),
            self.drop_labels,
            self.columns.separator,
            self.columns.flags,
        )

    def read_with(self, named: Columns, read_as: ReadAs) -> TaskSpec:
        """This task with what the user says of columns and files; the rest stays its own."""
        return replace(self.with_columns(named), read_as=read_as.over(self.read_as))

    def with_columns(self, named: Columns) -> TaskSpec:
        """This task with some columns named by the user.

        What the user names wins over the task's columns and over those of its sources. Columns
        that only one kind of task has make it a task of that kind.
        """
        named = typed(Columns, named, f"task {self.name}", "columns")
        if named == Columns():
            return self
        # A group column that is also read goes by its new name too.
        renamed = {self.columns.text: named.text, self.columns.text_pair: named.text_pair}
        group = tuple(renamed.get(column) or column for column in self.columns.group)
        return replace(
            self,
            kind=kind_for(
                self.kind,
                choices=bool(named.choices),
                rules=LabelRules(separator=named.separator, flags=named.flags),
            ),
            columns=replace(named, group=group).over(self.columns),
            sources=tuple(
                replace(source, columns=named.over(source.columns)) for source in self.sources
            ),
        )

    def within(self, folder: Path) -> TaskSpec:
        """This task with the paths of its sources meant from ``folder``, so made absolute."""

        def located(source: SourceSpec) -> SourceSpec:
            held_out = source.held_out
            if held_out is not None:
                held_out = replace(held_out, ref=parse_source(held_out.ref).within(folder))
            return replace(source, ref=parse_source(source.ref).within(folder), held_out=held_out)

        return replace(self, sources=tuple(map(located, self.sources)))

    def answered_by(self, adapter: str) -> TaskSpec:
        """This task, answered by an adapter of another program that is called ``adapter`` there.

        Its rows have no label, whatever columns there are.

        Raises:
            InputError: no adapter can be called so.
        """
        from expertbank.kinds.external import adapter_name

        return replace(
            self,
            kind=EXTERNAL_KIND,
            columns=self.columns.without_label(),
            labels=(adapter_name(adapter),),
            label_names=(),
            drop_labels=(),
            sources=tuple(
                replace(source, columns=source.columns.without_label()) for source in self.sources
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; ``from_dict`` gives an equal spec back."""
        value = asdict(self)
        value["read_as"] = {key: one for key, one in value["read_as"].items() if one is not None}
        value["writing"] = self.writing.given()
        for name in ("read_as", "writing"):
            if not value[name]:  # as before it was known
                del value[name]
        for source in value["sources"]:
            if not source["label_from_file"]:  # likewise
                del source["label_from_file"]
        value["label_names"] = dict(self.label_names)
        return {key: plain(item) for key, item in value.items()}

    @classmethod
    def from_dict(cls, value: object, where: str = "task spec") -> TaskSpec:
        """Build from plain values, as read from YAML or JSON.

        Args:
            value: a mapping with the keys of this class.
            where: what to call it in messages.

        Raises:
            InputError: unknown keys (near names are given), missing ones, or bad values.
        """
        return read(cls, value, where)
