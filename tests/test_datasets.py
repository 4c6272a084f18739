"""Loading both layouts, their splits, groups and scale, and saying what is wrong with them."""

import json
import logging
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointsense.datasets import check_points_inside, estimate_radius, list_images, load_dataset
from pointsense.datasets.dataset import Dataset, Sample
from pointsense.errors import DataError, UsageError
from pointsense.images import read_image

POINTS = "image,y,x,class,note\na.png,1,2,RBC,\nsub/b.png,3,4.5,WBC,seen\na.png,5,6,WBC,\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def draw(path, shape=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "sub/b.png", "c.png"):
        draw(tmp_path / "images" / name)
    write(tmp_path / "points.csv", POINTS)
    return tmp_path


@pytest.fixture
def side_by_side(tmp_path):
    for name in ("train/a", "train/b", "val/a"):
        draw(tmp_path / f"{name}.tif")
    write(tmp_path / "train" / "a.csv", "y,x\n1,2\n3,4\n")
    write(tmp_path / "train" / "b.csv", "axis-0,axis-1\n5,6\n")
    write(tmp_path / "val" / "a.csv", "x,y\n8,7\n")
    return tmp_path


def test_folder(folder):
    write(folder / "images" / "notes.txt", "not an image")
    draw(folder / "images" / "._a.png")  # what macOS leaves on other file systems
    dataset = load_dataset(folder)
    assert [sample.name for sample in dataset.samples] == ["a.png", "c.png", "sub/b.png"]
    first, empty, last = dataset.train
    np.testing.assert_array_equal(first.points, [(1, 2), (5, 6)])
    assert first.classes == ("RBC", "WBC")
    assert first.path == folder / "images" / "a.png"
    assert empty.points.shape == (0, 2)
    assert (last.points.tolist(), last.split, last.group) == ([[3, 4.5]], "train", "sub/b.png")
    assert dataset.class_names == ("RBC", "WBC")
    assert (dataset.val, dataset.has_groups, dataset.radius_px, dataset.um_per_px) == ([], False, {}, None)


def test_points_without_classes_and_with_backslashes(folder):
    write(folder / "points.csv", "image,x,y\nsub\\b.png,4,3\n")
    dataset = load_dataset(folder)
    assert dataset.samples[2].points.tolist() == [[3, 4]]
    assert dataset.samples[2].classes == ("",)
    assert dataset.class_names == ()


def test_only_one_class(folder):
    write(folder / "dataset.json", json.dumps({"radius_px": {"RBC": 25, "WBC": 45}}))
    white = load_dataset(folder).only("WBC")
    assert [len(sample.points) for sample in white.samples] == [1, 0, 1]
    assert white.samples[0].points.tolist() == [[5, 6]]
    assert (white.class_names, white.radius_px) == (("WBC",), {"WBC": 45.0})
    with pytest.raises(UsageError, match=r"no point of the class 'wbc' in .*; its classes are: RBC, WBC"):
        load_dataset(folder).only("wbc")
    write(folder / "points.csv", "image,y,x\n")
    with pytest.raises(UsageError, match="its classes are: none"):
        load_dataset(folder).only("RBC")


def test_split_groups_and_scale(folder):
    write(folder / "split.csv", "image,split\na.png,train\nsub/b.png,val\nc.png,test\n")
    write(folder / "groups.csv", "image,group,scanner\na.png,P1,A\nsub/b.png,P1,A\nc.png,P2,B\n")
    write(folder / "dataset.json", json.dumps({"um_per_px": 0.25, "radius_px": 6, "source": "here"}))
    dataset = load_dataset(folder)
    assert [sample.name for sample in dataset.train] == ["a.png"]
    assert [sample.name for sample in dataset.val] == ["sub/b.png"]
    assert [sample.name for sample in dataset.split("test")] == ["c.png"]
    assert [sample.group for sample in dataset.samples] == ["P1", "P2", "P1"]
    assert dataset.has_groups
    assert (dataset.um_per_px, dataset.radius_px) == (0.25, {"RBC": 6.0, "WBC": 6.0})


def test_an_image_without_split_is_used_for_nothing(folder, caplog):
    write(folder / "split.csv", "image,split\na.png,train\nother.png,val\n")
    with caplog.at_level(logging.WARNING):
        dataset = load_dataset(folder)
    assert [sample.split for sample in dataset.samples] == ["train", "", ""]
    assert "does not list c.png, sub/b.png: neither trained nor evaluated on" in caplog.text
    assert "names an image not in images/: 'other.png' (line 3)" in caplog.text


def test_a_name_that_may_be_meant_is_told(folder):
    (folder / "images" / "a.png").rename(folder / "images" / "slide_07.png")
    write(folder / "points.csv", "image,y,x\nslide_7.png,1,2\n")
    with pytest.raises(DataError, match=r"'slide_7\.png' \(line 2\); there is 'slide_07\.png': give"):
        load_dataset(folder)


def test_files_of_nearly_the_right_name_are_told(folder, caplog):
    write(folder / "splits.csv", "image,split\na.png,val\n")
    write(folder / "folds.csv", "image,fold\na.png,0\n")
    with caplog.at_level(logging.WARNING):
        load_dataset(folder)
    assert caplog.text.count("is not read: did you mean split.csv?") == 1
    assert "folds.csv" not in caplog.text


def test_folders_that_name_a_split_otherwise_are_told(side_by_side, caplog):
    (side_by_side / "val").rename(side_by_side / "validation")
    (side_by_side / "notes").mkdir()
    with caplog.at_level(logging.WARNING):
        assert not load_dataset(side_by_side).val
    assert caplog.text.count("is not read: did you mean val?") == 1
    assert "notes" not in caplog.text


def test_images_of_one_stem_do_not_share_a_table(side_by_side):
    draw(side_by_side / "train" / "a.png")
    draw(side_by_side / "train" / "sub" / "a.png")
    write(side_by_side / "train" / "sub" / "a.csv", "y,x\n1,2\n")
    with pytest.raises(
        DataError, match=r"a\.png shares a\.csv with another image: give each .* \(and 1 more"
    ):
        load_dataset(side_by_side)


def test_what_macos_leaves_is_no_table(side_by_side):
    write(side_by_side / "train" / "._a.csv", "\0")
    write(side_by_side / "train" / "__MACOSX" / "a.csv", "\0")
    draw(side_by_side / "train" / "__MACOSX" / "b.png")
    assert len(load_dataset(side_by_side).samples) == 3


def test_where_images_and_points_may_be(folder):
    (folder / "points.csv").rename(folder / "Points.csv")
    with pytest.raises(
        DataError, match=r"points\.csv does not exist: there is 'Points\.csv', rename it to points\.csv"
    ):
        load_dataset(folder)
    (folder / "Points.csv").rename(folder / "points.csv")
    (folder / "images").rename(folder / "Images")
    with pytest.raises(DataError, match=r"no image in .*: there is 'Images', rename it to images"):
        load_dataset(folder)
    (folder / "Images").rename(folder / "pictures")
    draw(folder / "a.png")
    with pytest.raises(DataError, match=r"no image in .*: 1 lie in .* itself, move them to images/"):
        load_dataset(folder)


def test_pictures_of_predictions_are_no_images(folder):
    names = [sample.name for sample in load_dataset(folder).samples]
    (folder / "images" / "found").mkdir()
    (folder / "images" / "found" / "a.overlay.png").write_bytes(b"a picture")
    assert [sample.name for sample in load_dataset(folder).samples] == names


def test_folds_have_names(folder, tmp_path):
    folds = write(tmp_path / "folds.csv", "image,fold\na.png,A\nsub/b.png,01\nc.png,A\n")
    for fold, images in (("A", ["a.png", "c.png"]), ("01", ["sub/b.png"])):
        dataset = load_dataset(folder, split_file=folds, val_fold=fold)
        assert [sample.name for sample in dataset.val] == images


def test_an_image_of_no_fold_is_in_no_split(folder, tmp_path):
    folds = write(tmp_path / "folds.csv", "image,fold\na.png,0\nsub/b.png,1\nc.png,\n")
    dataset = load_dataset(folder, split_file=folds, val_fold=1)
    assert [len(dataset.split(split)) for split in ("train", "val")] == [1, 1]


def test_folds(folder, tmp_path):
    write(folder / "split.csv", "image,split\na.png,val\nsub/b.png,val\nc.png,val\n")
    folds = write(tmp_path / "folds.csv", "image,fold\na.png,0\nsub/b.png,1\nc.png,2\n")
    dataset = load_dataset(folder, split_file=folds, val_fold=1)
    assert [sample.split for sample in dataset.samples] == ["train", "train", "val"]
    with pytest.raises(
        UsageError, match=r"folds\.csv divides by fold; choose one of 0, 1, 2 with --val-fold"
    ):
        load_dataset(folder, split_file=folds)
    with pytest.raises(UsageError, match=r"no fold 7 in .*; choose one of 0, 1, 2"):
        load_dataset(folder, split_file=folds, val_fold=7)
    with pytest.raises(UsageError, match=r"--val-fold 1 needs a column fold in .*split\.csv"):
        load_dataset(folder, val_fold=1)


def test_another_split_file(folder, tmp_path):
    other = write(tmp_path / "mine.csv", "image,split\na.png,val\nsub/b.png,train\nc.png,TRAIN\n")
    assert [sample.name for sample in load_dataset(folder, split_file=other).val] == ["a.png"]
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        load_dataset(folder, split_file=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("points.csv", "a.png,1,2\n", r"points\.csv has no header line .* for example 'image,y,x'"),
        ("points.csv", "image,y\na.png,1\n", r"lacks the column x: expected 'image,y,x'"),
        (
            "points.csv",
            "image,y,x\na.png,1,two\n",
            r"points\.csv, line 2: x is 'two', expected a finite number",
        ),
        (
            "points.csv",
            "image,y,x\na.png,nan,2\na.png,inf,2\n",
            r"line 2: y is 'nan'.* \(and 1 more: see pointsense",
        ),
        (
            "points.csv",
            "image,y,x\na,1,2\nb,1,2\na,1,2\nc,1,2\nd,1,2\n",
            r"names 4 images not in images/: 'a' \(line 2\), 'b' \(line 3\), 'c' \(line 5\), \.\.\.; "
            r"there is 'a\.png': give",
        ),
        (
            "split.csv",
            "image,split\na.png,hold\n",
            r"split\.csv, line 2: split is 'hold', expected train, val or test$",
        ),
        (
            "split.csv",
            "image,split\na.png,vall\nsub/b.png,vall\nc.png,train\n",
            r"line 2: split is 'vall', expected train, val or test; did you mean val\? \(2 lines\)$",
        ),
        ("split.csv", "image,part\na.png,train\n", r"lacks the column split \(or fold\); found 'image,part'"),
        (
            "split.csv",
            "image,split\na,train\n",
            r"split\.csv names an image not in images/: 'a' \(line 2\); there is 'a\.png'",
        ),
        (
            "split.csv",
            "image,split\na.png,train\na.png,val\nc.png,val\n",
            r"line 3: a\.png is 'val' here, 'train' above; keep one",
        ),
        ("groups.csv", "image,patient\na.png,P\n", r"groups\.csv lacks the column group"),
        ("groups.csv", "image,group\na.png,P\na.png,Q\n", r"line 3: a\.png is 'Q' here, 'P' above"),
        # A quotation mark that is not closed swallows the lines after it.
        (
            "points.csv",
            'image,y,x,class\na.png,1,2,"p\nc.png,3,4,p\n',
            r"points\.csv, line 3: unexpected end of data; close the quotation mark",
        ),
        ("points.csv", 'image,y,x,class\na.png,1,2,"p\nc.png,3,4,"\n', r"goes over several lines, to line 3"),
        ("dataset.json", "{", r"dataset\.json is not a JSON object"),
        ("dataset.json", "[6]", r"dataset\.json is not a JSON object"),
        ("dataset.json", '{"radius_px": -1}', r"radius_px is -1, expected a positive number of pixels"),
        (
            "dataset.json",
            '{"radius_px": {"RBC": "6"}}',
            r"radius_px is \{'RBC': '6'\}, expected a positive number",
        ),
        ("dataset.json", '{"um_per_px": true}', r"um_per_px is True, expected a positive number or null"),
    ],
)
def test_bad_tables(folder, name, text, message):
    write(folder / name, text)
    with pytest.raises(DataError, match=message):
        load_dataset(folder)


def test_a_byte_order_mark_is_no_content(folder):
    (folder / "dataset.json").write_text('{"radius_px": 4}', encoding="utf-8-sig")
    assert set(load_dataset(folder).radius_px.values()) == {4.0}


def test_letters_with_marks_are_the_same_in_both_forms(folder):
    """As macOS writes them in names of files, and as all others do."""
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        name = unicodedata.normalize(form, "Zürich.png")
        path = draw(folder / "images" / name)
        write(folder / "points.csv", f"image,y,x\n{unicodedata.normalize(other, name)},1,2\n")
        write(folder / "split.csv", f"image,split\n{unicodedata.normalize(other, name)},val\n")
        [sample] = load_dataset(folder).val
        assert sample.points.tolist() == [[1, 2]]
        assert read_image(sample.path).size
        path.unlink()


def test_side_by_side(side_by_side):
    write(side_by_side / "dataset.json", '{"radius_px": 3}')
    write(side_by_side / "groups.csv", "image,group\ntrain/a.tif,P\ntrain/b.tif,P\nval/a.tif,Q\n")
    dataset = load_dataset(side_by_side)
    assert [sample.name for sample in dataset.train] == ["train/a.tif", "train/b.tif"]
    assert [sample.points.tolist() for sample in dataset.train] == [[[1, 2], [3, 4]], [[5, 6]]]
    assert [sample.points.tolist() for sample in dataset.val] == [[[7, 8]]]
    assert dataset.radius_px == {"": 3.0}
    assert [sample.group for sample in dataset.samples] == ["P", "P", "Q"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train/a.csv", "1,2\n3,4\n", r"a\.csv has no header line .* 'y,x'"),
        ("train/a.csv", "p,q\n3,4\n", r"lacks the columns y, x"),
        ("val/a.csv", "y,x\n1,x\n", r"a\.csv, line 2: x is 'x'"),
        ("val/z.csv", "y,x\n", r"z\.csv has no image beside it; add the image or delete the table"),
    ],
)
def test_bad_side_by_side_tables(side_by_side, name, text, message):
    write(side_by_side / name, text)
    with pytest.raises(DataError, match=message):
        load_dataset(side_by_side)


def test_a_forgotten_table_is_no_empty_image(side_by_side):
    (side_by_side / "train" / "b.csv").unlink()
    with pytest.raises(
        DataError, match=r"b\.tif has no b\.csv beside it; write one, of the header 'y,x' alone"
    ):
        load_dataset(side_by_side)


def test_wrong_folders(tmp_path):
    expected = r"expected a folder with images/ and points\.csv .*, or train/"
    with pytest.raises(DataError, match=rf"none does not exist; {expected}"):
        load_dataset(tmp_path / "none")
    with pytest.raises(DataError, match=rf"a\.txt is a file; {expected}"):
        load_dataset(write(tmp_path / "a.txt", ""))
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match=r"is no data set: expected .*, found a\.txt, pictures/$"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"found nothing$"):
        load_dataset(tmp_path / "pictures")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"no image in .*train; expected files ending in \.png"):
        load_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"no image in .*images; expected files ending in \.png"):
        load_dataset(tmp_path)
    draw(tmp_path / "images" / "a.png")
    with pytest.raises(
        DataError, match=r"points\.csv does not exist; expected a CSV file with the header 'image,y,x'"
    ):
        load_dataset(tmp_path)


# ---- points and pixels


def sample(points, name="a.png"):
    array = np.array(points, dtype=np.float64).reshape(-1, 2)
    return Sample(name, Path(name), array, ("",) * len(array), group=name)


def test_pixels_reach_half_a_pixel_beyond_their_centres():
    check_points_inside(sample([]), (20, 30))
    check_points_inside(sample([(-0.5, -0.5), (19.5, 29.5)]), (20, 30, 3))
    for point in [(-0.6, 0), (0, -0.6), (19.6, 0), (0, 29.6)]:
        with pytest.raises(
            DataError, match=r"a\.png \(20 rows x 30 columns\) has a point outside: \(y, x\) = \("
        ):
            check_points_inside(sample([point, (3, 3)]), (20, 30))


def test_points_outside_name_the_remedy():
    with pytest.raises(
        DataError, match=r"has 2 points outside: .* = \(25, 3\); inside with y and x exchanged"
    ):
        check_points_inside(sample([(25, 3), (29, 19)]), (20, 30))
    with pytest.raises(DataError, match="correct or delete them"):
        check_points_inside(sample([(25, 3), (99, 99)]), (20, 30))


# ---- images to predict


def test_listing_images(tmp_path):
    draw(tmp_path / "in" / "b.png")
    draw(tmp_path / "in" / "sub" / "b.JPG")
    write(tmp_path / "in" / "notes.txt", "")
    single = draw(tmp_path / "single.bmp")
    assert list_images([tmp_path / "in", str(single)]) == [
        (tmp_path / "in" / "b.png", "b.png"),
        (tmp_path / "in" / "sub" / "b.JPG", "sub/b.JPG"),
        (single, "single.bmp"),
    ]
    assert len(list_images([single, single])) == 1


def test_links_are_followed(tmp_path, caplog):
    draw(tmp_path / "elsewhere" / "b.png")
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "batch").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")  # would never end
    (tmp_path / "in" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    names = [name for _, name in list_images([tmp_path / "in"])]
    assert names == ["a.png", "batch/b.png", "lost.png"]  # whose reading says what is wrong
    with pytest.raises(DataError, match=r"lost\.png"):
        read_image(tmp_path / "in" / "lost.png")


def test_listing_nothing(tmp_path):
    with pytest.raises(DataError, match="none does not exist; expected an image or a folder of images"):
        list_images([tmp_path / "none"])
    with pytest.raises(DataError, match=r"holds no image; expected files ending in \.png, \.jpg"):
        list_images([tmp_path])


def test_images_that_are_not_read_are_told(tmp_path, caplog):
    (tmp_path / "a.svs").touch()
    with pytest.raises(DataError, match=r"holds no image; .*, found 1 \.svs: convert them"):
        list_images([tmp_path])
    draw(tmp_path / "b.png")
    (tmp_path / "notes.txt").touch()
    assert [name for _, name in list_images([tmp_path])] == ["b.png"]
    assert caplog.messages == [
        f"{tmp_path}: files of these kinds are left out: 1 .svs; convert them to TIFF or PNG"
    ]


@pytest.mark.parametrize("names", [("in/a.png", "in/a.tif"), ("in/a.png", "in/A.jpg")])
def test_colliding_outputs_are_refused(tmp_path, names):
    for name in names:
        draw(tmp_path / name)
    with pytest.raises(
        UsageError, match=r"in/[aA]\.\w+ and .*in/[aA]\.\w+ would write the same output; rename one"
    ):
        list_images([tmp_path / "in"])


def test_colliding_folders_are_refused(tmp_path):
    paths = [draw(tmp_path / folder / "a.png") for folder in ("one", "two")]
    with pytest.raises(UsageError, match=r"one/a\.png and .*two/a\.png would write the same output"):
        list_images([path.parent for path in paths])


# ---- radius


def crowd(count, size, seed=0, images=4):
    generator = np.random.default_rng(seed)
    samples = [sample(generator.uniform(0, size, (count, 2)), f"{index}.png") for index in range(images)]
    return Dataset(Path(), tuple(samples), {})


def test_radius_of_a_lattice():
    lattice = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 15.0
    assert estimate_radius(Dataset(Path(), (sample(lattice),), {})) == 6.0


def test_radius_scales_with_the_picture_and_ignores_empty_images_and_copies():
    small, large = crowd(200, 256), crowd(200, 512)
    estimate = estimate_radius(small)
    assert estimate == pytest.approx(estimate_radius(large) / 2, abs=0.1)
    copies = tuple(sample(np.repeat(one.points, 2, axis=0), one.name) for one in small.samples)
    assert estimate_radius(Dataset(Path(), (*copies, *[sample([])] * 9), {})) == estimate


@pytest.mark.parametrize(
    "dataset",
    [
        crowd(6, 2084),
        crowd(19, 256),
        crowd(25, 2084),
        crowd(0, 256),
        Dataset(Path(), (sample([(1, 1)] * 30),), {}),
    ],
    ids=["few", "below the limit", "strewn", "none", "copies of one"],
)
def test_radius_of_what_spacing_cannot_tell(dataset):
    assert estimate_radius(dataset) is None


def data_root():
    if "POINTSENSE_DATA" not in os.environ:
        pytest.skip("POINTSENSE_DATA is not set")
    return Path(os.environ["POINTSENSE_DATA"])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "val", "points"),
    [
        ("bccd", 205, 87, 3941),
        ("crchisto", 70, 10, 22627),
        ("dsb2018", 372, 93, 20199),
        ("icpr2012", 22, 6, 183),
        ("mitos14_half", 131, 30, 266),
        ("vgg_cells", 80, 20, 18045),
    ],
)
def test_real_sets(name, train, val, points):
    dataset = load_dataset(data_root() / name)
    assert (len(dataset.train), len(dataset.val)) == (train, val)
    assert sum(len(one.points) for one in dataset.samples) == points


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("vgg_cells", 3, 6),
        ("crchisto", 4, 8),
        ("dsb2018", 6, 12),
        ("icpr2012", None, None),
        ("mitos14_half", None, None),
    ],
)
def test_real_radii(name, low, high):
    estimate = estimate_radius(load_dataset(data_root() / name))
    assert estimate is None if low is None else low <= estimate <= high


@pytest.mark.data
def test_real_folds():
    folder = data_root() / "icpr2012"
    dataset = load_dataset(folder, split_file=folder / "folds.csv", val_fold=0)
    assert len(dataset.train) + len(dataset.val) == 28
    assert {one.group for one in dataset.val} == {"A00", "A01", "A02", "A03", "A04"}
