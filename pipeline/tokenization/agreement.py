"""Machinery: agreement of a fast engine with the reference, before it is used and while it is.

Shards are of class `bytes`: the engine must not show in them, and no engine promises the ids of another.  So each is
tried on `probe_texts` before its first part; then a sample of every part is encoded twice, and the bytes that all ids
stand for are counted, which finds text that is lost or doubled anywhere.  Neither finds rare text outside of the sample
that is cut at other places.  Engines differ there by their version of Unicode: hence the versions of gigatoken that may
be used are those of `engines.COMPARED`, which were tried on every character, as a test does again.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tokenization.engines import (
    REFERENCE,
    Engine,
    ReferenceEncoder,
    UnsuitableError,
    is_installed,
    open_engine,
    open_reference,
)
from pipeline.tokenization.probe_texts import probe_texts

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.tokenization.engines import TokenIds

_SAMPLE_DOCUMENTS, _SAMPLE_CHARACTERS = 16, 2048


@lru_cache(maxsize=1)
def choose_engine(folder: Path, names: tuple[str, ...]) -> tuple[Engine, dict[str, str]]:
    """Open the first of these engines that this machine has and that gives the reference's ids on the probe texts.

    Also returns why those before it are not used.
    """
    refused: dict[str, str] = {}
    for name in names:
        if not (reason := unsupported_reason(folder, name)):
            return open_engine(folder, name), refused
        refused[name] = reason
    return open_reference(folder), refused


def unsupported_reason(folder: Path, engine: str) -> str:
    """Return why an engine must not encode with the tokenizer in `folder`; "" when it may."""
    if engine == REFERENCE:
        return ""
    if not is_installed(engine):
        return "it is not installed on every machine"
    try:
        return first_difference(open_engine(folder, engine), open_reference(folder), probe_texts())
    except UnsuitableError as error:
        return str(error)


# --- the comparison ------------------------------------------------------------------------------------------


def first_difference(engine: Engine, reference: Engine, texts: Sequence[str]) -> str:
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


def find_mismatch(engine: Engine, reference: ReferenceEncoder, documents: "pa.StringArray", values: "TokenIds") -> str:
    """Return why the ids `values` that an engine gave for documents cannot be right; "" when they may be."""
    from pipeline.tables.arrow import offsets_of

    offsets = offsets_of(documents)
    size, found = int(offsets[-1] - offsets[0]), reference.count_bytes(values)
    if found != size:
        return f"its ids stand for {found:,} bytes of a text of {size:,}"
    return first_difference(engine, reference, sample_texts(documents))


def sample_texts(documents: "pa.StringArray") -> list[str]:
    """Return some 30 kB of documents, the same for the same documents: the middles of some, evenly spread."""
    step = max(1, len(documents) // _SAMPLE_DOCUMENTS)
    texts = [documents[i].as_py() for i in range(0, len(documents), step)]
    return [text[max(0, len(text) - _SAMPLE_CHARACTERS) // 2 :][:_SAMPLE_CHARACTERS] for text in texts]
