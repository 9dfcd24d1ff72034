"""Machinery: the features of `datasets` in an Arrow schema: a published table opens with its types and label names.

Without them `datasets.load_dataset` reads a label as a bare integer.  The form is that of `datasets.Features`, which is
written here without importing `datasets`: that takes over a second, and these few types need none of it.
"""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipeline.runtime.hashing import JSON

_LABEL = pa.int64()
"""the type that `datasets.ClassLabel` has in Arrow"""
_VALUES = {pa.string(): "string", pa.large_string(): "large_string", pa.bool_(): "bool"}
_VALUES |= {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
_VALUES |= {of(): str(of()) for of in (pa.int8, pa.int16, pa.int32, pa.int64)}
_VALUES |= {of(): str(of()) for of in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)}


def schema_with_features(schema: pa.Schema, class_labels: Mapping[str, Sequence[str]] = {}) -> pa.Schema:
    """Return a schema that also says what its columns are to `datasets`: Value, List, or ClassLabel for named labels.

    `class_labels` are the names of a column's labels, in the order of their numbers; for a column of lists, of what
    the lists hold.  Raises ValueError for a type that no stage writes and for labels that are not int64.
    """
    if unknown := set(class_labels) - set(schema.names):
        raise ValueError(f"class_labels name {', '.join(sorted(unknown))}, and the columns are {schema.names}.")
    features = {field.name: _feature(field.type, class_labels.get(field.name)) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def batch_with_features(batch: pa.RecordBatch, class_labels: Mapping[str, Sequence[str]] = {}) -> pa.RecordBatch:
    """Return the batch with such a schema; its columns are not copied."""
    return batch.replace_schema_metadata(schema_with_features(batch.schema, class_labels).metadata)


def _feature(kind: pa.DataType, names: Sequence[str] | None) -> JSON:
    """Return what `datasets` writes for a type; the order of the keys is its order too."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type, names), "_type": "List"}
    if names is not None:
        if kind != _LABEL:
            raise ValueError(f"labels are {_LABEL} to `datasets`, got {kind}.")
        return {"names": list(names), "_type": "ClassLabel"}
    if kind not in _VALUES:
        raise ValueError(f"no feature of `datasets` is known here for {kind}.")
    return {"dtype": _VALUES[kind], "_type": "Value"}
