from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.config import Sampling
from model.decoding import (
    NONE,
    Decoder,
    evaluating,
    generate,
    generate_batch,
    keep_top_k,
    keep_top_p,
    mask_tokens,
    sample_token,
)
from model.heads import CausalLM

GREEDY = Sampling(temperature=0.0, max_new_tokens=10)


@pytest.fixture
def small_lm(tiny_lm: Callable[..., CausalLM]) -> Callable[..., CausalLM]:
    return lambda **options: tiny_lm(n_layer=1, context_length=8, **options)


def kept(logits: Tensor) -> list[int]:
    return logits.isfinite().nonzero().flatten().tolist()


def test_top_k_keeps_exactly_k_tokens() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 3.0, 0.0])
    assert kept(keep_top_k(logits, 2)) == [1, 3]
    assert len(kept(keep_top_k(torch.zeros(5), 2))) == 2
    assert torch.equal(keep_top_k(logits, 9), logits)


@pytest.mark.parametrize(
    "p, tokens",
    [(0.01, [2]), (0.5, [2]), (0.51, [0, 2]), (0.8, [0, 2]), (0.82, [0, 1, 2]), (1.0, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_tokens_that_reach_p(p: float, tokens: list[int]) -> None:
    probabilities = torch.tensor([0.3125, 0.125, 0.5, 0.0625])
    assert kept(keep_top_p(probabilities.log(), p)) == tokens


def test_a_banned_token_is_never_drawn() -> None:
    logits = torch.tensor([9.0, 1.0, 8.0])
    assert kept(mask_tokens(logits, frozenset({0}))) == [1, 2]
    assert sample_token(logits, GREEDY, torch.Generator(), frozenset({0})) == 2
    assert logits[0] == 9


def test_draws_follow_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.2, 0.8]).log()
    drawn = [sample_token(logits, Sampling(temperature=1.0), generator, NONE) for _ in range(400)]
    assert 290 < sum(drawn) < 350
    sharp = [sample_token(logits, Sampling(temperature=0.5), generator, NONE) for _ in range(400)]
    assert sum(sharp) > 355  # 0.64 / 0.68


def test_greedy_generation_is_the_likeliest_token_of_the_whole_text(
    small_lm: Callable[..., CausalLM],
) -> None:
    model, text = small_lm(), [1, 2, 3]
    answer = list(generate(model, text, replace(GREEDY, max_new_tokens=5)))
    for token in answer:
        with torch.no_grad():
            assert token == model(torch.tensor([text]))[0, -1].argmax()
        text.append(token)
    assert len(answer) == 5


def test_a_full_context_goes_on_with_its_last_half(small_lm: Callable[..., CausalLM]) -> None:
    model = small_lm()
    text = [int(token) for token in torch.arange(8)]
    answer = list(generate(model, text, replace(GREEDY, max_new_tokens=2)))
    with torch.no_grad():
        assert answer[0] == model(torch.tensor([text]))[0, -1].argmax()
        half = torch.tensor([[*text, answer[0]][-4:]])
        assert answer[1] == model(half)[0, -1].argmax()


def test_generation_goes_on_beyond_the_context(small_lm: Callable[..., CausalLM]) -> None:
    model = small_lm()
    sampling = Sampling(max_new_tokens=20, top_k=20)
    assert len(list(generate(model, [5], sampling))) == 20
    assert list(generate(model, list(range(12)), sampling)) == list(generate(model, list(range(4, 12)), sampling))


def test_generation_depends_on_the_seed_and_nothing_else(small_lm: Callable[..., CausalLM]) -> None:
    model, sampling = small_lm(), Sampling(temperature=2.0, top_p=0.95, max_new_tokens=20, seed=3)
    first = list(generate(model, [1, 2], sampling))
    torch.rand(3)
    assert list(generate(model, [1, 2], sampling)) == first
    assert list(generate(model, [1, 2], replace(sampling, seed=4))) != first


def test_generation_ends_before_a_stop_token(small_lm: Callable[..., CausalLM]) -> None:
    model = small_lm()
    whole = list(generate(model, [1, 2], GREEDY))
    stop = whole[3]
    assert list(generate(model, [1, 2], GREEDY, stop_ids=frozenset({stop}))) == whole[: whole.index(stop)]
    assert stop not in generate(model, [1, 2], GREEDY, banned_ids=frozenset({stop}))


def test_a_batch_says_what_its_rows_would_say_alone(small_lm: Callable[..., CausalLM]) -> None:
    model = small_lm(n_kv_head=2)
    prompts = [[1], [4, 5, 6, 7], list(range(10))]
    sampling = Sampling(temperature=1.5, max_new_tokens=12, seed=11)
    stop = frozenset({0, 1})
    answers = generate_batch(model, prompts, sampling, stop_ids=stop, banned_ids=frozenset({2}))
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        alone = replace(sampling, seed=11 + i)
        assert list(generate(model, prompt, alone, stop_ids=stop, banned_ids=frozenset({2}))) == answer


def test_a_batch_of_nothing_is_nothing(small_lm: Callable[..., CausalLM]) -> None:
    assert generate_batch(small_lm(), [], GREEDY) == []


def test_an_empty_prompt_is_refused(small_lm: Callable[..., CausalLM]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        list(generate(small_lm(), [], GREEDY))
    with pytest.raises(ValueError, match="at least one token"):
        generate_batch(small_lm(), [[], [1]], GREEDY)


def test_generation_leaves_training_and_gradients_as_they_were(small_lm: Callable[..., CausalLM]) -> None:
    model = small_lm(dropout=0.5).train()
    tokens = generate(model, [1, 2], GREEDY)
    first = next(tokens)
    assert model.training and model.backbone.blocks[0].training
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert [first, *tokens] == list(generate(model.eval(), [1, 2], GREEDY))
    assert not model.training


def test_training_mode_comes_back_after_an_error(small_lm: Callable[..., CausalLM]) -> None:
    model = small_lm().train()
    with pytest.raises(KeyError), evaluating(model):
        assert not model.training
        raise KeyError
    assert model.training


def test_a_decoder_computes_each_token_once(small_lm: Callable[..., CausalLM]) -> None:
    decoder = Decoder(small_lm())
    decoder.forward([[1, 2, 3]])
    decoder.forward([[4]])
    assert decoder.cache is not None and decoder.cache.length == 4
