"""Machinery: a peer: litdata's StreamingDataset over tokens it has optimized, shuffled, loaded in this process."""
# mypy: ignore-errors

import os

import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset, TokensLoader, optimize
from measuring import endless, known_rows, pace, report, settings

PIECE = 2**20


def pieces(start):
    """Return a stretch of whole rows of the token file."""
    wanted = settings()
    tokens = np.memmap(wanted["tokens"], dtype=wanted["dtype"], mode="r")
    length = wanted["length"]
    stop = min(start + PIECE // length * length, len(tokens) // length * length)
    yield torch.from_numpy(tokens[start:stop].astype(np.int32))


if __name__ == "__main__":
    wanted = settings()
    length, batch = wanted["length"], wanted["batch"]
    tokens = np.memmap(wanted["tokens"], dtype=wanted["dtype"], mode="r")
    folder = os.path.join(wanted["kept"], "litdata")
    if not os.path.exists(folder):
        optimize(
            fn=pieces,
            inputs=list(range(0, len(tokens) // length * length, PIECE // length * length)),
            output_dir=folder,
            chunk_size=length * 8192,
            item_loader=TokensLoader(block_size=length),
            num_workers=1,
        )
    rows = StreamingDataset(folder, item_loader=TokensLoader(block_size=length), shuffle=True, drop_last=True)
    loader = StreamingDataLoader(rows, batch_size=batch, drop_last=True, num_workers=0)
    batches = endless(lambda: loader)

    def draw():
        return next(batches).to(torch.int64)

    known = known_rows(np.asarray(tokens), length)
    found = draw().numpy().astype(wanted["dtype"])
    right = found.shape == (batch, length) and all(hash(row.tobytes()) in known for row in found)
    report(pace=pace(draw, batch * (length - 1), wanted["seconds"]), rows_known=bool(right))
