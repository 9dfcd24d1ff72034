"""Words are hashed alike however texts are cut into batches; signatures estimate the overlap of sets of n-grams."""

import random
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning import shingles
from pipeline.cleaning.shingles import mix, sign
from pipeline.errors import UnavailableError


def signature(text: str, words: int = 5) -> list[int]:
    return sign([text], words=words, values=16, seed=1)[0][0].tolist()


def test_the_algorithm_is_the_one_whose_signatures_were_published() -> None:
    """A change here is a change of every corpus that near_duplicates was at: raise ALGORITHM or the stage's version."""
    assert signature("The quick brown fox jumps over the lazy dog, écrit 狐狸 at noon.") == [
        2182441489,
        3249572270,
        1384711516,
        221644132,
        821929881,
        2403581324,
        3366592825,
        435558462,
        709800497,
        885220609,
        701876983,
        2455554014,
        1081350964,
        3224823879,
        1459769716,
        2654337968,
    ]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The quick brown fox jumps!", "the QUICK,  brown\nfox — jumps"),
        ("ÉCOLE ΑΒΓ straße İs", "école αβγ straße is"),
        ("“Yes,” said he; 'no'.", "yes said he no"),
        ("狐狸很聪明", "狐 狸 很 聪 明"),
        ("น้ำ", "น ้ ำ"),
    ],
)
def test_case_and_punctuation_do_not_matter(text: str, same: str) -> None:
    assert signature(text, words=2) == signature(same, words=2)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("fox hen owl", "hen fox owl"),
        ("foxhen", "fox hen"),
        ("fox", "fox fox"),
        ("école", "ecole"),
        ("a 1", "a 2"),
        ("😀", "😁"),
    ],
)
def test_words_and_their_order_do(text: str, other: str) -> None:
    assert signature(text, words=2) != signature(other, words=2)


def test_marks_belong_to_their_word() -> None:
    assert signature("हिन्दी भाषा", words=1) == signature("भाषा हिन्दी", words=1) != signature("हन द भष", words=1)


def test_a_text_of_few_words_is_compared_as_a_whole_and_one_of_none_not_at_all() -> None:
    signatures, spoken = sign(["one two", "One, two!", "one two three", "?!", ""], words=5, values=16, seed=1)

    assert signatures[0].tolist() == signatures[1].tolist() != signatures[2].tolist()
    assert spoken.tolist() == [True, True, True, False, False]


def test_no_text_is_no_signature() -> None:
    signatures, spoken = sign([], words=5, values=16, seed=1)
    assert signatures.shape == (0, 16) and spoken.shape == (0,)


@given(
    texts=st.lists(st.text(st.sampled_from("ab é狐😀.\n"), max_size=30), max_size=8),
    batch=st.sampled_from([10, 40, 1 << 16]),
)
def test_a_signature_depends_on_nothing_but_the_text(texts: list[str], batch: int) -> None:
    texts = [text.replace("a", "a ").replace("b", "b ") for text in texts]  # words short enough for the small batch
    alone = [sign([text], words=3, values=8, seed=1)[0][0].tolist() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "_BATCH", batch)

        together, _ = sign(texts, words=3, values=8, seed=1)

    assert together.tolist() == alone


def test_a_long_text_is_cut_between_words() -> None:
    text = " ".join(f"word{i}" for i in range(40_000))
    lines = text.replace(" ", " \n ")
    assert len(text) > 5 * (1 << 16) and signature(text) == signature(lines)


def test_a_text_without_any_space_ends() -> None:
    assert signature("x" * 200_000) != signature("x" * 200_001)


def jaccard(a: str, b: str, words: int) -> float:
    one, two = ({tuple(w[i : i + words]) for i in range(len(w) - words + 1)} for w in (a.split(), b.split()))
    return len(one & two) / len(one | two)


@pytest.mark.parametrize("edits", [0, 3, 12, 40, 120])
def test_signatures_estimate_the_overlap_of_the_sets_of_word_n_grams(edits: int) -> None:
    draw = random.Random(edits)
    words = [f"w{draw.randrange(5000)}" for _ in range(600)]
    other = list(words)
    for i in draw.sample(range(600), edits):
        other[i] = f"x{i}"
    values = 1024

    signatures, _ = sign([" ".join(words), " ".join(other)], words=5, values=values, seed=7)

    truth = jaccard(" ".join(words), " ".join(other), 5)
    estimate = float(np.mean(signatures[0] == signatures[1]))
    assert abs(estimate - truth) <= 4 * (truth * (1 - truth) / values) ** 0.5


def test_words_are_what_a_plain_rule_takes_for_words() -> None:
    text = "It was—as 2 men said—naïve; don’t ask. Ω, ß!\tEnd"
    plain = re.findall(r"[^\W_]+", text.lower())
    hashes, counts = shingles._hash_words([text])
    each = [shingles._hash_words([word])[0][0] for word in plain]
    assert (
        counts.tolist() == [len(plain)] and hashes.tolist() == [int(h) for h in each] and len(set(each)) == len(plain)
    )


def test_scrambling_is_one_to_one_and_reaches_every_bit() -> None:
    mixed = mix(np.arange(1 << 16, dtype=np.uint64))
    ones = [int(np.count_nonzero(mixed & np.uint64(1 << bit))) for bit in range(64)]
    assert len(np.unique(mixed)) == 1 << 16 and all(abs(one - (1 << 15)) < 700 for one in ones)


def test_without_rensa_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(UnavailableError, match=r"needs the package rensa. Install it: .*cairn-lm\[clean\]"):
        signature("a fox")


def test_a_rensa_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", SimpleNamespace(RMinHash=SimpleNamespace(ALGORITHM_VERSION=3)))
    with pytest.raises(
        UnavailableError, match="needs version 2 of rensa's algorithm; the installed rensa has version 3"
    ):
        signature("a fox")
