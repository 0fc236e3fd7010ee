"""The float networks behind int8 files: what their ranges are of."""

from __future__ import annotations

import numpy as np
import pytest

from edgecxr_export.int8.networks import MIN_MAX, PERCENTILES, Networks
from export.small import pictures, small_graph, with_ends


@pytest.mark.parametrize("clip", [MIN_MAX, *PERCENTILES])
def test_ranges_are_those_of_films_and_not_of_the_black_and_the_white_picture(clip: str) -> None:
    """A constant picture drove a network of ImageNet descent a hundred times as far as any film."""
    films = (pictures() // 4 + 96).astype(np.uint8)
    ends = with_ends(films)[-2:]
    found = Networks(small_graph(), with_ends(films)).ranges("as trained", clip)
    assert found == Networks(small_graph(), np.concatenate([films, films[:2]])).ranges("as trained", clip)
    beyond = Networks(small_graph(), np.concatenate([ends, ends])).ranges("as trained", MIN_MAX)
    assert any(low < found[name][0] or high > found[name][1] for name, (low, high) in beyond.items())


@pytest.mark.parametrize("clip", [MIN_MAX, *PERCENTILES])
def test_what_a_pooling_reads_has_the_range_of_what_it_lets_through(clip: str) -> None:
    """Engines pool integers: a film's largest values were cut off by percentiles of values that go no further."""
    graph = small_graph(pooled=True)
    networks = Networks(graph, with_ends(pictures()))
    found, own = networks.ranges("as trained", clip), networks._ranges("as trained", clip)
    (pool,) = (node for node in graph.graph.node if node.op_type == "MaxPool")
    (read,), (passed,) = pool.input, pool.output
    assert found[read] == found[passed] == own[passed] != own[read]
    assert {name for name in found if found[name] != own[name]} == {read}
