from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.config import GPTConfig
from model.gpt import init_weights
from model.heads import CausalLM, SequenceClassifier
from pipeline.errors import ConfigError


def test_tied_embeddings_are_one_parameter(tiny_config: Callable[..., GPTConfig], ids: Tensor) -> None:
    tied, untied = CausalLM(tiny_config()), CausalLM(tiny_config(tie_word_embeddings=False))
    assert tied.output_weight is tied.backbone.embedding.weight
    assert set(untied.state_dict()) - set(tied.state_dict()) == {"lm_head.weight"}
    assert tied(ids).shape == untied(ids).shape == (3, 16, 61)


def test_unembedding_one_position_is_that_position_of_the_logits(tiny_lm: Callable[..., CausalLM], ids: Tensor) -> None:
    model = tiny_lm()
    torch.testing.assert_close(model.unembed(model.backbone(ids)[:, -1]), model(ids)[:, -1])


def test_a_classifier_ignores_padding_and_the_rest_of_the_batch(
    tiny_config: Callable[..., GPTConfig], ids: Tensor
) -> None:
    model = SequenceClassifier(tiny_config(), ["bad", "good"])
    init_weights(model, 0)
    scores = model(ids, torch.tensor([4, 16, 9]))
    assert scores.shape == (3, 2)
    torch.testing.assert_close(scores[:1], model(ids[:1, :4], torch.tensor([4])))
    torch.testing.assert_close(scores[2:], model(ids[2:, :9], torch.tensor([9])))


@pytest.mark.parametrize("labels", [[], ["a", "a"]])
def test_labels_must_be_distinct(labels: list[str], tiny_config: Callable[..., GPTConfig]) -> None:
    with pytest.raises(ConfigError, match="a classifier needs distinct labels"):
        SequenceClassifier(tiny_config(), labels)
