"""An engine is chosen that gives the reference's ids, and one that does not is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pytest

from pipeline.errors import UnavailableError
from pipeline.tokenization import engines
from pipeline.tokenization.agreement import find_mismatch, first_difference, sample_texts
from pipeline.tokenization.engines import ReferenceEncoder, open_engine, open_reference
from pipeline.tokenization.probe_texts import probe_texts

Choose: TypeAlias = Callable[[Path, Any], Any]

# --- which engine --------------------------------------------------------------------------------------------


def test_auto_takes_the_first_that_can_do_the_pattern(folders: dict[str, Path], choose: Choose) -> None:
    assert choose(folders["gpt2"], "auto").engine == "gigatoken"

    choice = choose(folders["unknown"], "auto")

    assert choice.engine == "tiktoken"
    assert "pre_tokenizer" in choice.refused["gigatoken"]


def test_the_reference_is_used_when_asked_for_or_when_nothing_else_is_there(
    folders: dict[str, Path], choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose(folders["gpt2"], "tokenizers") == ("tokenizers", {})
    monkeypatch.setattr(engines, "is_installed", lambda name: False)

    assert choose(folders["gpt2"], "auto") == ("tokenizers", {})
    with pytest.raises(UnavailableError, match=r'needs the package gigatoken.*"cairn-lm\[fast\]"'):
        choose(folders["gpt2"], "gigatoken")


def test_a_version_that_was_not_compared_is_not_used(
    folders: dict[str, Path], choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "COMPARED", {"gigatoken": "0.9"})

    choice = choose(folders["gpt2"], "gigatoken")

    assert choice.engine == "tokenizers"
    assert "was not compared, 0.9 was" in choice.refused["gigatoken"]


def test_whatever_auto_takes_for_a_strange_tokenizer_gives_the_reference_s_ids(
    strange: tuple[Path, str], choose: Choose
) -> None:
    folder, _ = strange

    chosen = open_engine(folder, choose(folder, "auto").engine)

    texts = ["e\u0301 12 345", *map("{0} {0}".format, probe_texts()[:60])]
    assert first_difference(chosen, ReferenceEncoder(folder), texts) == ""


# --- an engine that is wrong ---------------------------------------------------------------------------------


class Wrong(ReferenceEncoder):
    """An engine that is right about most texts."""

    name = "gigatoken"
    mistake = "\u2028"

    def encode_documents(self, documents: Any) -> tuple[Any, Any]:
        texts = documents if isinstance(documents, list) else documents.to_pylist()
        return super().encode_documents([text.replace(self.mistake, "?") for text in texts])


def test_an_engine_that_differs_on_a_probe_text_is_refused_and_the_text_named(
    folders: dict[str, Path], choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_open_fast", lambda folder, name: Wrong(folder))

    choice = choose(folders["gpt2"], "auto")

    assert choice.engine == "tokenizers"
    assert choice.refused.keys() == {"gigatoken", "tiktoken"}
    assert "its ids differ from those of tokenizers in " in choice.refused["gigatoken"]
    assert "\\u2028" in choice.refused["gigatoken"]


def test_an_engine_that_loses_bytes_or_differs_in_the_sample_is_found(folders: dict[str, Path]) -> None:
    reference = open_reference(folders["gpt2"])
    documents = pa.array(["some text \u2028 here", "more"])
    right, _ = reference.encode_documents(documents)
    wrong = Wrong(folders["gpt2"])

    assert find_mismatch(reference, reference, documents, right) == ""
    assert "of a text of 22" in find_mismatch(reference, reference, documents, right[:-1])
    assert "differ" in find_mismatch(wrong, reference, documents, right)


def test_the_sample_of_a_part_is_small_and_from_all_over_it() -> None:
    documents = pa.array([f"{i:06d}" * 5000 for i in range(100)])

    sample = sample_texts(documents)

    assert 16 <= len(sample) <= 32 and {len(text) for text in sample} == {2048}
    assert any("000000" in text for text in sample) and any("000096" in text for text in sample)
    assert sample_texts(pa.array([], pa.string())) == []
