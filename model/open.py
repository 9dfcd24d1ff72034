"""Machinery: open a model artifact for use: its network, its encoder, and what it was trained for."""

from dataclasses import dataclass
from pathlib import Path

from model.heads import CausalLM, SequenceClassifier
from model.storage import load
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import DataError
from pipeline.tokenization.text_encoder import TextEncoder


@dataclass(frozen=True)
class OpenedModel:
    """A language model that can be asked."""

    artifact: Artifact
    module: CausalLM
    encoder: TextEncoder

    @property
    def purpose(self) -> str:
        """pretrained | assistant"""
        return str(self.artifact.facts["purpose"])


def open_model(artifact: Artifact) -> tuple[CausalLM | SequenceClassifier, TextEncoder]:
    """Load the network and the encoder of a model artifact; every byte is checked first."""
    if artifact.kind != "model":
        raise DataError(f"{artifact.short} is not a model.")
    artifact.verify()
    module, encoder = load(artifact.payload), TextEncoder.of(artifact)
    if module.config.vocab_size != encoder.vocab_size:
        raise DataError(
            f"{artifact.short}: the network has {module.config.vocab_size} ids and its tokenizer {encoder.vocab_size}."
        )
    return module, encoder


def open_language_model(store: Path, reference: str) -> OpenedModel:
    """Open the model that a person refers to.

    Raises DataError when it is a classifier, which has nothing to say.
    """
    artifact = Store(store.expanduser()).find(reference)
    module, encoder = open_model(artifact)
    if not isinstance(module, CausalLM):
        raise DataError(
            f"{artifact.short} is a classifier and cannot write text; `python -m train.evaluate` scores it."
        )
    return OpenedModel(artifact, module, encoder)
