"""Machinery: small charts as inline SVG; colours are classes, so that the page's light and dark scheme apply."""

from collections.abc import Sequence

from pipeline.reporting.texts import BINS_PER_DECADE, Lengths, edge

_WIDTH, _HEIGHT = 560, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 24


def bar(*pieces: tuple[float, str]) -> str:
    """Return a bar of one line's height: (share of the whole width, class) from left to right."""
    x = 0.0
    drawn = ['<rect class="track" width="100" height="10"/>']
    for share, name in pieces:
        width = max(0.0, min(100.0 * share, 100.0 - x))
        drawn.append(f'<rect class="{name}" x="{x:.3f}" width="{width:.3f}" height="10"/>')
        x += width
    inside = "".join(drawn)
    return f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{inside}</svg>'


def histogram(lengths: Sequence[Lengths], title: str) -> str:
    """Return a histogram over a logarithmic axis: bars for the first split, a line for each of the others.

    Heights are shares of a split's documents, so that splits of different sizes can be compared.
    """
    last = max(len(entry.bins) for entry in lengths)
    first = min(next(i for i, count in enumerate(entry.bins) if count) for entry in lengths)
    first -= first % BINS_PER_DECADE
    shares = [[count / entry.documents for count in entry.bins[first:]] for entry in lengths]
    top = max(max(share) for share in shares)
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, last - first)
    parts = [*_axes(first, last, step, top), _bars(shares[0], step, top)]
    parts += [_outline(share, step, top, lengths[i].split) for i, share in enumerate(shares) if i]
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def _y(share: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - share / top * (_HEIGHT - _BOTTOM - _TOP)


def _axes(first: int, last: int, step: float, top: float) -> list[str]:
    floor = _HEIGHT - _BOTTOM
    drawn = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>']
    for share in _round_shares(top):
        y = _y(share, top)
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * share:g}%</text>')
    for index in range(first, last + 1, BINS_PER_DECADE):
        x = _LEFT + (index - first) * step
        anchor = "start" if index == first else "middle" if x < _WIDTH - 30 else "end"
        label = f"{round(edge(index)):,}"
        drawn.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        drawn.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{label}</text>')
    return drawn


def _round_shares(top: float) -> list[float]:
    """Return two to five round shares below `top`."""
    size = next(size for size in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5) if top / size < 5.5)
    return [size * i for i in range(1, int(top / size + 1e-9) + 1)]


def _bars(shares: Sequence[float], step: float, top: float) -> str:
    drawn = []
    for i, share in enumerate(shares):
        if share:
            x, y = _LEFT + i * step, _y(share, top)
            height = _HEIGHT - _BOTTOM - y
            drawn.append(
                f'<rect class="kept" x="{x + 0.5:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{height:.1f}"/>'
            )
    return "".join(drawn)


def _outline(shares: Sequence[float], step: float, top: float, name: str) -> str:
    points = [(float(_LEFT), _y(0, top))]
    for i, share in enumerate([*shares, 0.0]):
        x, y = _LEFT + i * step, _y(share, top)
        points += [(x, points[-1][1]), (x, y)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="line-{name}" d="{path}"/>'
