"""Pictures and the page: marks where the points are, headless, self-contained, escaped."""

import base64
import io
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pointsense import colours
from pointsense.errors import DataError
from pointsense.evaluation.match import match
from pointsense.evaluation.threshold import CurvePoint, ThresholdChoice
from pointsense.reporting import Figure, Section, Table, draw_overlay, write_overlay, write_report
from pointsense.reporting.code_figure import AxisView, draw_code
from pointsense.reporting.curves import draw_history, draw_threshold_curve
from pointsense.reporting.overlay import as_rgb

GREY = np.full((600, 700, 3), 128, dtype=np.uint8)
TRUTH = np.array([[100.0, 200.0], [300.0, 400.0]])
DETECTIONS = np.array([[102.0, 201.0], [500.0, 100.0], [99.0, 199.0]])


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def marked(picture: Image.Image, colour: str, height: int = 600) -> np.ndarray:
    """Return the places (n, 2) (y, x) of a colour in the image, the legend left out."""
    return np.argwhere((np.asarray(picture)[:height] == rgb(colour)).all(axis=2))


def centre(places: np.ndarray) -> np.ndarray:
    return (places.min(axis=0) + places.max(axis=0)) / 2


def png(data: bytes) -> np.ndarray:
    assert data.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_overlay_marks_each_outcome_at_its_place():
    matched = match(TRUTH, DETECTIONS, 10)
    picture = draw_overlay(GREY, DETECTIONS, TRUTH, matched, radius=10)
    assert picture.size[0] == 700
    assert picture.size[1] > 600
    assert centre(marked(picture, colours.HIT)) == pytest.approx([99, 199], abs=1)
    assert centre(marked(picture, colours.MISS)) == pytest.approx([300, 400], abs=1)
    alarms = marked(picture, colours.FALSE_ALARM)
    assert set(np.unique(alarms[:, 0] > 300)) == {False, True}  # the surplus one, and the one at (500, 100)
    assert not len(marked(picture, colours.DETECTION))


def test_overlay_of_a_tolerant_match_shows_the_ignored_one_plainly():
    matched = match(TRUTH, DETECTIONS, 10, protocol="duplicate-tolerant")
    picture = draw_overlay(GREY, DETECTIONS, TRUTH, matched, radius=10)
    assert centre(marked(picture, colours.FALSE_ALARM)) == pytest.approx([500, 100], abs=1)
    assert centre(marked(picture, colours.DETECTION)) == pytest.approx([102, 201], abs=3)


def test_small_images_are_enlarged_about_pixel_corners():
    picture = draw_overlay(np.zeros((60, 60), dtype=np.uint8), np.array([[0.0, 30.0]]), radius=3)
    scale = picture.width // 60
    assert scale > 5
    places = marked(picture, colours.DETECTION, height=60 * scale)
    assert centre(places)[1] == pytest.approx(30.5 * scale - 0.5, abs=1)
    assert places[:, 0].max() == pytest.approx(0.5 * scale - 0.5 + 3 * scale, abs=1)


def test_legend_wraps_on_narrow_pictures():
    matched = match(TRUTH, DETECTIONS, 10)
    wide = draw_overlay(GREY, DETECTIONS, TRUTH, matched)
    narrow = draw_overlay(np.zeros((2000, 150), dtype=np.uint8), DETECTIONS, TRUTH, matched)
    assert narrow.width == 150
    assert narrow.height - 2000 == 4 * (wide.height - 600)


@pytest.mark.parametrize("points", [np.empty((0, 2)), DETECTIONS])
def test_written_overlay_is_a_png_in_its_folder(tmp_path, points):
    path = tmp_path / "sub" / "a.png"
    write_overlay(path, GREY, points)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_overlay_of_an_empty_match():
    nothing = np.empty((0, 2))
    picture = draw_overlay(GREY, nothing, nothing, match(nothing, nothing, 5))
    assert (np.asarray(picture)[:600] == 128).all()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (5, 7, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_image_becomes_rgb(shape, dtype):
    ramp = np.linspace(0, 200, 35).reshape(5, 7, *(1,) * (len(shape) - 2))
    image = np.broadcast_to(ramp, shape).astype(dtype)
    shown = as_rgb(image)
    assert (shown.shape, shown.dtype) == ((5, 7, 3), np.uint8)
    assert shown.max() == (200 if dtype == np.uint8 and shape[2:] not in ((2,), (4,), (5,)) else 255)


def test_what_is_in_an_image_is_seen():
    """In spite of a hot pixel, in the dark, and in whatever channel it is."""
    cells = np.zeros((60, 60), np.uint16)
    cells[20:40, 20:40] = 900
    hot = cells.copy()
    hot[0, 0] = 65535
    second = np.stack([np.zeros_like(cells), cells], axis=2)
    fourth = np.stack([cells * 0, cells * 0 + 4095, cells * 0, cells], axis=2)  # a constant one is no light
    fifth = np.stack([*np.zeros((4, 60, 60), np.uint16), cells], axis=2)
    for image in (hot, (cells // 30).astype(np.uint8), second, fourth, fifth, fifth.astype(np.float32)):
        assert as_rgb(image)[30, 30].tolist() == [255, 255, 255]
        assert as_rgb(image)[5, 5].tolist() == [0, 0, 0]
    assert as_rgb(np.full((9, 9, 3), 250, np.uint8)).max() == 250


def test_constant_and_nan_images_are_shown():
    assert (as_rgb(np.full((4, 4), 7.0)) == 0).all()
    assert as_rgb(np.array([[np.nan, 1.0]])).max() == 255


def test_circles_have_the_radius_of_their_class():
    points, names = np.array([[30.0, 30.0], [30.0, 90.0]]), np.array(["small", "large"])
    dark = np.zeros((600, 600), np.uint8)
    picture = draw_overlay(
        dark, points, classes=names, known=["small", "large"], radius={"small": 6, "large": 20}
    )
    bright = np.asarray(picture)[:60, :120].max(axis=2) > 100
    widths = [np.flatnonzero(part.any(axis=0)).size for part in (bright[:, :60], bright[:, 60:])]
    assert widths[0] == pytest.approx(13, abs=3)
    assert widths[1] == pytest.approx(41, abs=3)


def test_history_with_and_without_selection():
    with_f1 = png(draw_history([0, 10, 20], [9.0, 3.0, 1.0], [10, 20], [0.4, 0.8]))
    assert (png(draw_history([0, 10, 20], [9.0, 3.0, 1.0], [10, 20], [0.4, 0.8], 10)) != with_f1).any()
    without = png(draw_history([0, 10, 20], [9.0, 3.0, 1.0]))
    assert with_f1.shape == without.shape
    assert (with_f1 != without).any()
    png(draw_history([], []))
    png(draw_history([0], [0.0]))


def test_threshold_curve_with_points_and_without():
    curve = (CurvePoint(0.1, 0.5, 1.0, 0.67), CurvePoint(0.6, 1.0, 0.5, 0.67))
    png(draw_threshold_curve(ThresholdChoice(0.35, 0.6, 0.75, 0.67, 0.8, curve)))
    png(draw_threshold_curve(ThresholdChoice(0.0, 1.0, 0.0, 0.0, 0.0, ())))


def axis_view(number: int) -> AxisView:
    rng = np.random.default_rng(number)
    signal = np.zeros(60)
    signal[rng.integers(60)] = 1.0
    measured = rng.normal(size=12)
    return AxisView(f"axis {number}", signal, 0.8 * signal, measured, measured + 0.1)


def test_code_figure_grows_with_its_axes_up_to_four():
    patch = np.zeros((48, 48, 3), dtype=np.uint8)
    candidates, owners = np.array([[10.0, 12.0], [11.0, 12.0], [70.0, 5.0]]), np.array([0, 1, 1])

    def drawn(count):
        views = [axis_view(number) for number in range(count)]
        return png(draw_code(patch, TRUTH[:0], views, candidates, owners, candidates[:1]))

    four = drawn(4)
    assert four.shape[0] > drawn(1).shape[0]
    assert (four == drawn(9)).all()
    empty = np.empty((0, 2))
    png(draw_code(patch[..., 0], empty, [], empty, np.empty(0, dtype=int), empty))


def test_code_figure_needs_an_axis_for_each_candidate():
    with pytest.raises(ValueError, match="an axis for each of 2 candidates, got 1"):
        draw_code(np.zeros((9, 9)), TRUTH, [], np.zeros((2, 2)), np.zeros(1), TRUTH)


class Outline(HTMLParser):
    """The tags, texts and sources of a page, and whether every tag is closed in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.texts, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_page_is_self_contained_escaped_and_well_formed(tmp_path):
    picture = Image.new("RGB", (4, 4), "red")
    sections = [
        Section("", "First.\n\nSecond <b>.", numbers=[("0.97", "F1")]),
        Section("Scores & more", tables=[Table(("", "F1"), [("a<b", "0.9")], "one-to-one")]),
        Section("Pictures", figures=[Figure(picture, 'a "quoted" one'), Figure(b"\x89PNG", "b", wide=True)]),
    ]
    path = tmp_path / "report.html"
    write_report(path, "Report <1>", sections)
    outline = Outline()
    outline.feed(path.read_text(encoding="utf-8"))
    assert outline.open == []
    assert outline.tags.count("h2") == 2
    assert {"b<", "script"}.isdisjoint(outline.tags)
    for text in ("Report <1>", "First.", "Second <b>.", "a<b", "Scores & more", "0.97", 'a "quoted" one'):
        assert text in outline.texts
    assert len(outline.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in outline.sources)
    embedded = base64.b64decode(outline.sources[0].split(",")[1])
    assert png(embedded)[0, 0].tolist() == [255, 0, 0]


def test_page_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(DataError, match="cannot write"):
        write_report(tmp_path / "report.html", "title", [])


def test_figures_need_neither_pyplot_nor_torch():
    code = (
        "import sys, pointsense.reporting.code_figure, pointsense.reporting.curves; "
        "sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
