"""A setting is said once: what it means, allows and is called stands beside its field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_type_hints

import pytest

from expertbank.config import (
    AdapterConfig,
    BankConfig,
    BankKeywords,
    TrainConfig,
)
from expertbank.errors import InputError
from expertbank.routing.config import RouterConfig
from expertbank.routing.gates import GATES
from expertbank.settings import Setting, build, check, options_of, setting
from expertbank.writing import Sampling

CLASSES = (BankConfig, TrainConfig, AdapterConfig)
OF_GATES = tuple(GATES.get(name).settings for name in GATES.own)


@dataclass(frozen=True, slots=True)
class Tea:
    """One setting of each type."""

    minutes: float = setting(3, "How long it steeps.", above=0, below=10)
    cups: int = setting(1, "How many.", least=1, most=9)
    water: int = setting(2000, "Litres of water.", option="litres", unit=1000, least=0)
    milk: bool = setting(False, "Add milk.")
    sort: Literal["green", "black"] = setting("black", "Which sort.")
    herbs: tuple[str, ...] = setting((), "A herb; repeat it for more.", option="herb")
    sugar: int | None = setting(None, "Spoons of sugar.", least=1, unset="none")

    def __post_init__(self) -> None:
        check(self)


def test_options_carry_what_the_fields_say() -> None:
    options = {option.key: option for option in options_of(Tea)}
    assert list(options) == ["minutes", "cups", "litres", "milk", "sort", "herb", "sugar"]
    assert options["litres"].flag == "--litres"
    assert [option.shown_default for option in options.values()] == [
        *("3", "1", "2", "", "black", "", "none"),
    ]
    assert options["sugar"].kind is int
    assert options["cups"].about.bounds == "1 to 9"
    assert options["minutes"].about.bounds == "above 0 and below 10"
    assert Setting("", above=0, most=60).bounds == "above 0 and at most 60"


def test_what_is_given_by_option_becomes_the_fields_value_and_the_rest_keeps_its_default() -> None:
    made = build(Tea, {"litres": 3, "herb": ["mint"], "minutes": 4, "somebody else's": 1})
    assert made == Tea(minutes=4.0, water=3000, herbs=("mint",))
    assert isinstance(made.minutes, float), "4 and 4.0 are one setting"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cups": 0}, "cups must be 1 to 9, got 0"),
        ({"minutes": 0}, "minutes must be above 0 and below 10, got 0"),
        ({"minutes": float("nan")}, "minutes must be"),
        ({"water": -1}, r"water \(--litres\) must be at least 0, got -1"),
        ({"sort": "red"}, "sort must be green or black, got 'red'"),
        ({"sugar": 0}, "sugar must be at least 1, got 0"),
    ],
)
def test_a_value_out_of_bounds_is_refused_when_the_settings_are_built(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Tea(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cups": "3"}, "Tea: cups must be a whole number, got '3'"),
        ({"cups": 3.0}, "cups must be a whole number, got 3.0"),
        ({"cups": True}, "cups must be a whole number, got True"),
        ({"cups": None}, "cups must be a whole number, got None"),
        ({"sugar": "2"}, "sugar must be a whole number, got '2'"),
        ({"minutes": "3"}, "minutes must be a number, got '3'"),
        ({"minutes": True}, "minutes must be a number, got True"),
        ({"milk": 1}, "milk must be true or false, got 1"),
        ({"sort": 1}, "sort must be green or black, got 1"),
        ({"herbs": "mint"}, "herbs must be a list, got 'mint'"),
        ({"herbs": [1]}, r"herbs\[0\] must be text, got 1"),
    ],
)
def test_a_value_of_another_type_is_refused_by_the_fields_name(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Tea(**values)  # type: ignore[arg-type]


def test_a_list_is_as_good_as_a_tuple() -> None:
    assert Tea(herbs=["mint"]) == Tea(herbs=("mint",))  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"limit": "9"}, {"limit": 20.0}, {"lr": "1e-3"}])
def test_settings_of_training_take_no_text_for_a_number(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"TrainConfig: {next(iter(values))} must be"):
        TrainConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"hidden": "9"}, {"ridge": "much"}, {"lr": True}])
def test_settings_of_gates_are_held_to_their_types(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(values))} must be a .*number"):
        RouterConfig("mlp", **values)


@pytest.mark.parametrize(
    "values", [{"temperature": "1"}, {"seed": 1.5}, {"max_tokens": "9"}, {"stop": "END"}]
)
def test_what_a_caller_wants_of_an_answer_is_held_to_its_types(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"sampling: {next(iter(values))} must be"):
        Sampling(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_of_the_settings_says_what_it_means_and_no_two_have_one_name(cls: type) -> None:
    options = [option for one in CLASSES for option in options_of(one)]
    assert len({option.key for option in options}) == len(options)
    _says_what_it_means(cls)


@pytest.mark.parametrize("cls", OF_GATES)
def test_every_setting_of_a_gate_says_what_it_means(cls: type) -> None:
    _says_what_it_means(cls)


def _says_what_it_means(cls: type) -> None:
    for option in options_of(cls):
        assert option.about.help.endswith("."), option.key
        assert option.default is not None or option.about.unset, f"{option.key}: None means what?"


def test_the_keywords_of_bank_init_are_the_fields_of_its_settings() -> None:
    wanted = get_type_hints(BankConfig)
    assert get_type_hints(BankKeywords) == {
        item.name: wanted[item.name] for item in fields(BankConfig)
    }


def test_wishes_for_a_bank_are_compared_by_the_feature_specs_names() -> None:
    wish = BankConfig(backbone="x", max_length=9, keep="stats")
    assert wish.of_spec() == {"max_length": 9, "keep": "stats"}
