"""``init``: fix the backbone and the feature spec of a bank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from expertbank.config import DEFAULT_BACKBONE, DEFAULT_MAX_LENGTH, DTYPES, FeatureSpec, Keep
from expertbank.errors import FeatureSpecError, InputError
from expertbank.records import BackboneRecord
from expertbank.workflows.workspace import Workspace, now, require_backbone

if TYPE_CHECKING:
    from expertbank.models.backbone import Backbone


def initialise(
    workspace: Workspace,
    *,
    reference: str | None = None,
    route_layer: int | None = None,
    max_length: int | None = None,
    dtype: str | None = None,
    keep: Keep | None = None,
) -> BackboneRecord:
    """Fix backbone and feature spec, or check that they are the ones fixed before.

    Args:
        workspace: the open bank.
        reference: backbone to use; default the recorded one, else the default backbone.
        route_layer: first layer adapters act on; default one third of the depth.
        max_length: longest sequence in tokens; default 256 or what the backbone can read.
        dtype: type of the backbone's weights while it runs, ``float32`` (default) or ``bfloat16``.
        keep: what stays of tasks' rows for the router; default their features.

    Raises:
        IntegrityError: the bank has another backbone; both digests are shown.
        FeatureSpecError: the bank has another feature spec.
        InputError: a value that no bank can have.
    """
    reference = None if reference is None else stable_reference(reference)
    record = workspace.registry.backbone() if workspace.exists else None
    if record is not None:
        _require_same(record.feature_spec, route_layer, max_length, dtype, keep)
        if reference is not None and reference != record.reference:
            loaded = workspace.load_backbone(reference, record.feature_spec.dtype, record)
            require_backbone(loaded, record.digest, f"the bank at {workspace.home}")
        return record
    reference = reference or DEFAULT_BACKBONE
    if dtype not in {None, *DTYPES}:
        raise InputError(f"dtype must be {' or '.join(DTYPES)}, got {dtype}")
    loaded = workspace.load_backbone(reference, dtype or "float32")
    spec = loaded.default_feature_spec(
        route_layer=route_layer,
        max_length=max_length or _default_length(loaded),
        dtype=dtype or "float32",
    )
    spec = replace(spec, keep=keep or spec.keep)
    record = BackboneRecord(
        loaded.digest,
        reference,
        dict(loaded.identity.config),
        spec,
        now(),
        revision=loaded.place.revision,
        identity=loaded.digest,
    )
    with workspace.writing():
        record = workspace.registry.set_backbone(record)
    workspace.use(loaded)
    return record


def stable_reference(reference: str) -> str:
    """A backbone reference that still holds in another working folder."""
    folder = Path(reference).expanduser()
    return str(folder.resolve()) if folder.is_dir() else reference


def _default_length(loaded: Backbone) -> int:
    return min(DEFAULT_MAX_LENGTH, loaded.longest_sequence or DEFAULT_MAX_LENGTH)


def _require_same(
    spec: FeatureSpec,
    route_layer: int | None,
    max_length: int | None,
    dtype: str | None,
    keep: Keep | None,
) -> None:
    asked: dict[str, tuple[int | str | None, int | str]] = {
        "route layer": (route_layer, spec.route_layer),
        "maximum length": (max_length, spec.max_length),
        "dtype": (dtype, spec.dtype),
        "keep": (keep, spec.keep),
    }
    for name, (wanted, fixed) in asked.items():
        if wanted is not None and wanted != fixed:
            raise FeatureSpecError(
                f"this bank was initialised with {name} {fixed}, not {wanted}; all experts of a "
                "bank share it. Leave the option out, or start another bank with --home DIR"
            )
