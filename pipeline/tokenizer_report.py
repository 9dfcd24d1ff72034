"""Program: print what a tokenizer makes of its corpus, beside GPT-2's and cl100k's where they are found.

    python -m pipeline.tokenizer_report tokenizer:1c0e…
    python -m pipeline.tokenizer_report tokenizer:1c0e… --against ~/gpt2 ~/cl100k_base.tiktoken

The tokenizer's own figures are in its report.json.  The others are measured now, on the same text, so that no byte of
an artifact depends on what is installed.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import CairnError, DataError, MissingError
from pipeline.runtime.console import say
from pipeline.runtime.program import default_store, program
from pipeline.tokenization.importing import build_tokenizer, files_at, pattern_of_ranks, read_files
from pipeline.tokenization.measures import Fit, fit_by_source, short_lines, sum_of

# --- other tokenizers ----------------------------------------------------------------------------------------

_TIKTOKEN = "https://openaipublic.blob.core.windows.net/encodings"
_CACHED = {"gpt2": f"{_TIKTOKEN}/r50k_base.tiktoken", "cl100k": f"{_TIKTOKEN}/cl100k_base.tiktoken"}
"""the addresses by whose SHA-1 tiktoken calls the files in its cache"""


def cached_ranks() -> dict[str, Path]:
    """Return the rank files of GPT-2 and cl100k that tiktoken has downloaded earlier; the network is never asked."""
    places = [os.environ.get(name) for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")]
    folders = [Path(place) for place in places if place] or [Path(tempfile.gettempdir()) / "data-gym-cache"]
    found = {}
    for name, address in _CACHED.items():
        called = hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
        for path in (folder / called for folder in folders):
            if path.is_file() and pattern_of_ranks(path) == name:
                found[name] = path
    return found


def counter_of(path: Path) -> Callable[[list[str]], list[int]]:
    """Return a function that counts the tokens of texts by the tokenizer at `path`."""
    files = files_at(path)
    tokenizer = build_tokenizer(read_files(files, pattern_of_ranks(files[0]) or "gpt2"))
    return lambda texts: [len(e.ids) for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def compare(artifact: Artifact, store: Store, others: dict[str, Path]) -> dict[str, dict[str, Fit]]:
    """Return, by tokenizer and source, the fit of other tokenizers on the text this one was measured on.

    Raises MissingError when the corpus is not in the store.
    """
    name = artifact.manifest.recipe.inputs.get("corpus")
    if name is None:
        raise MissingError(f"{artifact.short} was made without a corpus; there is no text to compare on.")
    corpus = store.find_input(name.kind, name.id, name.digest)
    return {other: fit_by_source(corpus, "validation", counter_of(path)) for other, path in others.items()}


def tokenizer_report_lines(
    artifact: Artifact, store: Store | None = None, others: dict[str, Path] | None = None
) -> list[str]:
    """Return the whole report of a tokenizer artifact as text, beside `others` (name: path) when there is a store."""
    report = artifact.read_json("report.json")
    facts = artifact.facts
    lines = [f"{artifact.short}: {facts['vocab_size']:,} ids, pattern {report['pattern']}"]
    if training := report.get("training"):
        share = f"{training['documents']:,} of {training['of_documents']:,} documents"
        lines.append(f"learned from {share}, {training['bytes'] / 1e6:.1f} of {training['of_bytes'] / 1e6:.1f} MB")
    lines += short_lines(report)
    if report["sources"]:
        own = {name: Fit(**{key: fit[key] for key in vars(Fit())}) for name, fit in report["sources"].items()}
        found = compare(artifact, store, others) if store and others else {}
        lines += ["", *_table({"this": own, **found})]
    return [*lines, "", *_number_lines(report["numbers"]), "", *_token_lines(report["longest_tokens"])]


def _table(fits: dict[str, dict[str, Fit]]) -> list[str]:
    """Return a line per source: bytes per token and tokens per word of each tokenizer."""
    names = list(fits)
    rows = [("source (held out)", "MB", *(f"{name}: bytes/token, tokens/word" for name in names))]
    sources = sorted(fits["this"])
    for source in sources:
        rows.append(_row(source, [fits[name][source] for name in names]))
    if len(sources) > 1:
        rows.append(_row("all", [sum_of(fits[name].values()) for name in names]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(source: str, fits: list[Fit]) -> tuple[str, ...]:
    figures = [fit.as_json() for fit in fits]
    cells = (f"{page['bytes_per_token']:.3f}  {page['tokens_per_word']:.3f}" for page in figures)
    return source, f"{fits[0].bytes / 1e6:.2f}", *cells


def _number_lines(numbers: dict[str, Any]) -> list[str]:
    lines = ["numbers that are one token:"]
    for title, key in (("alone", "one_token"), ("after a space", "one_token_after_a_space")):
        lines.append(f"  {title}: " + ", ".join(f"{share:.1%} of {digits}" for digits, share in numbers[key].items()))
    for title, key in (("1000 to 9999", "four_digits_cut"), ("1900 to 2029", "years_cut")):
        cuts = sorted(numbers[key].items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"  {title} as groups of digits: " + ", ".join(f"{cut}: {count:,}" for cut, count in cuts))
    for text, tokens in numbers["examples"].items():
        lines.append(f"  {text!r} is {' '.join(map(repr, tokens))}")
    return lines


def _token_lines(tokens: list[str]) -> list[str]:
    return ["longest tokens:", *(f"  {token!r}" for token in tokens)]


# --- the program ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Which tokenizer to report on, and beside which others."""

    tokenizer: Positional[str]
    """reference, name or path of a tokenizer artifact"""
    against: tuple[Path, ...] = ()
    """tokenizers to compare with: tokenizer.json, a folder with encoder.json and vocab.bpe, a .tiktoken file; those
    that tiktoken has downloaded earlier (TIKTOKEN_CACHE_DIR) are found by themselves"""
    store: Path = field(default_factory=default_store)
    """the folder of artifacts; CAIRN_STORE sets it too"""
    json: bool = False
    """print the artifact's own figures as JSON"""
    debug: bool = False
    """show a traceback when something fails"""


def run(command: ReportCommand) -> int:
    """Print the report."""
    store = Store(command.store.expanduser())
    artifact = store.find(command.tokenizer)
    if artifact.kind != "tokenizer":
        raise DataError(f"{command.tokenizer} is a {artifact.kind}, not a tokenizer.")
    if command.json:
        print(json.dumps(artifact.read_json("report.json"), ensure_ascii=False))
        return 0
    others = {**cached_ranks(), **{path.stem or str(path): path.expanduser() for path in command.against}}
    try:
        lines = tokenizer_report_lines(artifact, store, others)
    except CairnError as error:
        say(f"no comparison: {error}")
        lines = tokenizer_report_lines(artifact)
    print("\n".join(lines))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return program("pipeline.tokenizer_report", __doc__, ReportCommand, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
