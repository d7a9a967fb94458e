"""A dry run of a task: what is in the data and what would be trained, with nothing written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from expertbank.config import DEFAULT_MAX_LENGTH, TrainConfig
from expertbank.data.encode import unreadable, unwritable
from expertbank.data.faults import BadRowsError, Faults
from expertbank.data.lengths import LengthCounter
from expertbank.data.load import TaskData, load_task
from expertbank.data.remarks import SameTokens, cut_remark
from expertbank.data.spec import TaskSpec
from expertbank.data.splits import hold_out_for_selection
from expertbank.errors import DataError
from expertbank.kinds import KINDS
from expertbank.plain import plain
from expertbank.records import EncodedRow, ProgressCallback, Row, no_progress

if TYPE_CHECKING:
    from expertbank.kinds.kind import Kind

SAMPLE = 20_000
"""Most rows whose length is counted; of more, the first in hash order stand for all."""
TOKENS_PER_SECOND = 3000.0
"""Assumed speed of training."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long rows are; of a row of several sequences the longest counts.

    Attributes:
        unit: ``tokens`` or ``words``.
        limit: the maximum length, in tokens.
        counted: rows counted.
        least, median, p95, most: of the rows counted.
        truncated: rows counted that are longer than the limit; in words, a lower bound.
    """

    unit: str
    limit: int
    counted: int
    least: int
    median: int
    p95: int
    most: int
    truncated: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``add`` would train with the same options.

    Attributes:
        train: rows to fit on.
        selection: training rows held out to choose the checkpoint.
        validation: rows to report on.
        epochs: passes over ``train``; 0 where nothing is trained.
        tokens: in one pass, cut to the maximum length.
        tokens_per_second: assumed speed of training.
        seconds: estimated time of training.
    """

    train: int
    selection: int
    validation: int
    epochs: int
    tokens: int
    tokens_per_second: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskCheck:
    """What a dry run found.

    Attributes:
        data: the rows, as ``add`` would get them.
        labels: for each label its rows in training and in validation; empty where labels are
            numbers, or rows have none.
        values: least, mean and most target where labels are numbers, else empty.
        majority: share of the most frequent answer in validation, ``None`` for numbers.
        lengths: how long the rows are.
        plan: what would be trained.
        warnings: what is odd, as sentences.
        bad: rows that cannot be used; ``add`` refuses the data until they are mended.
    """

    data: TaskData
    labels: Mapping[str, tuple[int, int]]
    values: Mapping[str, float]
    majority: float | None
    lengths: Lengths
    plan: Plan
    warnings: tuple[str, ...]
    bad: Faults

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        data, spec = self.data, self.data.spec
        return {
            "task": spec.name,
            "kind": spec.kind,
            "source": data.source,
            "revision": data.revision,
            "columns": plain(data.columns),
            "unread": list(data.unread),
            "rows": dict(data.counts),
            "digests": dict(data.digests),
            "labels": [
                {"label": label, "train": train, "validation": validation}
                for label, (train, validation) in self.labels.items()
            ],
            "values": dict(self.values) or None,
            "majority": self.majority,
            "lengths": asdict(self.lengths),
            "plan": asdict(self.plan),
            "warnings": list(self.warnings),
            "files": [asdict(file) for file in data.files],
            "bad_rows": self.bad.to_list(),
        }


def check_task(
    spec: TaskSpec,
    source: str | None,
    counter: LengthCounter,
    *,
    train: TrainConfig | None = None,
    max_length: int = DEFAULT_MAX_LENGTH,
    tokens_per_second: float = TOKENS_PER_SECOND,
    progress: ProgressCallback = no_progress,
) -> TaskCheck:
    """Read a task as ``add`` would and say what is there, bad rows included.

    Args:
        spec: the task.
        source: source reference, ``None`` for the task's own sources.
        counter: how lengths are counted.
        train: limits, seed and epochs; ``None`` for the defaults.
        max_length: longest sequence in tokens.
        tokens_per_second: assumed speed of training.
        progress: told as files are read.

    Raises:
        DataError: a file is unusable, or its good rows are; the message starts with
            ``file:line``. A ``BadRowsError`` if that may be due to bad rows.
        InputError: the source reference is malformed or does not exist.
        SourceUnavailableError: no source could be reached.
    """
    config, bad = train or TrainConfig(), Faults()
    try:
        data = load_task(
            spec,
            source,
            limit=config.limit,
            eval_limit=config.eval_limit,
            seed=config.seed,
            faults=bad,
            progress=progress,
        )
        share = config.selection_share_of(len(data.train))
        kind = KINDS.get(data.spec.kind)
        fit, selection = hold_out_for_selection(data.train, share, config.seed, kind.classes)
    except DataError as error:
        if bad and not isinstance(error, BadRowsError):
            raise BadRowsError(bad, str(error)) from error
        raise
    for row in (*data.train, *data.validation) if kind.writes else ():
        if wrong := unwritable(row, data.spec.writing.stop):
            bad.note(wrong)
    epochs = 0 if kind.elsewhere else config.epochs
    lengths, tokens, same = _lengths(fit, counter, data, kind, max_length, bad)
    warnings = [*data.warnings, *same]
    if counter.unit == "words":
        warnings.append(
            "the backbone's tokenizer is not on this machine, so lengths are in words; there are "
            "more tokens than words"
        )
    if lengths.truncated:
        warnings.append(cut_remark(lengths.truncated, lengths.counted, max_length, kind))
    return TaskCheck(
        data=data,
        labels=_labels(data, kind),
        values=kind.values(data.train),
        majority=kind.majority(data.validation),
        lengths=lengths,
        plan=Plan(
            train=len(fit),
            selection=len(selection),
            validation=len(data.validation),
            epochs=epochs,
            tokens=tokens,
            tokens_per_second=tokens_per_second,
            seconds=round(tokens * epochs / tokens_per_second, 1),
        ),
        warnings=tuple(warnings),
        bad=bad,
    )


def _lengths(
    fit: Sequence[Row],
    counter: LengthCounter,
    data: TaskData,
    kind: Kind,
    limit: int,
    bad: Faults,
) -> tuple[Lengths, int, list[str]]:
    """Lengths over training and validation rows, the tokens of one pass over ``fit``, remarks."""
    sampled = [*data.train[:SAMPLE], *data.validation[:SAMPLE]]
    sizes: list[list[int]] = []
    same = SameTokens()
    for row, parts in zip(sampled, counter.of_rows(sampled), strict=True):
        sizes.append([len(part) for part in parts])
        if counter.unit == "tokens":
            wrong = unreadable(row, EncodedRow(tuple(map(tuple, parts)), ()))
            if wrong is not None:
                bad.note(wrong)
            read = slice(-limit, None) if kind.writes else slice(limit)
            same.see(row, [part[read] for part in parts])
    in_training = sizes[: min(len(data.train), SAMPLE)]
    per_row = fmean(sum(min(part, limit) for part in size) for size in in_training)
    longest = sorted(max(size) for size in sizes)
    last = len(longest) - 1
    return (
        Lengths(
            unit=counter.unit,
            limit=limit,
            counted=len(longest),
            least=longest[0],
            median=longest[last // 2],
            p95=longest[round(last * 0.95)],
            most=longest[-1],
            truncated=sum(size > limit for size in longest),
        ),
        round(per_row * len(fit)),
        same.remarks(),
    )


def _labels(data: TaskData, kind: Kind) -> dict[str, tuple[int, int]]:
    if kind.elsewhere:
        return {}
    train, validation = (
        Counter(label for row in rows for label in kind.counted(row))
        for rows in (data.train, data.validation)
    )
    return {label: (train[label], validation[label]) for label in data.labels}
