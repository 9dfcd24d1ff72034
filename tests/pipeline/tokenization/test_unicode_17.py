"""The characters that Unicode 17 added are found in bytes, whatever lies around them."""

from unicodedata import category, unidata_version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables.arrow import offsets_of, strings
from pipeline.tokenization import unicode_17
from pipeline.tokenization.unicode_17 import documents_with_unicode_17, holds_unicode_17

LETTERS = st.sampled_from([*"aéࢎ中😀", "\u088f", "\u0890", "\ua7ce", "\U00010940", "\U00033479", "\U0003347a"])
ADDED = {"\u088f", "\ua7ce", "\U00010940", "\U00033479"}


@given(texts=st.lists(st.lists(LETTERS, max_size=8).map("".join), max_size=8), first=st.integers(0, 3))
def test_the_documents_with_such_characters_are_found_in_chunks_of_any_size(texts: list[str], first: int) -> None:
    column = strings(["\u088f", *texts])[1:][first:]
    expected = [i for i, text in enumerate(texts[first:]) if ADDED & set(text)]
    with pytest.MonkeyPatch.context() as patch:
        for size in (1, 2, 3, 2**20):
            patch.setattr(unicode_17, "_CHUNK_BYTES", size)
            assert documents_with_unicode_17(column.buffers()[2] or b"", offsets_of(column)) == expected
    assert [i for i, text in enumerate(texts[first:]) if holds_unicode_17(text.encode())] == expected


def test_every_character_is_told_apart_from_those_before_unicode_17() -> None:
    characters = list(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    column = strings(characters)

    found = [characters[i] for i in documents_with_unicode_17(column.buffers()[2], offsets_of(column))]

    assert len(found) == 4657
    if int(unidata_version.partition(".")[0]) < 17:
        assert {category(c) for c in found} == {"Cn"}, "one of them is older than this Python's Unicode"
    else:
        assert {category(c)[0] for c in found} <= {"L", "N"}
