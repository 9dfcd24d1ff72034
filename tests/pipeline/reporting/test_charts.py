"""Small charts: what they draw is what the numbers say."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from pipeline.reporting.charts import _round_shares, bar, histogram
from pipeline.reporting.texts import Lengths


def lengths(*bins: int, split: str = "train") -> Lengths:
    total = sum(bins)
    about: dict[str, Any] = {"least": 1, "median": 1, "mean": 1.0, "ninetieth": 1, "most": 1}
    return Lengths(split=split, unit="words", documents=total, bins=bins, **about)


def rectangles(svg: str, name: str) -> list[dict[str, float]]:
    """Return place and size of the rectangles of a class."""
    found = [node.attrib for node in ElementTree.fromstring(svg).iter("rect") if node.attrib["class"] == name]
    return [{key: float(value) for key, value in attributes.items() if key != "class"} for attributes in found]


def test_a_histogram_of_one_document_is_drawn() -> None:
    one = lengths(1)

    assert 'class="kept"' in histogram([one], "words")
    assert 'class="line-test"' in histogram([one, lengths(1, split="test")], "words")


def test_bars_are_as_high_as_their_share_and_stand_in_order() -> None:
    drawn = rectangles(histogram([lengths(0, 2, 0, 4, 1)], "words"), "kept")

    assert len(drawn) == 3, "an empty bin has no bar"
    heights = [bar["height"] for bar in drawn]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2) == pytest.approx(4 * heights[2], abs=0.4)
    assert [bar["x"] for bar in drawn] == sorted(bar["x"] for bar in drawn)
    assert {round(bar["y"] + bar["height"], 0) for bar in drawn} == {166.0}, "all stand on the axis"


def test_splits_are_drawn_by_their_shares_and_not_by_their_sizes() -> None:
    paths = [
        re.findall(r'class="line-test" d="([^"]+)"', histogram([lengths(3, 1), lengths(*bins, split="test")], "words"))
        for bins in ((1, 3), (100, 300))
    ]

    assert paths[0] == paths[1] != []


def test_decades_without_a_document_before_the_first_are_not_drawn() -> None:
    late = histogram([lengths(*[0] * 16, 5)], "words")

    assert ">100<" in late and ">1<" not in late and ">10<" not in late


def test_a_histogram_says_what_it_shows() -> None:
    assert ElementTree.fromstring(histogram([lengths(1)], "words per document")).attrib["aria-label"] == (
        "words per document"
    )


@pytest.mark.parametrize("top", [0.011, 0.04, 0.1, 0.3, 0.77, 1.0])
def test_the_axis_has_a_few_round_shares_up_to_the_highest_bar(top: float) -> None:
    shares = _round_shares(top)

    assert 1 <= len(shares) <= 5 and shares[-1] <= top + 1e-9
    assert all(round(100 * share) == pytest.approx(100 * share) for share in shares)


def test_a_bar_has_its_pieces_side_by_side_and_never_leaves_its_track() -> None:
    svg = bar((0.25, "kept"), (0.5, "lost"), (0.9, "more"))

    assert rectangles(svg, "track") == [{"width": 100, "height": 10}]
    assert rectangles(svg, "kept") == [{"x": 0, "width": 25, "height": 10}]
    assert rectangles(svg, "lost") == [{"x": 25, "width": 50, "height": 10}]
    assert rectangles(svg, "more") == [{"x": 75, "width": 25, "height": 10}], "what is too much is cut"


def test_a_bar_of_less_than_nothing_is_empty() -> None:
    assert rectangles(bar((-0.5, "kept")), "kept") == [{"x": 0, "width": 0, "height": 10}]
