"""Machinery: what the scripts of the peers share: their settings, and a report of what they made.

Each script here is run by the Python of its own environment, with its settings as JSON, and prints one line of JSON.
"""
# mypy: ignore-errors

import hashlib
import json
import sys
import time


def settings():
    """Return what the bench asks for."""
    return json.loads(sys.argv[1])


def report(**page):
    """Print the result, the one line that is read."""
    print(json.dumps(page), flush=True)


def write_documents(tokens, end, path):
    """Write the hash of each document of a token stream (8 bytes each, sorted), so that the ids can be compared."""
    import numpy as np

    stops = np.flatnonzero(tokens == end) + 1
    starts = np.concatenate([[0], stops[:-1]])
    hashes = sorted(
        hashlib.sha256(tokens[start:stop].astype("<u4").tobytes()).digest()[:8]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    )
    with open(path, "wb") as out:
        out.write(b"".join(hashes))


def known_rows(tokens, length):
    """Return the hash of every row of `length` tokens, to tell whether what a loader gives is in the file."""
    count = len(tokens) // length
    return {hash(row.tobytes()) for row in tokens[: count * length].reshape(count, length)}


def pace(draw, tokens_in_batch, seconds):
    """Return the M tokens/s of calling `draw` for some seconds, after a tenth of that to warm up."""
    stop = time.perf_counter() + seconds / 10
    while time.perf_counter() < stop:
        draw()
    batches, started = 0, time.perf_counter()
    while (now := time.perf_counter()) - started < seconds or batches < 3:
        draw()
        batches += 1
    return batches * tokens_in_batch / (now - started) / 1e6


def endless(make):
    """Yield the batches of a loader, epoch after epoch."""
    while True:
        yield from make()
