"""The feature spec's ``keep``: old specs keep their digests, others say what they keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expertbank.config import FeatureSpec, canonical_json, sha256_text
from expertbank.errors import InputError

OLD = {
    "backbone_digest": "a" * 64,
    "route_layer": 2,
    "states": [0, 1, 2],
    "poolings": ["mean", "first"],
    "max_length": 256,
    "dtype": "float32",
}


def test_a_spec_written_before_keep_existed_opens_with_the_digest_it_had() -> None:
    spec = FeatureSpec.from_dict(OLD)
    assert spec.keep == "features"
    assert spec.to_dict() == OLD
    assert spec.digest == sha256_text(canonical_json(OLD))


def test_keeping_statistics_is_another_spec_and_survives_being_written() -> None:
    spec = replace(FeatureSpec.from_dict(OLD), keep="stats")
    assert spec.to_dict() == {**OLD, "keep": "stats"}
    assert FeatureSpec.from_dict(spec.to_dict()) == spec
    assert spec.digest != FeatureSpec.from_dict(OLD).digest


def test_keeping_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="features or stats"):
        FeatureSpec.from_dict({**OLD, "keep": "everything"})
