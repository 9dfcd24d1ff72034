"""Fixtures of this room: a corpus whose every text tries to get out of its place, and tokenizers by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store

EVIL = '<script>alert("1")</script> \'quoted\' & "so" </style></blockquote> \x1b[2J \u202eright to left {{ 7 * 7 }}'


@pytest.fixture
def hostile(raw: Any, make_raw: Any) -> Any:
    """Let everything that comes from outside try to get out."""
    documents = [(split, EVIL + "s", EVIL + "p", EVIL + text) for split, _, _, text in raw.documents]
    bad = [(EVIL, EVIL, EVIL, EVIL, f"{EVIL}s {EVIL}p", EVIL) for _ in raw.rejects]
    steps = make_raw(documents, bad).account()
    steps[0] |= {"settings": {EVIL: EVIL}, "counts": {EVIL: 3}}
    steps.append(steps[-1] | {"documents_in": 6, "rejected": {}, "step": "language" + EVIL, "counts": {EVIL: 1}})
    steps.append(steps[-1] | {"step": "pii" + EVIL})
    return make_raw(documents, bad, steps, license=EVIL, attribution=EVIL)


@pytest.fixture
def tokenizer_of(request_of: Any) -> Callable[..., Artifact]:
    """Publish what is called a tokenizer of a corpus: tokenizer_of(store, corpus, {"bytes_per_token": 3.5})."""

    def publish(store: Store, corpus: Artifact, page: dict[str, Any], vocab_size: int = 300) -> Artifact:
        request = request_of({"n": vocab_size}, kind="tokenizer")
        request = replace(request, recipe=replace(request.recipe, inputs={"corpus": corpus.name}))
        with store.draft(request) as draft:
            (draft.path / "report.json").write_text(json.dumps(page))
            draft.fact(vocab_size=vocab_size, bytes_per_token=3.51)
        return draft.artifact

    return publish
