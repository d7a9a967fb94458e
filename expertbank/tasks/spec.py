"""What a task is: its columns, labels, sources and split, as one frozen value.

A ``TaskSpec`` comes from the catalog's YAML or from command-line flags, and its ``to_dict`` form
is stored in the registry and in bundles. Nothing here reads data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from expertbank.errors import InputError
from expertbank.kinds import DEFAULT_KIND, KINDS, LabelRules, kind_for
from expertbank.tasks.plain import mapping, plain, required, text_value, text_values
from expertbank.tasks.refs import parse_source

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_task_name(name: str) -> str:
    """Return ``name`` if it is a legal task name.

    Raises:
        InputError: anything but 1 to 64 of ``a-z 0-9 _ -``, starting with a letter or digit.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"bad task name {name!r}: use 1 to 64 lower-case letters, digits, '_' or '-', "
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
        group: columns whose values bind rows: rows that share any value stay in one split.
    """

    text: str | None = None
    text_pair: str | None = None
    choices: tuple[str, ...] = ()
    label: str | None = None
    group: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def over(self, base: Columns) -> Columns:
        """These columns, with ``base`` wherever nothing is given here."""
        return Columns(
            text=self.text or base.text,
            text_pair=self.text_pair or base.text_pair,
            choices=self.choices or base.choices,
            # One label column and several are two ways to say the same thing.
            label=self.label or (None if self.flags else base.label),
            group=self.group or base.group,
            flags=self.flags or (() if self.label else base.flags),
        )

    @classmethod
    def from_dict(cls, value: object, where: str) -> Columns:
        """Build from plain values; a single column name may stand for a list of one.

        Raises:
            InputError: an unknown key or a value that is not a column name.
        """
        given = mapping(value, where, [item.name for item in fields(cls)])
        return cls(
            text=text_value(given, "text", where),
            text_pair=text_value(given, "text_pair", where),
            choices=text_values(given, "choices", where),
            label=text_value(given, "label", where),
            group=text_values(given, "group", where),
            flags=text_values(given, "flags", where),
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Names the validation rows of a one-file source by a second file.

    A row belongs to validation when its value in ``column`` stands in ``column`` of ``ref``.
    """

    ref: str
    column: str


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
        train_split: name of the training split where it is not ``train*``.
        validation_split: name of the validation split where guessing by name is not enough.
    """

    name: str
    ref: str
    columns: Columns = field(default_factory=Columns)
    strip_title: str | None = None
    encoding_fallback: str | None = None
    held_out: HeldOut | None = None
    train_split: str | None = None
    validation_split: str | None = None

    @classmethod
    def from_dict(cls, value: object, where: str) -> SourceSpec:
        """Build from plain values.

        Raises:
            InputError: an unknown key, a missing one, or a bad source reference.
        """
        given = mapping(value, where, [item.name for item in fields(cls)])
        held_out = None
        if given.get("held_out") is not None:
            inner = mapping(given["held_out"], f"{where}: held_out", ["ref", "column"])
            held_out = HeldOut(
                ref=required(inner, "ref", f"{where}: held_out"),
                column=required(inner, "column", f"{where}: held_out"),
            )
            parse_source(held_out.ref)
        ref = required(given, "ref", where)
        parse_source(ref)
        return cls(
            name=required(given, "name", where),
            ref=ref,
            columns=Columns.from_dict(given.get("columns") or {}, f"{where}: columns"),
            strip_title=text_value(given, "strip_title", where),
            encoding_fallback=text_value(given, "encoding_fallback", where),
            held_out=held_out,
            train_split=text_value(given, "train_split", where),
            validation_split=text_value(given, "validation_split", where),
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
        if not 0 < self.share < 1:
            raise InputError(f"split share must be above 0 and below 1, got {self.share}")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """Everything that turns files into the rows of one task.

    Attributes:
        name: the task's name; also checked wherever it might become part of a path.
        kind: name of the task's kind.
        description: one line for people.
        licence: terms of the data.
        columns: the task's columns; unset ones are guessed from names when rows are read.
        labels: shown label names in their fixed order; empty: taken from the training rows.
        label_names: raw label to shown name; empty: shown as they are.
        drop_labels: raw labels whose rows are dropped and counted; ``None`` is the missing one.
        label_separator: what parts several labels in one cell; ``None`` where a cell holds one, or
            a list.
        sources: where the rows are, in the order to try.
        split: how validation rows are chosen where a source has none.

    Raises:
        InputError: a bad name, an unknown kind, repeated labels, or label names that lead
            outside ``labels``.
    """

    name: str
    kind: str = DEFAULT_KIND
    description: str = ""
    licence: str = ""
    columns: Columns = field(default_factory=Columns)
    labels: tuple[str, ...] = ()
    label_names: tuple[tuple[str, str], ...] = ()
    drop_labels: tuple[str | None, ...] = ()
    label_separator: str | None = None
    sources: tuple[SourceSpec, ...] = ()
    split: SplitRule = field(default_factory=SplitRule)

    def __post_init__(self) -> None:
        check_task_name(self.name)
        if self.kind not in KINDS.names():
            raise InputError(
                f"task {self.name}: unknown kind {self.kind!r}; known: {', '.join(KINDS.names())}"
            )
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"task {self.name}: labels are repeated: {list(self.labels)}")
        outside = {shown for _, shown in self.label_names} - set(self.labels)
        if self.labels and outside:
            raise InputError(
                f"task {self.name}: label_names lead to {sorted(outside)}, "
                f"which are not among labels {list(self.labels)}"
            )

    @property
    def label_rules(self) -> LabelRules:
        """How raw labels become those that rows carry."""
        return LabelRules(
            self.labels,
            dict(self.label_names),
            self.drop_labels,
            self.label_separator,
            self.columns.flags,
        )

    def with_columns(
        self,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        choices: Sequence[str] = (),
        label: str | Sequence[str] | None = None,
        separator: str | None = None,
    ) -> TaskSpec:
        """This task with some columns named by the user.

        What the user names wins over the task's columns and over those of its sources. Columns
        that only one kind of task has make it a task of that kind.

        Args:
            text: column of the text.
            text_pair: column of the second text.
            choices: column of the choices, or one column for each.
            label: column of the label; several: one column of 0 and 1 for each label.
            separator: what parts several labels in one cell.
        """
        labels = (label,) if isinstance(label, str) else tuple(label or ())
        named = Columns(
            text=text,
            text_pair=text_pair,
            choices=tuple(choices),
            label=labels[0] if len(labels) == 1 else None,
            flags=labels if len(labels) > 1 else (),
        )
        if named == Columns() and separator is None:
            return self
        if separator is not None and (not separator or named.flags):
            raise InputError(
                f"task {self.name}: the label separator is what stands between labels in one "
                f"column; got {separator!r}" + (" and several columns" if named.flags else "")
            )
        # A group column that is also read goes by its new name too.
        renamed = {self.columns.text: text, self.columns.text_pair: text_pair}
        group = tuple(renamed.get(column) or column for column in self.columns.group)
        return replace(
            self,
            kind=kind_for(
                self.kind,
                choices=bool(choices),
                rules=LabelRules(separator=separator, flags=named.flags),
            ),
            columns=replace(named, group=group).over(self.columns),
            label_separator=separator or self.label_separator,
            sources=tuple(
                replace(source, columns=named.over(source.columns)) for source in self.sources
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; ``from_dict`` gives an equal spec back."""
        value = asdict(self)
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
        given = mapping(value, where, [item.name for item in fields(cls)])
        names = given.get("label_names") or {}
        if not isinstance(names, Mapping) or not all(
            isinstance(text, str) for pair in names.items() for text in pair
        ):
            raise InputError(f"{where}: label_names must map text to text (quote numbers)")
        drop = given.get("drop_labels") or ()
        if isinstance(drop, str) or not all(item is None or isinstance(item, str) for item in drop):
            raise InputError(f"{where}: drop_labels must be a list of text or null")
        sources = given.get("sources") or ()
        if isinstance(sources, (str, Mapping)):
            raise InputError(f"{where}: sources must be a list")
        return cls(
            name=check_task_name(given.get("name", "")),
            kind=given.get("kind", DEFAULT_KIND),
            description=text_value(given, "description", where) or "",
            licence=text_value(given, "licence", where) or "",
            columns=Columns.from_dict(given.get("columns") or {}, f"{where}: columns"),
            labels=text_values(given, "labels", where),
            label_names=tuple(names.items()),
            drop_labels=tuple(drop),
            label_separator=text_value(given, "label_separator", where),
            sources=tuple(
                SourceSpec.from_dict(source, f"{where}: sources[{index}]")
                for index, source in enumerate(sources)
            ),
            split=_split_rule(given.get("split") or {}, f"{where}: split"),
        )


def _split_rule(value: object, where: str) -> SplitRule:
    given = mapping(value, where, ["share", "seed"])
    share, seed = given.get("share", 0.2), given.get("seed", 0)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or type(seed) is not int:
        raise InputError(f"{where}: share must be a fraction and seed a whole number")
    return SplitRule(share=float(share), seed=seed)
