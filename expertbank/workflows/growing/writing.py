"""What ``add`` settles of a task whose answers the language model writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from expertbank.config import FeatureSpec
from expertbank.data import TaskData
from expertbank.data.encode import unwritable
from expertbank.errors import DataError, FeatureSpecError
from expertbank.records import EncodedRow, Row
from expertbank.writing import Writing

if TYPE_CHECKING:
    from expertbank.backbones.backbone import Backbone


def require_writing(backbone: Backbone, spec: FeatureSpec, task: str) -> None:
    """Refuse a task of such a kind where it cannot be, before its rows are encoded.

    Raises:
        UnsupportedModelError: the backbone cannot write.
        FeatureSpecError: the bank keeps no text of rows, and what was answered is text.
    """
    from expertbank.backbones.language import language_head

    if spec.keep == "stats":
        raise FeatureSpecError(
            f"this bank keeps statistics only, and the evidence of {task} would be the texts of "
            "its answers; use another bank, without --keep stats"
        )
    language_head(backbone)


def writing_of(backbone: Backbone, data: TaskData, encoded: Mapping[Row, EncodedRow]) -> Writing:
    """How the expert's answers are written, settled on the rows that it is trained on.

    Raises:
        DataError: a prompt and its answer together are more than the backbone can read, or a text
            at which answers end stands in one that is wanted.
    """
    from expertbank.backbones.language import language_head
    from expertbank.models.writing import template_tokens

    config = data.spec.writing
    between = len(template_tokens(backbone, config.template))
    longest = backbone.longest_sequence
    for row in (*data.train, *data.validation):
        if wrong := unwritable(row, config.stop):
            raise wrong
        one = encoded[row]
        tokens = one.length + between + len(one.continuation)
        if longest is not None and tokens > longest:
            raise DataError(
                f"{row.origin or 'row'}: prompt and answer have {tokens} tokens together, and the "
                f"backbone can read {longest}; shorten the answer, or make a bank with a smaller "
                "--max-length",
                "too many tokens",
            )
    most = max(len(encoded[row].continuation) for row in data.train)
    return Writing(
        config.template,
        config.stop,
        config.max_tokens or most,
        language_head(backbone).digest,
    )


def remarks_on_answers(
    backbone: Backbone, data: TaskData, encoded: Mapping[Row, EncodedRow]
) -> list[str]:
    """What makes wanted answers impossible to write, so that they will count as wrong."""
    from expertbank.evaluation.texts import same_text
    from expertbank.models.writing import text_of

    rows = [(row, encoded[row].continuation) for row in (*data.train, *data.validation)]
    remarks = []
    odd = [
        (row, text)
        for row, tokens in rows
        for text in [text_of(backbone.tokenizer, tokens)]
        if not same_text(text, row.label or "")
    ]
    if odd:
        row, text = odd[0]
        remarks.append(
            f"{len(odd):,} of {len(rows):,} answers cannot be written by the backbone's tokenizer "
            f"as they stand, and will count as wrong; the first is {row.label!r} "
            f"({row.origin or 'row'}), of which it makes {text!r}"
        )
    most = data.spec.writing.max_tokens
    long = [len(tokens) for _, tokens in rows if most is not None and len(tokens) > most]
    if long:
        remarks.append(
            f"{len(long):,} of {len(rows):,} answers have more than the {most} tokens of "
            f"--max-tokens, and will count as wrong; the longest has {max(long)}"
        )
    return remarks
