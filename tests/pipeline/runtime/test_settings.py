"""Tables become dataclasses, strictly."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from pipeline.errors import ConfigError
from pipeline.runtime.settings import build, nearest


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int = 0
    rate: float = 0.5
    quick: bool = False
    limit: int | None = None
    mode: Literal["low", "high"] = "low"
    tags: tuple[str, ...] = ()
    pair: tuple[int, int] = (0, 0)
    shares: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


def test_a_full_table_becomes_the_dataclass_it_describes() -> None:
    table = {
        "name": "x",
        "count": 3,
        "rate": 2,
        "quick": True,
        "limit": 7,
        "mode": "high",
        "tags": ["a", "b"],
        "pair": [1, 2],
        "shares": {"validation": 1},
        "inner": {"size": 5},
    }

    built = build(Outer, table, "here")

    assert built == Outer(
        name="x",
        count=3,
        rate=2.0,
        quick=True,
        limit=7,
        mode="high",
        tags=("a", "b"),
        pair=(1, 2),
        shares={"validation": 1.0},
        inner=Inner(size=5),
    )
    assert isinstance(built.rate, float) and isinstance(built.shares["validation"], float)


def test_what_is_not_said_takes_its_default() -> None:
    assert build(Outer, {"name": "x"}, "here") == Outer(name="x")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"cuont": 1}, "here has the unknown key 'cuont'. Did you mean 'count'?"),
    ({"xyzzy": 1}, "unknown key 'xyzzy'. Known: count, inner, limit"),
    ({"inner": {"sise": 1}}, "here.inner has the unknown key 'sise'. Did you mean 'size'?"),
    ({"count": "3"}, "here.count must be a whole number, got '3'"),
    ({"count": 1.5}, "here.count must be a whole number, got 1.5"),
    ({"count": True}, "here.count must be a whole number, got True"),
    ({"rate": "fast"}, "here.rate must be float, got 'fast'"),
    ({"rate": True}, "here.rate must be float, got True"),
    ({"quick": 1}, "here.quick must be bool, got 1"),
    ({"name": 1}, "here.name must be a text, got 1"),
    ({"limit": "many"}, "here.limit must be a whole number, got 'many'"),
    ({"mode": "middle"}, "here.mode must be one of 'low', 'high', got 'middle'"),
    ({"tags": "a"}, "here.tags must be a list, got 'a'"),
    ({"tags": ["a", 1]}, "here.tags[1] must be a text, got 1"),
    ({"pair": [1]}, "here.pair must be a list of 2 values, got [1]"),
    ({"shares": 0.5}, "here.shares must be a table, got 0.5"),
    ({"shares": {"validation": "x"}}, "here.shares.validation must be float, got 'x'"),
    ({"inner": 3}, "here.inner must be a table, got 3"),
]


@pytest.mark.parametrize(("table", "sentence"), WRONG)
def test_a_wrong_value_is_named_with_its_place(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, {"name": "x", **table}, "here")

    assert sentence in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_missing_field_without_a_default_is_named() -> None:
    with pytest.raises(ConfigError, match=r"here: .*'name'"):
        build(Outer, {}, "here")


def test_null_is_a_value_only_where_it_may_be() -> None:
    assert build(Outer, {"name": "x", "limit": None}, "here").limit is None
    with pytest.raises(ConfigError, match=r"here\.count must be a whole number, got None"):
        build(Outer, {"name": "x", "count": None}, "here")


def test_the_nearest_name_is_offered_and_else_all_of_them() -> None:
    assert nearest("tokeniser", ["corpus", "tokenizer"]) == " Did you mean 'tokenizer'?"
    assert nearest("qqq", ["b", "a"]) == " Known: a, b."
