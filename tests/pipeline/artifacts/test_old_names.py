"""Old names are read as what they mean today; what has today's names is left as it is."""

from typing import Any

import pytest

from pipeline.artifacts.old_names import FACTS, NETWORK_FILE, Names, facts_of, renamed

NETWORK = {"n_layer": 2, "mlp_hidden": None, "tied_embeddings": True}
NETWORK_NOW = {"n_layer": 2, "intermediate_size": None, "tie_word_embeddings": True}


@pytest.mark.parametrize(
    "kind, facts, now",
    [
        ("examples", {"task": "conversation", "labels": []}, {"example_type": "conversation", "labels": []}),
        ("model", {"task": "pretrained", "model": NETWORK}, {"purpose": "pretrained", "model": NETWORK_NOW}),
        ("evaluation", {"task": "assistant", "split": "test"}, {"purpose": "assistant", "split": "test"}),
        ("corpus", {"task": "is no fact of a corpus"}, {"task": "is no fact of a corpus"}),
    ],
)
def test_facts_of_earlier_versions_are_read_by_the_names_of_today(kind: str, facts: Any, now: Any) -> None:
    assert facts_of(kind, facts) == now
    assert facts_of(kind, now) == now, "what has the new names stays"


def test_the_file_of_a_network_is_read_by_the_names_of_today() -> None:
    old = {"task": "causal_lm", "model": NETWORK, "labels": ["task"]}
    assert renamed(old, NETWORK_FILE) == {"architecture": "causal_lm", "model": NETWORK_NOW, "labels": ["task"]}


def test_the_page_that_is_read_is_not_changed() -> None:
    facts: dict[str, Any] = {"task": "pretrained", "model": dict(NETWORK)}
    facts_of("model", facts)
    assert facts == {"task": "pretrained", "model": NETWORK}


def test_an_old_key_beside_its_new_one_stays_to_be_seen() -> None:
    both = {"task": "a", "purpose": "b"}
    assert facts_of("model", both) == both


def new_names(names: Names) -> list[str]:
    return [new for value in names.values() for new in ([value] if isinstance(value, str) else new_names(value))]


def test_no_new_name_is_an_old_one_in_the_same_place() -> None:
    for names in (*FACTS.values(), NETWORK_FILE):
        assert new_names(names) and not set(names) & {value for value in names.values() if isinstance(value, str)}
