"""The head that an adapter's folder brings for a bank's backbone, if it brings one."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.adapters.peft_places import Placed, prefix_of
from expertbank.adapters.targets import adaptable_modules
from expertbank.backbones.backbone import Backbone
from expertbank.errors import InputError
from expertbank.kinds.kind import Kind
from expertbank.kinds.labels import listed
from expertbank.models.saved_head import FIT, Head, classifier_head, require_width
from expertbank.workflows.shipping.peft_folder import PeftFolder


def head_of(found: PeftFolder, backbone: Backbone, places: Placed) -> Head | None:
    """The head of a bank's export, or the one among the saved modules.

    Args:
        found: the adapter.
        backbone: the bank's.
        places: where its factors act.

    Raises:
        InputError: a head that is not known or does not fit.
    """
    if found.own_head is not None:
        own = found.own_head.head
        require_width(own.tensors, own.pooling, backbone, found.where)
        return own
    if not found.saved:
        return None
    if found.config.task_type == "TOKEN_CLS":
        raise InputError(
            f"{found.where}: its head answers for every token (task_type TOKEN_CLS), and an "
            f"expert's for the whole text; {FIT}"
        )
    return classifier_head(found.saved, backbone, found.where, places.dense)


def require_outside(found: PeftFolder, backbone: Backbone) -> None:
    """Refuse an adapter that trained weights of the backbone's own as a whole.

    Raises:
        InputError: it did.
    """
    prefix = prefix_of(found.factors, adaptable_modules(backbone.model, backbone.family, 0)) or ""
    classifier = backbone.family.classifier
    dense = None if classifier is None else classifier.dense
    for path, _ in backbone.model.named_parameters():
        read_by_head = dense is not None and path.startswith(f"{dense}.")
        if f"{prefix}{path}" in found.saved and not read_by_head:
            raise InputError(
                f"{found.where}: it trained {path} of its base as a whole, which an expert leaves "
                "as it is; train it again without that module in modules_to_save"
            )


def require_outputs(head: Head, kind: Kind, labels: Sequence[str], where: str) -> None:
    """Refuse a head that has not one output for each label.

    Raises:
        InputError: it has more or fewer.
    """
    wanted = kind.outputs(labels)
    if head.outputs == wanted:
        return
    has = f"{where}: its head has {head.outputs} outputs"
    if not labels:
        raise InputError(f"{has}, and a task of kind {kind.name} needs {wanted}")
    raise InputError(
        f"{has}, and there are {len(labels)} labels, {listed(labels)}; name one for each, in the "
        "order of the outputs, with --labels"
    )
