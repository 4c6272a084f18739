"""The detector: a trained network with all that it needs to find points in any image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.encoding import ProjectionCode
from pointsense.errors import UsageError
from pointsense.inference.bundled import find_model
from pointsense.inference.decode import DECODERS, Decoder, Found, decode_windows
from pointsense.inference.device import autocast, full_precision, pick_device
from pointsense.inference.mass import MassMapper, TileMap
from pointsense.inference.patches import predict_patches
from pointsense.inference.scaling import factors, rescaled, to_image
from pointsense.inference.second_look import judge
from pointsense.inference.size import estimate_diameter
from pointsense.inference.storage import Stored, read_model, write_model
from pointsense.inference.tiles import without_seam_doubles
from pointsense.model.classes import PointClass, Reading
from pointsense.model.config import override
from pointsense.model.network import PatchNetwork, ProjectionNetwork
from pointsense.points import Detections

FARTHEST = 16.0
"""Most by which an image is enlarged or shrunk to bring its objects to the size of the training's."""


@dataclass
class Detector(MassMapper):
    """A trained model: a `MassMapper` (network, config, contract, device, look, final) that finds points.

    Attributes
    ----------
    classes : tuple of PointClass
        What it finds, in the order of the network's mass maps.
    um_per_px : float or None
        Pixel size of the training images.
    """

    classes: tuple[PointClass, ...]
    um_per_px: float | None = None

    @property
    def has_codes(self) -> bool:
        """Whether it predicts codes of windows: not a heat map, nor the codes of the paper's patches."""
        return self.config.head == "projection" and self.config.target == "code"

    @property
    def known_diameter(self) -> float:
        """Typical diameter in px of the objects of the training.

        Raises
        ------
        UsageError
            If it is not known.
        """
        if not self.config.diameter:
            raise UsageError(
                "the model does not know how large the objects were that it was trained on: train it with "
                "--diameter PX, or rescale the images and leave --diameter out"
            )
        return self.config.diameter

    def thresholds(self, given: float | Mapping[str, float] | None = None) -> dict[str, float]:
        """The least score of each class: as given for it, or for all ("" in a mapping), else the model's own.

        Raises
        ------
        UsageError
            If one is given for a class that the model does not find.
        """
        by_class = dict(given) if isinstance(given, Mapping) else {} if given is None else {"": given}
        own = {kind.name: kind.threshold for kind in self.classes}
        if strange := [name for name in by_class if name and name not in own]:
            known = ", ".join(filter(None, own)) or "not told apart"
            raise UsageError(f"a threshold is given for '{strange[0]}', but the model's classes are: {known}")
        return {name: by_class.get(name, by_class.get("", value)) for name, value in own.items()}

    def zoom_of(self, diameter: float | None) -> float:
        """How much larger the objects of training are than those of an image, whose diameter is given in px.

        Raises
        ------
        UsageError
            If the diameter is not positive, or that of the training is not known.
        """
        if diameter is None:
            return 1.0
        if isinstance(diameter, str) or not 0 < diameter < math.inf:
            raise UsageError(f"--diameter is {diameter}, expected a positive number of pixels, or auto")
        zoom = self.known_diameter / diameter
        if not 1 / FARTHEST <= zoom <= FARTHEST:
            raise UsageError(
                f"--diameter is {diameter:g} px, the model's objects have {self.config.diameter:g} px: more than "
                f"{FARTHEST:g} times larger or smaller is too far; rescale the images, or take another model"
            )
        return zoom

    def estimated_diameter(self, image: Tensor, tile: int = 1024) -> float:
        """Typical diameter in px of the objects of an image (C, H, W), as `as_input` gives it; see `size`.

        Raises
        ------
        UsageError
            If that of the training is not known.
        """
        return estimate_diameter(
            lambda region, diameter: self.find(region, diameter=diameter, tile=tile),
            image,
            known=self.known_diameter,
            radius=min(kind.radius for kind in self.classes),
        )

    def predict(
        self,
        image: npt.NDArray[Any],
        *,
        threshold: float | Mapping[str, float] | None = None,
        diameter: float | Literal["auto"] | None = None,
        tile: int = 1024,
        decoder: Decoder = "full",
        name: str = "the image",
    ) -> Detections:
        """Points in an image of any size.

        Parameters
        ----------
        image : array, (H, W) or (H, W, C)
        threshold : float, or mapping of class name to float, optional
            Least score, see `thresholds`; those chosen in training unless given.
        diameter : float or "auto", optional
            Typical diameter of the objects in px of the image, where it differs from the training images'; "auto"
            tries several.
        tile : int
            Side of a tile's core in working px; it bounds the memory of the networks (the image as a
            whole is held as float32) and changes next to nothing of the result.
        decoder : {"full", "codes", "maxima"}
            "codes" does without the mass map, "maxima" without the codes; for comparison.
        name : str
            What messages call the image.

        Returns
        -------
        Detections
            (y, x) in px of the image.

        Raises
        ------
        DataError
            If the image does not keep the model's input contract.
        UsageError
            For a decoder that is unknown, or needs codes where the model has none, a tile below 64, a threshold of an
            unknown class, or a diameter to a model that does not know its own.
        """
        levelled = self.as_input(image, name)
        return self.find(levelled, threshold=threshold, diameter=diameter, tile=tile, decoder=decoder)

    @torch.no_grad()
    def find(
        self,
        image: Tensor,
        *,
        threshold: float | Mapping[str, float] | None = None,
        diameter: float | Literal["auto"] | None = None,
        tile: int = 1024,
        decoder: Decoder = "full",
    ) -> Detections:
        """`predict` for an image (C, H, W) as `as_input` gives it."""
        self._check_decoder(decoder)
        if tile < 64:
            raise UsageError(f"tiles need a core of at least 64 px, found {tile}")
        zoom = self.zoom_of(self.estimated_diameter(image, tile) if diameter == "auto" else diameter)
        prepared = rescaled(image, self.config.scale * zoom)
        if isinstance(self.network, ProjectionNetwork):
            maps = self.maps(prepared, tile)
            found = [self.decode_maps(maps, k, decoder) for k in range(len(self.classes))]
        else:
            network, _ = self.running
            assert isinstance(network, PatchNetwork)
            found = [predict_patches(network, prepared, self.config, self.device)]
        candidates = self.detections(found, image.shape[1:], threshold, zoom)
        return self.looked_at(image, candidates, threshold, zoom)

    def _check_decoder(self, decoder: str) -> None:
        if decoder not in DECODERS:
            raise UsageError(f"unknown decoder '{decoder}'; use {', '.join(DECODERS)}")
        if decoder == "codes" and self.config.target == "heatmap":
            raise UsageError("the model predicts a heat map, which has no codes; use the decoder 'full'")

    def looked_at(
        self,
        image: Tensor,
        candidates: Detections,
        threshold: float | Mapping[str, float] | None = None,
        zoom: float = 1.0,
    ) -> Detections:
        """Candidates, (y, x) in px, whose scores after a second look at the image (C, H, W) reach the threshold.

        The image is as `as_input` gives it. The score is multiplied by the second look's probability, so that what
        is below the threshold before need not be looked at. Without a second look nothing changes.
        """
        _, look = self.running
        if look is None or not len(candidates):
            return candidates
        with autocast(self.device, self.precision):
            chances = judge(
                look,
                image,
                candidates.points,
                side=self.config.look,
                zoom=zoom,
                views=self.look_views,
                device=self.device,
            )
        places = {kind.name: k for k, kind in enumerate(self.classes)}
        own = chances[np.arange(len(chances)), [places[str(kind)] for kind in candidates.classes]]
        return replace(candidates, scores=candidates.scores * own).above(self.thresholds(threshold))

    @full_precision()
    def decode_maps(
        self, maps: list[TileMap], k: int = 0, decoder: Decoder = "full", reading: Reading | None = None
    ) -> Found:
        """Points of class k, in working px, from the maps of an image's tiles; `reading` in place of its own."""
        reading = reading or self.classes[k].reading
        code = self.network.code
        assert isinstance(code, ProjectionCode)
        parts, owners = [], []
        for number, one in enumerate(maps):
            mass = one.mass[k]
            codes = code.measure(mass[None, None])[0]
            found = decode_windows(code, codes, mass, self.config, reading, decoder=decoder)
            found.points[:] += one.origin
            parts.append(found.select(one.tile.owns(found.points)))
            owners.append(np.full(len(parts[-1].points), number))
        everything = Found.concatenate(parts)
        return everything.select(without_seam_doubles(everything.points, np.concatenate(owners)))

    @full_precision()
    def decode(self, codes: Tensor) -> Detections:
        """Points from codes alone, (K, L * m, I, J) of windows or (L, C, m) of one patch.

        The codes are those of `map`, of an image or tile that begins at its first pixel.

        Raises
        ------
        UsageError
            If the model is a heat map's, which has no codes.
        """
        self._check_decoder("codes")
        if isinstance(self.network, ProjectionNetwork):
            found = [
                decode_windows(
                    self.network.code, code.to(self.device), None, self.config, kind.reading, decoder="codes"
                )
                for code, kind in zip(codes, self.classes, strict=True)
            ]
        else:
            from pointsense.inference.cluster import vote
            from pointsense.inference.patches import decode_patches

            seen = decode_patches(self.network.code, codes[None].to(self.device), self.config)
            votes = vote(seen, self.config.bandwidth, self.config.minimum_votes, axes_count=self.config.axes)
            found = [Found(votes.points, votes.score, votes.votes, votes.spread)]
        return self.detections(found)

    def detections(
        self,
        parts: Sequence[Found],
        shape: tuple[int, ...] | None = None,
        threshold: float | Mapping[str, float] | None = None,
        zoom: float = 1.0,
    ) -> Detections:
        """Points of each class in working px as detections in px of the image of `shape` (H, W), in reading order."""
        thresholds = self.thresholds(threshold).values()
        kept = [part.select(part.scores >= least) for part, least in zip(parts, thresholds, strict=False)]
        found = Found.concatenate(kept)
        names = np.repeat(
            [kind.name for kind in self.classes[: len(parts)]], [len(part.points) for part in kept]
        )
        working = self.config.scale * zoom
        scale = np.full(2, working) if shape is None else factors(shape, working)
        points = to_image(found.points, scale)
        if shape is not None:
            # A cell cut by the border can have its centre just beyond it.
            points = np.clip(points, -0.5, np.array(shape) - 0.5)
        order = np.lexsort((points[:, 1], points[:, 0]))
        return Detections(
            points=points[order],
            scores=found.scores[order],
            classes=names[order],
            votes=found.votes[order].astype(np.int64),
            spread=found.spread[order] / working,
        )

    def save(self, folder: Path | str, *, half: bool = False) -> None:
        """Write the configuration and the weights to `folder`, each all or nothing; `half` halves the weights' size.

        Raises
        ------
        DataError
            If they cannot be written.
        """
        model = Stored(self.network, self.config, self.contract, self.classes, self.um_per_px, look=self.look)
        write_model(Path(folder), model, half)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device: str = "auto",
        views: int | None = None,
        precision: str | None = None,
    ) -> Detector:
        """A detector from its folder, or a bundled one from its name.

        Parameters
        ----------
        folder : path, or name of a bundled model
        device : str
            See `pick_device`. What follows is kept where the detector is saved.
        views : {1, 2, 4, 8}, optional
            Rotations and flips that predictions are averaged over, in place of the model's own. The thresholds stay,
            and a second look keeps its views where `look_views` tells them.
        precision : {"auto", "32-true", "bf16-mixed", "16-mixed"}, optional
            Of the networks' arithmetic, in place of the model's own; points of "32-true" hardly depend on the CPU,
            those of "auto", half precision where the device is fast at it, a little more.

        Raises
        ------
        DataError
            If the folder is empty, damaged, from another version, or its weights do not fit its configuration.
        UsageError
            If the device is not there, the model cannot average so many views, or there is no such precision.
        """
        where = pick_device(device)
        stored = read_model(find_model(folder))
        config = stored.config
        if views is not None:
            if config.head != "projection":
                raise UsageError(
                    f"views are averaged of mass maps, and a model of '{config.preset}' has none"
                )
            config = override(config, {"views": views})
        if precision is not None:
            config = override(config, {"precision": precision})
        return cls(
            stored.network,
            config,
            stored.contract,
            stored.classes,
            stored.um_per_px,
            device=where,
            look=stored.look,
            final=True,
        )
