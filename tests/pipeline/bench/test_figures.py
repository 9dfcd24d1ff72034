"""Rows and their ratios, and runs that alternate."""

from collections.abc import Callable

import pytest

from pipeline.bench.figures import HEADER, Bound, Measured, Row, alternate, median, show, table
from pipeline.errors import UnavailableError

# --- rows ----------------------------------------------------------------------------------------------------


def test_a_row_shows_its_ratio_and_whether_the_bound_is_kept() -> None:
    fast = Row(name="a", ours=40.0, unit="MB/s", peer="b", peer_value=7.0, bound=Bound("ratio", ">=", 5), machine="m")
    slow = Row(name="a", ours=20.0, unit="MB/s", peer="b", peer_value=7.0, bound=Bound("ratio", ">=", 5))
    assert fast.cells() == ["a", "40", "b", "7", "MB/s", "5.71x", ">= 5x; m"]
    assert (fast.met, slow.met) == (True, False)
    assert slow.cells()[-1] == ">= 5x MISSED"


def test_a_bound_on_our_own_value_needs_no_peer() -> None:
    bound = Bound("ours", "<=", 1.0)
    assert Row(name="a", ours=0.9, unit="s", bound=bound).met is True
    assert Row(name="a", ours=1.1, unit="s", bound=bound).met is False
    assert Row(name="a", ours=1.1, unit="s", bound=bound).cells() == ["a", "1.1", "", "", "s", "", "<= 1 MISSED"]


def test_without_the_peer_there_is_no_ratio_and_no_verdict() -> None:
    row = Row(name="a", ours=3.0, unit="s", peer="b", bound=Bound("ratio", ">=", 5))
    assert (row.ratio, row.met) == (None, None)
    assert row.as_json()["peer value"] is None


def test_the_table_has_the_columns_of_the_issue_and_lines_of_one_length() -> None:
    lines = table([Row(name="text to shards", ours=1234.5, unit="MB/s"), Row(name="b", ours=0.00123, unit="s")])
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(HEADER)
    assert len({len(line) for line in lines}) == 1
    assert "1,234" in lines[2] and "0.00123" in lines[3]


@pytest.mark.parametrize(("value", "shown"), [(None, ""), (12345.6, "12,346"), (99.96, "100"), (3.14159, "3.14")])
def test_numbers_are_shown_with_three_figures(value: float | None, shown: str) -> None:
    assert show(value) == shown


def test_what_has_no_number_says_why_and_a_peer_of_zero_has_no_ratio() -> None:
    assert Row(name="a", ours=None, unit="s", note="no time").cells()[1] == "no time"
    assert Row(name="a", ours=1.0, unit="s", peer="b", peer_value=0.0).ratio is None
    assert Row(name="a", ours=1.0, unit="s").met is None, "without a bound there is no verdict"


def test_a_row_as_json_has_the_columns_of_the_table() -> None:
    page = Row(name="a", ours=4.0, unit="s", peer="b", peer_value=2.0, bound=Bound("ratio", "<=", 2)).as_json()

    assert set(HEADER) < page.keys()
    assert (page["ratio"], page["met"], page["limit"]) == (2.0, True, "<= 2x")


# --- alternating runs ----------------------------------------------------------------------------------------


def test_runs_alternate_and_the_median_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []

    def contestant(name: str, values: list[float]) -> Callable[[], Measured]:
        def run() -> Measured:
            calls.append(name)
            return Measured(value=values[calls.count(name) - 1])

        return run

    runs = alternate({"ours": contestant("ours", [1, 9, 2]), "peer": contestant("peer", [4, 4, 5])}, 3)
    assert calls == ["ours", "peer"] * 3
    assert (median(runs["ours"]), median(runs["peer"]), median(runs.get("nobody"))) == (2, 4, None)
    assert "ours, run 3 of 3: 2" in capsys.readouterr().err


def test_a_peer_that_is_not_to_be_had_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    def absent() -> Measured:
        raise UnavailableError("no network")

    runs = alternate({"peer": absent, "ours": lambda: Measured(value=1.0)}, 2)
    assert list(runs) == ["ours"] and len(runs["ours"]) == 2
    assert capsys.readouterr().err.count("peer is left out: no network") == 1


def test_the_processor_time_of_a_run_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    alternate({"ours": lambda: Measured(value=2.0, about={"cpu_seconds": 3.0})}, 1)

    assert "ours, run 1 of 1: 2 (3 s of processor)" in capsys.readouterr().err
