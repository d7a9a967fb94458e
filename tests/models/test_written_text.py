"""From the tokens of an answer to its text: what is told early is never taken back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import build
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from expertbank.backbones.backbone import load_backbone
from expertbank.models.writing import UNFINISHED, _Answer, special_tokens, text_of

END = 2


def bytes_as_fallback() -> PreTrainedTokenizerFast:
    """As Llama 2, Mistral and Gemma have them: letters, and bytes of whatever else."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcxyz"]
    vocabulary = {word: place for place, word in enumerate(words)}
    own = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    own.normalizer = normalizers.Replace(" ", "▁")
    own.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=own, eos_token="</s>", unk_token="<unk>")


def bytes_alone() -> PreTrainedTokenizerFast:
    """As GPT-2 and Llama 3 have them: every token is some bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: place for place, word in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    own = Tokenizer(models.BPE(words, []))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=own, eos_token="</s>")


TOKENIZERS = {"fallback": bytes_as_fallback(), "alone": bytes_alone()}


def written(
    tokenizer: PreTrainedTokenizerFast, tokens: list[int], stops: tuple[str, ...], *, told: bool
) -> tuple[_Answer, list[str]]:
    """The answer of some tokens, with what was told of it on the way."""
    answer = _Answer(lambda some: text_of(tokenizer, some), [], frozenset({END}))
    heard: list[str] = []
    for token in tokens:
        answer.take(token, 0.0, 1.0)
        answer.look(len(tokens), stops, (lambda text: heard.append(text) or True) if told else None)
        if answer.finish:
            break
    return answer, heard


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_what_is_told_is_never_taken_back_and_adds_up_to_the_answer(
    name: str, data: st.DataObject
) -> None:
    tokenizer = TOKENIZERS[name]
    text = data.draw(st.text("abc 好é😀x", min_size=1, max_size=12))
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    if data.draw(st.booleans()):  # bytes that are no character, wherever
        odd = data.draw(st.lists(st.sampled_from(range(3, len(tokenizer))), max_size=6))
        place = data.draw(st.integers(0, len(tokens)))
        tokens = [*tokens[:place], *odd, *tokens[place:]]
    tokens = tokens[: data.draw(st.integers(1, len(tokens)))]
    stops = data.draw(st.sampled_from([(), ("x",), ("好😀", "ab"), ("é",)]))
    answer, heard = written(tokenizer, tokens, stops, told=True)
    for before, after in zip(heard, [*heard[1:], answer.text], strict=True):
        assert after.startswith(before)
    assert not any(stop in answer.text for stop in stops)
    silent, _ = written(tokenizer, tokens, stops, told=False)
    assert (silent.text, silent.finish) == (answer.text, answer.finish)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_an_answer_cut_within_a_character_ends_before_it(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer("a好好", add_special_tokens=False).input_ids
    assert len(tokens) == 7
    texts = [written(tokenizer, tokens[:n], (), told=False)[0].text for n in range(1, 8)]
    assert texts == ["a", "a", "a", "a好", "a好", "a好", "a好好"]
    whole, _ = written(tokenizer, [*tokens, END], (), told=False)
    assert (whole.text, whole.finish) == ("a好好", "stop")
    assert UNFINISHED not in whole.text


def test_a_special_token_as_stop_text_ends_an_answer(tmp_path: Path) -> None:
    from test_writing import ROUTES, alone, experts_of, routed_model

    backbone = load_backbone(str(build(tmp_path, "llama", language="tied")), device="cpu")
    model = routed_model(backbone, experts_of(backbone))
    whole = alone(model, 0).text.split()
    assert len(whole) > 2
    turn = whole[2]
    assert turn not in whole[:2]
    backbone.tokenizer.add_special_tokens({"additional_special_tokens": [turn]})
    assert turn in special_tokens(backbone.tokenizer)
    expert = experts_of(backbone)[ROUTES[0]]
    assert expert.writing is not None
    stopping = replace(expert, writing=replace(expert.writing, stop=(turn,)))
    model = routed_model(backbone, {**experts_of(backbone), ROUTES[0]: stopping})
    ended = alone(model, 0)
    assert (ended.text.split(), ended.finish) == (whole[:2], "stop")
