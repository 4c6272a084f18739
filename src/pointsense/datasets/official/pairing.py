"""Which image belongs to which labels, where the two lie in different folders or under other suffixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pointsense.datasets.listing import find_images, one_form
from pointsense.errors import DataError


class Labelled(Protocol):
    """What is paired: see `Record`."""

    @property
    def key(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def folder(self) -> str: ...


class Images:
    """The images below a folder, by their paths and by the ends of these; upper and lower case are alike."""

    def __init__(self, root: Path):
        self.root = root
        self.names = find_images(root) if root.is_dir() else []
        self._paths: dict[str, list[str]] = {}
        self._ends: dict[str, list[str]] = {}
        for name in self.names:
            whole = _loosely(name)
            bare = Path(whole).with_suffix("").as_posix()
            for path in (whole, bare):
                self._paths.setdefault(path, []).append(name)
                for end in _ends(path):
                    self._ends.setdefault(end, []).append(name)

    def at(self, one: Labelled) -> list[str]:
        """The images at the very path, first with the suffix, also from the folder of the labels; usually one."""
        keys = [_loosely(one.key)] + [_loosely(f"{one.folder}/{one.key}")] * bool(one.folder)
        suffixes = ([_loosely(one.suffix)] if one.suffix else []) + [""]
        found = (self._paths.get(key + suffix, []) for suffix in suffixes for key in keys)
        return next(filter(None, found), [])

    def ending(self, one: Labelled) -> list[str]:
        """The images whose path ends as the key does, in as many parts as possible."""
        suffixes = ([_loosely(one.suffix)] if one.suffix else []) + [""]
        found = (self._ends.get(end, []) for suffix in suffixes for end in _ends(_loosely(one.key) + suffix))
        return next(filter(None, found), [])


def _loosely(name: str) -> str:
    """A name without what systems write otherwise: upper case, and the form of letters with marks."""
    return one_form(name).casefold()


def _ends(path: str) -> Iterator[str]:
    """A path, and what is left of it without its first folder, without its first two, and so on."""
    parts = path.split("/")
    for k in range(len(parts)):
        yield "/".join(parts[k:])


def paired(labels: Sequence[Labelled], images: Images, notes: list[str]) -> dict[int, str]:
    """The image of each of the labels, by their number; those without one are left out.

    Images are found at the path that the download gives them; else, which is noted, by the end of that path, if no
    other labels' path ends so.

    Raises
    ------
    DataError
        If several images could be meant, or several labels be of one image.
    """
    found: dict[int, str] = {}
    for k, one in enumerate(labels):
        if names := images.at(one):
            found[k] = _only(names, one, images)
    taken = set(found.values())
    by_end: dict[str, int] = {}
    for k, one in enumerate(labels):
        if k in found or not (names := [name for name in images.ending(one) if name not in taken]):
            continue
        name = _only(names, one, images)
        if name in by_end:
            raise DataError(
                f"the labels of {labels[by_end[name]].key} and of {one.key} could both be of the image {name}: give "
                "the folder in which images lie as the labels say with --images"
            )
        by_end[name] = k
    if by_end:
        notes.append(f"{len(by_end)} images were found by the end of their path, in another folder")
    of_image: dict[str, int] = {}
    for k, name in found.items():
        if (other := of_image.setdefault(name, k)) != k:
            raise DataError(
                f"two sets of labels are for the image {name}: {labels[other].key} and {labels[k].key}"
            )
    return found | {k: name for name, k in by_end.items()}


def _only(names: list[str], one: Labelled, images: Images) -> str:
    if len(names) > 1:
        raise DataError(
            f"{images.root} has several images for {one.key}: {names[0]}, {names[1]}; keep one of them, or give the "
            "right folder with --images"
        )
    return names[0]
