"""Machinery: a peer: rows of an Arrow data set by `datasets`, in the format and way that is fastest here."""
# mypy: ignore-errors

import os

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, load_from_disk
from measuring import endless, known_rows, pace, report, settings

if __name__ == "__main__":
    wanted = settings()
    length, batch = wanted["length"], wanted["batch"]
    tokens = np.memmap(wanted["tokens"], dtype=wanted["dtype"], mode="r")
    folder = os.path.join(wanted["kept"], "datasets")
    if not os.path.exists(folder):
        whole = pa.array(np.asarray(tokens[: len(tokens) // length * length]))
        Dataset(pa.table({"ids": pa.FixedSizeListArray.from_arrays(whole, length)})).save_to_disk(folder)
    rows = load_from_disk(folder)
    draw = np.random.default_rng(0)

    def numbers():
        return draw.integers(0, len(rows), batch)

    torch_rows, numpy_rows, arrow_rows = (rows.with_format(name) for name in ("torch", "numpy", "arrow"))

    def torch_format(rows=torch_rows):
        return rows[numbers()]["ids"].to(torch.int64)

    def numpy_format(rows=numpy_rows):
        return torch.from_numpy(rows[numbers()]["ids"].astype(np.int64))

    def arrow_format(rows=arrow_rows):
        column = rows[numbers()].column("ids").combine_chunks()
        return torch.from_numpy(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, length).astype(np.int64))

    loader = torch.utils.data.DataLoader(torch_rows, batch_size=batch, shuffle=True, drop_last=True)
    batches = endless(lambda: loader)

    def torch_loader():
        return next(batches)["ids"].to(torch.int64)

    known = known_rows(np.asarray(tokens), length)
    paces, right = {}, True
    for way in (torch_format, numpy_format, arrow_format, torch_loader):
        found = way().numpy().astype(wanted["dtype"])
        right = right and found.shape == (batch, length) and all(hash(row.tobytes()) in known for row in found)
        paces[way.__name__] = pace(way, batch * (length - 1), wanted["seconds"] / 2)
    report(pace=max(paces.values()), way=max(paces, key=paces.get), paces=paces, rows_known=bool(right))
