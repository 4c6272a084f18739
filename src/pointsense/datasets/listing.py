"""Finding image files, in a data set or in what a person names on the command line."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pointsense.errors import DataError, UsageError
from pointsense.images import IMAGE_SUFFIXES

log = logging.getLogger(__name__)

UNREAD_SUFFIXES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".czi", ".nd2", ".lif", ".vsi", ".oib", ".oif", ".dcm", ".jp2",
    ".webp", ".gif", ".heic",
)  # fmt: skip
"""Images that are not read: they are to be converted, not to be passed over in silence."""


OVERLAY = ".overlay.png"
"""How the names of pictures end that `predict` draws."""


def find_images(folder: Path) -> list[str]:
    """Paths of the images in `folder` and below, relative to it with `/`, sorted; no hidden files, nor overlays.

    Links are followed; one to what is not there is an image that cannot be read.
    """
    return sorted(
        path.relative_to(folder).as_posix()
        for path in _files(folder)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.endswith(OVERLAY)
    )


def find_tables(folder: Path, pattern: str) -> list[Path]:
    """The files in `folder` and below that match, such as `*.csv`, sorted; no hidden ones. Links are followed."""
    return sorted(path for path in _files(folder) if path.match(pattern))


def one_form(name: str) -> str:
    """A name with its marked letters in the one form of the two in which systems write them."""
    return unicodedata.normalize("NFC", name)


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files in a folder and below, without what is hidden, or macOS left in an archive.

    A link to a folder `above` is not entered again.
    """
    real = folder.resolve()
    if real in above or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if path.is_dir():
            yield from _files(path, (*above, real))
        else:
            yield path


def list_images(paths: Sequence[Path | str]) -> list[tuple[Path, str]]:
    """The images that files and folders stand for, each with the relative name of its output.

    A folder is searched with its sub-folders, which are kept in the names; a file is taken as it is, under
    its own name. The same file under the same name counts once.

    Raises
    ------
    DataError
        If a path does not exist, or a folder holds no image.
    UsageError
        If two images would write to the same output (equal names up to the suffix and to upper case).
    """
    images: dict[str, tuple[Path, str]] = {}
    for given in map(Path, paths):
        if given.is_file():
            found = [(given, given.name)]
        elif given.is_dir():
            found = [(given / name, name) for name in find_images(given)]
            unread = Counter(path.suffix.lower() for path in _files(given))
            others = [f"{unread[suffix]} {suffix}" for suffix in UNREAD_SUFFIXES if unread[suffix]]
            if not found:
                there = f", found {', '.join(others)}: convert them" if others else ""
                raise DataError(
                    f"{given} holds no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}{there}"
                )
            if others:
                log.warning(
                    "%s: files of these kinds are left out: %s; convert them to TIFF or PNG",
                    given,
                    ", ".join(others),
                )
        else:
            raise DataError(f"{given} does not exist; expected an image or a folder of images")
        for path, name in found:
            output = Path(name).with_suffix("").as_posix().casefold()
            other, _ = images.setdefault(output, (path, name))
            if other.resolve() != path.resolve():
                raise UsageError(
                    f"{other} and {path} would write the same output; rename one, or predict them apart"
                )
    return list(images.values())
