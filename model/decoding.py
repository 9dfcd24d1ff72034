"""Machinery: sample tokens from a language model, one at a time or several texts at once.

Axes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.cache import KeyValueCache
from model.config import Sampling
from model.heads import CausalLM

NONE: frozenset[int] = frozenset()


def generate(
    model: CausalLM,
    input_ids: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: frozenset[int] = NONE,
    banned_ids: frozenset[int] = NONE,
) -> Iterator[int]:
    """Yield the tokens that follow the prompt until one of the stop ids, which is not yielded.

    A full context goes on with its last half; of a long prompt only the last context_length tokens count.
    """
    decoder = Decoder(model)
    generator = torch.Generator().manual_seed(sampling.seed)
    new = list(input_ids)[-model.config.context_length :]
    for _ in range(sampling.max_new_tokens):
        token = sample_token(decoder.forward([new])[0], sampling, generator, banned_ids)
        if token in stop_ids:
            return
        yield token
        new = [token]


def generate_batch(
    model: CausalLM,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: frozenset[int] = NONE,
    banned_ids: frozenset[int] = NONE,
) -> list[list[int]]:
    """Return what follows each prompt; row i is what `generate` yields with seed + i, up to rounding.

    All rows walk from the shortest prompt's end; a row still inside its prompt takes its token from there,
    so nothing is padded and nothing masked.
    """
    rows = [_Row.start(prompt, model, sampling, i) for i, prompt in enumerate(prompts)]
    decoder = Decoder(model)
    position = min((len(row.prompt) for row in rows), default=0)
    new = [row.prompt[:position] for row in rows]
    while not all(row.done for row in rows):
        logits = decoder.forward(new)
        for row, scores in zip(rows, logits, strict=True):
            if not row.done and position >= len(row.prompt):
                row.take(sample_token(scores, sampling, row.generator, banned_ids), sampling, stop_ids)
        new = [[row.token_at(position)] for row in rows]
        position += 1
    return [row.answer for row in rows]


class Decoder:
    """Run a model over tokens, each once, and return the logits of the next; a full context slides."""

    def __init__(self, model: CausalLM) -> None:
        self.model = model
        self.device, self.dtype = model.output_weight.device, model.output_weight.dtype
        self.cache: KeyValueCache | None = None
        self.seen: Int[Tensor, "B S"] | None = None

    @torch.inference_mode()
    def forward(self, new: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        """Append as many tokens to every row and return the logits of what follows."""
        if not new or not new[0]:
            raise ValueError("there must be at least one token to go on from")
        ids = torch.tensor(new, device=self.device)
        self.seen = ids if self.seen is None else torch.cat((self.seen, ids), dim=1)
        self.seen = self.seen[:, -self.model.config.context_length :]
        if self.cache is None or self.cache.length + ids.shape[1] > self.cache.context_length:
            ids = ids if self.cache is None else self.seen[:, -max(1, self.cache.context_length // 2) :]
            self.cache = KeyValueCache(self.model.config, batch_size=len(ids), device=self.device, dtype=self.dtype)
        with evaluating(self.model):
            return self.model.unembed(self.model.backbone(ids, self.cache)[:, -1])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and back on afterwards if it was on."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def sample_token(
    logits: Float[Tensor, " V"], sampling: Sampling, generator: torch.Generator, banned_ids: frozenset[int]
) -> int:
    """Sample one token, on CPU in float32 so that a device changes nothing but the logits."""
    logits = mask_tokens(logits.float().cpu(), banned_ids)
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = logits / sampling.temperature
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    return int(torch.multinomial(logits.softmax(dim=-1), 1, generator=generator))


def mask_tokens(logits: Float[Tensor, " V"], ids: frozenset[int]) -> Float[Tensor, " V"]:
    """Make tokens impossible."""
    return logits.index_fill(0, torch.tensor(sorted(ids), dtype=torch.int64), -torch.inf)


def keep_top_k(logits: Float[Tensor, " V"], k: int) -> Float[Tensor, " V"]:
    """Make all but the k likeliest tokens impossible."""
    values, ids = logits.topk(min(k, len(logits)))
    return torch.full_like(logits, -torch.inf).index_copy(0, ids, values)


def keep_top_p(logits: Float[Tensor, " V"], p: float) -> Float[Tensor, " V"]:
    """Make all but the fewest tokens whose probabilities reach p impossible (Holtzman et al. 2019)."""
    ordered, ids = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    return logits.index_fill(0, ids[before >= p], -torch.inf)


@dataclass(kw_only=True)
class _Row:
    prompt: list[int]
    generator: torch.Generator
    answer: list[int] = field(default_factory=list)
    done: bool = False

    @classmethod
    def start(cls, prompt: Sequence[int], model: CausalLM, sampling: Sampling, number: int) -> "_Row":
        generator = torch.Generator().manual_seed(sampling.seed + number)
        return cls(prompt=list(prompt)[-model.config.context_length :], generator=generator)

    def take(self, token: int, sampling: Sampling, stop_ids: frozenset[int]) -> None:
        if token not in stop_ids:
            self.answer.append(token)
        self.done = token in stop_ids or len(self.answer) == sampling.max_new_tokens

    def token_at(self, position: int) -> int:
        """Return the row's token there; past its end any token does, since nobody reads what follows."""
        text = [*self.prompt, *self.answer]
        return text[position] if position < len(text) else text[-1]
