"""The schema says the features of a table as `datasets` itself would."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.tables.arrow import string_batch, write_batch
from pipeline.tables.features import batch_with_features, schema_with_features


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.string(), pa.large_string(), pa.bool_(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.list_(pa.uint16()), pa.list_(pa.list_(pa.string()))),
    ],
    ids=str,
)
def test_a_type_is_written_byte_for_byte_as_datasets_writes_it(kind: Any) -> None:
    from datasets import Features

    schema = pa.schema({"first": kind, "second": pa.string()})

    found = schema_with_features(schema)

    expected = Features.from_arrow_schema(schema).arrow_schema
    assert found.metadata == expected.metadata
    assert found == schema
    assert Features.from_arrow_schema(found) == Features.from_arrow_schema(schema)


def test_labels_have_their_names_alone_and_in_lists() -> None:
    from datasets import ClassLabel, Features, List, Value

    names = ["café", "no", "yes"]
    features = Features(
        {"input_ids": List(Value("uint32")), "label": ClassLabel(names=names), "tags": List(ClassLabel(names=["x"]))}
    )
    schema = pa.schema({"input_ids": pa.list_(pa.uint32()), "label": pa.int64(), "tags": pa.list_(pa.int64())})

    found = schema_with_features(schema, {"label": names, "tags": ("x",)})

    assert found.metadata == features.arrow_schema.metadata
    assert Features.from_arrow_schema(found) == features


def test_datasets_opens_a_file_with_names_and_types(tmp_path: Path) -> None:
    from datasets import ClassLabel, List, Value, load_dataset

    batch = pa.RecordBatch.from_pydict({"label": [1, 0], "input_ids": pa.array([[1], [2, 3]], pa.list_(pa.uint16()))})
    write_batch(tmp_path / "train.arrow", batch_with_features(batch, {"label": ["no", "yes"]}))

    rows = load_dataset("arrow", data_files=str(tmp_path / "train.arrow"), cache_dir=str(tmp_path / "c"))["train"]

    assert rows.features == {"label": ClassLabel(names=["no", "yes"]), "input_ids": List(Value("uint16"))}
    assert rows.features["label"].int2str(rows["label"][:]) == ["yes", "no"]


def test_a_batch_keeps_its_columns() -> None:
    batch = string_batch({"id": ["a", "b"], "text": ["é", ""]})

    found = batch_with_features(batch)

    assert found == batch and found.to_pydict() == {"id": ["a", "b"], "text": ["é", ""]}
    assert found.column("text").buffers()[2].address == batch.column("text").buffers()[2].address


@pytest.mark.parametrize(
    ("schema", "labels", "sentence"),
    [
        (pa.schema({"a": pa.int64()}), {"label": ["x"]}, r"class_labels name label, and the columns are \['a'\]"),
        (pa.schema({"a": pa.int32()}), {"a": ["x"]}, "labels are int64"),
        (pa.schema({"a": pa.date32()}), {}, "known here for date32"),
    ],
)
def test_what_has_no_feature_is_refused(schema: Any, labels: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        schema_with_features(schema, labels)
