"""The tree of what an artifact was made from, down to the files and their licences."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.lineage import Node, draw, trace
from pipeline.artifacts.store import Store


def kind_of(artifact: Artifact) -> str:
    return f"what is in {artifact.kind}"


def test_the_inputs_are_followed_to_the_sources(chain: Any) -> None:
    node = trace(chain.shards, chain.bench.store, kind_of)

    assert (node.role, node.reference, node.summary) == ("", chain.shards.reference, "what is in shards")
    assert [(child.role, child.digest) for child in node.inputs] == [
        ("corpus", chain.corpus.digest),
        ("tokenizer", chain.tokenizer.digest),
    ]
    corpus, tokenizer = node.inputs
    [source] = corpus.sources
    assert source == {key: chain.corpus.manifest.recipe.config["sources"][0][key] for key in source}
    assert {"name", "location", "sha256", "license", "attribution"} == set(source)
    assert replace(corpus, role="corpus") == replace(tokenizer.inputs[0], role="corpus"), "the corpus is that of both"


def test_an_input_that_is_gone_is_shown_as_missing_by_its_digest(chain: Any) -> None:
    chain.tokenizer.path.rename(chain.bench.store.root / "elsewhere")

    corpus, tokenizer = trace(chain.shards, chain.bench.store, kind_of).inputs

    assert corpus.summary == "what is in corpus"
    assert (tokenizer.summary, tokenizer.digest) == ("not in this store", chain.tokenizer.digest)
    assert tokenizer.inputs == []


def test_other_bytes_under_the_same_id_are_not_the_input(chain: Any, publish: Callable[..., Artifact]) -> None:
    """An artifact that was made again to other bytes is not what this one was made of."""
    store: Store = chain.bench.store
    name = replace(chain.shards.manifest.recipe.inputs["corpus"], digest="0" * 64)
    recipe = replace(chain.shards.manifest.recipe, inputs={"corpus": name})
    shards = replace(chain.shards, manifest=replace(chain.shards.manifest, recipe=recipe))

    [corpus] = trace(shards, store, kind_of).inputs

    assert (corpus.digest, corpus.summary) == ("0" * 64, "not in this store")


def source(name: str, attribution: str = "") -> dict[str, str]:
    return {
        "name": name,
        "location": f"{name}.txt",
        "sha256": "ab" * 32,
        "license": "mit",
        "attribution": attribution,
    }


def test_a_tree_is_drawn_with_a_branch_for_each_and_what_was_drawn_already_is_only_named() -> None:
    corpus = Node(
        role="corpus", reference=f"corpus:{'c' * 64}", digest="c", summary="2 documents", sources=[source("a", "by A")]
    )
    tokenizer = Node(role="tokenizer", reference=f"tokenizer:{'d' * 64}", digest="d", summary="300 ids")
    tokenizer.inputs.append(corpus)
    tokenizer.sources.append(source("b"))
    shards = Node(role="", reference=f"shards:{'e' * 64}", digest="e", summary="9 tokens", inputs=[corpus, tokenizer])

    assert list(draw(shards)) == [
        "shards:eeeeeeeeeeee  9 tokens",
        "├── corpus: corpus:cccccccccccc  2 documents",
        "│   └── a: a.txt  sha256 abababababab  [mit]",
        "│       by A",
        "└── tokenizer: tokenizer:dddddddddddd  300 ids",
        "    ├── b: b.txt  sha256 abababababab  [mit]",
        "    └── corpus: corpus:cccccccccccc  (above)",
    ]


@pytest.mark.parametrize("role", ["", "base"])
def test_the_root_is_named_by_its_role_where_it_has_one(role: str) -> None:
    [line] = draw(Node(role=role, reference=f"model:{'f' * 64}", digest="f", summary="s"))

    assert line == f"{'base: ' if role else ''}model:ffffffffffff  s"
