"""Whether an adapter from elsewhere was trained on this bank's backbone, as far as it tells."""

from __future__ import annotations

from pathlib import Path

from expertbank.backbones.backbone import Backbone
from expertbank.backbones.identity import NEARBY, public_name
from expertbank.errors import InputError, IntegrityError
from expertbank.references import is_commit, is_path
from expertbank.workflows.shipping.peft_folder import PeftFolder


def require_base(found: PeftFolder, backbone: Backbone, *, same: bool) -> list[str]:
    """Refuse an adapter of another model; a bank's export is known by the backbone's digest.

    Args:
        found: the adapter.
        backbone: the bank's.
        same: the user says that another name means the same weights.

    Returns:
        What cannot be told, as sentences.

    Raises:
        IntegrityError: a bank's export that was made with another backbone.
        InputError: its base has another name, and ``same`` is false.
    """
    if found.own_head is not None:
        digest = found.own_head.backbone_digest
        if digest not in (backbone.digest, backbone.identity.digest):
            raise IntegrityError(
                f"{found.where} was exported from a bank with backbone {digest}, and this bank has "
                f"{backbone.digest}; it only works on the weights it was trained on"
            )
        return []
    told, ours = found.config.base_model, public_name(backbone.reference, backbone.place.path)
    if is_path(told) and Path(told).exists() and Path(told).samefile(backbone.place.path):
        return []
    if not told or is_path(told) or ours == NEARBY:
        called = repr(told) if told else "nothing"
        return [
            f"the adapter calls its base {called}, which does not show whether it is this "
            "backbone; on another one its answers mean nothing, and the quality measured here "
            "shows it"
        ]
    revisions = found.config.revision, backbone.place.revision
    another = all(map(is_commit, revisions)) and len(set(revisions)) > 1
    if (told.casefold() != ours.casefold() or another) and not same:
        theirs = f"{told}@{revisions[0]}" if another else told
        here = f"{ours}@{revisions[1]}" if another else ours
        raise InputError(
            f"{found.where} was trained on {theirs}, and this bank has {here}; if both are the "
            "same weights under two names, say so with --same-base"
        )
    return []
