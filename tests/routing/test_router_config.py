"""A gate's settings are said once, in its own dataclass, as all settings are."""

from __future__ import annotations

from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from expertbank_cli.main import run

from expertbank import RouterConfig
from expertbank.errors import InputError
from expertbank.routing.gates import GATES, GateKind


def test_a_config_is_a_kind_and_its_own_settings() -> None:
    assert RouterConfig() == RouterConfig("lda", ridge=1e-2)
    config = RouterConfig(kind="mlp", hidden=16, seed=3)
    assert (config.kind, config.settings.hidden, config.seed) == ("mlp", 16, 3)
    plain = {"ridge": 1e-2, "epochs": None, "lr": None, "seed": 3, "hidden": 16}
    assert config.to_dict() == {"kind": "mlp", **plain}
    assert asdict(RouterConfig("noisy-top1").settings) == {"epochs": None, "lr": None, "seed": 0}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("best", {}, "unknown gate kind 'best'.*entry point expertbank.gates"),
        ("ldaa", {}, "did you mean lda"),
        ("lda", {"ridg": 1}, "no setting of the lda gate named 'ridg'; did you mean ridge"),
        ("lda", {"hidden": 1}, "named 'hidden'"),
        ("lda", {"ridge": 0}, "ridge must be above 0, got 0"),
        ("ridge", {"ridge": float("nan")}, "ridge must be above 0"),
        ("mlp", {"ridge": -1}, "ridge must be above 0"),
        ("mlp", {"hidden": 0}, "hidden must be 1 to 8192, got 0"),
        ("mlp", {"epochs": 0}, "epochs must be at least 1, got 0"),
        ("noisy-top1", {"lr": 0.0}, r"lr must be above 0 and at most 1e\+06, got 0.0"),
        ("noisy-top1", {"lr": 1e38}, "lr must be above 0 and at most"),
        ("noisy-top1", {"seed": -1}, "seed must be 0 to 9223372036854775807, got -1"),
        ("lda", {"ridge": "x"}, "the lda gate: ridge must be a number, got 'x'"),
        ("lda", {"ridge": 10**400}, "ridge must be a number, got 1000"),
        ("lda", {"ridge": True}, "ridge must be a number, got True"),
        ("mlp", {"hidden": None}, "hidden must be a whole number, got None"),
        ("mlp", {"hidden": 8.5}, "hidden must be a whole number, got 8.5"),
        ("mlp", {"epochs": "3"}, "epochs must be a whole number, got '3'"),
        ("mlp", {"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ("mlp", {"seed": 1.5}, "seed must be a whole number, got 1.5"),
        (None, {}, "the kind of a gate is its name, got None"),
    ],
)
def test_what_is_not_legal_is_refused(kind: Any, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RouterConfig(kind, **settings)


def test_text_becomes_what_the_setting_is() -> None:
    found = RouterConfig.of_text("mlp", ["hidden=16", "lr=2e-3", "epochs=none"], 7)
    assert found == RouterConfig("mlp", hidden=16, lr=2e-3, seed=7)
    assert RouterConfig.of_text("lda", ["ridge=1"], 7) == RouterConfig(ridge=1.0)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("hidden", "NAME=VALUE, got 'hidden'"),
        ("hidden=many", "hidden must be a whole number, got 'many'"),
        ("epochs=1.5", "epochs must be a whole number, got '1.5'"),
        ("hiden=3", "did you mean hidden"),
        ("hidden=0", "hidden must be 1 to 8192, got 0"),
    ],
)
def test_text_that_is_not_legal_is_refused(pair: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RouterConfig.of_text("mlp", [pair])


@pytest.mark.parametrize("name", ["kind", "self", "cls"])
def test_no_word_of_ours_passes_for_a_setting(name: str) -> None:
    with pytest.raises(InputError, match=f"no setting of the lda gate named '{name}'"):
        RouterConfig.of_text("lda", [f"{name}=mlp"])


def test_a_whole_number_of_any_make_may_stand_for_a_number() -> None:
    assert RouterConfig("lda", ridge=1) == RouterConfig("lda", ridge=np.float32(1))
    assert (
        RouterConfig("mlp", hidden=np.int64(8)).to_dict() == RouterConfig("mlp", hidden=8).to_dict()
    )


@dataclass(frozen=True)
class Plain:
    """Settings of a plugin that are plain fields, two of types that are for itself to read."""

    deep: bool = False
    metric: str = "cosine"
    form: Literal["ball", "tree"] = "ball"
    shift: float = 0.0
    at: Path = Path("here")
    share: int | str = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", Path(self.at))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a plugin's gate whose settings know nothing of ``setting``."""
    monkeypatch.setitem(GATES._loaded, "plain", GateKind(Plain, fit=None, read=None))  # type: ignore[arg-type]  # never fitted
    return "plain"


def test_plain_fields_of_a_plugin_are_settings_too(plain: str) -> None:
    pairs = ["deep=True", "metric=none", "form=tree", "shift=-1", "at=there", "share=all"]
    assert RouterConfig.of_text(plain, pairs).settings == Plain(
        deep=True, metric="none", form="tree", shift=-1.0, at=Path("there"), share="all"
    )


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("deep=yes", "the plain gate: deep must be true or false, got 'yes'"),
        ("form=cube", "form must be ball or tree, got 'cube'"),
        ("shift=nan", "shift must be finite, got nan"),
        ("metric=", "metric must not be empty"),
    ],
)
def test_plain_fields_of_a_plugin_are_held_to_their_types(
    plain: str, pair: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        RouterConfig.of_text(plain, [pair])


def test_the_command_refuses_a_setting_that_is_not_legal_before_it_makes_a_bank(
    tmp_path: Path,
) -> None:
    for pair, message in (("hiden=3", "did you mean hidden"), ("hidden=0", "1 to 8192")):
        words = ["--home", str(tmp_path / "none"), "retrain-router", "--kind", "mlp", "--set", pair]
        with redirect_stderr(StringIO()) as told, pytest.raises(SystemExit) as ended:
            run(words)
        assert ended.value.code == 2
        assert message in told.getvalue()
    assert not (tmp_path / "none").exists()
