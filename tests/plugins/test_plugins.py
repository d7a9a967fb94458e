"""Names are unique, a plugin is whole or refused, and listing imports nothing."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from expertbank.artifacts import STORES
from expertbank.backbones.families import FAMILIES, Family
from expertbank.errors import InputError, NotFoundError
from expertbank.kinds import KINDS, Kind
from expertbank.plugins import Plugins
from expertbank.routing.gates import GATES, GateKind


def complaint(name: str, plugin: object) -> str | None:
    missing = [part for part in ("fit", "score") if not hasattr(plugin, part)]
    return f"lacks {', '.join(missing)}" if missing else None


def gates() -> Plugins[object]:
    own = {"own": "collections:OrderedDict"}
    return Plugins("gate", "expertbank.tests", own=own, complaint=complaint)


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

    def install(source: str, *points: str, package: str = "knn-gate") -> None:
        folder = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
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
        "leaves = sys:exit.nothing",
        "own = knn_gate:Gate",
        "knn = knn_gate:Gate",
    )
    found = gates()
    assert found.get("knn")
    with pytest.raises(InputError, match="'half' of package knn-gate lacks score"):
        found.get("half")
    with pytest.raises(InputError, match="'gone' of package knn-gate cannot be loaded"):
        found.get("gone")
    assert {(one.name, one.package) for one in found.refused()} == {
        ("half", "knn-gate"),
        ("gone", "knn-gate"),
        ("leaves", "knn-gate"),
        ("own", "knn-gate"),
    }
    assert [name for name, _ in found.usable()] == ["own", "knn"]
    assert found.get("own").__name__ == "OrderedDict"


def test_a_module_that_ends_the_process_when_imported_ends_nothing(installed) -> None:
    installed("raise SystemExit(3)", "gone = knn_gate:Gate")
    with pytest.raises(InputError, match=r"cannot be loaded: SystemExit\(3\)"):
        gates().get("gone")


def test_a_name_that_two_packages_bring_is_refused_with_both(installed) -> None:
    source = "class Gate:\n    fit = score = 1\n"
    installed(source, "knn = knn_gate:Gate")
    installed(source, "knn = knn_gate:Gate", package="other-gate")
    found = gates()
    with pytest.raises(InputError, match="'knn' is brought by knn-gate and other-gate; uninstall"):
        found.get("knn")
    assert {one.package for one in found.refused()} == {"knn-gate", "other-gate"}
    with pytest.raises(InputError, match="'knn' is there already"):
        found.register("knn", WHOLE)


@pytest.mark.parametrize("name", ["", "k nn", "../knn", "knn\n", "-knn"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="has no plain name"):
        gates().register(name, WHOLE)


# -- what each room asks of a plugin ---------------------------------------------------------


class Halved(Kind):
    name = "x"


class Whole(Halved):
    def objective(self, labels, targets, *, balance=False):
        raise NotImplementedError


class Shapeless(Whole):
    shapes = frozenset({"sound"})


class Named(Whole):
    name = "y"


class HalfStore:
    def put(self, data: bytes) -> str:
        return ""


ROLES = dict.fromkeys(("query", "key", "value"), "attention")
BAD = [
    (KINDS, object(), "lacks name, shapes, .*objective.* and is not made from .*Kind"),
    (KINDS, Halved, "lacks objective"),
    (KINDS, Whole, r"is a class where an object of it belongs, such as Whole\(...\)"),
    (KINDS, Named(), "calls itself 'y'"),
    (KINDS, Shapeless(), "reads rows of shapes {'sound'}: there are single, pair, choices"),
    (GATES, GateKind, "is a class where an object of it belongs"),
    (GATES, SimpleNamespace(settings=1, fit=2, fit_moments=3), "lacks read and is not made from"),
    (GATES, SimpleNamespace(settings=1, fit=2, fit_moments=3, read=4), "'x' is not made from"),
    (FAMILIES, Family, "is a class where an object of it belongs"),
    (FAMILIES, Family("layers", {"query": "q"}), "lacks the projections key, value"),
    (FAMILIES, Family("layers", ROLES, "median"), "has the pooling 'median'"),  # type: ignore[arg-type]  # what is wrong with it
    (STORES, "s3", "is no function from a URL to a store"),
    (STORES, HalfStore, "lacks where, chunks, get, digests, state, delete"),
]


@pytest.mark.parametrize(("plugins", "plugin", "why"), BAD)
def test_half_a_plugin_is_refused_by_its_room_at_once(plugins, plugin, why) -> None:
    before = plugins.names()
    with pytest.raises(InputError, match=why):
        plugins.register("x", plugin)
    assert plugins.names() == before


def test_a_half_written_kind_cannot_be_made_and_says_what_it_lacks(installed) -> None:
    source = (
        "from expertbank.kinds import Kind\nclass Half(Kind):\n    name = 'half'\nHALF = Half()"
    )
    installed(source, "half = knn_gate:HALF")
    found: Plugins[Kind] = Plugins("task kind", "expertbank.tests", own={}, complaint=complaint)
    with pytest.raises(InputError, match=r"of package knn-gate cannot be loaded.*objective"):
        found.get("half")


def test_naming_everything_imports_nothing() -> None:
    code = (
        "import sys; from expertbank.plugins import Plugins;"
        "Plugins('gate', 'g', own={'x': 'torch:nn'}, complaint=lambda *_: None).names();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
