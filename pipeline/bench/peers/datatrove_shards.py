"""Machinery: a peer: datatrove's pipeline of a JSONL reader and its DocumentTokenizer, two tasks at once."""
# mypy: ignore-errors

import time

STARTED = time.perf_counter()

import glob  # noqa: E402
import os  # noqa: E402

import numpy as np  # noqa: E402
from datatrove.executor import LocalPipelineExecutor  # noqa: E402
from datatrove.pipeline.readers import JsonlReader  # noqa: E402
from datatrove.pipeline.tokens import DocumentTokenizer  # noqa: E402
from measuring import report, settings, write_documents  # noqa: E402

if __name__ == "__main__":
    wanted = settings()
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(wanted["folder"]),
            DocumentTokenizer(
                os.path.join(wanted["out"], "tokens"),
                tokenizer_name_or_path=wanted["tokenizer"],
                eos_token="<|endoftext|>",
                shuffle_documents=False,
            ),
        ],
        tasks=wanted["workers"],
        workers=wanted["workers"],
        logging_dir=os.path.join(wanted["out"], "logs"),
    ).run()
    seconds = time.perf_counter() - STARTED
    files = sorted(glob.glob(os.path.join(wanted["out"], "tokens", "*.ds")))
    tokens = np.concatenate([np.fromfile(path, dtype=wanted["dtype"]) for path in files])
    write_documents(tokens, wanted["end"], wanted["documents"])
    report(seconds=seconds, tokens=len(tokens))
