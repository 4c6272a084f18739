"""The doctor for data: each thing wrong is one line, and nothing stops it."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from pointsense.datasets import Finding, check, summary
from pointsense.errors import UsageError

SHAPE = (60, 100)


def write_set(root, points, shape=SHAPE, header="image,y,x"):
    """A set whose images have a bright spot at each of the true points {name: (K, 2)}."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    lines = [header]
    for name, positions in points.items():
        image = np.zeros(shape)
        for y, x in positions:
            image[min(round(y), shape[0] - 1), min(round(x), shape[1] - 1)] = 1
        image = gaussian_filter(image, 2)
        image = np.uint8(30 + 200 * image / max(image.max(), 1e-9))
        Image.fromarray(image).save(root / "images" / name)
        lines += [f"{name},{y},{x}" for y, x in positions]
    (root / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def add(path, *lines):
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def draw_points(count, shape=SHAPE, seed=0, images=6):
    generator = np.random.default_rng(seed)
    return {f"{index}.png": generator.uniform(3, np.array(shape) - 4, (count, 2)) for index in range(images)}


def errors(findings):
    return [finding.message for finding in findings if finding.level == "error"]


def warnings(findings):
    return [finding.message for finding in findings if finding.level == "warning"]


@pytest.fixture
def good(tmp_path):
    (tmp_path / "dataset.json").write_text('{"radius_px": 3}')
    return write_set(tmp_path, draw_points(8))


def test_a_good_set_has_no_finding(good):
    (good / "split.csv").write_text("image,split\n" + "".join(f"{i}.png,train\n" for i in range(6)))
    assert check(good) == []


def test_points_in_a_single_training_image_are_too_few(good):
    lines = (good / "points.csv").read_text().splitlines()
    (good / "points.csv").write_text(
        "\n".join(line for line in lines if line.startswith(("image", "0.png"))) + "\n"
    )
    assert errors(check(good)) == [
        "points are in 1 of the 6 training images; expected at least two, one to fit and one to select on: annotate "
        "more images"
    ]
    add(good / "points.csv", "1.png,5,5")
    assert errors(check(good)) == []
    (good / "groups.csv").write_text(
        "image,group\n" + "".join(f"{i}.png,{'abc'[i // 2]}\n" for i in range(6))
    )
    assert errors(check(good))[0].startswith("points are in 1 of the 3 groups of training images; expected")
    (good / "split.csv").write_text("image,split\n" + "".join(f"{i}.png,val\n" for i in range(6)))
    assert errors(check(good)) == []  # nothing to learn from, and nothing said of it


def test_radii_of_classes(good):
    lines = (good / "points.csv").read_text().splitlines()
    named = [f"{line},{'AB'[k % 2]}" for k, line in enumerate(lines[1:])]
    (good / "points.csv").write_text("\n".join(["image,y,x,class", *named]) + "\n")
    (good / "dataset.json").write_text('{"radius_px": {"A": 3, "a": 4}}')
    first, second = (finding.message for finding in check(good))
    assert (
        first
        == "dataset.json gives a match radius for a, and no point is of that class: the classes are A, B"
    )
    assert second.startswith("dataset.json gives no match radius for B: --each-class needs it")
    assert check(good, radius=3.0)[1:] == []
    (good / "dataset.json").write_text('{"radius_px": {"a": 4}}')
    assert "the match radius is not known" in check(good)[1].message


def test_all_errors_are_collected(good):
    (good / "images" / "0.png").write_bytes(b"")
    (good / "images" / "1.png").unlink()
    add(good / "points.csv", "2.png,abc,3", "3.png,1,nan", "4.png,60,3")
    (good / "dataset.json").write_text('{"radius_px": 0}')
    found = "\n".join(errors(check(good)))
    for part in [
        "0.png is empty (0 bytes); copy it again",
        "names an image not in images/: '1.png' (line 10)",
        "line 50: y is 'abc', expected a finite number; correct the line or delete it",
        "line 51: x is 'nan'",
        "4.png (60 rows x 100 columns) has a point outside: (y, x) = (60, 3)",
        "radius_px is 0, expected a positive number",
    ]:
        assert part in found
    assert len(errors(check(good))) == 6


def test_many_errors_are_cut_short(good):
    add(good / "points.csv", *["0.png,1,x"] * 50)
    found = errors(check(good))
    assert len(found) == 11
    assert found[-1] == "and 40 more errors like these; correct the first and check again"


@pytest.mark.parametrize(
    ("text", "message"),
    [("0.png,1,2\n", "has no header line"), ("", "is empty"), ("image;y;x\n", "separated by semicolons")],
)
def test_no_header(good, text, message):
    (good / "points.csv").write_text(text)
    (finding,) = check(good)
    assert finding.level == "error"
    assert message in finding.message


def test_wrong_folder(tmp_path):
    (finding,) = check(tmp_path / "none")
    assert finding == Finding("error", finding.message)
    assert "does not exist; expected a folder with images/ and points.csv" in finding.message


def test_wrong_split_does_not_hide_the_images(good):
    (good / "split.csv").write_text("image,part\n")
    (good / "images" / "0.png").write_bytes(b"")
    found = errors(check(good))
    assert "lacks the column split" in found[0]
    assert "is empty (0 bytes)" in found[1]


def test_wrong_fold_is_the_caller_s_error(good):
    (good / "split.csv").write_text("image,fold\n0.png,1\n")
    with pytest.raises(UsageError, match="no fold 5"):
        check(good, val_fold=5)


def test_unlisted_images(good):
    (good / "split.csv").write_text("image,split\n0.png,train\n")
    (message,) = warnings(check(good))
    assert "does not list 1.png, 2.png, 3.png, ... (5 images): neither trained nor evaluated on" in message


def test_duplicates(good):
    copied = (good / "points.csv").read_text().splitlines()[1]
    add(good / "points.csv", copied)
    assert warnings(check(good)) == [
        "1 point repeats another of the same image and position (0.png): each counts by itself, so that one of "
        "two is always missed; delete the copies"
    ]
    add(good / "points.csv", copied)
    assert warnings(check(good))[0].startswith(
        "2 points repeat others of the same image and position (0.png)"
    )


def test_class_names_that_may_be_slips(tmp_path):
    points = draw_points(8)
    root = write_set(tmp_path, points, header="image,y,x,class")
    lines = (root / "points.csv").read_text().splitlines()
    names = ["nucleus"] * 20 + ["Nucleus"] * 20 + [""] * 8
    rows = [f"{line},{name}" for line, name in zip(lines[1:], names, strict=True)]
    (root / "points.csv").write_text("\n".join([lines[0], *rows]) + "\n")
    told = warnings(check(root))
    assert "8 of 48 points have no class: where classes are told apart they are none of them" in told[0]
    assert told[1].startswith("Nucleus and nucleus are classes of their own")
    assert summary(root) == (
        "images: 6 train, 0 val, 0 without a point; points: 48 (no class 8, Nucleus 20, nucleus 20)"
    )


def test_look_alikes_of_another_spelling_are_told(tmp_path):
    root = write_set(tmp_path, draw_points(8), header="image,y,x,class")
    lines = (root / "points.csv").read_text().splitlines()
    for name, told in (("Look_Alike", True), ("look-alike", False), ("mitosis", False)):
        rows = [f"{line},{name}" if k % 2 else f"{line},cell" for k, line in enumerate(lines[1:])]
        (root / "points.csv").write_text("\n".join([lines[0], *rows]) + "\n")
        said = [one for one in warnings(check(root)) if "is a class of objects to find" in one]
        assert (
            said
            == [f"{name} is a class of objects to find: write look-alike if it is what only looks like one"]
            * told
        )


def test_a_split_of_no_image_is_an_error(good):
    (good / "split.csv").write_text("image,split\n")
    assert errors(check(good)) == ["no image is in any part: list them in split.csv, or delete it"]
    (good / "split.csv").write_text("image,split\n0.png,test\n")  # to be evaluated on
    assert errors(check(good)) == []


def test_the_same_file_on_both_sides(good):
    (good / "images" / "5.png").write_bytes((good / "images" / "0.png").read_bytes())
    (good / "split.csv").write_text(
        "image,split\n" + "".join(f"{i}.png,{'val' if i == 5 else 'train'}\n" for i in range(6))
    )
    assert "1 image is the same file in more than one part of the split (first 0.png and 5.png)" in "\n".join(
        warnings(check(good))
    )


def test_the_same_file_twice_on_one_side(good):
    (good / "images" / "5.png").write_bytes((good / "images" / "0.png").read_bytes())
    told = warnings(check(good))
    assert [
        "1 image is the same file twice in one part of the split (first 0.png and 5.png)" in one
        for one in told
    ] == [True]


def test_a_radius_that_train_would_ask_for_is_told(tmp_path):
    far = check(write_set(tmp_path / "few", draw_points(4)))
    assert "the match radius is not known" in "".join(warnings(far))
    assert not warnings(check(tmp_path / "few", radius=3))


def test_a_table_without_points(good):
    (good / "points.csv").write_text("image,y,x\n")
    assert "none of the training images has a point" in "".join(errors(check(good)))


def test_unknown_keys_of_dataset_json(good):
    (good / "dataset.json").write_text('{"radius": 3, "author": "me"}')
    told = warnings(check(good))
    assert "'author' is unknown and ignored: known are um_per_px, radius_px, smallest_radius_px" in told[0]
    assert "'radius' is unknown and ignored: did you mean radius_px?" in told[1]


def test_swapped_by_geometry(tmp_path):
    root = write_set(tmp_path, draw_points(8), header="image,x,y")
    findings = check(root)
    message, *others = errors(findings)
    assert not any("swapped" in warning for warning in warnings(findings))
    assert message.startswith("x and y are probably swapped: ")
    assert "outside would lie inside; exchange the names of the two columns" in message
    assert all("inside with y and x exchanged" in error for error in others)


@pytest.mark.parametrize("images", [6, 2])
def test_swapped_in_square_images_by_content(tmp_path, images):
    points = draw_points(12, (80, 80), images=images)
    assert check(write_set(tmp_path / "right", points, (80, 80)), radius=2) == []
    (finding,) = check(write_set(tmp_path / "swapped", points, (80, 80), header="image,x,y"), radius=2)
    assert finding.level == "warning"
    assert "what stands out in the images lies at the exchanged positions" in finding.message


def test_flat_images_and_random_points_are_not_called_swapped(tmp_path):
    root = write_set(tmp_path, draw_points(12, (80, 80)), (80, 80))
    for seed, path in enumerate((root / "images").iterdir()):
        noise = np.random.default_rng(seed).integers(0, 255, (80, 80), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    assert check(root, radius=2) == []
    for path in (root / "images").iterdir():
        Image.fromarray(np.full((80, 80), 9, np.uint8)).save(path)
    assert not any("swapped" in message for message in warnings(check(root, radius=2)))


def test_mixed_channels_and_types(good):
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(good / "images" / "0.png")
    Image.fromarray(np.zeros(SHAPE, np.uint16)).save(good / "images" / "1.png")
    assert warnings(check(good)) == [
        "mixed channel counts: 1 in 5, 3 in 1 images; grey will be repeated to RGB: "
        "convert them to one count, or train apart",
        "mixed number types: uint8 in 5, uint16 in 1 images; 8 bits will be stretched to 16: convert them "
        "to one type",
    ]
    tifffile.imwrite(good / "images" / "f.tif", np.zeros((*SHAPE, 2), np.float32), metadata={"axes": "YXC"})
    channels, dtypes = errors(check(good))
    assert "training will refuse them: convert them to one count" in channels
    assert "training will refuse them: convert them to one type" in dtypes


def test_magnifications_that_files_state(tmp_path):
    root = write_set(tmp_path, {f"{k}.tif": v for k, v in enumerate(draw_points(8).values())})

    def states(*um_per_px):
        for path, um in zip(sorted((root / "images").iterdir()), um_per_px, strict=True):
            tifffile.imwrite(
                path, tifffile.imread(path), resolution=(1e4 / um,) * 2, resolutionunit="CENTIMETER"
            )
        return [one for one in warnings(check(root)) if "pixels of" in one]

    (root / "dataset.json").write_text('{"um_per_px": 0.25, "radius_px": 4}')
    assert states(*[0.25] * 6) == []
    assert states(0.25, 0.26, *[0.25] * 4) == []
    assert states(*[0.5] * 6) == [
        "dataset.json states pixels of 0.25 um, the images' files 0.5 um: correct one of them"
    ]
    [mixed] = states(0.5, 0.5, *[0.25] * 4)
    assert (
        "the files state pixels of several sizes: 0.25 in 4, 0.5 in 2 images (um); objects look unlike"
        in mixed
    )


def test_groups_that_straddle(good):
    (good / "split.csv").write_text(
        "image,split\n" + "".join(f"{i}.png,{'val' * (i > 3) or 'train'}\n" for i in range(6))
    )
    (good / "groups.csv").write_text("image,group\n" + "".join(f"{i}.png,P{i % 3}\n" for i in range(6)))
    (message,) = warnings(check(good))
    assert message == (
        "2 of 3 groups are in more than one of train, val (P1, P2): scores will flatter; split by group"
    )
    (good / "groups.csv").write_text("image,group\n" + "".join(f"{i}.png,P{i // 4}\n" for i in range(6)))
    assert check(good) == []


def test_denser_than_the_code_can_hold(good):
    cluster = [f"0.png,{20 + i / 10},{30 + j / 10}" for i in range(9) for j in range(9)]
    add(good / "points.csv", *cluster)
    (good / "dataset.json").write_text("{}")
    message = warnings(check(good, window=16, capacity=80))[-1]
    assert message.startswith(
        "denser than the code can hold: up to 81 points in a window of 16 px, where 80 fit (0.png)"
    )
    assert "denser" not in "".join(warnings(check(good, window=16, capacity=81)))
    assert "in a window of 8 px, where 64 fit" in "\n".join(warnings(check(good, radius=1)))


def test_spacing_below_the_bandwidth(good):
    (good / "dataset.json").write_text('{"radius_px": 20}')
    (message,) = warnings(check(good))
    assert "spacing below the bandwidth: half of the points have a neighbour within" in message
    assert "radius is 20 px: neighbours melt into one; take a smaller radius" in message
    assert check(good, radius=2) == []


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "radius"),
    [("bccd", 25), ("crchisto", 6), ("dsb2018", 6), ("icpr2012", 20), ("mitos14_half", 17), ("vgg_cells", 5)],
)
def test_real_sets_have_no_errors_and_are_not_called_swapped(name, radius):
    if "POINTSENSE_DATA" not in os.environ:
        pytest.skip("POINTSENSE_DATA is not set")
    findings = check(Path(os.environ["POINTSENSE_DATA"]) / name, radius=radius)
    assert errors(findings) == []
    assert "swapped" not in "".join(warnings(findings))
