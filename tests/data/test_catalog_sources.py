"""The catalog's tasks: pinned sources, and the same rows from the Hub and from copies of it."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expertbank.data import catalog_names, catalog_spec, load_task, parse_source, task_spec

SHARED = Path(__file__).parents[3] / "shared" / "data"
PAPER = {
    "boolq", "cb", "cola", "cosmosqa", "csqa", "hellaswag", "imdb", "mnli", "mrpc", "qnli", "qqp",
    "rte", "scitail", "sick", "socialiqa", "sst2", "winogrande_l",
}  # fmt: skip
# No commit of these branches could be verified from a public source.
NOT_PINNED = {
    "hf:allenai/cosmos_qa@refs/convert/parquet",
    "hf:RobZamp/sick@refs/convert/parquet",
}
# Of ../shared/data: rows read, dropped as duplicates, dropped as leaks, kept for train and
# validation, and the rows of each label in train.
COUNTS: dict[str, tuple[int, int, int, int, int, dict[str, int]]] = {
    "boolq": (12_697, 0, 0, 9_427, 3_270, {"True": 5_874, "False": 3_553}),
    "cb": (306, 0, 0, 250, 56, {"contradiction": 119, "entailment": 115, "neutral": 16}),
    "cola": (9_594, 9, 16, 8_527, 1_042, {"acceptable": 6_002, "unacceptable": 2_525}),
    "csqa": (10_962, 0, 0, 9_741, 1_221, {"0": 1_909, "1": 1_973, "2": 1_946, "3": 1_985,
                                          "4": 1_928}),
    "mnli": (19_647, 2, 0, 9_830, 9_815, {"entailment": 3_461, "contradiction": 3_240,
                                          "neutral": 3_129}),
    "mrpc": (4_076, 0, 0, 3_668, 408, {"equivalent": 2_474, "not_equivalent": 1_194}),
    "qnli": (5_463, 0, 0, 4_463, 1_000, {"not_entailment": 2_275, "entailment": 2_188}),
    "rte": (2_767, 2, 0, 2_488, 277, {"entailment": 1_249, "not_entailment": 1_239}),
    "sick": (9_840, 0, 0, 7_872, 1_968, {"neutral": 4_474, "entailment": 2_274,
                                         "contradiction": 1_124}),
    "socialiqa": (35_364, 43, 0, 33_386, 1_935, {"0": 11_264, "1": 11_167, "2": 10_955}),
    "sst2": (68_221, 366, 0, 66_983, 872, {"positive": 37_335, "negative": 29_648}),
    "stsb": (7_249, 41, 6, 5_704, 1_498, {}),
    "winogrande_l": (11_501, 2, 0, 10_232, 1_267, {"0": 5_116, "1": 5_116}),
}  # fmt: skip
# Real data hold duplicates, texts with two labels and equal choices, and nothing else that is odd.
ODD = r"[\d,]+ (rows? (contradict|that repeat another|of training)|of \d+ rows have a choice)"


def test_the_tasks_of_the_paper_are_all_there() -> None:
    assert set(catalog_names()) == PAPER | {
        *("stsb", "privacy_qa", "bbc_news", "exam_subject", "stereotype", "disfl_qa")
    }


@pytest.mark.parametrize("name", sorted(PAPER | {"stsb"}))
def test_hub_sources_are_pinned_to_a_commit(name: str) -> None:
    refs = [parse_source(source.ref) for source in catalog_spec(name).sources]
    for ref in refs:
        if ref.scheme == "hub" and ref.text not in NOT_PINNED:
            assert re.fullmatch(r"[0-9a-f]{40}", ref.revision or "")
    assert any(ref.scheme == "hub" for ref in refs)


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(COUNTS))
def test_every_shared_data_set_is_read_with_the_catalogs_spec(name: str) -> None:
    data = load_task(task_spec(name), str(_shared(name)))
    read, duplicates, leaked, train, validation, labels = COUNTS[name]
    assert data.counts == {
        "read": read, "dropped_unlabelled": 0, "duplicates": duplicates, "leaked": leaked,
        "over_limit": read - duplicates - leaked - train - validation, "train": train,
        "validation": validation,
    }  # fmt: skip
    assert data.counts["over_limit"] == 0
    assert all(re.match(ODD, remark) for remark in data.warnings), data.warnings
    if data.spec.kind == "regression":
        assert data.labels == ()
        values = [float(row.label or "nan") for row in data.train]
        assert (min(values), max(values)) == (0, 5)
        assert "3.8" in {row.label for row in data.train}
    else:
        assert Counter(row.label for row in data.train) == labels
        assert set(data.labels) == set(labels)


@pytest.mark.real
@pytest.mark.parametrize("name", ["rte", "cb", "sick", "stsb", "winogrande_l"])
def test_the_hub_form_of_the_same_rows_has_the_same_digests(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class numbers, other column names and unlabelled test rows, as on the Hub, change nothing."""
    folder = _shared(name)
    datasets = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub")
    parquet = pytest.importorskip("pyarrow.parquet")

    def split_of(split: str) -> Any:
        rows = parquet.read_table(folder / f"{split}.parquet").slice(0, 200).to_pylist()
        if name == "sick":
            number = {"ENTAILMENT": 0, "NEUTRAL": 1, "CONTRADICTION": 2}
            rows = [
                {"text1": row["sentence_A"], "text2": row["sentence_B"],
                 "label": number[row["entailment_label"]]}
                for row in rows
            ]  # fmt: skip
        data = datasets.Dataset.from_list(rows)
        names = {"rte": 2, "cb": 3, "sick": 3}.get(name)
        if names:
            data = data.cast_column("label", datasets.ClassLabel(num_classes=names))
        return data

    test = {**split_of("validation")[0]}
    test[catalog_spec(name).columns.label if name == "winogrande_l" else "label"] = (
        "" if name == "winogrande_l" else -1
    )
    answer = {
        "train": split_of("train"),
        "validation": split_of("validation"),
        "test": datasets.Dataset.from_list([test]),
    }
    info = SimpleNamespace(sha="c0ffee")
    monkeypatch.setattr(hub.HfApi, "dataset_info", lambda *_, **__: info)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: answer)
    from_hub = load_task(catalog_spec(name))
    from_file = load_task(catalog_spec(name), str(folder))
    known = {row.digest for row in (*from_file.train, *from_file.validation)}
    assert len(from_hub.train) > 150
    assert {row.digest for row in (*from_hub.train, *from_hub.validation)} <= known
    assert from_hub.revision == "c0ffee"


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(PAPER | {"stsb"}))
def test_the_hub_itself_has_the_task(name: str) -> None:
    if not _hub_is_reachable():
        pytest.skip("needs the Hugging Face Hub, which cannot be reached from here")
    for source in catalog_spec(name).sources:
        if not source.ref.startswith("hf:"):
            continue
        data = load_task(catalog_spec(name), source.ref, limit=64, eval_limit=64)
        assert re.fullmatch(r"[0-9a-f]{40}", data.revision or "")
        assert (len(data.train), len(data.validation)) == (64, min(64, data.counts["validation"]))
        if data.spec.kind == "classification":
            assert data.labels == catalog_spec(name).labels
        assert all(re.match(ODD, remark) for remark in data.warnings), data.warnings


def _shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs the data set {name} in ../shared/data")
    return SHARED / name


@cache
def _hub_is_reachable() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
        return False
    try:
        with socket.create_connection(("huggingface.co", 443), timeout=3):
            return True
    except OSError:
        return False
