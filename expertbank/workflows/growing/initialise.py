"""``init``: fix the backbone and the feature spec of a bank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from expertbank.clock import now
from expertbank.config import DEFAULT_BACKBONE, DEFAULT_MAX_LENGTH, DTYPES, BankConfig, FeatureSpec
from expertbank.errors import FeatureSpecError
from expertbank.files.paths import given_path
from expertbank.records import BackboneRecord
from expertbank.workflows.held_backbone import require_backbone
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.backbones.backbone import Backbone

Fits = Callable[["Backbone", FeatureSpec], None]
"""Refuses, by raising, a backbone or a spec that what is to be added does not fit."""


def fits_all(backbone: Backbone, spec: FeatureSpec) -> None:
    """What is still to be made fits whatever the bank is."""


def initialise(workspace: Workspace, config: BankConfig, fits: Fits = fits_all) -> BackboneRecord:
    """Fix backbone and feature spec, or check that they are the ones fixed before.

    Args:
        workspace: the open bank.
        config: what the bank shall be, or is.
        fits: asked before a bank is made, which nothing can change afterwards.

    Raises:
        IntegrityError: the bank has another backbone; both digests are shown.
        FeatureSpecError: the bank has another feature spec.
        InputError: a value that this backbone does not allow, or a model and a tokenizer that do
            not fit each other.
    """
    named = workspace.held.reference if config.backbone is None else config.backbone
    reference = workspace.held.reference = None if named is None else stable_reference(named)
    store = workspace.store_url if config.store is None else config.store
    workspace.require_store(store)
    record = workspace.registry.backbone() if workspace.exists else None
    if record is not None:
        _require_same(record.feature_spec, config)
        if reference is not None and reference != record.reference:
            loaded = workspace.held.load(reference, record.feature_spec.dtype, record)
            require_backbone(loaded, record.digest, f"the bank at {workspace.home}")
        return record
    reference = DEFAULT_BACKBONE if reference is None else reference
    workspace.require_usable(store)
    loaded = workspace.held.load(reference, config.dtype or DTYPES[0])
    workspace.held.require_agreement(loaded)
    spec = loaded.default_feature_spec(
        route_layer=config.route_layer,
        max_length=(
            loaded.default_length(DEFAULT_MAX_LENGTH)
            if config.max_length is None
            else config.max_length
        ),
    )
    spec = replace(spec, **config.of_spec())
    fits(loaded, spec)
    record = BackboneRecord(
        loaded.digest,
        reference,
        dict(loaded.identity.config),
        spec,
        now(),
        store=store,
        revision=loaded.place.revision,
        identity=loaded.digest,
    )
    with workspace.making():
        workspace.store_url = store
        if workspace.registry.backbone() is None:  # another process may have been faster
            workspace.claim_store()
        record = workspace.registry.set_backbone(record)
    workspace.held.use(loaded, workspace.spec.dtype)
    return record


def stable_reference(reference: str) -> str:
    """A backbone reference that still holds in another working folder."""
    path = given_path(reference, "the backbone")
    return str(path.resolve()) if path.exists() else reference


def _require_same(spec: FeatureSpec, config: BankConfig) -> None:
    for name, wanted in config.of_spec().items():
        fixed = getattr(spec, name)
        if wanted != fixed:
            raise FeatureSpecError(
                f"this bank was initialised with {name.replace('_', ' ')} {fixed}, not {wanted}; "
                "all experts of a bank share it. Leave the option out, or start another bank with "
                "--home DIR"
            )
