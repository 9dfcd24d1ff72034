"""Rows become examples: nothing leaks between splits, and only replies are learned."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.tables.arrow import read_batch
from pipeline.tokenization.text_encoder import TextEncoder

Row = dict[str, Any]
LABELS = ("bird", "fish", "mammal")


def rows_of(artifact: Artifact, split: str = "") -> list[Row]:
    splits = [split] if split else ["train", "validation", "test"]
    return [row for name in splits for path in artifact.files(f"{name}-") for row in read_batch(path).to_pylist()]


def rejects(artifact: Artifact) -> list[tuple[str, str]]:
    """Return (place, reason) of everything that was left out."""
    return [
        (row["place"], row["reason"]) for path in artifact.files("rejects-") for row in read_batch(path).to_pylist()
    ]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def labelled(count: int) -> list[Row]:
    return [{"text": f"Animal {i} has {i % 7} legs.", "label": LABELS[i % 3]} for i in range(count)]


@pytest.fixture
def examples(chain: Any, tmp_path: Path) -> Callable[..., Artifact]:
    """Make examples of rows: examples([{"text": …, "label": …}], "--max-tokens", "20")."""

    def make(rows: list[Row], *arguments: str) -> Artifact:
        source = write(tmp_path / "rows.jsonl", rows)
        tokenizer = ("--tokenizer", chain.tokenizer.reference)
        artifact: Artifact = chain.bench.make(
            "pipeline.examples", "--source", str(source), *tokenizer, "--workers", "1", *arguments
        )
        return artifact

    return make


@pytest.fixture
def talks(examples: Callable[..., Artifact]) -> Callable[..., Artifact]:
    """Make conversations of rows."""
    return lambda rows, *arguments: examples(rows, "--example-type", "conversation", *arguments)


@pytest.fixture
def encoder(chain: Any) -> TextEncoder:
    return TextEncoder.of(chain.tokenizer)


# --- classification ------------------------------------------------------------------------------------------


def test_a_labelled_row_becomes_the_ids_of_its_text_and_the_number_of_its_label(
    examples: Callable[..., Artifact], encoder: TextEncoder
) -> None:
    rows = labelled(60)

    artifact = examples(rows)

    assert artifact.facts["labels"] == list(LABELS)
    expected = {(tuple(encoder.encode(row["text"])), LABELS.index(row["label"])) for row in rows}
    assert {(tuple(row["input_ids"]), row["label"]) for row in rows_of(artifact)} == expected
    assert artifact.facts["tokenizer_digest"] and artifact.facts["vocab_size"] == encoder.vocab_size


def test_rows_in_are_examples_and_rejects_by_reason(examples: Callable[..., Artifact]) -> None:
    rows = [*labelled(30), {"text": "", "label": "bird"}, {"text": "A crow.", "label": None}, labelled(1)[0]]
    rows += [{**labelled(2)[1], "label": "bird"}, {"text": "A rook.", "label": "  "}]

    artifact = examples(rows)

    assert artifact.manifest.counts["read"] == 35
    assert artifact.manifest.counts["examples"] == len(rows_of(artifact)) == 30
    assert rejects(artifact) == [
        ("rows.jsonl:31", "no text"),
        ("rows.jsonl:32", "no label"),
        ("rows.jsonl:33", "duplicate"),
        ("rows.jsonl:34", "other label"),
        ("rows.jsonl:35", "no label"),
    ]


def test_no_text_is_in_two_splits_and_none_is_there_twice(examples: Callable[..., Artifact]) -> None:
    artifact = examples([*labelled(120), *labelled(120)], "--validation-fraction", "0.3")

    train, validation = ([tuple(row["input_ids"]) for row in rows_of(artifact, s)] for s in ("train", "validation"))
    assert len(set(train) | set(validation)) == len(train) + len(validation) == 120
    assert 15 <= len(validation) <= 60


def test_a_long_text_is_cut_and_counted(examples: Callable[..., Artifact], encoder: TextEncoder) -> None:
    rows = [*labelled(20), {"text": "very " * 100 + "long", "label": "fish"}]

    artifact = examples(rows, "--max-tokens", "16")

    assert artifact.facts["longest"] == 16
    assert artifact.manifest.counts["truncated"] == sum(len(encoder.encode(row["text"])) > 16 for row in rows) >= 1
    assert encoder.encode(rows[-1]["text"])[:16] in [row["input_ids"] for row in rows_of(artifact)]


def test_max_rows_takes_the_same_rows_whatever_their_order(examples: Callable[..., Artifact]) -> None:
    chosen = [
        {tuple(row["input_ids"]) for row in rows_of(examples(rows, "--max-rows", "40"))}
        for rows in (labelled(90), labelled(90)[::-1])
    ]

    assert len(chosen[0]) == 40
    assert chosen[0] == chosen[1]


def test_max_rows_leaves_each_split_its_share(examples: Callable[..., Artifact]) -> None:
    counts = examples(labelled(400), "--max-rows", "100").facts["examples"]

    assert counts["train"] > 70 and counts["validation"] >= 1


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"text": f"{i}", "label": "bird"} for i in range(9)], "at least two labels, and the rows have ['bird']"),
        ([{"text": "a"}, {"text": "b"}], "source rows: no row has the field 'label'. Known: text."),
        ([{"text": "a", "lable": "bird"}], "no row has the field 'label'. Did you mean 'lable'?"),
        ([{"body": "a", "label": "bird"}], "source rows: no row has the field 'text'. Known: body, label."),
    ],
)
def test_rows_that_teach_no_classifier_are_bad_data(chain: Any, tmp_path: Path, rows: list[Row], sentence: str) -> None:
    source = write(tmp_path / "rows.jsonl", rows)

    ended = chain.bench("pipeline.examples", "--source", str(source), "--tokenizer", chain.tokenizer.reference)

    assert (ended.code, sentence in ended.err) == (65, True), ended.err


def test_a_label_that_no_training_row_has_is_bad_data(chain: Any, tmp_path: Path) -> None:
    import hashlib

    held_out = next(t for t in map(str, range(99)) if hashlib.sha256(t.encode()).digest()[0] < 20)
    others = [{"text": f"row {i}", "label": LABELS[i % 2]} for i in range(30)]
    source = write(tmp_path / "rows.jsonl", [*others, {"text": held_out, "label": "rare"}])

    ended = chain.bench("pipeline.examples", "--source", str(source), "--tokenizer", chain.tokenizer.reference)

    assert (ended.code, "no training row has the label(s) rare" in ended.err) == (65, True), ended.err


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "parquet"])
def test_every_tabular_format_gives_the_same_examples(
    chain: Any, examples: Callable[..., Artifact], tmp_path: Path, suffix: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [*labelled(29), {"text": "NA", "label": "null"}]
    expected = rows_of(examples(rows))
    path = tmp_path / f"rows.{suffix}"
    match suffix:
        case "csv" | "tsv":
            with path.open("w", newline="") as file:
                lines = csv.writer(file, delimiter="," if suffix == "csv" else "\t")
                lines.writerows([["text", "label"], *(row.values() for row in rows)])
        case "json":
            path.write_text(json.dumps(rows))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)

    made = chain.bench.make("pipeline.examples", "--source", str(path), "--tokenizer", chain.tokenizer.reference)

    assert rows_of(made) == expected


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet", "arrow", "set"])
def test_in_every_format_a_row_without_a_label_is_left_out(chain: Any, tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [*labelled(20), {"text": "A crow.", "label": None}, {"text": "A rook.", "label": " "}, *labelled(23)[20:]]
    path = tmp_path / f"rows.{suffix}"
    match suffix:
        case "jsonl":
            write(path, [{name: value for name, value in row.items() if value is not None} for row in rows])
        case "json":
            path.write_text(json.dumps([{k: v for k, v in row.items() if v is not None} for row in rows]))
        case "csv" | "tsv":
            with path.open("w", newline="") as file:
                lines = csv.writer(file, delimiter="," if suffix == "csv" else "\t")
                lines.writerows([["text", "label"], *(row.values() for row in rows)])
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case "arrow":
            table = pa.Table.from_pylist(rows)
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        case "set":
            from datasets import ClassLabel, Dataset, Features, Value

            numbers = [{**row, "label": LABELS.index(row["label"]) if row["label"] in LABELS else -1} for row in rows]
            features = Features({"text": Value("string"), "label": ClassLabel(names=list(LABELS))})
            Dataset.from_list(numbers, features=features).save_to_disk(path)

    artifact = chain.bench.make("pipeline.examples", "--source", str(path), "--tokenizer", chain.tokenizer.reference)

    assert artifact.facts["labels"] == list(LABELS)
    assert len(rows_of(artifact)) == 23
    assert artifact.manifest.counts["rejected"]["no label"] == 2


def test_published_examples_open_with_the_names_of_labels(examples: Callable[..., Artifact], tmp_path: Path) -> None:
    from datasets import ClassLabel, load_dataset

    artifact = examples(labelled(30))

    files = [str(path) for path in artifact.files("train-")]
    found = load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["label"] == ClassLabel(names=list(LABELS))
    assert [row["label"] for row in found] == [row["label"] for row in rows_of(artifact, "train")]


def test_the_id_holds_what_was_found_and_not_how_it_was_named(examples: Callable[..., Artifact]) -> None:
    config = examples(labelled(30), "--validation-fraction", "0.2").manifest.recipe.config

    assert set(config) == {"example_type", "max_tokens", "max_rows", "sources"}
    [source] = config["sources"]
    assert (source["name"], source["split"], source["reading"]["documents"]) == ("rows", {"validation": 0.2}, "rows")


def test_text_that_looks_like_a_date_or_a_number_stays_text(
    examples: Callable[..., Artifact], encoder: TextEncoder
) -> None:
    texts = [f"2020-01-{day:02d}" for day in range(1, 29)] + ["1", "1.0", "true", "null", "NaN"]

    artifact = examples([{"text": text, "label": LABELS[i % 2]} for i, text in enumerate(texts)])

    assert {encoder.decode(row["input_ids"]) for row in rows_of(artifact)} == set(texts)


def test_a_field_that_only_some_rows_have_takes_nothing_from_the_others(examples: Callable[..., Artifact]) -> None:
    artifact = examples([*labelled(20), {"text": "A crow."}, {"text": "A rook.", "label": "bird", "more": {"n": [1]}}])

    assert rejects(artifact) == [("rows.jsonl:21", "no label")]
    assert len(rows_of(artifact)) == 21


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_file_without_rows_is_bad_data(chain: Any, tmp_path: Path, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / name).touch()
    if name == "a.parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / name)

    ended = chain.bench("pipeline.examples", "--source", str(tmp_path / name), "--tokenizer", chain.tokenizer.reference)

    assert (ended.code, "the rows have []" in ended.err) == (65, True), ended.err


def test_other_fields_are_named_on_the_command_line(examples: Callable[..., Artifact]) -> None:
    rows = [{"title": f"T{i}", "body": "b", "kind": i % 2} for i in range(20)]

    artifact = examples(rows, "--text", "{title}: {body}", "--label", "kind")

    assert artifact.facts["labels"] == ["0", "1"]
    assert len(rows_of(artifact)) == 20


# --- conversations -------------------------------------------------------------------------------------------


def questions(count: int) -> list[Row]:
    return [{"prompt": f"What is {i} and {i}?", "reply": f"It is {2 * i}."} for i in range(count)]


def test_a_pair_becomes_a_conversation_whose_mask_is_the_reply_and_its_end(
    talks: Callable[..., Artifact], encoder: TextEncoder
) -> None:
    artifact = talks(questions(30))

    control = encoder.control
    learned = set()
    for row in rows_of(artifact):
        ids, mask = row["input_ids"], row["loss_mask"]
        assert len(ids) == len(mask)
        assert [i for i in ids if i >= encoder.text_size] == [
            control["<|user|>"],
            encoder.end,
            control["<|assistant|>"],
            encoder.end,
        ]
        assert mask == sorted(mask) and ids[mask.index(1) - 1] == control["<|assistant|>"] and ids[-1] == encoder.end
        learned.add(encoder.decode([i for i, m in zip(ids, mask, strict=True) if m]))
    assert learned == {row["reply"] for row in questions(30)}


def test_a_control_token_in_a_prompt_stays_text(talks: Callable[..., Artifact], encoder: TextEncoder) -> None:
    rows = [*questions(10), {"prompt": "a<|end|><|assistant|>b", "reply": "c<|endoftext|>"}]

    artifact = talks(rows)

    assert all(sum(i >= encoder.text_size for i in row["input_ids"]) == 4 for row in rows_of(artifact))


def test_a_long_conversation_is_left_out_and_no_reply_is_cut(
    talks: Callable[..., Artifact], encoder: TextEncoder
) -> None:
    rows = [*questions(20), {"prompt": "Tell me.", "reply": "so " * 100}]

    artifact = talks(rows, "--max-tokens", "64")

    assert rejects(artifact) == [("rows.jsonl:21", "above max_tokens")]
    assert all(row["input_ids"][-1] == encoder.end for row in rows_of(artifact))
    assert artifact.facts["longest"] <= 64


def test_empty_prompts_and_replies_and_repeated_pairs_are_counted(talks: Callable[..., Artifact]) -> None:
    rows = [*questions(10), {"prompt": "", "reply": "x"}, {"prompt": "x", "reply": " \n"}, questions(1)[0]]

    artifact = talks(rows)

    assert artifact.manifest.counts["rejected"] == {"no prompt": 1, "no reply": 1, "duplicate": 1}
    assert artifact.manifest.counts["examples"] == len(rows_of(artifact)) == 10


def test_all_questions_of_a_row_are_in_one_split(chain: Any, tmp_path: Path, encoder: TextEncoder) -> None:
    from pipeline.runtime.hashing import sha256_of_file

    data = write(tmp_path / "rows.jsonl", [{"name": f"Town{i}", "river": f"River{i}"} for i in range(60)])
    pairs = [f'{{prompt: "Ask {n} about {{name}}", reply: "{{river}}"}}' for n in range(3)]
    (tmp_path / "towns.md").write_text(
        f"---\nlicense: mit\nsource:\n  location: {data}\n  sha256: {sha256_of_file(data)}\n"
        f"  pairs: [{', '.join(pairs)}]\n  split: {{validation: 0.3}}\n---\n"
    )

    artifact = chain.bench.make(
        "pipeline.examples",
        *("--cards", str(tmp_path / "towns.md"), "--example-type", "conversation"),
        *("--tokenizer", chain.tokenizer.reference),
    )

    towns = [
        [encoder.decode(row["input_ids"]).split("about ")[1].split("River")[0] for row in rows_of(artifact, split)]
        for split in ("train", "validation")
    ]
    assert set(towns[0]) & set(towns[1]) == set()
    assert len(towns[0]) + len(towns[1]) == 180 and len(towns[1]) > 0
    assert all(split.count(town) == 3 for split in towns for town in split)


def test_a_new_field_in_one_row_moves_no_pair_to_another_split(talks: Callable[..., Artifact]) -> None:
    rows = [{**row, "id": i} for i, row in enumerate(questions(60))]
    before = talks(rows, "--validation-fraction", "0.3")

    after = talks([{**rows[0], "note": "new"}, *rows[1:]], "--validation-fraction", "0.3")

    assert before.id != after.id
    assert [rows_of(after, split) for split in ("train", "validation")] == [
        rows_of(before, split) for split in ("train", "validation")
    ]


def test_a_row_that_lacks_its_reply_is_left_out_in_json_as_in_lines_of_it(chain: Any, tmp_path: Path) -> None:
    rows = [*questions(20), {"prompt": "What now?"}]
    write(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.json").write_text(json.dumps(rows))

    for name in ("rows.jsonl", "rows.json"):
        artifact = chain.bench.make(
            "pipeline.examples",
            *("--source", str(tmp_path / name), "--example-type", "conversation"),
            *("--tokenizer", chain.tokenizer.reference),
        )
        assert rejects(artifact) == [(f"{name}:21", "no reply")]


def test_the_number_of_workers_changes_no_byte(
    chain: Any, talks: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import examples as examples_module

    artifact = talks(questions(40))
    monkeypatch.setattr(examples_module, "_BATCH_EXAMPLES", 7)

    ended = chain.bench.artifacts("reproduce", artifact.reference, "--workers", "3")

    assert (ended.code, ended.out.split()[0]) == (0, "MATCH")


def test_no_source_at_all_says_how_to_name_one(chain: Any) -> None:
    ended = chain.bench("pipeline.examples", "--tokenizer", chain.tokenizer.reference)

    assert (ended.code, "--source FILE" in ended.err) == (78, True)


def test_rows_of_ones_own_are_read_as_the_flags_say(chain: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.data"
    path.write_bytes("".join(f"Größe {i},{'groß' if i % 2 else 'klein'}\n" for i in range(40)).encode("latin-1"))
    reading = ("--encoding", "latin-1", "--format", "csv", "--columns", "text", "label")

    artifact = chain.bench.make(
        "pipeline.examples", "--source", str(path), *reading, "--tokenizer", chain.tokenizer.reference
    )

    assert (artifact.facts["labels"], sum(artifact.facts["examples"].values())) == (["groß", "klein"], 40)
