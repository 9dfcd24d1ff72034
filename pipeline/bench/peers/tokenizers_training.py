"""Machinery: a peer: the trainer of `tokenizers`, fed by an iterator over a JSONL file."""
# mypy: ignore-errors

import time

STARTED = time.perf_counter()

import json  # noqa: E402

from measuring import report, settings  # noqa: E402
from tokenizers import Tokenizer, pre_tokenizers, trainers  # noqa: E402


def texts(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


if __name__ == "__main__":
    wanted = settings()
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    tokenizer = Tokenizer.from_str(json.dumps({**wanted["frame"], "added_tokens": [], "model": empty}))
    trainer = trainers.BpeTrainer(
        vocab_size=wanted["vocab_size"],
        min_frequency=wanted["min_frequency"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(wanted["text"]), trainer)
    tokenizer.save(wanted["out"])
    report(seconds=time.perf_counter() - STARTED)
