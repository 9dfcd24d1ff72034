"""Machinery: a peer: mosaicml-streaming's StreamingDataset over MDS rows, shuffled, loaded in this process."""
# mypy: ignore-errors

import importlib.machinery
import os
import sys
import types

for name in ("", ".transforms", ".transforms.functional", ".datasets", ".datasets.vision"):
    # It imports torchvision for its data sets of images; the one on PyPI is built for another torch than is here.
    module = types.ModuleType(f"torchvision{name}")
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    module.__path__ = []
    module.to_tensor, module.VisionDataset = None, object
    sys.modules[module.__name__] = module

import numpy as np  # noqa: E402
import torch  # noqa: E402
from measuring import endless, known_rows, pace, report, settings  # noqa: E402
from streaming import MDSWriter, StreamingDataset  # noqa: E402

if __name__ == "__main__":
    wanted = settings()
    length, batch = wanted["length"], wanted["batch"]
    tokens = np.memmap(wanted["tokens"], dtype=wanted["dtype"], mode="r")
    folder = os.path.join(wanted["kept"], "streaming")
    if not os.path.exists(folder):
        with MDSWriter(out=folder, columns={"ids": f"ndarray:{wanted['dtype']}:{length}"}) as out:
            for start in range(0, len(tokens) // length * length, length):
                out.write({"ids": np.asarray(tokens[start : start + length])})
    rows = StreamingDataset(local=folder, shuffle=True, batch_size=batch)
    loader = torch.utils.data.DataLoader(
        rows,
        batch_size=batch,
        drop_last=True,
        collate_fn=lambda found: torch.from_numpy(np.stack([row["ids"] for row in found]).astype(np.int64)),
    )
    batches = endless(lambda: loader)

    def draw():
        return next(batches)

    known = known_rows(np.asarray(tokens), length)
    found = draw().numpy().astype(wanted["dtype"])
    right = found.shape == (batch, length) and all(hash(row.tobytes()) in known for row in found)
    report(pace=pace(draw, batch * (length - 1), wanted["seconds"]), rows_known=bool(right))
