"""The rows that an expert was measured on, read from their source again."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.data import find_rows
from expertbank.data.refs import ONCE
from expertbank.errors import ExpertBankError, SourceUnavailableError
from expertbank.records import ExpertRecord, ProgressCallback, ProgressEvent, Row
from expertbank.workflows.workspace import Workspace


def rows_again(
    workspace: Workspace,
    expert: ExpertRecord,
    digests: Sequence[str],
    progress: ProgressCallback,
) -> tuple[list[Row | None], str | None]:
    """Rows read from their source again by digest; ``None`` where a row is gone.

    Returns:
        The rows, and if some are gone, why and what to do.
    """
    progress(ProgressEvent(f"reading the rows of {expert.id} again", 0, 1))
    spec, source = workspace.data_of(expert)
    todo = f"put the data that {expert.id} was added with back there and run it again"
    try:
        found = find_rows(spec, source, digests)
    except ExpertBankError as error:
        # The source is gone or no longer readable: its rows count as unverifiable. Of a source that
        # is out of reach, the cause: what is said around it is advice for adding tasks.
        cause = error.__cause__
        told = cause if isinstance(cause, SourceUnavailableError) else error
        if source.startswith(ONCE):  # no data can be put back into a pipe
            return [None] * len(digests), str(told)
        return [None] * len(digests), f"{told}; its rows are read from {source}: {todo}"
    rows = [found.get(digest) for digest in digests]
    gone = rows.count(None)
    if not gone:
        return rows, None
    return rows, (
        f"{gone:,} of {len(rows):,} rows are not in {source} any more, or stand there with another "
        f"text or label; {todo}"
    )
