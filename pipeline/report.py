"""Program: show what a corpus is made of: a page for a browser and a summary for the terminal.

python -m pipeline.report corpus:3f9c…
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.store import Store
from pipeline.errors import UsageError
from pipeline.reporting.corpus_report import CorpusReport, gather
from pipeline.reporting.page import render
from pipeline.reporting.terminal import lines
from pipeline.runtime.files import replace_text
from pipeline.runtime.program import default_store, program
from pipeline.stage.definition import describe


@dataclass(frozen=True, kw_only=True)
class Report:
    """What to report on, and where the page goes."""

    corpus: Positional[str]
    """kind:id, a given name, or a path"""
    out: Path | None = None
    """the page; without it corpus-ID.html in this folder"""
    tokenizer: str | None = None
    """the tokenizer to report on, instead of those in the store that were made from this corpus"""
    sample_bytes: int = 2**24
    """text to look at closely (words, phrases, languages), about; the rest is only counted"""
    store: Path = field(default_factory=default_store)
    """the folder of artifacts; CAIRN_STORE sets it too"""
    json: bool = False
    """print the report as JSON instead of the summary"""
    debug: bool = False
    """show a traceback when something fails"""

    def __post_init__(self) -> None:
        if self.sample_bytes < 1:
            raise UsageError(f"--sample-bytes must be at least 1, got {self.sample_bytes}.")


def run(command: Report) -> int:
    """Gather the report, write the page, print the summary; the page's path comes last, on stdout."""
    store = Store(command.store.expanduser())
    artifact = store.find(command.corpus)
    report = gather(artifact, store, describe, sample_bytes=command.sample_bytes, tokenizer=command.tokenizer)
    page = (command.out or Path(f"corpus-{artifact.id[:SHORT]}.html")).expanduser()
    if page.is_dir():
        raise UsageError(f"{page} is a folder; --out names the page itself.")
    replace_text(page, render(report))
    print(_as_json(report, page) if command.json else "\n".join([*lines(report), "", str(page)]))
    return 0


def _as_json(report: CorpusReport, page: Path) -> str:
    return json.dumps({**report.as_json(), "page": str(page)}, indent=2, ensure_ascii=False)


def main(argv: Sequence[str] | None = None) -> int:
    return program("pipeline.report", __doc__, Report, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
