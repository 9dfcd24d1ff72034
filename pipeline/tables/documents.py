"""Machinery: the documents of a part, column by column: the one form of documents from ingest to the shards."""

from dataclasses import dataclass, field
from pathlib import Path

DOCUMENTS = "documents.arrow"


@dataclass(frozen=True)
class Documents:
    """The documents of a part, column by column."""

    texts: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """bytes of UTF-8"""

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str, source: str, place: str, size: int) -> None:
        """Append a document; `size` is that of its text, which whoever made it knows."""
        self.texts.append(text)
        self.sources.append(source)
        self.places.append(place)
        self.sizes.append(size)


def read_documents(folder: Path) -> Documents:
    """Return the documents of a part."""
    import numpy as np

    from pipeline.tables.arrow import offsets_of, read_batch

    batch = read_batch(folder / DOCUMENTS)
    text = batch.column("text")
    sizes = np.diff(offsets_of(text)).tolist()
    return Documents(text.to_pylist(), batch.column("source").to_pylist(), batch.column("place").to_pylist(), sizes)


def write_documents(folder: Path, documents: Documents) -> None:
    """Write the documents of a part into its folder."""
    from pipeline.tables.arrow import string_batch, write_batch

    columns = {"text": documents.texts, "source": documents.sources, "place": documents.places}
    write_batch(folder / DOCUMENTS, string_batch(columns))
