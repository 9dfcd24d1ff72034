"""Machinery: the names that artifacts of earlier versions go by, and what is meant by them today.

An artifact is never rewritten, so whoever reads its facts or its config.json gets them through this table.  What is
hashed, compared or shown as it was asked is read as it stands.
"""

from collections.abc import Mapping
from typing import TypeAlias, Union

from pipeline.runtime.hashing import Page

Names: TypeAlias = Mapping[str, Union[str, "Names"]]
"""an old key with its new one, or a key that stays with the names inside of what it holds"""

_NETWORK: Names = {"mlp_hidden": "intermediate_size", "tied_embeddings": "tie_word_embeddings"}

FACTS: Mapping[str, Names] = {
    "examples": {"task": "example_type"},
    "model": {"task": "purpose", "model": _NETWORK},
    "evaluation": {"task": "purpose"},
}
"""by kind of artifact"""

NETWORK_FILE: Names = {"task": "architecture", "model": _NETWORK}
"""a model's config.json"""


def facts_of(kind: str, facts: Page) -> Page:
    """Return the facts of an artifact by the names of today."""
    return renamed(facts, FACTS.get(kind, {}))


def renamed(page: Page, names: Names) -> Page:
    """Return `page` with its old keys replaced; one whose new key is there too stays as it is."""
    found: Page = {}
    for key, value in page.items():
        new = names.get(key, key)
        if isinstance(new, str):
            found[key if new in page else new] = value
        else:
            found[key] = renamed(value, new) if isinstance(value, dict) else value
    return found
