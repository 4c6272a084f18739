"""Spotiflow, by its own command lines, in an environment of its own.

References
----------
Dominguez Mantes et al. 2025, Spotiflow: accurate and efficient spot detection for fluorescence microscopy with deep
stereographic flow regression, Nature Methods 22.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
import torch
from torch import Tensor

from pointsense.datasets import Sample
from pointsense.errors import DataError, UsageError
from pointsense.learning.crops import read_checked
from pointsense.peers.frame import Frame
from pointsense.peers.problem import Found, Image, Problem, Trained, merit_of
from pointsense.tables import read_table
from pointsense.writing import write_text

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-spotiflow"
SCRIPT = "benchmarks/peers/spotiflow_env.sh"

SIGMA = 0.2
"""Width of its spots in diameters of an object, as for the density regression; its default of 1 px is the least."""

FLOOR = 0.02
"""Least probability of a candidate."""

DISTANCES = (1, 2, 4, 8)
"""Least distances of two spots, working px, among which the selection part chooses; Spotiflow's own is the first."""

EPOCH = 50
"""Steps an epoch, after each of which Spotiflow looks at its validation images."""

TIMED_TRAINING = """
import sys
from pathlib import Path
import lightning.pytorch as pl

class Trainer(pl.Trainer):
    def __init__(self, seconds=float(sys.argv.pop(1)), **options):
        super().__init__(max_time={"seconds": seconds}, **options)

    def fit(self, *given):
        super().fit(*given)
        Path("steps").write_text(str(self.global_step))

pl.Trainer = Trainer
from spotiflow.cli.train import main
main()
"""
"""`spotiflow-train` with a first argument more: seconds, after which Lightning ends it. It has no option for that."""


STANDING = """
import sys
import tifffile
from spotiflow.model import Spotiflow

model = Spotiflow.from_folder("model", map_location="cpu")
images = [tifffile.imread(path) for path in sys.argv[1:]]
print("ready", flush=True)
for line in sys.stdin:
    model.predict(images[int(line)], verbose=False, device="cpu")
    print("done", flush=True)
"""
"""A program that has loaded a model and images, and predicts the one whose number it is given."""


def environment() -> Path:
    """The folder of the environment.

    Raises
    ------
    UsageError
        If it is not there.
    """
    if not (ENVIRONMENT / "bin" / "spotiflow-predict").is_file():
        raise UsageError(
            f"the peer Spotiflow needs an environment of its own, {ENVIRONMENT.name}, and it is not there; "
            f"make it with {SCRIPT}"
        )
    return ENVIRONMENT


def call(command: Sequence[str | Path], folder: Path) -> None:
    """Run a program of the environment in `folder`; what it prints goes to a log there.

    Raises
    ------
    DataError
        If it fails; the message has the last line that it printed.
    """
    log = folder / "spotiflow.log"
    with log.open("a") as file:
        done = subprocess.run(
            [environment() / "bin" / command[0], *command[1:]],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": ""},
        )
    if done.returncode:
        last = (log.read_text().strip().splitlines() or ["nothing"])[-1]
        raise DataError(f"{Path(command[0]).name} failed, it said '{last}'; all of it is in {log}")


def write_image(path: Path, prepared: Tensor) -> None:
    """A prepared image (C, h, w) as a float TIFF of (h, w), or (h, w, C)."""
    pixels = prepared.permute(1, 2, 0).numpy()
    kind = "rgb" if pixels.shape[2] == 3 else "minisblack"
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    tifffile.imwrite(path, np.ascontiguousarray(pixels), photometric=kind, planarconfig="contig")


def export(folder: Path, samples: Sequence[Sample], images: Sequence[Image], frame: Frame) -> None:
    """Images and tables (y, x) side by side, all in working px, in the order of `samples`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (sample, image) in enumerate(zip(samples, images, strict=True)):
        write_image(folder / f"{number:05d}.tif", frame.prepare(image, sample.name))
        rows = [f"{y:.3f},{x:.3f}\n" for y, x in frame.working_points(sample, image)]
        write_text(folder / f"{number:05d}.csv", "".join(["y,x\n", *rows]))


def read_found(path: Path) -> Found:
    """The points and probabilities of a table that `spotiflow-predict` wrote, in working px."""
    rows = read_table(path, ("y", "x", "probability")).rows
    points = np.array([[row.number("y"), row.number("x")] for row in rows]).reshape(-1, 2)
    return points, np.array([row.number("probability") for row in rows])


class SpotiflowFinder:
    """A trained model, asked for all images at once, since each call loads its libraries anew.

    Attributes
    ----------
    frame : Frame
    run : Path
        Folder with the model.
    distance : int
        Least distance of two spots, working px.
    """

    def __init__(self, frame: Frame, run: Path, distance: int):
        self.frame, self.run, self.distance = frame, run, distance

    def candidates_of(self, images: Sequence[Image]) -> list[Found]:
        """The candidates of each image (H, W, C), in image px."""
        with TemporaryDirectory(dir=self.run) as name:
            folder = Path(name)
            for number, image in enumerate(images):
                write_image(folder / f"{number:05d}.tif", self.frame.prepare(image))
            command = ["spotiflow-predict", folder, "--model-dir", "model", "--out-dir", folder]
            options = {"probability-threshold": FLOOR, "min-distance": self.distance, "exclude-border": 0}
            call([*command, *(f"--{key}={value}" for key, value in options.items())], self.run)
            found = []
            for number, image in enumerate(images):
                found.append(self.frame.in_image(read_found(folder / f"{number:05d}.csv"), image.shape))
            return found

    def candidates(self, image: Image) -> Found:
        """The candidates of an image (H, W, C), in image px."""
        return self.candidates_of([image])[0]


@contextmanager
def standing(frame: Frame, run: Path, images: Sequence[Image]) -> Iterator[Callable[[Image], None]]:
    """A trained model that waits with the images in its memory, so that a prediction alone is timed.

    Yields a function that predicts one of the images, told by being the same object; what is found stays there.

    Raises
    ------
    DataError
        If the program ends; why is in a log.
    """
    log = run / "spotiflow.log"
    with TemporaryDirectory() as folder, log.open("a") as errors:
        paths = [Path(folder) / f"{number}.tif" for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            write_image(path, frame.prepare(image))
        command = [environment() / "bin" / "python", "-c", STANDING, *paths]
        with subprocess.Popen(
            command,
            cwd=run,
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": ""},
        ) as program:

            def wait_for(word: str) -> None:
                assert program.stdout is not None
                if not any(line.strip() == word for line in program.stdout):
                    raise DataError(f"Spotiflow ended before it was {word}; what it said is in {log}")

            def predict(image: Image) -> None:
                assert program.stdin is not None
                number = next(k for k, own in enumerate(images) if own is image)
                print(number, file=program.stdin, flush=True)
                wait_for("done")

            try:
                wait_for("ready")
                yield predict
            finally:
                program.terminate()


def fit(problem: Problem) -> Trained:
    """Train Spotiflow for our number of steps on crops of our size, with its own sampling, augmentation and rates.

    Its own validation, by which it keeps weights and lowers its rate, is on the selection part, and so is the choice
    of the distance.

    Raises
    ------
    UsageError
        If its environment is not there.
    DataError
        If its training or prediction fails.
    """
    environment()
    started, config = time.monotonic(), problem.config
    run = problem.run.resolve()
    images, selected = read_checked(problem.fit), read_checked(problem.select)
    frame = Frame.of(problem, images)
    export(run / "data" / "train", problem.fit, images, frame)
    export(run / "data" / "val", problem.select, selected, frame)
    sigma = max(1.0, SIGMA * problem.working_box)
    options = {
        "in-channels": frame.contract.channels,
        "sigma": round(sigma, 2),
        "crop-size": config.patch,
        "batch-size": config.batch,
        "train_samples": EPOCH * config.batch,
        "num-epochs": max(1, round(config.steps / EPOCH)),
        "seed": problem.seed,
        "logger": "tensorboard",
    }
    train = ["python", "-c", TIMED_TRAINING, str(60 * problem.minutes), "data", "--outdir", "model"]
    call([*train, *(f"--{key}={value}" for key, value in options.items())], run)
    seconds = time.monotonic() - started
    choices = []
    for distance in DISTANCES:
        found = SpotiflowFinder(frame, run, distance).candidates_of(selected)
        choices.append((merit_of(problem.select, found, problem.radius), -distance))
    merit, distance = max(choices)
    weights = torch.load(run / "model" / "best.pt", map_location="cpu", weights_only=True)["state_dict"]
    facts = {
        "steps": int((run / "steps").read_text()),
        "seconds": round(seconds, 1),
        "parameters": sum(value.numel() for value in weights.values()),
        "selection_merit": merit,
        "min_distance": -distance,
        **options,
    }
    return Trained(SpotiflowFinder(frame, run, -distance), facts)
