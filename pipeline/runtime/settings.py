"""Machinery: typed settings: TOML or JSON tables become frozen dataclasses, strictly."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pipeline.errors import ConfigError
from pipeline.runtime.hashing import JSON

T = TypeVar("T")


class FilledIn:
    """Marks a setting, in its annotation, that the program fills in itself: no flag sets it."""


def build(cls: type[T], table: Mapping[str, JSON], where: str) -> T:
    """Make a `cls` of `table`; missing fields take their defaults.

    `where` says in errors which table it is.  Raises ConfigError for an unknown key (with the nearest name) and
    for a value of the wrong type.
    """
    check_keys(table, field_names(cls), where)
    hints = typing.get_type_hints(cls)
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def field_names(cls: type[Any]) -> list[str]:
    """Return the names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(cls)]


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


def _convert(hint: Any, value: JSON, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(next(a for a in args if a is not type(None)), value, where)
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
        return build(hint, value, where)
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
