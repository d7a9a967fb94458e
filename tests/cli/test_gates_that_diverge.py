"""A gate that cannot choose is never what a bank answers with, and no figure of it is shown."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from command_line import call, content, done
from expertbank_cli import streams
from sqlalchemy.dialects import sqlite

from expertbank import Bank
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.http.documents import encode
from expertbank.registry.tables import Figures
from expertbank.routing.router import Router

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("mlp", "lr=100000"), "the mlp gate did not converge"),
        (("mlp", "lr=1e300"), "lr must be above 0 and at most 1e+06, got 1e+300"),
        (("lda", "kind=mlp"), "no setting of the lda gate named 'kind'"),
    ],
)
def test_a_gate_that_cannot_be_had_is_bad_input_and_leaves_the_bank_as_it_was(
    bank: Path, settings: tuple[str, str], told: str
) -> None:
    before = content(bank)
    refused = call(
        *("--home", bank, "--json", "retrain-router", "--kind", settings[0], "--set", settings[1])
    )
    assert refused.code == 2
    assert told in refused.error["message"]
    assert content(bank) == before
    assert done("--home", bank, "--json", "predict", "a good film").lines[0]["task"]


def test_verify_names_what_answering_would_refuse_of_the_active_router(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Router.to_bytes

    def spoilt(router: Router) -> bytes:
        """A file that says truly what it is, and cannot choose."""
        tensors, facts = read_safetensors(whole(router), "here")
        tensors["layers.0.bias"] /= 0
        return write_safetensors(tensors, facts)

    monkeypatch.setattr(Router, "to_bytes", spoilt)
    with Bank.open(bank) as opened:
        opened.retrain_router("ridge")
    found = call("--home", bank, "--json", "verify")
    assert found.code == 13
    (problem,) = found.document["problems"]
    assert "the active router cannot choose" in problem["what"]
    assert "layers.0.bias is not finite" in problem["what"]
    assert " alias active router@N" in problem["todo"]
    done("--home", bank, "alias", "active", "router@1")
    assert done("--home", bank, "verify").code == 0


def test_no_json_of_ours_holds_what_json_has_no_name_for() -> None:
    odd = {"figure": float("nan")}
    for write in (
        lambda: streams.as_json(odd, StringIO()),
        lambda: encode(odd),
        lambda: write_safetensors({}, odd),
        lambda: Figures().process_bind_param(odd, sqlite.dialect()),
    ):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write()


def test_a_figure_of_before_that_is_not_finite_reads_as_null() -> None:
    kept = json.dumps({"calibration_error": float("nan"), "accuracy": 0.5})
    read = Figures().process_result_value(kept, sqlite.dialect())
    assert read == {"calibration_error": None, "accuracy": 0.5}
