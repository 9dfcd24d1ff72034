"""Machinery: a corpus report as a page of a terminal."""

from collections.abc import Iterator, Sequence

from pipeline.artifacts.identity import shorten
from pipeline.reporting.corpus_report import CorpusReport
from pipeline.reporting.wording import percent, size, visible

_REASONS = 12
_WIDTH = 100


def lines(report: CorpusReport) -> Iterator[str]:
    """Yield the summary, table by table."""
    kept, total = sum(report.documents.values()), sum(report.bytes.values())
    found = f" of {report.read:,}" if report.read else ""
    by_split = " + ".join(f"{count:,} {split}" for split, count in report.documents.items())
    yield f"{shorten(report.reference)}  {kept:,} documents{found} kept ({by_split}), {size(total)}"
    yield from (f"  the account does not add up: {doubt}" for doubt in report.doubts)
    yield from _table("sources", ["licence", "found", "kept", "bytes"], list(_source_rows(report)), left=2)
    if report.steps:
        header = ["in", "rejected", "changed", "out", "bytes out"]
        yield from _table("steps", header, list(_step_rows(report)))
    if report.reasons:
        header = ["documents", "share"]
        yield from _table("rejects", header, list(_reason_rows(report)))
    yield ""
    clusters = report.clusters
    yield f"duplicates  {clusters.copies:,} in {clusters.clusters:,} clusters"
    yield from (f"  {cluster.copies:>7,} x {_cut(cluster.key)}" for cluster in clusters.largest[:3])
    yield f"lengths     {_lengths(report)}"
    yield f"languages   {_mix(report.languages.documents) if report.languages else 'not available'}"
    if report.personal is not None:
        yield f"masked      {_mix(report.personal) or 'nothing'}"
    for length, phrases in report.phrases.by_length.items():
        if length > 1 and phrases:
            yield f"{length} words     {_cut('; '.join(f'{p.text} {p.count:,}' for p in phrases[:5]), _WIDTH - 12)}"
    yield f"tokenizer   {_tokenizer(report)}"


def _source_rows(report: CorpusReport) -> Iterator[list[str]]:
    for row in report.sources:
        found = f"{row.documents_in:,}" if row.documents_in is not None else "–"
        yield [visible(row.name), visible(row.license), found, f"{row.documents_out:,}", size(row.bytes_out)]


def _step_rows(report: CorpusReport) -> Iterator[list[str]]:
    for row in report.steps:
        numbers = (row.documents_in, sum(row.rejected.values()), row.changed, row.documents_out)
        yield [visible(row.step), *(f"{number:,}" for number in numbers), size(row.bytes_out)]


def _reason_rows(report: CorpusReport) -> Iterator[list[str]]:
    for row in report.reasons[:_REASONS]:
        share = percent(row.documents, report.rejected)
        yield [visible(f"{row.step}: {row.reason}"), f"{row.documents:,}", share]
    rest = report.reasons[_REASONS:]
    if rest:
        count = sum(row.documents for row in rest)
        yield [f"{len(rest)} more reasons", f"{count:,}", percent(count, report.rejected)]


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Iterator[str]:
    """Yield a table whose first `left` columns are text and whose others are numbers."""
    cells = [[title, *header], *([_cut(row[0], 44), *row[1:]] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    yield ""
    for row in cells:
        pairs = enumerate(zip(row, widths, strict=True))
        yield "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in pairs).rstrip()


def _lengths(report: CorpusReport) -> str:
    chosen = [row for row in report.lengths if row.split == "train"]
    return "; ".join(f"{row.median:,} {row.unit} at the median, {row.most:,} at most" for row in chosen)


def _mix(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{visible(name)} {count:,} ({percent(count, total)})" for name, count in list(counts.items())[:6])


def _tokenizer(report: CorpusReport) -> str:
    if report.tokenizer is None:
        return "none in this store was made from this corpus"
    return f"{shorten(report.tokenizer.reference)}  {report.tokenizer.summary}"


def _cut(text: str, width: int = _WIDTH) -> str:
    flat = visible(text)
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"
