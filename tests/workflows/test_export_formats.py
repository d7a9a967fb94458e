"""Formats of exports: what can be asked for is what is there."""

from typing import get_args

import pytest

from expertbank.config import ExportFormat
from expertbank.errors import InputError
from expertbank.workflows.shipping.export import FORMATS, Extras, Format, format_of


def test_every_format_that_can_be_asked_for_has_a_class_that_writes_it() -> None:
    pytest.importorskip("gguf")
    assert set(FORMATS) == set(get_args(ExportFormat))
    for name in FORMATS:
        form: Format = format_of(name, Extras())
        assert form.name == name


@pytest.mark.parametrize("name", ["peft", "gguf"])
@pytest.mark.parametrize("extras", [Extras(with_backbone=True), Extras(for_import=True)])
def test_what_a_format_has_no_place_for_is_refused(name: ExportFormat, extras: Extras) -> None:
    with pytest.raises(InputError, match=f"--format {name} writes adapters only"):
        format_of(name, extras)
