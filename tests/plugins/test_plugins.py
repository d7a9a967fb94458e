"""Names are unique, a plugin is whole or refused, and listing imports nothing."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from expertbank.errors import InputError, NotFoundError
from expertbank.plugins import Plugins


def gates() -> Plugins[object]:
    return Plugins(
        "gate", "expertbank.tests", needed=("fit", "score"), own={"own": "collections:OrderedDict"}
    )


WHOLE = SimpleNamespace(fit=1, score=2)


def test_a_whole_plugin_is_found_by_its_name() -> None:
    found = gates()
    found.register("knn", WHOLE)
    assert found.get("knn") is WHOLE
    assert found.names() == ("own", "knn")


def test_a_plugin_that_lacks_something_is_refused_and_not_half_registered() -> None:
    found = gates()
    with pytest.raises(InputError, match="'knn' lacks score"):
        found.register("knn", SimpleNamespace(fit=1))
    assert found.names() == ("own",)
    with pytest.raises(NotFoundError):
        found.get("knn")


@pytest.mark.parametrize("name", ["own", "knn"])
def test_a_name_that_is_taken_is_refused(name) -> None:
    found = gates()
    found.register("knn", WHOLE)
    with pytest.raises(InputError, match=f"{name!r} is there already"):
        found.register(name, SimpleNamespace(fit=1, score=2))
    assert found.get("knn") is WHOLE


def test_registering_the_same_twice_is_harmless() -> None:
    found = gates()
    assert found.register("knn", WHOLE) is found.register("knn", WHOLE)


def test_an_unknown_name_says_what_is_missing_and_what_is_near() -> None:
    found = gates()
    with pytest.raises(NotFoundError, match="no gate named 'onw'; did you mean own") as told:
        found.get("onw")
    assert "entry point expertbank.tests" in str(told.value)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package with entry points, as pip leaves one on the path."""

    def install(source: str, *points: str) -> None:
        folder = tmp_path / "knn_gate-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: knn-gate\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("\n".join(["[expertbank.tests]", *points]))
        (tmp_path / "knn_gate.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        sys.modules.pop("knn_gate", None)

    return install


def test_an_entry_point_is_listed_and_loaded_when_asked_for(installed) -> None:
    installed("class Gate:\n    fit = score = 1\n", "knn = knn_gate:Gate")
    found = gates()
    assert found.names() == ("own", "knn")
    assert "knn_gate" not in sys.modules
    assert found.get("knn").__name__ == "Gate"
    assert found.refused() == ()


def test_a_broken_entry_point_is_named_with_its_package_and_spoils_no_other(installed) -> None:
    installed(
        "class Half:\n    fit = 1\nclass Gate:\n    fit = score = 1\n",
        "half = knn_gate:Half",
        "gone = knn_gate:Gone",
        "own = knn_gate:Gate",
        "knn = knn_gate:Gate",
    )
    found = gates()
    assert found.get("knn")
    with pytest.raises(InputError, match="'half' lacks score"):
        found.get("half")
    with pytest.raises(InputError, match="'gone' of package knn-gate cannot be loaded"):
        found.get("gone")
    assert {(one.name, one.package) for one in found.refused()} == {
        ("half", "knn-gate"),
        ("gone", "knn-gate"),
        ("own", "knn-gate"),
    }
    assert found.get("own").__name__ == "OrderedDict"


def test_naming_everything_imports_nothing() -> None:
    code = (
        "import sys; from expertbank.plugins import Plugins;"
        "Plugins('gate', 'g', needed=(), own={'x': 'torch:nn'}).names();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
