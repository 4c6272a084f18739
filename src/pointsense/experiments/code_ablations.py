"""What single choices of the paper's code do where its codes are known but for noise: tables that need no training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from pointsense.evaluation import Report
from pointsense.experiments.simulation import Setting, exact_supports, through_axes, through_map
from pointsense.model.config import Config, override
from pointsense.model.presets import preset
from pointsense.reporting.markdown import markdown

LARGE = Setting(patches=20, points=4, side=260, radius=20.0)
"""The paper's patches, with few objects in each, as mitoses are."""
SMALL = replace(LARGE, side=96, radius=5.0)
"""Where a flattened map is compared: its sensing matrix grows with the area of a patch."""

NOISES = (0.0, 0.1, 0.2, 0.4)
"""In lengths of a code."""
WEIGHTS = (0.39, 1.2, 3.9, 12.0, 39.0)
"""λ, from the paper's .39 up; entries of a code are distances in px, and a weight moves them by as many."""
MAP_WEIGHTS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""The same for a flattened map, whose entries are 1."""
MAP_THRESHOLDS = (0.3, 0.5, 0.7)
THRESHOLDS = (5.0, 15.0, 45.0, 90.0)
MEASUREMENTS, OBJECTS = (28, 56, 112, 224), (1, 2, 4, 8, 16)
CLOSE = 8.0
"""px: match radius of the patches with up to 16 objects."""
AXES, BUDGET = (1, 3, 9, 27, 81), 3024
"""27 axes of 112 measurements."""
BUDGETS, MEASUREMENTS_OF_AXIS, COMPARED_NOISES = (64, 128, 256, 512), 64, (0.0, 0.2)

Choice = dict[str, Any]
"""Settings by name."""


@dataclass(frozen=True)
class Ablation:
    """A table of one choice.

    Attributes
    ----------
    title, words : str
    row, column : str
        What the lines and the columns are.
    columns : list of str
    lines : dict of str to list of float
        The numbers of each column, by the name of the line.
    chosen : dict of str to list of Choice
        What was chosen on other patches for each number, where something was.
    """

    title: str
    words: str
    row: str
    column: str
    columns: list[str]
    lines: dict[str, list[float]]
    chosen: dict[str, list[Choice]] = field(default_factory=dict)

    def markdown(self) -> str:
        """Heading, words and table."""
        cells = [(name, *(f"{value:.2f}" for value in values)) for name, values in self.lines.items()]
        header = (f"{self.row} \\ {self.column}", *self.columns)
        return f"## {self.title}\n\n{self.words}\n\n{markdown(header, cells)}"


def paper(setting: Setting, **changes: Any) -> Config:
    """The paper's code, of 27 axes and 112 measurements, for patches of a setting.

    Candidates are merged within a match radius; the amplitude threshold, the paper's 15 px in its patches of 260, is
    scaled with the patch.
    """
    own = {
        "patch": setting.side,
        "bandwidth": setting.radius,
        "amplitude_threshold": 15.0 * setting.side / LARGE.side,
    }
    return override(preset("ecnncs-2"), own | changes)


def best_of(
    choices: Sequence[Choice], score: Callable[[Choice, Setting], Report], setting: Setting
) -> tuple[float, Choice]:
    """F1 with the choice that is best on other patches of the same kind, and that choice."""
    others = replace(setting, seed=setting.seed + 1)
    best = max(choices, key=lambda choice: score(choice, others).overall.f1)
    return score(best, setting).overall.f1, best


def code_ablations(patches: int, seed: int) -> Iterator[Ablation]:
    """The tables, one after the other.

    Parameters
    ----------
    patches : int
        How many are drawn for each number.
    seed : int
        Of the points and the noise.
    """
    large, small = (replace(one, patches=patches, seed=seed) for one in (LARGE, SMALL))
    noises = [f"{noise:g}" for noise in NOISES]

    def read(noise: float, **changes: Any) -> float:
        return through_axes(paper(large, **changes), large, noise).overall.f1

    yield Ablation(
        "Recovery against m and k",
        "Share of axes on which those bins, and no others, reach the amplitude threshold that hold a point, without "
        "noise; m measurements, k objects, λ = .39.",
        "m",
        "k",
        [str(k) for k in OBJECTS],
        {
            str(m): [
                exact_supports(paper(large, measurements=m), replace(large, points=k, radius=CLOSE))
                for k in OBJECTS
            ]
            for m in MEASUREMENTS
        },
    )
    yield Ablation(
        "Noise and the weight of the L1 norm",
        f"F1 of {large.points} objects a patch within {large.radius:g} px; noise in lengths of a code. A large weight "
        "moves points off their place, a small one lets noise through.",
        "λ",
        "noise",
        noises,
        {f"{lam:g}": [read(noise, lam=lam) for noise in NOISES] for lam in WEIGHTS},
    )
    yield Ablation(
        "Noise and the amplitude threshold",
        "The same with λ = 3.9; thresholds in px of distance, the paper's is 15.",
        "threshold",
        "noise",
        noises,
        {
            f"{threshold:g}": [read(noise, lam=3.9, amplitude_threshold=threshold) for noise in NOISES]
            for threshold in THRESHOLDS
        },
    )
    words = (
        "F1; λ and the votes that a detection needs (1 or a third of the axes) are the best on other patches. The "
        "noise of one axis is independent of another's; a network's errors need not be, and then more axes help less."
    )
    yield _by_axes("Number of axes L, 112 measurements each", words, lambda L: BUDGET // 27, large)
    words = (
        "The same where more axes have fewer measurements each: what an ensemble gives beyond more numbers."
    )
    yield _by_axes("Number of axes L, 3,024 measurements together", words, lambda L: BUDGET // L, large)
    yield _map_against_axes(small)


def _by_axes(title: str, words: str, measurements: Callable[[int], int], setting: Setting) -> Ablation:
    lines, chosen = {}, {}
    for L in AXES:
        code = {"axes": L, "measurements": measurements(L)}
        found = [best_of(_read_choices(L), _reader(code, noise), setting) for noise in NOISES]
        lines[str(L)], chosen[str(L)] = [f1 for f1, _ in found], [choice for _, choice in found]
    return Ablation(title, words, "L", "noise", [f"{noise:g}" for noise in NOISES], lines, chosen)


def _read_choices(axes: int) -> list[Choice]:
    votes = sorted({1, -(-axes // 3)})
    return [{"lam": lam, "minimum_votes": count} for lam, count in product(WEIGHTS, votes)]


def _reader(code: Choice, noise: float) -> Callable[[Choice, Setting], Report]:
    return lambda choice, setting: through_axes(paper(setting, **code, **choice), setting, noise)


def _map_against_axes(setting: Setting) -> Ablation:
    counts = [max(1, budget // MEASUREMENTS_OF_AXIS) for budget in BUDGETS]
    of_map = [{"lam": lam, "threshold": threshold} for lam, threshold in product(MAP_WEIGHTS, MAP_THRESHOLDS)]
    lines, chosen = {}, {}
    for noise in COMPARED_NOISES:
        columns: dict[str, list[tuple[float, Choice]]] = {"flattened map": [], "axes": []}
        for budget, count in zip(BUDGETS, counts, strict=True):

            def by_map(choice: Choice, drawn: Setting, budget: int = budget, noise: float = noise) -> Report:
                return through_map(budget, drawn, noise, **choice)

            code = {"axes": count, "measurements": budget // count}
            columns["flattened map"].append(best_of(of_map, by_map, setting))
            columns["axes"].append(best_of(_read_choices(count), _reader(code, noise), setting))
        for name, found in columns.items():
            line = f"{name}, noise {noise:g}"
            lines[line], chosen[line] = [f1 for f1, _ in found], [choice for _, choice in found]
    return Ablation(
        "A flattened map (scheme 1) against axes",
        f"F1 of {setting.points} objects in patches of {setting.side} px within {setting.radius:g} px, by the numbers "
        f"of a code, which are those of {', '.join(map(str, counts))} axes; λ, the votes of axes and the threshold of "
        "the map are the best on other patches.",
        "code",
        "numbers",
        [str(budget) for budget in BUDGETS],
        lines,
        chosen,
    )
