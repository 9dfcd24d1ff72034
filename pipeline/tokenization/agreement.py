"""Machinery: agreement of a fast engine with the reference, before it is used and while it is."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.tokenization.engines import (
    REFERENCE,
    Engine,
    Reference,
    UnsuitableError,
    is_installed,
    open_encoder,
    open_reference,
)
from pipeline.tokenization.probe_texts import hard_texts

_SAMPLE_DOCUMENTS, _SAMPLE_CHARACTERS = 16, 2048


@lru_cache(maxsize=1)
def open_trusted(folder: Path, names: tuple[str, ...]) -> tuple[Engine, dict[str, str]]:
    """Open the first of these engines that this machine has and that gives the reference's ids on hard texts.

    Also returns why those before it are not used.
    """
    refused: dict[str, str] = {}
    for name in names:
        if not (found := why_not(folder, name)):
            return open_encoder(folder, name), refused
        refused[name] = found
    return open_reference(folder), refused


def why_not(folder: Path, engine: str) -> str:
    """Return why an engine must not encode with the tokenizer in `folder`; "" when it may."""
    if engine == REFERENCE:
        return ""
    if not is_installed(engine):
        return "it is not installed on every machine"
    try:
        return difference(open_encoder(folder, engine), open_reference(folder), hard_texts())
    except UnsuitableError as error:
        return str(error)


# --- the comparison ------------------------------------------------------------------------------------------


def difference(engine: Engine, reference: Engine, texts: Sequence[str]) -> str:
    """Return where the ids of an engine first differ from the reference's; "" when they nowhere do."""
    import numpy as np

    texts = list(texts)
    (ours, our_lengths), (theirs, their_lengths) = (e.encode_documents(texts) for e in (engine, reference))
    if np.array_equal(our_lengths, their_lengths) and np.array_equal(ours, theirs):
        return ""
    for text in texts:
        if engine.encode_documents([text])[0].tolist() != reference.encode_documents([text])[0].tolist():
            return f"its ids differ from those of {REFERENCE} in {text[:60]!r}"
    return f"its ids differ from those of {REFERENCE}"


def distrust(engine: Engine, reference: Reference, documents: Any, values: Any) -> str:
    """Return why the ids `values` that an engine gave for a StringArray cannot be right; "" when they may be."""
    from pipeline.tables.arrow import offsets_of

    offsets = offsets_of(documents)
    size, found = int(offsets[-1] - offsets[0]), reference.count_bytes(values)
    if found != size:
        return f"its ids stand for {found:,} bytes of a text of {size:,}"
    return difference(engine, reference, sample_of(documents))


def sample_of(documents: Any) -> list[str]:
    """Return pieces of some 30 kB in all of a StringArray: the middles of documents, evenly spread."""
    step = max(1, len(documents) // _SAMPLE_DOCUMENTS)
    texts = [documents[i].as_py() for i in range(0, len(documents), step)]
    return [text[max(0, len(text) - _SAMPLE_CHARACTERS) // 2 :][:_SAMPLE_CHARACTERS] for text in texts]
