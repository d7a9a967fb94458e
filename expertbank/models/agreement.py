"""Whether model and tokenizer fit each other, as they are used here: tried on a few tokens.

What does not fit is found out in training at best, and at worst by one text of a user: a token
without an embedding, a pad token that counts as a position, states that depend on the padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from expertbank.backbones import probe
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.running import call_backbone
from expertbank.backbones.tokenizer_files import canonical_tokenizer
from expertbank.records import EncodedRow

TOLERANCE = 1e-3
"""Largest difference, beside the largest state, that padding may make; sums are rounded."""
_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_SHORT, _LONG = 3, 7
"""Tokens of the two sequences that are tried."""


def disagreement(backbone: Backbone) -> str:
    """What does not fit, and what to do, as one sentence; empty if all fits.

    It costs two passes over a few tokens.
    """
    words = producible(backbone)
    return (
        _beyond_the_embedding(backbone, words)
        or _beyond_the_types(backbone)
        or _counts_other_padding(backbone)
        or _heeds_padding(backbone, words)
    )


def producible(backbone: Backbone) -> Mapping[int, str]:
    """Every token that a text, the template around it or padding can become, by its number.

    Beyond the embedding two are left out, and a text that has one in it is refused when it comes: a
    special token without a role here, such as Gemma's for images, and one that no file of the
    backbone names and only the tokenizer's class in transformers adds.
    """
    tokenizer, rows = backbone.tokenizer, backbone.vocabulary
    backend = tokenizer.backend_tokenizer
    found = {number: word for word, number in backend.get_vocab(with_added_tokens=False).items()}
    roles = {tokenizer.special_tokens_map.get(role) for role in _ROLES}
    added = {
        number: token.content
        for number, token in _added(tokenizer).items()
        if number < rows or not token.special or token.content in roles
    }
    # A GGUF file states all its tokens itself.
    if backbone.place.path.is_dir() and any(number >= rows for number in added):
        stated = canonical_tokenizer(backbone.place.path)
        if "added_tokens" in stated:
            known = {*stated["roles"].values(), *(one["content"] for one in stated["added_tokens"])}
            added = {n: word for n, word in added.items() if n < rows or word in known}
    found |= added
    for around in (backend.encode(""), backend.encode("", "")):
        found |= dict(zip(around.ids, around.tokens, strict=True))
    found[tokenizer.pad_token_id] = tokenizer.pad_token
    return found


def _added(tokenizer: Any) -> dict[int, Any]:
    """Tokens that are found in texts as a whole, before anything is split."""
    split = getattr(tokenizer, "split_special_tokens", False)
    tokens = tokenizer.added_tokens_decoder.items()
    return {number: token for number, token in tokens if not (split and token.special)}


def _beyond_the_embedding(backbone: Backbone, words: Mapping[int, str]) -> str:
    rows = backbone.vocabulary
    beyond = sorted(number for number in words if not 0 <= number < rows)
    if not beyond:
        return ""
    first = beyond[0]
    role = ", and it pads with such a one" if backbone.tokenizer.pad_token_id in beyond else ""
    more = f" (and {len(beyond) - 1} more)" if len(beyond) > 1 else ""
    return (
        f"its tokenizer has tokens that the model has no embedding for: {words[first]!r} is number "
        f"{first}{more}, and the embedding has {rows} rows, 0 to {rows - 1}{role}; resize it, "
        f"model.resize_token_embeddings({max(words) + 1}), and save model and tokenizer again"
    )


def _beyond_the_types(backbone: Backbone) -> str:
    config: Any = backbone.model.config
    known = getattr(config, "type_vocab_size", None)
    if not known or "token_type_ids" not in backbone.tokenizer.model_input_names:
        return ""
    highest = max(backbone.tokenizer.backend_tokenizer.encode("a", "a").type_ids, default=0)
    if highest < known:
        return ""
    return (
        f"its tokenizer gives the second text of a pair type {highest}, and the model knows "
        f"{known} (type_vocab_size); take token_type_ids out of the tokenizer's "
        "model_input_names and save it again"
    )


def _counts_other_padding(backbone: Backbone) -> str:
    counted, tokenizer = probe.positions(backbone.model).padding, backbone.tokenizer
    if counted is None or counted == tokenizer.pad_token_id:
        return ""
    return (
        f"the model counts positions by its padding token, number {counted}, and the tokenizer "
        f"pads with number {tokenizer.pad_token_id} ({tokenizer.pad_token!r}); give both the pad "
        "token that the model was trained with and save them again"
    )


def _heeds_padding(backbone: Backbone, words: Mapping[int, str]) -> str:
    """A text alone and the same text beside a longer one must have the same states."""
    special = {
        *backbone.tokenizer.all_special_ids,
        getattr(backbone.model.config, "pad_token_id", 0),
    }
    plain = sorted(set(words) - special) or sorted(words)
    # From all over the vocabulary, downwards.
    ids = tuple(
        plain[-1 - place * len(plain) // (_SHORT + _LONG)] for place in range(_SHORT + _LONG)
    )
    rows = [EncodedRow((part,), ((0,) * len(part),)) for part in (ids[:_SHORT], ids[_SHORT:])]
    pad = backbone.tokenizer.pad_token_id
    with torch.no_grad():
        alone, padded = (
            call_backbone(backbone, collate(rows, places, pad, backbone.device))[0, :_SHORT].float()
            for places in ((0,), (0, 1))
        )
    if not bool(alone.isfinite().all()):
        return (
            "the model's states of a few words are not numbers (NaN or infinite); its weights are "
            "damaged, or too large for their type: save it in another one"
        )
    difference = float((alone - padded).abs().max() / alone.abs().max().clamp_min(1e-6))
    allowed = max(TOLERANCE, 16 * torch.finfo(getattr(torch, backbone.dtype)).eps)
    if difference <= allowed:
        return ""
    return (
        f"a text has other states alone than padded beside a longer one (they differ by "
        f"{difference:.2g} of the largest), so answers would depend on what else is asked; this "
        "model does not heed the attention mask, or its pad token is another: use another model"
    )
