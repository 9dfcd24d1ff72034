"""gigatoken's merges are those of `tokenizers`, or they are not used."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.runtime.provenance import version_of
from pipeline.tokenization import fast_training as merges_module
from pipeline.tokenization.engines import UnsuitableError
from pipeline.tokenization.fast_training import fast_merges, reference_merges, tokenizer_of
from pipeline.tokenization.text_encoder import CONTROL_TOKENS
from pipeline.tokenizer import TokenizerConfig, train

pytestmark = pytest.mark.skipif(version_of("gigatoken") == "absent", reason="gigatoken is not installed")

letters = st.sampled_from(["ab", "abc", "ab ", "abcd \n", "aé ", "a1 '", "xyé🦊 ", "abcdefgh "])
corpora = letters.flatmap(lambda chosen: st.lists(st.text(chosen, max_size=120), min_size=1, max_size=12))


@settings(max_examples=150, deadline=None)
@given(corpora, st.sampled_from([3, 10, 40, 200]))
def test_the_merges_are_those_of_the_reference_where_many_pairs_are_seen_equally_often(
    texts: list[str], count: int
) -> None:
    merges_module._check_equal(texts, count)


@settings(max_examples=40, deadline=None)
@given(corpora, st.sampled_from([2, 5, 20]), st.sampled_from([1, 2, 3]))
def test_a_fast_tokenizer_is_the_trained_one_to_the_byte_or_refused(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], count: int, least: int
) -> None:
    config = TokenizerConfig(vocab_size=256 + len(CONTROL_TOKENS) + count, min_frequency=least)
    expected = train(texts, config, cut=False)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(merges_module, "_TIE_RICH", 0)  # tried above
    try:
        found = fast_merges([texts], count, least, tmp_path_factory.mktemp("texts"))
    except UnsuitableError:
        assert expected.get_vocab_size() < 256 + count, "it was refused, though the text has enough pairs"
    else:
        assert tokenizer_of(found).to_str() == expected.to_str()
    finally:
        monkeypatch.undo()


def test_a_text_with_a_letter_that_only_gigatoken_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableError, match="only gigatoken knows"):
        fast_merges([["plain", "a\u088fb"]], 2, 1, tmp_path)


def test_a_trainer_that_breaks_ties_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gigatoken

    plain = gigatoken.train_bpe
    monkeypatch.setattr(gigatoken, "train_bpe", lambda *a, **k: (None, sorted(plain(*a, **k)[1])))

    with pytest.raises(UnsuitableError, match="other merges"):
        fast_merges([["some words, some more words"]], 5, 1, tmp_path)


def test_two_merges_may_make_one_token() -> None:
    pairs = [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc"), (b"d", b"e")]

    assert merges_module._first_making(3, pairs) == pairs[:3]
    assert merges_module._first_making(4, pairs) == pairs
    assert json.loads(tokenizer_of(pairs).to_str())["model"]["vocab"]["de"] == 256 + 3


def test_the_reference_has_every_merge_of_a_text(tmp_path: Path) -> None:
    assert reference_merges(["abab abab"], 2) == [(b"a", b"b"), (b"ab", b"ab")]
