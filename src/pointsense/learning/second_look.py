"""The training of the second look: objects against what the first network takes for objects and are none."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from pointsense.inference.scaling import factors, to_image
from pointsense.inference.second_look import crop_around
from pointsense.learning.augment import recoloured, turned
from pointsense.learning.checkpoint import SECONDS, read_checkpoint, write_checkpoint
from pointsense.learning.crops import Alarm, Field
from pointsense.learning.descent import Descent
from pointsense.learning.training import parameter_groups, starts_given
from pointsense.model.config import Config
from pointsense.model.second_look import SecondLook

log = logging.getLogger(__name__)

BATCH = 32
OBJECTS = 0.35
"""Share of crops around an object, of each class as often; the others are around alarms, the higher ones more often."""

SHAKE = 0.15
"""Radii by which a crop is off its object: so far candidates may be, too."""

MEMORY = 0.99
"""Of the averaged weights."""

Told = Callable[[int, float, float], None]
"""Given the step, its loss and the seconds left."""


class Looks:
    """Draws the batches of a second look's training; a pure function of seed and step.

    Parameters
    ----------
    fields : sequence of Field
        At the images' own resolution.
    alarms : sequence of Alarm
        In px of the fields.
    config : Config
    seed : int
    classes : int
    """

    def __init__(
        self, fields: Sequence[Field], alarms: Sequence[Alarm], config: Config, seed: int, classes: int
    ):
        self.fields, self.alarms, self.config, self.seed, self.classes = fields, alarms, config, seed, classes
        of_class: list[list[Alarm]] = [[] for _ in range(classes)]
        for number, field in enumerate(fields):
            for (y, x), label in zip(field.points, field.labels, strict=True):
                of_class[label].append(Alarm(number, y, x, 1.0))
        self.objects = [(k, places) for k, places in enumerate(of_class) if places]
        heights = np.array([alarm.height for alarm in alarms])
        self.odds = heights / heights.sum()

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (B, C, S, S), and (B, K) 1 for the class that each shows."""
        generator = np.random.default_rng([self.seed, step, 2])
        crops, labels = [], torch.zeros(BATCH, self.classes)
        for b in range(BATCH):
            if generator.random() < OBJECTS:
                k, places = self.objects[generator.integers(len(self.objects))]
                place, labels[b, k] = places[generator.integers(len(places))], 1
            else:
                place = self.alarms[generator.choice(len(self.alarms), p=self.odds)]
            crops.append(self._crop(place, generator))
        return torch.stack(crops), labels

    def _crop(self, place: Alarm, generator: np.random.Generator) -> torch.Tensor:
        config = self.config
        seen = round(config.look * config.zoom ** generator.uniform(-1, 1))
        image = self.fields[place.field].image
        point = np.array([place.y, place.x]) + generator.normal(0, SHAKE * config.radius, 2)
        crop = crop_around(image, np.clip(point, 0, np.array(image.shape[1:]) - 1), seen, config.look)
        flip = bool(config.flips and generator.random() < 0.5)
        crop, _ = turned(crop, np.zeros((0, 2)), int(generator.integers(4)), flip)
        return recoloured(crop, config.jitter, generator)


def learn_to_look(
    fabric: Fabric,
    fields: Sequence[Field],
    alarms: Sequence[Alarm],
    config: Config,
    seed: int,
    *,
    classes: int = 1,
    time_limit: float = math.inf,
    checkpoint: Path | None = None,
    report: Told | None = None,
) -> SecondLook | None:
    """A second look, or None where there is no alarm to tell from objects.

    Parameters
    ----------
    fabric : Fabric
        Gives device and precision.
    fields : sequence of Field
        Images to fit, at their own resolution.
    alarms : sequence of Alarm
        Where the first network sees objects on them and there are none; in working px.
    config : Config
    seed : int
    classes : int
        How many classes of points are told apart.
    time_limit : float
        Seconds.
    checkpoint : path, optional
        File to keep what is learned in, and to go on from where it is there.
    report : callable, optional

    Raises
    ------
    DataError
        If the loss is no longer finite, or the checkpoint is damaged.
    """
    if not alarms or not any(len(field.labels) for field in fields):
        return None
    scales = [factors(field.image.shape[1:], config.scale) for field in fields]
    places = [to_image(np.array([alarm.y, alarm.x]), scales[alarm.field]) for alarm in alarms]
    own = [alarm._replace(y=y, x=x) for alarm, (y, x) in zip(alarms, places, strict=True)]
    looks = Looks(fields, own, config, seed, classes)
    torch.manual_seed(seed)
    look = SecondLook(config, fields[0].image.shape[0], classes, load=True)
    descent = Descent(
        fabric,
        look,
        parameter_groups(look, config),
        weight_decay=config.weight_decay,
        betas=(0.9, 0.999),  # a probability has its scale from the first step
        memory=MEMORY,
        steady=[look.backbone] if starts_given(config) else [],
        name="the loss of the second look",
    )
    begun, step = time.monotonic(), 0
    if checkpoint and (stored := read_checkpoint(checkpoint)):
        parts, state = stored
        descent.restore(parts)
        step, begun = state["step"], begun - state["seconds"]
    saved = time.monotonic()
    while (progress := max(step / config.look_steps, (time.monotonic() - begun) / time_limit)) < 1:
        descent.prepare(step, progress)
        crops, labels = looks.batch(step)
        logits = descent.network(crops.to(fabric.device, memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels.to(fabric.device))
        descent.follow(loss, step)
        step += 1
        if report:
            seconds = time.monotonic() - begun
            left = min(seconds * (config.look_steps / step - 1), time_limit - seconds)
            report(step, loss.item(), left)
        if checkpoint and time.monotonic() - saved > SECONDS:
            saved = time.monotonic()
            write_checkpoint(checkpoint, descent.tensors(), {"step": step, "seconds": saved - begun})
    if step < config.look_steps:
        log.warning("the time limit ended the second look after %d of %d steps", step, config.look_steps)
    return descent.averaged
