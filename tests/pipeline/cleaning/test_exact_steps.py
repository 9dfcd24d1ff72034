"""Equal documents, paragraphs and lines are found across parts, and what is left is what a plain loop would leave."""

import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cleaning import buckets
from pipeline.cleaning.exact_duplicates import ExactDuplicates
from pipeline.cleaning.exact_steps import BoilerplateLines, ExactDocuments, ExactParagraphs
from pipeline.errors import ConfigError
from pipeline.executors.executor import Workers

STEPS = [ExactDocuments(), ExactParagraphs(min_characters=3), BoilerplateLines(min_characters=3, min_documents=3)]
NAMES = [step.name for step in STEPS]


# --- by hand -------------------------------------------------------------------------------------------------


def test_of_equal_documents_the_first_is_kept_and_the_others_name_it(trial: Callable[..., Any]) -> None:
    cleaned = trial(["tea", "milk"], ["milk", "Tea", "tea"], [], ["tea"]).run(ExactDocuments())

    assert cleaned.texts == ["tea", "milk", "Tea"]
    about = {"source": "book", "step": "exact_documents", "reason": "exact duplicate"}
    assert cleaned.rejects == [
        {**about, "place": "2", "same_as": "book 1", "excerpt": "milk"},
        {**about, "place": "4", "same_as": "book 0", "excerpt": "tea"},
        {**about, "place": "5", "same_as": "book 0", "excerpt": "tea"},
    ]
    assert cleaned.counts == {
        "step": "exact_documents",
        "documents_in": 6,
        "bytes_in": 20,
        "documents_out": 3,
        "bytes_out": 10,
        "changed": 0,
        "rejected": {"exact duplicate": 3},
        "counts": {},
        "sources": {"book": [6, 20, 3, 10]},
    }


def test_of_equal_paragraphs_the_first_in_the_corpus_is_kept(trial: Callable[..., Any]) -> None:
    cleaned = trial(
        ["Once upon a time.\n\nThere was a fox.\n"],
        ["A hen came.\n \n\n  There was a fox.  \n\nEnd.", "Once upon a time.\n\nThere was a fox.", "End."],
        ["A new one.\n\nA new one.\n\nEnd.\n"],
    ).run(ExactParagraphs(min_characters=5))

    assert cleaned.texts == [
        "Once upon a time.\n\nThere was a fox.\n",
        "A hen came.\n\nEnd.",
        "End.",
        "A new one.\n\nEnd.\n",
    ]
    assert [(row["place"], row["reason"], row["same_as"]) for row in cleaned.rejects] == [
        ("2", "only repeated paragraphs", "")
    ]
    assert cleaned.counts["counts"] == {"paragraphs removed": 4} and cleaned.counts["changed"] == 2


def test_a_line_is_removed_from_every_document_once_enough_documents_have_it(trial: Callable[..., Any]) -> None:
    cleaned = trial(
        ["Subscribe now!\nThe fox ran.\nfox", "  Subscribe now!\nThe hen ran.\nfox"],
        ["The owl slept.\nSubscribe now! \nThe hen ran.\nThe hen ran.\nfox", "Subscribe now!\nSubscribe now!"],
    ).run(BoilerplateLines(min_characters=4, min_documents=3))

    assert cleaned.texts == [
        "The fox ran.\nfox",
        "The hen ran.\nfox",
        "The owl slept.\nThe hen ran.\nThe hen ran.\nfox",
    ]
    assert [(row["place"], row["reason"], row["same_as"]) for row in cleaned.rejects] == [
        ("3", "only boilerplate lines", "")
    ]
    assert cleaned.counts["counts"] == {"lines removed": 5} and cleaned.counts["changed"] == 3


def test_a_fraction_of_the_documents_raises_what_boilerplate_is(trial: Callable[..., Any]) -> None:
    parts = (["one line\nA", "one line\nB"], ["one line\nC", "another\nD", "another\nE"])

    cleaned = trial(*parts).run(BoilerplateLines(min_characters=4, min_documents=2, min_fraction=0.6))

    assert cleaned.texts == ["A", "B", "C", "another\nD", "another\nE"]


def test_shorter_spans_stay_however_often_they_stand(trial: Callable[..., Any]) -> None:
    texts = ["Yes.\n\nYes.\n\nNo, said the fox."] * 2
    assert trial(texts).run(ExactParagraphs(min_characters=18)).texts == texts
    assert trial(texts).run(BoilerplateLines(min_characters=18, min_documents=2)).texts == texts


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_no_documents_and_empty_documents_are_no_trouble(step: ExactDuplicates, trial: Callable[..., Any]) -> None:
    assert trial().run(step) == trial().seen([])
    assert trial([], []).run(step).texts == []
    assert trial(["", "a"], ["\n\n"]).run(step).texts == ["", "a", "\n\n"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExactParagraphs(min_characters=0),
        lambda: BoilerplateLines(min_characters=0),
        lambda: BoilerplateLines(min_documents=1),
        lambda: BoilerplateLines(min_fraction=1.5),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match="must be at least|min_fraction from 0 to 1"):
        make()


# --- against a plain loop ------------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from(["fox", "hen", "fox ", "ox", "é€𝄞"]), min_size=1, max_size=2).map(" ".join)
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from(["\n", "\n\n", "\n \n\n", "\r\n"])), max_size=4).map(
    lambda pairs: "".join(word + end for word, end in pairs)
)
CORPORA = st.lists(st.lists(TEXTS, max_size=4), min_size=1, max_size=4)


def plain_documents(texts: Sequence[str]) -> Iterator[list[str] | None]:
    seen: set[str] = set()
    for text in texts:
        yield None if text in seen else [text]
        seen.add(text)


def paragraphs_of(text: str) -> list[str]:
    return [p.strip() for p in re.split(r"\n(?:[ \r]*\n)+", text)]


def plain_paragraphs(texts: Sequence[str]) -> Iterator[list[str] | None]:
    seen: set[str] = set()
    for text in texts:
        spans, left = paragraphs_of(text), []
        for span in spans:
            if len(span) < 3 or span not in seen:
                left.append(span)
            seen.add(span)
        yield None if len(left) < len(spans) and not "".join(left) else left


def plain_lines(texts: Sequence[str]) -> Iterator[list[str] | None]:
    found = Counter(line for text in texts for line in {line.strip() for line in text.split("\n")})
    for text in texts:
        lines = [line.strip() for line in text.split("\n")]
        left = [line for line in lines if len(line) < 3 or found[line] < 3]
        yield None if len(left) < len(lines) and not "".join(left) else left


PLAIN = {"exact_documents": plain_documents, "exact_paragraphs": plain_paragraphs, "boilerplate_lines": plain_lines}
PIECES: dict[str, Callable[[str], list[str]]] = {
    "exact_documents": lambda text: [text],
    "exact_paragraphs": paragraphs_of,
    "boilerplate_lines": lambda text: [line.strip() for line in text.split("\n")],
}


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
@given(parts=CORPORA, rows_per_bucket=st.sampled_from([1, 3, 1000]))
@settings(max_examples=25)
def test_any_cut_into_parts_and_buckets_leaves_what_a_plain_loop_leaves(
    step: ExactDuplicates, parts: list[list[str]], rows_per_bucket: int, trial_in: Callable[..., Any]
) -> None:
    texts = [text for part in parts for text in part]
    expected = list(PLAIN[step.name](texts))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "ROWS_PER_BUCKET", rows_per_bucket)

        cleaned = trial_in(Path(folder), parts).run(step)

    left = {int(row["place"]): row["text"] for row in cleaned.documents}
    assert {i: PIECES[step.name](text) for i, text in left.items() if text.strip()} == {
        i: spans for i, spans in enumerate(expected) if spans is not None and texts[i].strip()
    }
    assert {int(row["place"]) for row in cleaned.rejects} == {i for i, spans in enumerate(expected) if spans is None}
    if step.name == "exact_documents":
        assert cleaned.same == {str(i): str(texts.index(texts[i])) for i, p in enumerate(expected) if p is None}


# --- whoever does it, and however often it is stopped --------------------------------------------------------

PARTS = [
    ["the first line\nthe second\n\nthe third", "a hen"],
    ["the first line\n\nthe third", "a hen", "the second"],
    ["the second\nthe first line\n\na fox", "a hen\n\nthe third\n\nthe third"],
]


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
@pytest.mark.usefixtures("small_buckets")
def test_the_bytes_are_the_same_after_an_interruption_anywhere(
    step: ExactDuplicates, interrupted: Callable[..., Any]
) -> None:
    runs = interrupted(step, PARTS)
    whole = next(runs)
    again = list(runs)
    assert len(again) >= 9 and all(cleaned == whole for cleaned in again) and whole.counts["rejected"]


@pytest.mark.usefixtures("small_buckets")
def test_two_workers_give_the_same_bytes_as_one(trial: Callable[..., Any]) -> None:
    assert trial(*PARTS).run(STEPS[1], Workers(workers=2)) == trial(*PARTS).run(STEPS[1])


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
@pytest.mark.usefixtures("small_buckets")
def test_three_tasks_of_a_job_array_give_the_same_bytes_as_one(
    step: ExactDuplicates, trial: Callable[..., Any]
) -> None:
    shared, found = trial(*PARTS), {}

    def take_part(index: int) -> None:
        found[index] = shared.run(step, Workers(workers=1, task_index=index, num_tasks=3))

    threads = [threading.Thread(target=take_part, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == dict.fromkeys(range(3), trial(*PARTS).run(step))


@pytest.mark.usefixtures("small_buckets")
def test_the_last_task_of_a_job_array_does_it_all_when_the_others_never_come(trial: Callable[..., Any]) -> None:
    alone = Workers(workers=1, task_index=2, num_tasks=3, patience_seconds=0)
    assert trial(*PARTS).run(STEPS[1], alone) == trial(*PARTS).run(STEPS[1])


@pytest.mark.usefixtures("small_buckets")
def test_what_the_phases_wrote_for_each_other_is_freed_at_the_end(trial: Callable[..., Any]) -> None:
    done = trial(*PARTS)
    done.run(STEPS[0])
    assert len(list(done.folder.glob("01-step.*/*/result.json"))) > 6 and not list(done.folder.rglob("*.npy"))
