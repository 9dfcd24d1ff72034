"""Machinery: a corpus report as one HTML page that needs nothing else: no script, no font, no network.

All text of the corpus is untrusted: every value is made visible and escaped on its way into the template, whatever the
template says, and the page forbids scripts as well.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.reporting.charts import bar, histogram
from pipeline.reporting.corpus_report import CorpusReport
from pipeline.reporting.wording import changed_words, percent, size, title_of, token, visible
from pipeline.runtime.hashing import JSON, Page

_TEMPLATE = "page.html"
_MANY = 24
"""longest list of a tokenizer's report that is shown whole"""


def render(report: CorpusReport) -> str:
    """Return the page."""
    import jinja2
    from markupsafe import Markup

    def safe_bar(*pieces: tuple[float, str]) -> Markup:
        return Markup(bar(*pieces))  # numbers and our own class names only

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, size=size, token=token, title_of=title_of, setting=_setting)
    environment.globals.update(percent=percent, changed_words=changed_words, bar=safe_bar)
    charts = {
        unit: Markup(histogram(found, f"{unit} per document"))
        for unit in ("characters", "words")
        if (found := [lengths for lengths in report.lengths if lengths.unit == unit])
    }
    return environment.get_template(_TEMPLATE).render(
        report=report, charts=charts, tables=_tables(report.tokenizer.report if report.tokenizer else {})
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _setting(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tables(page: Page) -> dict[str, Any]:
    """Sort what a tokenizer's report holds by how it is best shown, whatever it is."""
    figures: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    grids: dict[str, list[list[str]]] = {}
    for key, value in page.items():
        if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
            columns = list(dict.fromkeys(name for row in value.values() for name in row))
            rows = [[name, *(_cell(row.get(column, "")) for column in columns)] for name, row in value.items()]
            grids[key] = [["", *columns], *rows]
        elif isinstance(value, dict):
            grids[key] = [["", ""], *([name, _cell(entry)] for name, entry in value.items())]
        elif isinstance(value, list):
            lists[key] = [_cell(entry) for entry in value[:_MANY]]
        else:
            figures[key] = _cell(value)
    return {"figures": figures, "lists": lists, "grids": grids}


def _cell(value: JSON) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
