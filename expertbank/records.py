"""Frozen rows that cross rooms: no torch, no SQL, only values.

Fractions are 0 to 1, durations seconds, sizes bytes, times UTC ISO-8601 text.
An expert is named ``task@version`` (``boolq@1``) everywhere outside the database.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from expertbank.config import FeatureSpec, canonical_json, sha256_text

Target: TypeAlias = float | tuple[float, ...] | str
"""What a row's answer is compared with: a class or position, a number, one number a label, or
text."""
HeadPooling = Literal["mean", "first", "last", "pair"]
"""What an expert's head reads of the last hidden states."""
Activation = Literal["tanh", "relu", "gelu"]
"""What stands between a dense layer and the head behind it."""
JSON = Mapping[str, Any]
RowShape = Literal["single", "pair", "choices"]
ROW_SHAPES: tuple[RowShape, ...] = ("single", "pair", "choices")
"""What a row brings: one text, a pair of texts, or choices. Decides which experts may answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """One canonical example: what a task reads, whatever file it came from.

    ``origin`` (``file:line``) is for messages and takes no part in equality or digests.
    ``group`` names rows that must stay in one split. ``templated`` is a text that a chat template
    made: its special tokens stand in it, and none are added around it.
    """

    text: str
    text_pair: str | None = None
    choices: tuple[str, ...] = ()
    label: str | None = None
    group: tuple[str, ...] = field(default=(), compare=False)
    origin: str = field(default="", compare=False)
    templated: bool = False

    @property
    def shape(self) -> RowShape:
        """What the row brings."""
        if self.choices:
            return "choices"
        return "single" if self.text_pair is None else "pair"

    @property
    def digest(self) -> str:
        """SHA-256 of input and label; equal for equal rows from any file format."""
        return sha256_text(
            canonical_json([self.text, self.text_pair, list(self.choices), self.label])
        )


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """Token ids of one row: one sequence, or one per choice.

    Attributes:
        sequences: token ids with special tokens, truncated to the feature spec's length.
        type_ids: token type ids, one per token (all zero where the family has none).
        target: as the task's kind makes it; ``None`` for a row without a label.
        truncated: whether tokens were cut off.
        first: per choice the place of the first one of the same text; empty where all differ.
        continuation: for a kind that writes, the tokens of the answer, the one that ends it
            included; they follow the sequence and are no part of it.
        ending: of a text that was cut, where an expert that writes may answer it, as many of its
            last tokens; empty where there is nothing else to read.
        second: per sequence the place where its second text begins, 0 where it has one text;
            empty where none has two.
    """

    sequences: tuple[tuple[int, ...], ...]
    type_ids: tuple[tuple[int, ...], ...]
    target: Target | None = None
    truncated: bool = False
    first: tuple[int, ...] = ()
    continuation: tuple[int, ...] = ()
    ending: tuple[int, ...] = ()
    second: tuple[int, ...] = ()

    @property
    def to_write_on(self) -> EncodedRow:
        """The row as an expert that writes reads it: what it goes on from is a text's end."""
        if not self.ending:
            return self
        types = ((0,) * len(self.ending),)
        return replace(self, sequences=(self.ending,), type_ids=types, ending=(), second=())

    @property
    def length(self) -> int:
        """Tokens in the longest sequence."""
        return max(len(sequence) for sequence in self.sequences)


@dataclass(frozen=True, slots=True)
class BackboneRecord:
    """The bank's frozen backbone and the feature spec that goes with it.

    Attributes:
        digest: the name that experts, specs and runs know it by.
        reference: where the user said it is: a folder, or a Hub name.
        architecture: the configuration fields that went into the digest.
        feature_spec: what all experts of the bank share.
        created_at: UTC, ISO-8601.
        store: URL of the artifact store; ``None`` for the bank's own ``objects/`` folder.
        revision: the Hub's commit; ``None`` of a folder or a package.
        identity: the digest of the backbone's files, which no release of a library changes. It
            is ``digest`` too, except in banks of expertbank 0.1, which name the backbone by
            another; there it is ``None`` until a command that writes has loaded the backbone.
    """

    digest: str
    reference: str
    architecture: JSON
    feature_spec: FeatureSpec
    created_at: str
    store: str | None = None
    revision: str | None = None
    identity: str | None = None

    def revision_of(self, reference: str) -> str | None:
        """The commit to ask for under ``reference``: the recorded one, if it is the same name."""
        return self.revision if reference == self.reference else None

    def named(self) -> dict[str, str | None]:
        """Which backbone it is, as the JSON answers and bundles say it."""
        return {
            "reference": self.reference,
            "revision": self.revision,
            "digest": self.digest,
            "identity": self.identity,
        }


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task the bank knows.

    ``removed_at`` is the tombstone, ``None`` while alive. ``group`` is the one that the next router
    puts the task into: tasks of one group answer the same texts together. Routers that are fitted
    keep their own, see ``RouterRecord.groups``.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    spec: JSON
    created_at: str
    removed_at: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """An immutable file of the store, named by the SHA-256 of its bytes.

    ``purged_at`` is set when the bytes were deleted on purpose and only the record remains.
    """

    digest: str
    kind: str
    bytes: int
    created_at: str = ""
    purged_at: str | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What made something: command, configuration, seed, environment, data, backbone."""

    kind: str
    config: JSON
    seed: int
    environment: JSON
    data: JSON
    backbone_digest: str
    seconds: float
    id: int | None = None
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class ExpertRecord:
    """A frozen expert: adapter + head + task, immutable, versioned."""

    task: str
    version: int
    digest: str
    adapter_params: int
    head_params: int
    bytes: int
    labels: tuple[str, ...]
    kind: str
    run_id: int | None = None
    created_at: str = ""

    @property
    def id(self) -> str:
        """``task@version``."""
        return f"{self.task}@{self.version}"


@dataclass(frozen=True, slots=True)
class FeatureSetRecord:
    """What is kept of one expert's rows: features of training and evaluation rows.

    Where no row is kept, ``n_eval`` is 0 and the file holds statistics of the training rows.
    """

    expert_id: str
    digest: str
    feature_spec_digest: str
    dimension: int
    n_train: int
    n_eval: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StatisticsRecord:
    """Exact sums over one expert's training rows, from which routers are fitted.

    Attributes:
        expert_id: the expert.
        digest: the file's.
        feature_spec_digest: the spec of the features that they are of.
        dimension: width of plain features.
        width: numbers a row that the sums are of.
        projection: name of the fixed projection that makes them; ``None`` for none.
        rows: rows in the sums.
        bytes: the file's size.
    """

    expert_id: str
    digest: str
    feature_spec_digest: str
    dimension: int
    width: int
    projection: str | None
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One measurement of one expert's stored evaluation rows.

    ``router_version`` is ``None`` for the oracle measurement taken at ``add``, else the router
    under which it was first found: it holds under later ones too, until another is stored. The
    artifact holds the per-row evidence: logits and labels for the oracle, choices for a router.
    """

    expert_id: str
    n: int
    correct: int
    artifact_digest: str
    metrics: JSON
    environment: JSON
    router_version: int | None = None
    id: int | None = None
    created_at: str = ""

    @property
    def accuracy(self) -> float:
        """Share of rows that were right."""
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """A fitted gate and its membership list; immutable, versioned.

    Attributes:
        version: counts from 1.
        kind: of its gate.
        digest: of its file.
        params: numbers that decide.
        members: its experts, ``task@version``.
        feature_spec_digest: the features that it reads.
        metrics: how well it sent evaluation rows home when it was fitted.
        run_id: of what trained it.
        created_at: UTC, ISO-8601.
        forgotten_at: when ``gc --keep-routers`` deleted its gate: only the record remains.
        groups: the groups that it was fitted with, by name the tasks in each; tasks in none stand
            alone. They never change, whatever becomes of the tasks' groups.
    """

    version: int
    kind: str
    digest: str
    params: int
    members: tuple[str, ...]
    feature_spec_digest: str
    metrics: JSON
    run_id: int | None = None
    created_at: str = ""
    forgotten_at: str | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def is_usable(self, purged: Collection[str]) -> bool:
        """Whether ``gc`` deleted neither its gate nor the files of one of its experts.

        Args:
            purged: ids of the experts whose files were deleted.
        """
        return self.forgotten_at is None and not set(purged).intersection(self.members)

    @property
    def group_of(self) -> dict[str, str]:
        """The group that it was fitted with of every task that was in one."""
        return {task: group for group, tasks in self.groups.items() for task in tasks}


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """A movable name for a router version."""

    name: str
    router_version: int


@dataclass(frozen=True, slots=True)
class AliasEvent:
    """One move of an alias; the list of them only grows."""

    name: str
    router_version: int
    previous_version: int | None
    reason: str
    created_at: str


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """A bundle that was written and verified."""

    digest: str
    format: str
    path: str
    router_version: int
    experts: tuple[str, ...]
    id: int | None = None
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class Purge:
    """What letting go of removed tasks means.

    Attributes:
        tasks: removed tasks whose files go.
        experts: their experts, ``task@version``.
        digests: files that nothing else needs.
        routers: versions that need one of these experts and can then not be used again.
        in_use: removed tasks whose files stay, with the aliases that still need them.
    """

    tasks: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    routers: tuple[int, ...] = ()
    in_use: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What letting go of old routers means.

    Attributes:
        keep: how many of the newest routers stay.
        routers: versions whose gates go, and which can then not be used again.
        digests: their gates, and choices that no router that stays rests on.
        in_use: older versions that stay, with the aliases that name them.
    """

    keep: int
    routers: tuple[int, ...] = ()
    digests: tuple[str, ...] = ()
    in_use: tuple[tuple[int, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One thing that happened to the bank.

    Attributes:
        at: when.
        kind: ``expert-added``, ``router-trained``, ``alias-moved``, ``exported``,
            ``task-removed``, ``task-grouped``, ``task-purged`` or ``router-forgotten``.
        subject: what it happened to: ``boolq@1``, ``router@2``, an alias, a path, a task.
        text: one sentence for people.
    """

    at: str
    kind: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the bank that is not as it should be: what, where, and what to do."""

    what: str
    where: str
    todo: str


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Where long work stands; given to the caller's callback, never printed by a library room.

    Attributes:
        stage: what is being done, in words.
        done: units finished.
        total: units in all.
        detail: short facts to show beside the bar, such as loss or tokens a second.
        seconds_left: estimate, ``None`` until there is one.
        of: which of several works at once it is of; empty where there is one.
        lasting: what was done just now and stays, whatever becomes of the rest, as a sentence.
        warnings: what is odd about the data that is about to be worked on, as sentences.
    """

    stage: str
    done: int
    total: int
    detail: str = ""
    seconds_left: float | None = None
    of: str = ""
    lasting: str = ""
    warnings: tuple[str, ...] = ()


ProgressCallback = Callable[[ProgressEvent], None]


def no_progress(event: ProgressEvent) -> None:
    """The callback of a caller who does not want to know."""
