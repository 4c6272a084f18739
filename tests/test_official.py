"""Downloads and exports in their exact layouts, with their traps."""

import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.spatial import cKDTree

from pointsense.datasets import load_dataset
from pointsense.datasets.convert import write_dataset
from pointsense.datasets.official import FORMATS, named, read_official
from pointsense.errors import DataError, UsageError
from pointsense.evaluation.challenges import CHALLENGES, RHO
from pointsense.experiments import tupac16_agreement
from pointsense.experiments.agreement import ALTERNATIVE, ORIGINAL
from pointsense.points import Detections
from test_cli import cli, one_error  # noqa: F401  fixtures

POINTS = np.array([(3.25, 10.5), (20.0, 5.125)])


def image(path, shape=(32, 48), pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*shape, 3), np.uint8) if pixels is None else pixels).save(path)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def points_of(reading):
    """Points by image, class after class."""
    return {
        sample.name: {
            kind: sample.points[np.array(sample.classes) == kind].tolist() for kind in sample.classes
        }
        for sample in reading.dataset.samples
    }


# --- contests ---


def test_icpr2012(tmp_path):
    image(tmp_path / "A00_v2" / "A00_00.bmp")
    image(tmp_path / "A00_v2" / "A00_01.bmp")
    # Lines of unequal length, a comma at the end, and a file without a line.
    text(tmp_path / "A00_v2" / "A00_00.csv", "1,2,3,2,1,4,3,4\n10,20,12,20,\n")
    text(tmp_path / "A00_v2" / "A00_01.csv", "")
    reading = read_official("icpr2012", tmp_path)
    assert points_of(reading) == {
        "A00_v2/A00_00.bmp": {"mitosis": [[3.0, 2.0], [20.0, 11.0]]},
        "A00_v2/A00_01.bmp": {},
    }
    assert [sample.group for sample in reading.dataset.samples] == ["00", "00"]  # as of H00
    assert reading.dataset.um_per_px == 0.2456
    assert reading.dataset.radius_px["mitosis"] == pytest.approx(5 / 0.2456, abs=1e-3)
    assert reading.dataset.smallest_radius_px == pytest.approx(np.sqrt(2 / np.pi), abs=1e-3)
    assert reading.problems == []


def test_icpr2012_with_a_broken_line(tmp_path):
    image(tmp_path / "A00_v2" / "A00_00.bmp")
    text(tmp_path / "A00_v2" / "A00_00.csv", "1,2,3\n1,x\n4,5\n")
    reading = read_official("icpr2012", tmp_path)
    assert len(reading.problems) == 2
    assert "3 numbers, expected pairs x,y" in reading.problems[0]
    assert "line 2: found '1,x', expected numbers" in reading.problems[1]


def test_mitos14(tmp_path):
    for slide in ("A03", "H03"):
        image(tmp_path / slide / "frames" / "x40" / f"{slide}_00Aa.tiff")
        image(tmp_path / slide / "frames" / "x20" / f"{slide}_00A.tiff")
    folder = tmp_path / "A03" / "mitosis"
    text(folder / "A03_00Aa_mitosis.csv", "10,3,0.95\n10,3,0.95\n5,20,0.65\n")  # a row twice
    text(folder / "A03_00Aa_not_mitosis.csv", "1,2,0.2\n")
    text(folder / "A03_00Ab_mitosis.csv", "7,7,1\n")  # its frame is not there
    text(tmp_path / "H03" / "mitosis" / "H03_00Aa_mitosis.csv", "")
    reading = read_official("mitos14", tmp_path)
    assert points_of(reading) == {
        "A03/frames/x40/A03_00Aa.tiff": {"mitosis": [[3.0, 10.0], [20.0, 5.0]], "look-alike": [[2.0, 1.0]]},
        "H03/frames/x40/H03_00Aa.tiff": {},
    }
    assert {sample.group for sample in reading.dataset.samples} == {"03"}  # one tissue, scanned twice
    said = "\n".join(reading.notes)
    assert "1 points occur twice: kept once" in said
    assert "1 of 3 labelled images are not below" in said
    assert "A03_00Ab" in said
    assert "0.2273 and 0.2456" in said


def test_pixel_size_is_that_of_the_images_that_are_there(tmp_path):
    for slide in ("A03", "H03"):
        text(tmp_path / slide / "mitosis" / f"{slide}_00Aa_mitosis.csv", "1,1,1\n")
    image(tmp_path / "A03" / "frames" / "x40" / "A03_00Aa.tiff")
    text(tmp_path / "A03" / "mitosis" / "A03_00Ab_not_mitosis.csv", "1,1,1\n")
    image(tmp_path / "A03" / "frames" / "x40" / "A03_00Ab.tiff")
    reading = read_official("mitos14", tmp_path)
    assert reading.dataset.um_per_px == 0.2456
    assert reading.dataset.radius_px == {"mitosis": pytest.approx(8 / 0.2456, abs=1e-3)}
    assert points_of(reading)["A03/frames/x40/A03_00Ab.tiff"] == {"look-alike": [[1.0, 1.0]]}


@pytest.fixture
def tupac(tmp_path):
    for part, case, field in ((1, "01", "01"), (1, "01", "02"), (2, "13", "01"), (3, "80", "01")):
        image(tmp_path / f"mitoses_image_data_part_{part}" / case / f"{field}.tif")
    text(tmp_path / "mitoses_ground_truth" / "01" / "01.csv", "3,10\n20,5\n")
    text(tmp_path / "mitoses_ground_truth" / "13" / "01.csv", "")
    text(tmp_path / "mitoses_ground_truth" / "13" / "02.csv", "1,1\n")  # its image is not there
    return tmp_path


def test_tupac16_takes_a_missing_table_for_no_mitosis(tupac):
    reading = read_official("tupac16", tupac)
    assert {name: list(found.values()) for name, found in points_of(reading).items()} == {
        "mitoses_image_data_part_1/01/01.tif": [[[3.0, 10.0], [20.0, 5.0]]],
        "mitoses_image_data_part_1/01/02.tif": [],
        "mitoses_image_data_part_2/13/01.tif": [],
    }
    assert reading.dataset.radius_px == {"mitosis": 30.0}
    assert [sample.group for sample in reading.dataset.samples] == ["01", "01", "13"]
    said = "\n".join(reading.notes)
    assert "1 images" in said
    assert "no labelled case" in said
    assert "1 tables have no image" in said


def test_amida13_has_a_test(tupac):
    splits = {sample.name[-9:]: sample.split for sample in read_official("amida13", tupac).dataset.samples}
    assert splits == {"01/01.tif": "train", "01/02.tif": "train", "13/01.tif": "test"}


def test_tupac16_alternative_has_look_alikes(tupac):
    with pytest.raises(DataError, match=r"not tupac16-alternative.*nonmitoses_ground_truth"):
        read_official("tupac16-alternative", tupac)
    text(tupac / "nonmitoses_ground_truth" / "01" / "02.csv", "9,8\n")
    found = points_of(read_official("tupac16-alternative", tupac))
    assert found["mitoses_image_data_part_1/01/02.tif"] == {"look-alike": [[9.0, 8.0]]}


def test_two_images_of_one_case_are_not_guessed_between(tupac):
    image(tupac / "test-image-data" / "01" / "01.tif")
    with pytest.raises(DataError, match="two images of one case and field"):
        read_official("tupac16", tupac)


def test_labels_that_belong_to_no_image_are_a_problem(tupac):
    only = tupac / "mitoses_image_data_part_2"
    (only / "13" / "01.tif").rename(only / "13" / "7.tif")
    reading = read_official("tupac16", tupac, images=only)
    assert "no table belongs to any of 1 images" in reading.problems[0]


def test_two_labellings_are_not_mixed(tupac):
    for kind in ("mitoses", "nonmitoses"):
        text(tupac / "TUPAC_AL" / f"{kind}_ground_truth" / "01" / "01.csv", "7,7\n")
    found = points_of(read_official("tupac16-alternative", tupac))
    assert found["mitoses_image_data_part_1/01/01.tif"] == {
        "mitosis": [[7.0, 7.0]],
        "look-alike": [[7.0, 7.0]],
    }
    found = points_of(read_official("tupac16", tupac))
    assert found["mitoses_image_data_part_1/01/01.tif"]["mitosis"][0] == [3.0, 10.0]
    (tupac / "mitoses_ground_truth").rename(tupac / "original")
    (tupac / "original").rename(tupac / "x")
    (tupac / "other").mkdir()
    (tupac / "x").rename(tupac / "other" / "mitoses_ground_truth")
    with pytest.raises(DataError, match="several folders hold labels"):
        read_official("tupac16", tupac)


def test_an_inner_blank_is_not_a_column(tupac):
    text(tupac / "mitoses_ground_truth" / "01" / "01.csv", "3,,10\n20,5,\n")
    reading = read_official("tupac16", tupac)
    assert "line 1: found '3,,10'" in reading.problems[0]
    assert points_of(reading)["mitoses_image_data_part_1/01/01.tif"] == {"mitosis": [[20.0, 5.0]]}


def test_midog(tmp_path):
    content = {
        "images": [
            {"id": 1, "file_name": "001.tiff", "height": 32, "width": 48},
            {"id": 2, "file_name": "002.tiff", "height": 32, "width": 48},
            {"id": 3, "file_name": "003.tiff", "height": 32, "width": 48},
        ],
        "categories": [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "not mitotic figure"}],
        "annotations": [
            {
                "image_id": 1,
                "category_id": 1,
                "bbox": [5.5, -2, 15.5, 8],
            },  # two corners; a half; beyond the image
            {"image_id": 1, "category_id": 2, "bbox": [40, 10, 70, 20]},  # its middle, too, is beyond
        ],
    }
    text(tmp_path / "databases" / "MIDOG++.json", json.dumps(content))
    text(tmp_path / "datasets_xvalidation.csv", "Slide;Dataset;Tumor\n1;train;a\n2;test;b\n")
    for k in (1, 2, 3):
        image(tmp_path / "images" / f"00{k}.tiff")
    reading = read_official("midog", tmp_path)
    assert points_of(reading) == {
        "images/001.tiff": {"mitosis": [[3.0, 10.5]], "look-alike": [[15.0, 47.5]]},
        "images/002.tiff": {},
    }
    assert [sample.split for sample in reading.dataset.samples] == ["train", "test"]
    assert any("1 boxes have their centre outside" in note for note in reading.notes)
    assert any("1 images are not in datasets_xvalidation.csv" in note for note in reading.notes)
    inner = read_official("midog", tmp_path / "databases", images=tmp_path / "images")
    assert [sample.split for sample in inner.dataset.samples] == ["train", "test"]
    text(tmp_path / "datasets_xvalidation.csv", "Slide;Dataset;Tumor\n1;training;a\n2;Validation;b\n")
    assert [sample.split for sample in read_official("midog", tmp_path).dataset.samples] == ["train", "val"]
    (tmp_path / "datasets_xvalidation.csv").unlink()
    unlisted = read_official("midog", tmp_path)
    assert list(points_of(unlisted)) == ["images/001.tiff"]  # the others may not be labelled
    assert any("2 images have no annotation" in note for note in unlisted.notes)
    text(tmp_path / "databases" / "MIDOG++.json", "{}")
    with pytest.raises(DataError, match="not MIDOG's JSON"):
        read_official("midog", tmp_path)


# --- cells ---


def test_crchisto_counts_from_one(tmp_path):
    image(tmp_path / "Detection" / "img1" / "img1.bmp")
    rows = POINTS[:, ::-1] + 1.0
    savemat(tmp_path / "Detection" / "img1" / "img1_detection.mat", {"detection": [*rows, (60.0, 5.0)]})
    of_class = tmp_path / "Classification" / "img1" / "img1_epithelial.mat"
    of_class.parent.mkdir(parents=True)
    savemat(of_class, {"detection": rows[:1]})
    savemat(of_class.with_name("img1_others.mat"), {"detection": np.zeros((0, 2))})
    reading = read_official("crchisto", tmp_path)
    assert points_of(reading) == {
        "Detection/img1/img1.bmp": {
            "epithelial": [[3.25, 10.5]],
            "unlabelled": [[20.0, 5.125], [4.0, 47.0]],
        }
    }
    assert reading.dataset.radius_px == {"epithelial": 6.0, "unlabelled": 6.0}
    assert "moved to its border" in reading.notes[0]
    of_class.write_bytes(b"no mat")
    with pytest.raises(DataError, match="no variable 'detection'"):
        read_official("crchisto", tmp_path)


def test_vgg_dots_are_rounded_down(tmp_path):
    image(tmp_path / "001cell.png")
    dots = np.zeros((32, 48, 3), np.uint8)
    dots[[3, 20], [10, 5], 0] = 255
    image(tmp_path / "001dots.png", pixels=dots)
    reading = read_official("vgg", tmp_path)
    assert points_of(reading) == {"001cell.png": {"": [[3.5, 10.5], [20.5, 5.5]]}}
    assert "half a pixel was added" in reading.notes[0]
    assert reading.dataset.radius_px == {"": 5.0}
    dots[8:10, 8:10] = dots[15:17, 8:10] = 255
    image(tmp_path / "001dots.png", pixels=dots)
    with pytest.raises(
        DataError, match="has 10 pixels with red, most of them side by side: expected one for each"
    ):
        read_official("vgg", tmp_path)


# --- tools ---


def as_coco(folder):
    boxes = [[x + 0.5 - 4, y + 0.5 - 3, 8, 6] for y, x in POINTS]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": box} for box in boxes],
    }
    text(folder / "instances_val.json", json.dumps(content))


def as_coco_key_points(folder):
    points = [number for y, x in POINTS for number in (x, y, 2)]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"image_id": 7, "category_id": 1, "keypoints": [*points, 0, 0, 0]}],
    }
    text(folder / "annotations" / "points.json", json.dumps(content))


@pytest.mark.parametrize(("names", "expected"), [((1, 2), ("1", "2")), ((None, 2), ("", "2"))])
def test_categories_that_are_no_text(names, expected, tmp_path):
    image(tmp_path / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
        "annotations": [
            {"image_id": 7, "category_id": k, "bbox": [x, y, 1, 1]} for k, (y, x) in enumerate(POINTS)
        ],
    }
    text(tmp_path / "all.json", json.dumps(content))
    assert read_official("coco", tmp_path).dataset.samples[0].classes == expected


def as_voc(folder):
    boxes = "".join(
        f"<object><name>cell</name><bndbox><xmin>{x + 1 - 4}</xmin><ymin>{y + 1 - 3}</ymin>"
        f"<xmax>{x + 1 + 4}</xmax><ymax>{y + 1 + 3}</ymax></bndbox></object>"
        for y, x in POINTS
    )
    text(
        folder / "Annotations" / "a.xml",
        f"<annotation><filename>a.png</filename>{boxes}</annotation>",
    )


def as_qupath(folder):
    Detections.of(POINTS, classes="cell").write_geojson(folder / "a.geojson")


def as_cvat(folder):
    marks = ";".join(f"{x + 0.5},{y + 0.5}" for y, x in POINTS[:1])
    (y, x) = POINTS[1] + 0.5
    text(
        folder / "annotations.xml",
        f'<annotations><image id="0" name="a.png" width="48" height="32"><points label="cell" points="{marks}"/>'
        f'<box label="cell" xtl="{x - 2}" ytl="{y - 1}" xbr="{x + 2}" ybr="{y + 1}"/><tag label="cell"/></image>'
        "</annotations>",
    )


def as_napari(folder):
    rows = "".join(f"{k},{y},{x},cell\n" for k, (y, x) in enumerate(POINTS))
    text(folder / "a.csv", f"index,axis-0,axis-1,class\n{rows}")


@pytest.mark.parametrize(
    ("name", "write", "smallest"),
    [
        ("coco", as_coco, 3.0),
        ("coco", as_coco_key_points, None),
        ("voc", as_voc, 3.5),
        ("qupath", as_qupath, None),
        ("cvat", as_cvat, 1.0),
        ("napari", as_napari, None),
    ],
)
def test_exports_come_back(name, write, smallest, tmp_path):
    image(tmp_path / "a.png")
    write(tmp_path)
    reading = read_official(name, tmp_path)
    [sample] = reading.dataset.samples
    assert sample.classes == ("cell", "cell")
    np.testing.assert_allclose(sample.points, POINTS, atol=1e-9)
    write_dataset(reading.dataset, tmp_path / "out")
    again = load_dataset(tmp_path / "out")
    np.testing.assert_allclose(again.samples[0].points, POINTS, atol=1e-3)
    assert again.smallest_radius_px == smallest  # of boxes alone
    assert again.class_names == ("cell",)
    assert again.samples[0].split == ("val" if write is as_coco else "train")


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("coco", "a.json", '{"images": [{"id": 1}], "annotations": []}', "not in COCO's format"),
        ("coco", "a.json", "{", "is not JSON"),
        ("voc", "a.xml", "<annotation><object/></annotation>", "where a coordinate should be"),
        ("voc", "a.xml", "<annotation>", "is not XML"),
        ("cvat", "a.xml", '<annotations><image name="a.png"><box xtl="1"/></image></annotations>', "'None' where"),
        ("cvat", "a.xml", "<annotations><image/></annotations>", "None where the name of an image"),
        ("cvat", "a.xml", '<annotations><image name="/"/></annotations>', "'/' where the name of an image"),
        ("cvat", "a.xml", '<annotations><image name="a.png"><points points="12"/></image></annotations>', "'' where"),
        ("coco", "a.json", '{"images": [{"id": 1, "file_name": 7}], "annotations": []}', "7 where the name"),
        ("coco", "a.json", '{"images": [], "annotations": ["x"]}', "not in COCO's format"),
        (
            "coco",
            "a.json",
            '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "bbox": [NaN, 1, 2, 3]}]}',
            "'nan' where a coordinate",
        ),
        (
            "coco",
            "a.json",
            '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"id": 4, "image_id": 9}]}',
            "annotation 4 is of the image 9, which is not among its images",
        ),
        ("napari", "a.csv", "index,axis-0,axis-1,axis-2\n0,1,2,3\n", "lie in a stack"),
        ("napari", "a.csv", "index,shape-type,vertex-index,axis-0,axis-1\n0,rectangle,0,2,3\n", "layer of shapes"),
        ("qupath", "a.geojson", "[]x", "is not GeoJSON"),
    ],
)  # fmt: skip
def test_broken_exports_are_told(name, file, content, said, tmp_path):
    image(tmp_path / "a.png")
    text(tmp_path / file, content)
    with pytest.raises(DataError, match=said):
        read_official(name, tmp_path)


def coco(folder, name, images, extra=()):
    content = {
        "images": [{"id": k, "file_name": file} for k, file in enumerate(images)],
        "annotations": [{"image_id": k, "bbox": [9.5, 4.5, 2, 2]} for k in range(len(images))] + list(extra),
    }
    text(folder / name, json.dumps(content))


def test_the_smallest_object_is_one_that_is_used(tmp_path):
    image(tmp_path / "a.png")
    content = {
        "images": [{"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "missing.png"}],
        "categories": [{"id": 0, "name": "cell"}, {"id": 1, "name": "look-alike"}],
        "annotations": [
            {"image_id": 0, "category_id": 0, "bbox": [4, 4, 7.0019, 9]},
            {"image_id": 0, "category_id": 1, "bbox": [20, 4, 1, 1]},
            {"image_id": 1, "category_id": 0, "bbox": [4, 4, 2, 2]},
        ],
    }
    text(tmp_path / "a.json", json.dumps(content))
    reading = read_official("coco", tmp_path)
    assert reading.dataset.smallest_radius_px == 3.5  # rounded down: no longer than the object's own
    assert "the smallest annotated object has a radius of 3.5 px, in a.png" in reading.notes


def test_images_of_one_name_in_several_folders(tmp_path):
    for name in ("c1/a.png", "c2/a.png", "c2/a.jpg"):
        image(tmp_path / name)
    coco(tmp_path, "a.json", ["c1/a.png", "c2/a.png"])
    assert list(points_of(read_official("coco", tmp_path))) == ["c1/a.png", "c2/a.png"]
    (tmp_path / "c1" / "a.png").unlink()
    reading = read_official("coco", tmp_path)
    assert list(points_of(reading)) == ["c2/a.png"]  # the labels of c1 are not given to it
    assert any("1 of 2 labelled images are not below" in note for note in reading.notes)
    (tmp_path / "c2" / "a.png").unlink()
    coco(tmp_path, "a.json", ["c3/a.png", "c4/a.png"])
    with pytest.raises(DataError, match="could both be of the image c2/a"):
        read_official("coco", tmp_path)


def test_labels_beside_their_images(tmp_path):
    for folder in ("c1", "c2"):
        image(tmp_path / folder / "a.png")
        text(tmp_path / folder / "a.xml", "<annotation><filename>a.png</filename></annotation>")
    assert list(points_of(read_official("voc", tmp_path))) == ["c1/a.png", "c2/a.png"]


def test_vocs_own_folders(tmp_path):
    image(tmp_path / "SegmentationClass" / "a.png")
    for name in ("a", "b c"):
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
        text(
            tmp_path / "Annotations" / f"{name}.xml",
            f"<annotation><filename>{name}.jpg</filename></annotation>",
        )
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "a\n")
    text(tmp_path / "ImageSets" / "Main" / "val.txt", "b c \n")
    text(tmp_path / "ImageSets" / "Main" / "trainval.txt", "a\nb c\n")
    reading = read_official("voc", tmp_path)
    assert list(points_of(reading)) == ["JPEGImages/a.jpg", "JPEGImages/b c.jpg"]
    assert [sample.split for sample in reading.dataset.samples] == ["train", "val"]
    assert "1 of 3 images below" in reading.notes[-1]
    assert "have no labels, first SegmentationClass/a.png: left out" in reading.notes[-1]


def test_folders_name_the_split(tmp_path):
    """As Roboflow exports; what macOS leaves in archives is passed over."""
    for folder in ("train", "valid", "test"):
        image(tmp_path / folder / f"{folder}.jpg")
        text(
            tmp_path / folder / f"{folder}.xml", f"<annotation><filename>{folder}.jpg</filename></annotation>"
        )
        coco(tmp_path / folder, "_annotations.coco.json", [f"{folder}.jpg"])
        for hidden in (
            f"._{folder}.xml",
            f"._{folder}.csv",
            "._a.json",
            "__MACOSX/a.xml",
            "__MACOSX/a.geojson",
        ):
            text(tmp_path / folder / hidden, "\0")
    text(tmp_path / "labelme" / "x.json", "of another tool")
    for name in ("voc", "coco"):
        reading = read_official(name, tmp_path)
        assert [(Path(s.name).stem, s.split) for s in reading.dataset.samples] == [
            ("test", "test"),
            ("train", "train"),
            ("valid", "val"),
        ]
        assert not any("no labels" in note for note in reading.notes)


def test_an_outline_around_another_is_no_cell(tmp_path):
    image(tmp_path / "a.png")

    def square(x, y, side):
        corners = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [corners]},
            "properties": {},
        }

    cells = [square(5, 5, 4), square(9, 5, 4), square(20, 8, 5)]
    text(tmp_path / "a.geojson", json.dumps(cells))
    assert len(read_official("qupath", tmp_path).dataset.samples[0].points) == 3
    hole = square(3, 3, 12)
    hole["geometry"]["coordinates"] += square(4, 4, 10)["geometry"]["coordinates"]
    text(
        tmp_path / "a.geojson", json.dumps([*cells, hole, square(6, 6, 4)])
    )  # in a hole, and over one another
    assert len(read_official("qupath", tmp_path).dataset.samples[0].points) == 5
    text(tmp_path / "a.geojson", json.dumps([*cells, square(3, 3, 12)]))
    with pytest.raises(DataError, match="an outline with another one inside: it may be a region"):
        read_official("qupath", tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [("instances_val2017", "val"), ("validation", "val"), ("latest", "train"), ("oval", "train"), ("Test-1", "test")],
)  # fmt: skip
def test_a_split_is_a_word_of_a_files_name(tmp_path, name, split):
    image(tmp_path / "a.png")
    coco(tmp_path, f"{name}.json", ["a.png"])
    [sample] = read_official("coco", tmp_path).dataset.samples
    assert sample.split == split


def test_no_image_is_lost_between_splits(tmp_path):
    for name in ("a.png", "b.png"):
        image(tmp_path / name)
    coco(tmp_path, "val.json", ["a.png"])
    coco(tmp_path, "more.json", ["b.png"])
    reading = read_official("coco", tmp_path)
    assert [sample.split for sample in reading.dataset.samples] == ["val", "train"]
    assert any("1 images are in no split" in note for note in reading.notes)


def test_what_is_neither_point_nor_box_is_told(tmp_path):
    image(tmp_path / "a.png")
    coco(tmp_path, "a.json", ["a.png"], [{"image_id": 0, "bbox": [0, 0, 9, 9], "iscrowd": 1}])
    reading = read_official("coco", tmp_path)
    assert points_of(reading) == {"a.png": {"": [[5.0, 10.0]]}}
    assert "1 annotations are marked as crowds" in reading.notes[0]
    shapes = '<polygon points="1,1;2,2"/><ellipse/><polygon/>'
    text(
        tmp_path / "a.xml",
        f'<annotations><image name="a.png" subset="Validation">{shapes}</image></annotations>',
    )
    reading = read_official("cvat", tmp_path)
    assert reading.dataset.samples[0].split == "val"
    assert [note[:38] for note in reading.notes] == [
        "2 annotations are of the kind 'polygon",
        "1 annotations are of the kind 'ellipse",
    ]


# --- all of them ---


@pytest.mark.parametrize("name", FORMATS)
def test_a_wrong_folder_says_what_was_expected(name, tmp_path):
    text(tmp_path / "holiday.txt", "")
    with pytest.raises(DataError) as error:
        read_official(name, tmp_path)
    assert FORMATS[name].expected in str(error.value)
    assert FORMATS[name].obtain in str(error.value)
    assert "found holiday.txt" in str(error.value)
    with pytest.raises(DataError, match="is no folder; expected"):
        read_official(name, tmp_path / "none")


def test_images_lie_elsewhere_in_another_format_and_size(tmp_path):
    labels, shrunk = tmp_path / "labels", tmp_path / "shrunk"
    text(labels / "A00_v2" / "A00_00.csv", "9,19,11,19\n")
    with pytest.raises(DataError, match=r"no image for any of 1 labelled.*--images"):
        read_official("icpr2012", labels)
    image(shrunk / "A00_00.jpg")
    reading = read_official("icpr2012", labels, images=shrunk, scale=0.5)
    assert points_of(reading) == {"A00_00.jpg": {"mitosis": [[9.25, 4.75]]}}
    assert reading.dataset.um_per_px == pytest.approx(2 * 0.2456)
    assert reading.dataset.radius_px["mitosis"] == pytest.approx(2.5 / 0.2456, abs=1e-3)
    assert "scaled by 0.5" in reading.notes[-2]
    assert "1 images were found by the end of their path" in reading.notes[0]
    other = read_official("icpr2012", labels, images=shrunk, um_per_px=0.5)
    assert points_of(other) == {"A00_00.jpg": {"mitosis": [[19.0, 10.0]]}}
    assert other.dataset.radius_px == {"mitosis": 10.0}
    image(shrunk / "sub" / "A00_00.png")
    with pytest.raises(DataError, match="several images for A00_v2/A00_00"):
        read_official("icpr2012", labels, images=shrunk)
    for wrong in ({"scale": 0.0}, {"um_per_px": -1.0}):
        with pytest.raises(UsageError, match="expected a positive number"):
            read_official("icpr2012", labels, **wrong)
    with pytest.raises(UsageError, match="unknown format 'icpr'; use icpr2012"):
        read_official("icpr", labels)


def test_convert_from_the_command_line(cli, one_error, tupac, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("converted") / "out"
    code, said, _ = cli("convert", tupac, "--from", "amida13", "-o", out, "--link")
    assert code == 0
    assert said.splitlines()[-1] == f"3 images, 2 mitosis: {out}"
    assert said.startswith("note: 1 images")
    dataset = load_dataset(out)
    assert [len(sample.points) for sample in dataset.samples] == [2, 0, 0]
    assert [sample.split for sample in dataset.samples] == ["train", "train", "test"]
    assert [sample.group for sample in dataset.samples] == ["01", "01", "13"]
    assert (dataset.um_per_px, dataset.radius_px) == (0.25, {"mitosis": 30.0})
    assert all(os.path.islink(sample.path) for sample in dataset.samples)
    (out / "dataset.json").write_text("of before")
    code, _, warned = cli("convert", tupac, "--from", "tupac16", "-o", out, "--overwrite")
    assert code == 0
    assert f"warning: {out / 'split.csv'} is not of this data set: set aside as split.csv.before" in warned
    assert not (out / "split.csv").exists()  # of before
    assert (out / "split.csv.before").read_text().startswith("image,split")
    assert not any(os.path.islink(sample.path) for sample in load_dataset(out).samples)


def test_convert_spares_the_users_images(one_error, tmp_path):  # noqa: F811
    labels, out = tmp_path / "labels", tmp_path / "out"
    path = image(out / "images" / "a.png")
    before = path.read_bytes()
    coco(labels, "a.json", ["a.png"])
    command = (
        "convert",
        labels,
        "--from",
        "coco",
        "--images",
        out / "images",
        "-o",
        out,
        "--overwrite",
        "--link",
    )
    assert "lies in" in one_error(*command)[1]
    assert (path.read_bytes(), path.is_symlink()) == (before, False)
    image(tmp_path / "other" / "b.png")
    coco(labels, "a.json", ["b.png"])
    command = ("convert", labels, "--from", "coco", "--images", tmp_path / "other", "-o", out, "--overwrite")
    assert "holds images that are not of this data set (1, first a.png)" in one_error(*command)[1]


def test_look_alikes_go_through_a_conversion(cli, tupac, tmp_path_factory):  # noqa: F811
    text(tupac / "nonmitoses_ground_truth" / "01" / "02.csv", "9,8\n")
    out = tmp_path_factory.mktemp("converted")
    assert cli("convert", tupac, "--from", "tupac16-alternative", "-o", out / "a")[0] == 0
    dataset = load_dataset(out / "a")
    assert (dataset.class_names, dataset.radius_px) == (("mitosis",), {"mitosis": 30.0})
    assert [len(sample.look_alikes) for sample in dataset.samples] == [0, 1, 0]
    assert "look-alike" not in cli("check", out / "a")[1]
    write_dataset(dataset, out / "b")
    assert (out / "b" / "points.csv").read_text() == (out / "a" / "points.csv").read_text()


def test_a_look_alike_outside_is_told(cli, tupac):  # noqa: F811
    text(tupac / "nonmitoses_ground_truth" / "01" / "02.csv", "90,8\n")
    code, said, _ = cli("check", f"tupac16-alternative:{tupac}")
    assert (code, "01/02.tif" in said, "outside" in said) == (1, True, True)


def test_predictions_of_a_download_are_scored(cli, tupac, tmp_path_factory):  # noqa: F811
    found = tmp_path_factory.mktemp("found")
    text(found / "mitoses_image_data_part_1" / "01" / "01.csv", "y,x,class\n3,10,cell\n20,5,cell\n")
    code, said, _ = cli(
        "evaluate", f"tupac16:{tupac}", "--predictions", found, "--split", "train", "--radius", 3
    )
    assert (code, said.splitlines()[-1]) == (0, "F1 1.000")  # of one class all count, whatever it is called
    arguments = ("--split", "train", "--class", "mitosis", "--against", found)
    code, said, _ = cli("evaluate", f"tupac16:{tupac}", "--predictions", found, *arguments)
    assert (code, "+0.000, 95% interval" in " ".join(said.split())) == (0, True)


def test_convert_refuses(one_error, tupac, tmp_path_factory):  # noqa: F811
    full, new = tmp_path_factory.mktemp("full"), tmp_path_factory.mktemp("new") / "out"
    text(full / "a", "")
    for code, said, *arguments in (
        (2, "is not empty", "amida13", "-o", full),
        (2, "lies in the folder that is read", "amida13", "-o", tupac / "out"),
        (2, "unknown format 'x'", "x", "-o", new),
    ):
        assert one_error("convert", tupac, "--from", *arguments)[0] == code
        assert said in one_error("convert", tupac, "--from", *arguments)[1]
    text(tupac / "mitoses_ground_truth" / "01" / "02.csv", "1,a\n2\n")
    code, said = one_error("convert", tupac, "--from", "tupac16", "-o", new)
    assert (code, "found '1,a'" in said, "(and 1 more)" in said) == (1, True, True)
    assert not new.exists()


def test_a_download_is_a_data_set_by_its_name(cli, tupac):  # noqa: F811
    assert named(f"tupac16:{tupac}") == ("tupac16", tupac)
    assert named(tupac) is None
    assert named("C:/cells") is None
    assert len(load_dataset(f"tupac16:{tupac}").train) == 3
    code, said, _ = cli("check", f"amida13:{tupac}")
    assert "1 tables have no image" in said
    # So few of this tiny download's images have points that it cannot be trained on, which is its one error.
    assert (code, said.count("error: "), "training images; expected at least two" in said) == (1, 1, True)


# --- experts among themselves ---


def data_base(path, kind, slides):
    """SlideRunner's data base of points by slide, one of a deleted annotation and one of another class."""
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE Slides (uid INTEGER, filename TEXT)")
        base.execute("CREATE TABLE Classes (uid INTEGER, name TEXT)")
        base.execute(
            "CREATE TABLE Annotations (uid INTEGER, slide INTEGER, deleted INTEGER, agreedClass INTEGER)"
        )
        base.execute(
            "CREATE TABLE Annotations_coordinates (annoId INTEGER, coordinateX REAL, coordinateY REAL)"
        )
        base.executemany("INSERT INTO Classes VALUES (?, ?)", [(1, kind), (2, "Hard negative")])
        number = 0
        for k, (slide, points) in enumerate(slides.items()):
            base.execute("INSERT INTO Slides VALUES (?, ?)", (k, slide))
            for y, x, deleted, agreed in [(*p, 0, 1) for p in points] + [(1, 1, 1, 1), (2, 2, 0, 2)]:
                base.execute("INSERT INTO Annotations VALUES (?, ?, ?, ?)", (number, k, deleted, agreed))
                base.execute("INSERT INTO Annotations_coordinates VALUES (?, ?, ?)", (number, x, y))
                number += 1


def test_agreement_of_two_labellings(cli, one_error, tmp_path):  # noqa: F811
    where = ("--data", tmp_path, "-o", tmp_path / "out")
    assert "lacks TUPAC_stitched.sqlite and" in one_error("reproduce", "agreement", *where)[1]
    # Of two points within reach of one, one is a pair; 31 px is too far.
    data_base(tmp_path / ORIGINAL, "Mitosis", {"01.tif": [(100, 50), (300, 300)], "02.tif": []})
    data_base(tmp_path / ALTERNATIVE, "Mitose", {"01.tif": [(100, 60), (100, 40), (331, 300)], "02.tif": []})
    code, said, _ = cli("reproduce", "agreement", *where)
    assert (code, said.splitlines()[-1]) == (0, "F1 0.400")
    overall = json.loads((tmp_path / "out" / "agreement.json").read_text())["overall"]
    assert [overall[key] for key in ("images", "true_positives", "false_positives", "false_negatives")] == [
        2,
        1,
        2,
        1,
    ]
    assert "unknown experiment 'table9'" in one_error("reproduce", "table9", *where)[1]
    (tmp_path / ALTERNATIVE).unlink()
    data_base(tmp_path / ALTERNATIVE, "Mitose", {"01.tif": []})
    assert "alone has 02.tif" in one_error("reproduce", "agreement", *where)[1]
    (tmp_path / ALTERNATIVE).write_text("no data base, but as long as the mark of one is")
    assert "is not a data base of SlideRunner" in one_error("reproduce", "agreement", *where)[1]


DATA = os.environ.get("POINTSENSE_DATA")


@pytest.mark.skipif(not DATA, reason="POINTSENSE_DATA is not set")
def test_agreement_on_tupac16():
    overall = tupac16_agreement(Path(DATA) / "labels_only" / "tupac16_alt").overall
    assert (overall.images, overall.true_positives) == (73, 1243)
    assert overall.f1 == pytest.approx(0.700, abs=1e-3)


@pytest.mark.skipif(not DATA, reason="POINTSENSE_DATA is not set")
@pytest.mark.parametrize(
    ("name", "folder", "tolerance", "images"),
    [("icpr2012", "icpr2012", 0.5, 28), ("mitos14", "mitos14_half", 1.0, 161), ("crchisto", "crchisto", 0.01, 3)],
)  # fmt: skip
def test_official_files_agree_with_the_tables(name, folder, tolerance, images):
    root = Path(DATA) / folder
    expected = {sample.name: sample for sample in load_dataset(root).samples}
    found = read_official(name, root / "official_layout", images=root / "images").dataset.samples
    assert len(found) == images
    for sample in found:
        truth = expected[sample.name]
        distance, other = cKDTree(truth.points).query(sample.points, p=np.inf)
        assert sorted(other) == list(range(len(truth.points)))
        assert distance.max() <= tolerance
        assert list(sample.classes) == [truth.classes[k] for k in other]


def test_help_and_docs_name_every_format_and_challenge(cli):  # noqa: F811
    words = " ".join(cli("convert", "--help")[1].split())
    page = (Path(__file__).parents[1] / "docs" / "data-layout.md").read_text()
    for name in FORMATS:
        assert re.search(rf"\b{name}\b", words)
        assert f"`{name}`" in page
    words = " ".join(cli("evaluate", "--help")[1].split())
    assert all(re.search(rf"\b{name}\b", words) for name in (*CHALLENGES, RHO))


def test_a_conversion_that_stops_leaves_no_data_set(tmp_path):
    text(tmp_path / "data" / "points.csv", "image,y,x\na.png,3,10\nb.png,3,10\n")
    text(tmp_path / "data" / "split.csv", "image,split\na.png,train\nb.png,val\n")
    for name in ("a.png", "b.png"):
        image(tmp_path / "data" / "images" / name)
    dataset, out = load_dataset(tmp_path / "data"), tmp_path / "out"
    write_dataset(dataset, out)
    (tmp_path / "data" / "images" / "b.png").rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"cannot read the image .*b\.png: it is not there"):
        write_dataset(dataset, out, overwrite=True)
    assert len(load_dataset(out).val) == 1  # as it was
    (tmp_path / "data" / "images" / "b.png").mkdir()
    with pytest.raises(DataError):
        write_dataset(dataset, out, overwrite=True)
    with pytest.raises(DataError, match=r"points\.csv"):  # else the val images of before would now be train
        load_dataset(out)
