"""Machinery: typed settings: TOML or JSON tables become frozen dataclasses, strictly, and JSON again."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pipeline.errors import ConfigError
from pipeline.runtime.hashing import JSON, Page

T = TypeVar("T")

_BEFORE = "before"


class Flat:
    """Marks a nested dataclass, in its field's annotation, whose settings are written among those of its owner."""


def added_later(default: Any, *, before: Any) -> Any:
    """Declare a setting that older artifacts were made without; `before` is the value that stands for that.

    With that value the setting is left out of the JSON that an id is made of, so that adding it rebuilds nothing.
    `before` never changes; the default may, and then it is in the id like any other value.
    """
    return dataclasses.field(default=default, metadata={_BEFORE: before})


def build(cls: type[T], table: Mapping[str, JSON], where: str, default: T | None = None) -> T:
    """Make a `cls` of `table`; missing fields are those of `default`, or else take their own defaults.

    So a partial nested table keeps what its owner's default says.  `where` says in errors which table it is.  Raises
    ConfigError for an unknown key (with the nearest name) and for a value of the wrong type.
    """
    check_keys(table, field_names(cls), where)
    hints = typing.get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        hint, own = hints[field.name], _default_of(field, default)
        if is_flat(hint):
            inner = _plain(hint)
            mine = {key: value for key, value in table.items() if key in field_names(inner)}
            if mine or own is None:
                values[field.name] = build(inner, mine, where, own)
        elif field.name in table:
            values[field.name] = _convert(hint, table[field.name], f"{where}.{field.name}", own)
    try:
        return cls(**values) if default is None else dataclasses.replace(default, **values)  # type: ignore[type-var]
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_json(value: Any) -> JSON:
    """Return a (nested) dataclass as JSON: tuples are lists; a setting `added_later` is left out as if it were not."""
    if dataclasses.is_dataclass(value):
        return json_of(value)
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list | tuple) else value


def json_of(config: Any) -> Page:
    """Return the JSON object of a dataclass."""
    return {field.name: to_json(getattr(config, field.name)) for field in set_fields(config)}


def from_json(cls: type[T], page: Mapping[str, JSON], where: str) -> T:
    """Make the `cls` that `to_json` made `page` of; a setting that is missing there has the value from before it.

    Raises ConfigError when any other setting is missing, unknown or of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    check_keys(page, [field.name for field in dataclasses.fields(cls)], where)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in page:
            values[field.name] = _restore(hints[field.name], page[field.name], f"{where}.{field.name}")
        elif _BEFORE not in field.metadata:
            raise ConfigError(f"{where} lacks {field.name!r}.")
    return cls(**{**values_before(cls), **values})


def values_before(cls: type[Any]) -> dict[str, Any]:
    """Return the settings of a dataclass that were added later, with the values that stand for the time before."""
    return {field.name: field.metadata[_BEFORE] for field in dataclasses.fields(cls) if _BEFORE in field.metadata}


def _restore(hint: Any, value: JSON, where: str) -> Any:
    """Do for nested dataclasses, wherever they are, what `from_json` does; the rest is converted as from a table."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and value is not None:
        return _restore(next(a for a in args if a is not type(None)), value, where)
    if origin is dict and isinstance(value, Mapping):
        return {key: _restore(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        of_item = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(of_item) == len(value):
            return tuple(
                _restore(of, item, f"{where}[{i}]") for i, (of, item) in enumerate(zip(of_item, value, strict=True))
            )
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_json(hint, value, where)
    return _convert(hint, value, where)


def set_fields(config: Any) -> "Iterator[dataclasses.Field[Any]]":
    """Yield the fields of a dataclass that are in an id: all but those that are as before they were added."""
    for field in dataclasses.fields(config):
        if _BEFORE not in field.metadata or getattr(config, field.name) != field.metadata[_BEFORE]:
            yield field


def _default_of(field: "dataclasses.Field[Any]", owner: Any) -> Any:
    """Return what a field is when nothing is said of it: as in `owner`, or its own default; None: it has none."""
    if owner is not None:
        return getattr(owner, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def is_flat(hint: Any) -> bool:
    """Tell whether a field's annotation says that its settings stand among those of its owner."""
    return Flat in getattr(hint, "__metadata__", ())


def _plain(hint: Any) -> Any:
    """Return what a hint annotates."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def field_names(cls: type[Any]) -> list[str]:
    """Return the names under which a dataclass's settings are written."""
    hints = typing.get_type_hints(cls, include_extras=True)
    names = ((f.name, hints[f.name]) for f in dataclasses.fields(cls))
    return [key for name, hint in names for key in (field_names(_plain(hint)) if is_flat(hint) else [name])]


def check_keys(table: Mapping[str, JSON], known: list[str], where: str) -> None:
    """Raise ConfigError for the first key of `table` that is not in `known`."""
    for key in table:
        if key not in known:
            raise ConfigError(f"{where} has the unknown key {key!r}.{nearest(key, known)}")


def nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant, or list them all."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(sorted(known))}."


def _convert(hint: Any, value: JSON, where: str, default: Any = None) -> Any:
    hint = _plain(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(next(a for a in args if a is not type(None)), value, where, default)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}.")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong_type(where, "a table", value)
        return {key: _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise _wrong_type(where, "a table", value)
        return build(hint, value, where, default)
    return _convert_scalar(hint, value, where)


def _convert_tuple(args: tuple[Any, ...], value: JSON, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong_type(where, "a list", value)
    if args[-1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(args) != len(value):
        raise _wrong_type(where, f"a list of {len(args)} values", value)
    return tuple(_convert(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True)))


def _convert_scalar(hint: Any, value: JSON, where: str) -> Any:
    if hint is Any or hint is object:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _wrong_type(where, {"int": "a whole number", "str": "a text"}.get(hint.__name__, hint.__name__), value)
    return value


def _wrong_type(where: str, expected: str, value: JSON) -> ConfigError:
    return ConfigError(f"{where} must be {expected}, got {value!r}.")
