"""Tables become dataclasses, strictly."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_type_hints

import pytest

from pipeline.errors import ConfigError
from pipeline.runtime.settings import Flat, added_later, build, field_names, from_json, is_flat, nearest, to_json
from pipeline.stage.definition import stage_modules, stage_of


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1
    name: str = ""


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


# --- defaults of an owner ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Owner:
    inner: Inner = field(default_factory=lambda: Inner(size=7, name="owner's"))
    flat: Annotated[Inner, Flat] = field(default_factory=lambda: Inner(size=9))


def test_a_partial_table_keeps_what_the_owners_default_says() -> None:
    assert build(Owner, {"inner": {"size": 8}}, "here").inner == Inner(size=8, name="owner's")
    assert build(Owner, {}, "here", Owner(inner=Inner(size=3))).inner == Inner(size=3)


def test_flat_settings_stand_among_those_of_their_owner() -> None:
    assert field_names(Owner) == ["inner", "size", "name"]
    assert build(Owner, {"name": "x"}, "here").flat == Inner(size=9, name="x")
    with pytest.raises(ConfigError, match=r"here has the unknown key 'sise'\. Did you mean 'size'"):
        build(Owner, {"sise": 1}, "here")


def nested_settings() -> list[tuple[str, type[Any], str]]:
    """Return every setting of every stage that is a table of its own: stage, dataclass it stands in, name."""
    found = []
    for module in stage_modules():
        stage = stage_of(module)
        for owner in (stage.asked, stage.execution):
            hints = get_type_hints(owner)
            found += [(module, owner, name) for name, hint in hints.items() if dataclasses.is_dataclass(hint)]
    return found


@pytest.mark.parametrize(("module", "owner", "name"), nested_settings())
def test_a_partial_table_of_a_stage_keeps_that_stages_defaults(module: str, owner: type[Any], name: str) -> None:
    default = getattr(owner(), name)
    hints = get_type_hints(owner, include_extras=True)
    for setting in dataclasses.fields(default):
        value = to_json(getattr(default, setting.name))
        table = {setting.name: value}

        built = build(owner, table if is_flat(hints[name]) else {name: table}, module)

        assert getattr(built, name) == default


def test_the_stages_have_nested_settings_to_try() -> None:
    assert {("train.pretrain", "optimizer"), ("train.pretrain", "model"), ("train.classify", "optimizer")} <= {
        (module, name) for module, _, name in nested_settings()
    }


# --- settings that came later --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Later(Inner):
    speed: str = added_later("fast", before="slow")


@dataclass(frozen=True, kw_only=True)
class Holder:
    many: tuple[Later, ...] = ()
    one: Later = field(default_factory=Later)
    maybe: Later | None = None
    named: dict[str, Later] = field(default_factory=dict)
    pair: tuple[Later, int] = (Later(), 0)


def test_a_setting_added_later_is_left_out_while_it_has_the_value_from_before_it() -> None:
    assert to_json(Later(size=2, speed="slow")) == to_json(Inner(size=2)) == {"size": 2, "name": ""}
    assert to_json(Later(size=2)) == {"size": 2, "name": "", "speed": "fast"}
    assert to_json(Holder(many=(Later(speed="slow"),))) == {
        "many": [{"size": 1, "name": ""}],
        "one": {"size": 1, "name": "", "speed": "fast"},
        "maybe": None,
        "named": {},
        "pair": [{"size": 1, "name": "", "speed": "fast"}, 0],
    }


def test_what_was_made_without_a_setting_has_the_value_from_before_it_and_not_the_default() -> None:
    assert from_json(Later, {"size": 2, "name": ""}, "here") == Later(size=2, speed="slow")
    old = Later(size=5, speed="slow")
    for settings in (Holder(), Holder(many=(old, Later()), one=old, maybe=old, named={"a": old}, pair=(old, 3))):
        assert from_json(Holder, to_json(settings), "here") == settings


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({"size": 1}, "here lacks 'name'"),
        ({"size": 1, "name": "", "colour": 1}, "here has the unknown key 'colour'"),
        ({"size": "1", "name": ""}, r"here\.size must be a whole number"),
    ],
)
def test_a_page_that_is_not_the_settings_is_refused(page: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(Later, page, "here")
