"""The table and the plots of prune_quality.py, from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Case = dict[str, Any]
DRAWS = 1000
GOALS = {("resnet20", 0.3): 2.0, ("resnet20", 0.5): 7.0, ("resnet56", 0.3): 0.5, ("resnet56", 0.5): 2.5}
NAMES = {
    "resnet20": "ResNet-20, CIFAR-10, top-1",
    "resnet56": "ResNet-56, CIFAR-10, top-1",
    "squeezenet11": "SqueezeNet 1.1, 100 ImageNet images, top-1",
    "minilm": "MiniLM, STS-B, Spearman x 100",
}
COLUMNS = (
    "network", "FLOPs", "tool", "criterion", "allocation", "compensation", "multiple of", "seeds",
    "score", "lost", "goal", "latency", "s",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line: a configuration at a share of FLOPs, over its seeds. Scores and losses are in points."""

    network: str
    tool: str
    criterion: str
    scope: str
    compensate: str
    multiple: int
    less: float
    seeds: int
    fewer: float
    score: float
    lost: float
    margin: float
    latency: float
    seconds: float


def ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties sharing their mean."""
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return 100 * float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def loss(network: str, before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Score, points lost and half of a 95 % interval; `after` is [seeds, samples]."""
    if network != "minilm":
        lost = 100 * (before - after.mean(0))
        return 100 * float(after.mean()), float(lost.mean()), 1.96 * float(lost.std(ddof=1)) / len(lost) ** 0.5
    random = np.random.default_rng(0)

    def lost_on(chosen: np.ndarray) -> float:
        scores = [spearman(each[chosen], labels[chosen]) for each in after]
        return spearman(before[chosen], labels[chosen]) - float(np.mean(scores))

    whole = np.arange(len(labels))
    drawn = [lost_on(random.integers(0, len(labels), len(labels))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(np.mean([spearman(each, labels) for each in after])), lost_on(whole), float(high - low) / 2


def rows(found: Sequence[Case]) -> list[Row]:
    originals = {case["network"]: case for case in found if case["tool"] == "original"}
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in found:
        if case["tool"] != "original" and "samples" in case and case["network"] in originals:
            names = ("network", "tool", "criterion", "scope", "compensate", "multiple_of", "less")
            groups.setdefault(tuple(case[name] for name in names), []).append(case)
    made: list[Row] = []
    for key, cases in groups.items():
        original = originals[key[0]]
        before, labels = np.array(original["samples"]), np.array(original["labels"])
        figures = loss(key[0], before, np.array([case["samples"] for case in cases]), labels)
        means = [mean_of(name, cases) for name in ("fewer_flops", "latency", "seconds")]
        made.append(Row(*key, len(cases), means[0], *figures, means[1], means[2]))
    return sorted(made, key=lambda r: (list(NAMES).index(r.network), r.less, r.lost))


def mean_of(name: str, cases: Sequence[Case]) -> float:
    return float(np.mean([case.get(name, np.nan) for case in cases]))


def table(found: Sequence[Case]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    for r in rows(found):
        goal = GOALS.get((r.network, r.less), "")
        time = "" if np.isnan(r.latency) else f"{r.latency:.2f}x"
        spent = "" if np.isnan(r.seconds) else f"{r.seconds:.0f}"
        what = (r.network, f"-{100 * r.fewer:.1f} %", r.tool, r.criterion, r.scope, r.compensate, r.multiple, r.seeds)
        figures = (f"{r.score:.1f}", f"{r.lost:.2f} ± {r.margin:.2f}", goal, time, spent)
        lines.append(f"| {' | '.join(map(str, (*what, *figures)))} |")
    return "\n".join(lines)


WIDTH, HEIGHT, LEFT, TOP = 560, 340, 50, 34
COLOURS = ("#0b6e99", "#d1495b", "#66a182", "#edae49", "#8d6a9f", "#444444", "#a05a2c", "#5c80bc", "#9bc53d", "#e07a5f")


def plots(found: Sequence[Case], folder: Path) -> None:
    """One SVG per network and axis: score against the share of FLOPs, and of latency, that is left."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = rows(found)
    for network, title in NAMES.items():
        mine = [r for r in everything if r.network == network]
        series: dict[str, list[Row]] = {}
        for r in mine:
            tool = "" if r.tool == "tersor" else f"{r.tool} "
            also = "" if r.compensate == "none" else f" + {r.compensate}"
            also += "" if r.multiple == 1 else f", multiples of {r.multiple}"
            series.setdefault(f"{tool}{r.criterion}, {r.scope}{also}", []).append(r)
        original = next((c for c in found if c["tool"] == "original" and c["network"] == network), None)
        if not mine or original is None:
            continue
        samples, labels = np.array(original["samples"]), np.array(original["labels"])
        top = spearman(samples, labels) if network == "minilm" else 100 * float(samples.mean())
        for axis in ("flops", "latency"):
            lines = {
                name: sorted([(1 - r.fewer if axis == "flops" else r.latency, r.score) for r in each])
                for name, each in series.items()
            }
            lines = {k: [p for p in v if not np.isnan(p[0])] for k, v in lines.items()}
            text = chart(f"{title}, against {axis} left", {k: v for k, v in lines.items() if v}, top)
            (folder / f"pruning-{network}-{axis}.svg").write_text(text, encoding="utf-8")


def chart(title: str, lines: dict[str, list[tuple[float, float]]], top: float) -> str:
    """A line chart as SVG: x from what is left at least to 1, y from 0 to `top`."""
    low = min([x for line in lines.values() for x, _ in line], default=0.5) - 0.03
    high = max([1.0, *(x for line in lines.values() for x, _ in line)])
    height = max(HEIGHT, TOP + 17 * len(lines) + 20)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - low) / (high - low) * WIDTH, TOP + (1 - y / top) * (HEIGHT - 2 * TOP)

    body = [f'<text x="{LEFT}" y="18" font-size="14">{title}</text>']
    for y in np.linspace(0, top, 6):
        _, at = place(low, y)
        body.append(f'<path d="M{LEFT} {at:.1f}H{LEFT + WIDTH}" stroke="#ddd"/>')
        body.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:.0f}</text>')
    for x in np.arange(np.ceil(low * 10) / 10, high + 0.01, 0.1):
        at, bottom = place(x, 0)
        body.append(f'<text x="{at:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{x:.1f}</text>')
    for number, (name, points) in enumerate(sorted(lines.items(), key=lambda item: -item[1][0][1])):
        colour, dashes = COLOURS[number % len(COLOURS)], ' stroke-dasharray="4 3"' if number >= len(COLOURS) else ""
        path = "L".join("{:.1f} {:.1f}".format(*place(*p)) for p in points)
        body.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>')
        body += ['<circle cx="{:.1f}" cy="{:.1f}" r="2.5" fill="{}"/>'.format(*place(*p), colour) for p in points]
        at = TOP + 17 * number
        body.append(f'<path d="M{LEFT + WIDTH + 14} {at}h18" stroke="{colour}" stroke-width="2"{dashes}/>')
        body.append(f'<text x="{LEFT + WIDTH + 38}" y="{at + 4}">{name}</text>')
    size = f'width="{LEFT + WIDTH + 330}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">' + "\n".join(
        [f'<rect {size} fill="white"/>', *body, "</svg>\n"]
    )
