"""Machinery: a peer: nanoGPT's way from text to a token file, datasets.map with two processes and tiktoken."""
# mypy: ignore-errors

import time

STARTED = time.perf_counter()

import base64  # noqa: E402
import os  # noqa: E402

import numpy as np  # noqa: E402
import tiktoken  # noqa: E402
from datasets import load_dataset  # noqa: E402
from measuring import report, settings, write_documents  # noqa: E402

SETTINGS = settings()
with open(SETTINGS["ranks"], encoding="ascii") as lines:
    RANKS = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
ENCODING = tiktoken.Encoding(
    "bench", pat_str=SETTINGS["pattern"], mergeable_ranks=RANKS, special_tokens={"<|endoftext|>": SETTINGS["end"]}
)


def encode(row):
    ids = ENCODING.encode_ordinary(row["text"])
    ids.append(ENCODING.eot_token)
    return {"ids": ids, "len": len(ids)}


def write(tokenized, path):
    """Write the ids of all rows into one memory-mapped file, in batches, as nanoGPT does."""
    total = int(np.sum(tokenized["len"], dtype=np.uint64))
    tokens = np.memmap(path, dtype=SETTINGS["dtype"], mode="w+", shape=(total,))
    batches, done = min(1024, len(tokenized)), 0
    for i in range(batches):
        rows = tokenized.shard(num_shards=batches, index=i, contiguous=True).with_format("numpy")
        ids = np.concatenate(rows["ids"])
        tokens[done : done + len(ids)] = ids
        done += len(ids)
    tokens.flush()
    return tokens


if __name__ == "__main__":
    raw = load_dataset("json", data_files=SETTINGS["text"], split="train")
    mapped = raw.map(encode, remove_columns=["text"], num_proc=SETTINGS["workers"])
    stream = write(mapped, os.path.join(SETTINGS["out"], "train.bin"))
    seconds = time.perf_counter() - STARTED
    write_documents(np.asarray(stream), SETTINGS["end"], SETTINGS["documents"])
    report(seconds=seconds, tokens=len(stream))
