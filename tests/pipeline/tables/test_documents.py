"""The documents of a part are the same when they are read again, the sizes of their texts included."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables.arrow import read_batch
from pipeline.tables.documents import DOCUMENTS, Documents, read_documents, write_documents

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def of(*rows: tuple[str, str, str]) -> Documents:
    documents = Documents()
    for text, source, place in rows:
        documents.add(text, source, place, len(text.encode()))
    return documents


def test_documents_are_added_row_by_row_and_kept_column_by_column() -> None:
    documents = of(("one", "a", "1"), ("zwölf", "b", "2"))

    assert (documents.texts, documents.sources, documents.places) == (["one", "zwölf"], ["a", "b"], ["1", "2"])
    assert documents.sizes == [3, 6] and len(documents) == 2


def test_two_tables_that_begin_empty_share_nothing() -> None:
    first, second = Documents(), Documents()
    first.add("one", "a", "1", 3)
    assert len(second) == 0


@given(rows=st.lists(st.tuples(texts, texts, texts), max_size=6))
def test_documents_are_read_as_they_were_written(tmp_path_factory: object, rows: list[tuple[str, str, str]]) -> None:
    folder: Path = tmp_path_factory.mktemp("part")  # type: ignore[attr-defined]
    write_documents(folder, of(*rows))

    assert read_documents(folder) == of(*rows)
    assert read_batch(folder / DOCUMENTS).schema.names == ["text", "source", "place"]
