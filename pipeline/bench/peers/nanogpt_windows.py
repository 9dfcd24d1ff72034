"""Machinery: a peer: nanoGPT's get_batch: a memory map per call, rows stacked one by one."""
# mypy: ignore-errors

import numpy as np
import torch
from measuring import pace, report, settings

if __name__ == "__main__":
    wanted = settings()
    length, batch = wanted["length"] - 1, wanted["batch"]

    def get_batch():
        data = np.memmap(wanted["tokens"], dtype=wanted["dtype"], mode="r")
        starts = torch.randint(len(data) - length, (batch,))
        x = torch.stack([torch.from_numpy(data[i : i + length].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + length].astype(np.int64)) for i in starts])
        return x, y

    x, y = get_batch()
    assert x.shape == (batch, length) and torch.equal(x[:, 1:], y[:, :-1])
    report(pace=pace(get_batch, batch * length, wanted["seconds"]), rows_known=True)
