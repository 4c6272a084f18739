"""What each choice of the paper's code gives where codes are known but for noise, and what a count in labels does."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pointsense import __version__
from pointsense.datasets import load_dataset
from pointsense.datasets.synthetic import RADIUS_PX, make_synthetic
from pointsense.demo import SETTINGS
from pointsense.evaluation import Report, evaluate
from pointsense.evaluation.predictions import cases_of, found_by_model
from pointsense.experiments.simulation import Setting, exact_supports, through_axes, through_map
from pointsense.inference.detector import Detector
from pointsense.learning.course import Progress
from pointsense.learning.fit import train
from pointsense.model.config import Config, override
from pointsense.model.presets import preset
from pointsense.reporting.curves import draw_lines
from pointsense.reporting.markdown import markdown
from pointsense.writing import replacing, write_json, write_text

PATCHES, SEEDS = 20, 3

SIDE, RADIUS, POINTS = 260, 20.0, 4
"""px, px, and how many objects a patch has, unless said otherwise: the paper's patches for mitoses."""

SMALL_SIDE, SMALL_RADIUS = 96, 5.0
"""Of the patches in which a flattened map is compared: its sensing matrix grows with their area."""

NOISES = (0.0, 0.05, 0.1, 0.2, 0.4)
WEIGHTS = (0.039, 0.39, 3.9, 39.0)
"""Weights of the L1 norm around the paper's .39; entries of a code are distances in px."""
MAP_WEIGHTS = (0.01, 0.03, 0.1, 0.3)
"""The same for a flattened map, whose entries are 1."""
THRESHOLDS = (5.0, 15.0, 45.0, 90.0)
MEASUREMENTS, OBJECTS = (28, 56, 112, 224), (1, 2, 4, 8, 16)
AXES, BUDGET = (1, 3, 9, 27, 81), 3024
"""27 axes of 112 measurements."""
BUDGETS, MEASUREMENTS_OF_AXIS = (64, 128, 256, 512, 1024), 64


@dataclass(frozen=True)
class Ablation:
    """A table of one choice: `lines` by the name of a row, a number for each of `columns`."""

    title: str
    words: str
    row: str
    column: str
    columns: list[str]
    lines: dict[str, list[float]]

    def markdown(self) -> str:
        """Heading, words and table."""
        cells = [(name, *(f"{value:.3f}" for value in values)) for name, values in self.lines.items()]
        header = (f"{self.row} \\ {self.column}", *self.columns)
        return f"## {self.title}\n\n{self.words}\n\n{markdown(header, cells)}"


def paper(**changes: Any) -> Config:
    """The paper's code: 27 axes, 112 measurements, distances; candidates are merged within a match radius."""
    return override(preset("ecnncs-2"), {"patch": SIDE, "bandwidth": RADIUS} | changes)


def best_of(weights: Iterable[float], score: Callable[[float, int], Report], seed: int) -> float:
    """F1 with the weight of the L1 norm that is best on other patches of the same kind."""
    return score(max(weights, key=lambda lam: score(lam, seed + 1).overall.f1), seed).overall.f1


def simulations(patches: int, seed: int) -> list[Ablation]:
    """All tables that need no training."""

    def setting(points: int = POINTS, **other: Any) -> Setting:
        return Setting(
            **({"patches": patches, "points": points, "side": SIDE, "radius": RADIUS, "seed": seed} | other)
        )

    def axes(noise: float, **changes: Any) -> float:
        return through_axes(paper(**changes), setting(), noise).overall.f1

    def at_best(L: int, m: int, votes: int) -> list[float]:
        def score(noise: float) -> Callable[[float, int], Report]:
            return lambda lam, seed: through_axes(
                paper(axes=L, measurements=m, lam=lam, minimum_votes=votes), setting(seed=seed), noise
            )

        return [best_of(WEIGHTS, score(noise), seed) for noise in NOISES]

    def small(budget: int, noise: float) -> tuple[float, float]:
        patch: dict[str, Any] = {"side": SMALL_SIDE, "radius": SMALL_RADIUS}
        count = max(1, budget // MEASUREMENTS_OF_AXIS)
        code = {
            "patch": SMALL_SIDE,
            "bandwidth": SMALL_RADIUS,
            "axes": count,
            "measurements": budget // count,
        }
        voted = {"minimum_votes": -(-count // 3)}
        return (
            best_of(
                MAP_WEIGHTS, lambda lam, s: through_map(budget, lam, setting(seed=s, **patch), noise), seed
            ),
            best_of(
                WEIGHTS,
                lambda lam, s: through_axes(paper(lam=lam, **code, **voted), setting(seed=s, **patch), noise),
                seed,
            ),
        )

    noises = [f"{noise:g}" for noise in NOISES]
    compared = {noise: [small(budget, noise) for budget in BUDGETS] for noise in (0.0, 0.2)}
    return [
        Ablation(
            "Recovery against m and k",
            "Share of axes whose entries all come back at their places, without noise; m measurements, k objects.",
            "m",
            "k",
            [str(k) for k in OBJECTS],
            {
                str(m): [exact_supports(paper(measurements=m), setting(k, radius=8.0)) for k in OBJECTS]
                for m in MEASUREMENTS
            },
        ),
        Ablation(
            "Noise and the weight of the L1 norm",
            f"F1 of {POINTS} objects a patch within {RADIUS:g} px; noise in shares of a code's length.",
            "λ",
            "noise",
            noises,
            {f"{lam:g}": [axes(noise, lam=lam) for noise in NOISES] for lam in WEIGHTS},
        ),
        Ablation(
            "Noise and the amplitude threshold",
            "The same with λ = 3.9; thresholds in px of distance, the paper's is 15.",
            "threshold",
            "noise",
            noises,
            {
                f"{threshold:g}": [axes(noise, lam=3.9, amplitude_threshold=threshold) for noise in NOISES]
                for threshold in THRESHOLDS
            },
        ),
        Ablation(
            "Number of axes L, 112 measurements each",
            "F1 where a candidate of a third of the axes is a detection, λ the best on other patches. The noise of one "
            "axis knows nothing of another's, as a network's errors may.",
            "L",
            "noise",
            noises,
            {str(L): at_best(L, BUDGET // 27, -(-L // 3)) for L in AXES},
        ),
        Ablation(
            "Number of axes L, 3,024 measurements together",
            "The same where more axes have fewer measurements each: what an ensemble gives beyond more numbers.",
            "L",
            "noise",
            noises,
            {str(L): at_best(L, BUDGET // L, -(-L // 3)) for L in AXES},
        ),
        Ablation(
            "A flattened map (scheme 1) against axes",
            f"F1 of {POINTS} objects in patches of {SMALL_SIDE} px within {SMALL_RADIUS:g} px, by the "
            f"numbers of a code; axes of {MEASUREMENTS_OF_AXIS} measurements, voted by a third of them; λ of each the "
            "best on other patches.",
            "code",
            "numbers",
            [str(budget) for budget in BUDGETS],
            {
                f"{name}, noise {noise:g}": [pair[number] for pair in pairs]
                for noise, pairs in compared.items()
                for number, name in enumerate(("flattened map", "axes"))
            },
        ),
    ]


def count_label(
    out: Path, *, minutes: float, seed: int, device: str, report: Callable[[Progress], None] | None
) -> Ablation:
    """The default trained with and without a count in its label, on synthetic cells."""
    dataset = load_dataset(make_synthetic(out / "data", seed=seed))
    lines: dict[str, list[float]] = {}
    for name, change in (("with", {}), ("without", {"beta": 0.0})):
        scored = []
        for number in range(SEEDS):
            run = out / f"count-{name}-{number}"
            config = override(preset("pointsense"), SETTINGS | change)
            train(
                dataset,
                run,
                config,
                radius=RADIUS_PX,
                time_limit=minutes / (2 * SEEDS),
                seed=seed + number,
                device=device,
                resume=True,
                report=report,
            )
            found = found_by_model(dataset.val, Detector.load(run, device=device))
            scored.append(evaluate(cases_of(dataset.val, found), RADIUS_PX).overall)
        lines[f"F1 {name} a count"] = [scores.f1 for scores in scored]
        lines[f"count MAE {name} a count"] = [scores.count_mae for scores in scored]
    return Ablation(
        "The count in the label",
        f"The default, trained on {len(dataset.train)} synthetic images of cells and scored on {len(dataset.val)} "
        f"others, within {RADIUS_PX:g} px.",
        "score",
        "seed",
        [str(seed + number) for number in range(SEEDS)],
        lines,
    )


def ablate(
    out: Path | str,
    *,
    minutes: float,
    seed: int = 0,
    device: str = "auto",
    patches: int = PATCHES,
    report: Callable[[Progress], None] | None = None,
) -> str:
    """All tables, written as `ablations.md`, `.json` and `.png`; the Markdown is returned.

    Parameters
    ----------
    out : path
        Trainings that are there are gone on with.
    minutes : float
        Limit of the trainings together.
    seed : int
    device : str
        Of the trainings: auto, cpu, cuda or mps.
    patches : int
        How many are drawn for each number.
    report : callable, optional
        Given the progress of each training.
    """
    out = Path(out)
    tables = simulations(patches, seed)
    with replacing(out / "ablations.png") as temporary:
        temporary.write_bytes(draw_lines([_panel(table) for table in tables]))
    tables.append(count_label(out, minutes=minutes, seed=seed, device=device, report=report))
    text = "\n\n".join(
        [
            "# Ablations",
            f"Codes of random points are measured, disturbed, recovered and read as the paper does "
            f"({patches} patches for each number); no network and no image is in the first tables. What a network's "
            f"errors do may differ from what independent noise does. Seed {seed}.",
            "![F1 or share of exact supports, by table](ablations.png)",
            *(table.markdown() for table in tables),
        ]
    )
    content = {
        "version": __version__,
        "date": datetime.date.today().isoformat(),
        "patches": patches,
        "seed": seed,
        "tables": [asdict(table) for table in tables],
    }
    write_json(out / "ablations.json", content)
    write_text(out / "ablations.md", text + "\n")
    return text + "\n"


def _panel(table: Ablation) -> tuple[str, str, Sequence[str], dict[str, list[float]]]:
    named = table.row not in ("code", "score")
    lines = {f"{table.row} {name}" if named else name: line for name, line in table.lines.items()}
    return table.title, table.column, table.columns, lines
