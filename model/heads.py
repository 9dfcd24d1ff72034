"""Machinery: what stands on the backbone, a language model's next-token logits or a classifier's labels.

Axes: B batch, T tokens, C channels, V vocabulary, N labels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.cache import KeyValueCache
from model.config import GPTConfig
from model.gpt import GPT
from pipeline.errors import ConfigError


class CausalLM(nn.Module):
    """Score every token of the vocabulary as the next one, at every position."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = GPT(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        cache: KeyValueCache | None = None,
        document_ids: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        return self.unembed(self.backbone(input_ids, cache, document_ids))

    def unembed(self, hidden: Float[Tensor, "*B C"]) -> Float[Tensor, "*B V"]:
        """Turn hidden states into logits; a caller that needs few positions saves the rest."""
        return F.linear(hidden, self.output_weight)

    @property
    def output_weight(self) -> Float[Tensor, "V C"]:
        """The output matrix: the embedding's own where they are tied, which is then one parameter."""
        return self.backbone.embedding.weight if self.config.tie_word_embeddings else self.lm_head.weight


class SequenceClassifier(nn.Module):
    """Score the labels of a text from the hidden state of its last token."""

    def __init__(self, config: GPTConfig, labels: Sequence[str]) -> None:
        super().__init__()
        if not labels or len(set(labels)) != len(labels):
            raise ConfigError(f"a classifier needs distinct labels, got {list(labels)}")
        self.config = config
        self.labels = tuple(labels)
        self.backbone = GPT(config)
        self.score = nn.Linear(config.n_embd, len(labels), bias=False)

    def forward(self, input_ids: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B N"]:
        """Score texts padded on the right: no token sees the padding after it, so no mask is needed."""
        hidden = self.backbone(input_ids)
        rows = torch.arange(len(hidden), device=hidden.device)
        scores: Tensor = self.score(hidden[rows, lengths - 1])
        return scores
