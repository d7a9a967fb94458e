"""Which rows belong together: all sentences of one contract, all choices of one question."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]


def linked(values: Sequence[Iterable[Hashable]]) -> Ints:
    """``[rows]`` number of each row's cluster, in order of first appearance.

    Rows are in one cluster where any value links them, directly or through other rows; a row
    without values stands alone.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(values)
    # Rows and values are the two sides of a graph: a row hangs on each of its values.
    places: dict[Hashable, int] = {}
    edges = np.array(
        [
            (row, rows + places.setdefault(value, len(places)))
            for row, given in enumerate(values)
            for value in given
        ],
        dtype=np.int32,
    ).reshape(-1, 2)
    size = rows + len(places)
    graph = coo_array((np.ones(len(edges), dtype=np.int8), tuple(edges.T)), shape=(size, size))
    _, numbers = connected_components(graph, directed=False)
    return np.asarray(numbers[:rows], dtype=np.int32)


def cluster_numbers(groups: Sequence[tuple[str, ...]]) -> Ints | None:
    """``[rows]`` numbers of the clusters that rows' groups make; ``None`` where none is linked."""
    numbers = linked(groups)
    return numbers if len(set(numbers.tolist())) < len(numbers) else None
