"""What is measured of passes, and what is not believed."""

from __future__ import annotations

from math import inf

import pytest

from expertbank.serving.throughput import PassCost, Throughput


def test_the_fixed_part_of_a_pass_is_found_from_passes_of_several_sizes() -> None:
    measured = PassCost()
    assert measured.fixed == inf
    for tokens in (20, 900, 1500, 60, 400, 1000, 33, 700):
        measured.note(tokens, 0.004 + 0.0001 * tokens)
    assert measured.fixed == pytest.approx(40)


def test_passes_of_one_size_or_without_a_trend_tell_nothing_of_it() -> None:
    alike, noise = PassCost(), PassCost()
    for tokens in (100, 101, 99, 100, 100, 100):
        alike.note(tokens, 0.01)
    for tokens, seconds in ((10, 0.9), (500, 0.5), (1000, 0.1), (20, 0.8), (990, 0.2)):
        noise.note(tokens, seconds)
    assert alike.fixed == noise.fixed == inf


def test_throughput_is_unknown_until_a_full_pass_was_measured() -> None:
    measured = Throughput()
    assert measured.rows_per_second is measured.seconds_for(10) is None
    measured.note(32, 0.5)
    assert measured.rows_per_second == pytest.approx(64)
    assert measured.seconds_for(640) == pytest.approx(10)
