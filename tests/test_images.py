"""Reading images without changing their numbers, and the contract that a model keeps with them."""

import importlib.util
import logging

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydantic import ValidationError

from pointsense.errors import DataError
from pointsense.images import InputContract, read_image
from pointsense.images.pixel_size import stored_um_per_px

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (20, 30), dtype=np.uint8)
RGB = GENERATOR.integers(0, 256, (20, 30, 3), dtype=np.uint8)
DEEP = GENERATOR.integers(0, 65536, (20, 30), dtype=np.uint16)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def tiff(path, array, **options):
    tifffile.imwrite(path, array, **options)
    return path


def assert_read(path, expected):
    found = read_image(path)
    assert found.ndim == 3
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected if expected.ndim == 3 else expected[:, :, None])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "dat"])
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
def test_eight_bits(tmp_path, suffix, array):
    """`dat`: a PNG under a foreign name is recognised by its content."""
    assert_read(save(tmp_path / f"a.{suffix}", array, format="PNG" if suffix == "dat" else None), array)


def test_orientation_is_told_and_not_applied(tmp_path, caplog):
    tag = Image.Exif()
    tag[0x0112] = 6  # a quarter turn
    assert_read(save(tmp_path / "a.png", RGB, exif=tag), RGB)
    assert "a tag asks viewers to turn the image" in caplog.text


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "tiff_lzw"])
def test_a_tiff_with_an_orientation_is_not_turned(tmp_path, caplog, compression):
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).save(path, compression=compression, tiffinfo={274: 6})
    if compression == "tiff_lzw" and not importlib.util.find_spec("imagecodecs"):
        with pytest.raises(
            DataError, match="asks viewers to turn it, and is compressed with LZW; save it turned"
        ):
            read_image(path)
        return
    np.testing.assert_array_equal(read_image(path), RGB)
    assert caplog.text.count("a tag asks viewers to turn the image") == 1


def test_jpeg(tmp_path):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    found = read_image(save(tmp_path / "a.jpg", flat, quality=95))
    assert found.shape == (16, 16, 3)
    assert np.abs(found.astype(int) - flat).max() <= 3
    others = [Image.fromarray(255 - flat)]
    Image.fromarray(flat).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=others)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - flat).max() <= 3


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "tiff_lzw"])
@pytest.mark.parametrize("array", [GREY, RGB, DEEP], ids=["grey", "rgb", "deep"])
def test_tiff_compressions(tmp_path, compression, array):
    assert_read(save(tmp_path / "a.tif", array, compression=compression), array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_channels_on_pages_of_lzw_are_all_read(tmp_path, caplog, dtype):
    """As ImageJ writes a composite; without imagecodecs the pages go through Pillow."""
    channels = GENERATOR.integers(0, np.iinfo(dtype).max, (3, 20, 30)).astype(dtype)
    first, *others = map(Image.fromarray, channels)
    said = "ImageJ=1.54f\nimages=3\nchannels=3\nhyperstack=true\nmode=composite\n"
    options = {"compression": "tiff_lzw", "tiffinfo": {270: said}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, **options)
    assert_read(tmp_path / "a.tif", np.moveaxis(channels, 0, -1))
    assert "images of three channels (axis C) are taken for red, green and blue" in caplog.text
    caplog.clear()
    assert_read(save(tmp_path / "b.tif", RGB), RGB)
    assert not caplog.text


def test_big_endian_lzw(tmp_path, monkeypatch):
    """Pillow decodes it to big-endian numbers, which are as many bits."""
    tiff(tmp_path / "a.tif", DEEP.astype(">u2"), byteorder=">")

    def missing(self, *args, **options):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    assert_read(tmp_path / "a.tif", DEEP)


def test_sixteen_bits_stay(tmp_path):
    assert_read(save(tmp_path / "a.png", DEEP), DEEP)
    deep_rgb = RGB.astype(np.uint16) * 200 + 7
    assert_read(tiff(tmp_path / "a.tif", deep_rgb, photometric="rgb"), deep_rgb)
    assert_read(tiff(tmp_path / "b.tif", DEEP.astype(">u2"), byteorder=">"), DEEP)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floats_become_float32(tmp_path, dtype):
    values = np.linspace(-1, 3, 600).reshape(20, 30).astype(dtype)
    assert_read(tiff(tmp_path / "a.tif", values), values.astype(np.float32))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_bilevel_becomes_black_and_white(tmp_path, name):
    assert_read(save(tmp_path / name, GREY > 99), np.where(GREY > 99, 255, 0).astype(np.uint8))


def test_wide_integers_that_fit(tmp_path):
    assert_read(tiff(tmp_path / "a.tif", DEEP.astype(np.int32)), DEEP)
    for bad in (-1, 70000):
        values = DEEP.astype(np.int32)
        values[0, 0] = bad
        with pytest.raises(
            DataError, match=rf"int32 pixels from .*{bad}.*expected 0 to 65535: save it with 8 or"
        ):
            read_image(tiff(tmp_path / "b.tif", values))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_palette_becomes_rgb(tmp_path, name):
    picture = Image.fromarray(RGB).quantize(16)
    picture.save(tmp_path / name)
    assert_read(tmp_path / name, np.asarray(picture.convert("RGB")))


def test_white_is_zero(tmp_path):
    assert_read(tiff(tmp_path / "a.tif", 255 - GREY, photometric="miniswhite"), GREY)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("colours", [RGB, GREY[:, :, None]], ids=["rgba", "la"])
def test_alpha_is_dropped_and_said(tmp_path, caplog, name, colours):
    opaque = np.dstack([colours, np.full_like(GREY, 255)])
    assert_read(save(tmp_path / name, opaque), colours)
    assert not caplog.records
    assert_read(save(tmp_path / name, np.dstack([colours, GREY])), colours)
    assert "the alpha channel is dropped" in caplog.text
    assert caplog.records[0].name.startswith("pointsense")


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb", "planarconfig": "separate"},
        {"photometric": "minisblack", "metadata": {"axes": "CYX"}},
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"ome": True, "photometric": "minisblack", "metadata": {"axes": "CYX"}},
    ],
    ids=["planar", "shaped", "imagej", "ome"],
)
def test_channels_first_when_the_file_says_so(tmp_path, options):
    assert_read(tiff(tmp_path / "a.tif", np.ascontiguousarray(np.moveaxis(RGB, 2, 0)), **options), RGB)


def test_two_and_five_channels(tmp_path):
    for count in (2, 5):
        planes = np.stack([DEEP // (index + 1) for index in range(count)])
        path = tiff(tmp_path / "a.tif", planes, photometric="minisblack", metadata={"axes": "CYX"})
        assert_read(path, np.moveaxis(planes, 0, 2))


def test_a_lone_axis_is_no_page(tmp_path):
    assert_read(tiff(tmp_path / "a.tif", GREY[None, :, :, None], photometric="minisblack"), GREY)


def test_pages_are_refused(tmp_path):
    stack = np.stack([GREY] * 3)
    with pytest.raises(DataError, match=r"holds 3 pages \(axes QYX.*expected one image; save each as a file"):
        read_image(tiff(tmp_path / "a.tif", stack, photometric="minisblack"))
    both = np.stack([stack, stack])
    with pytest.raises(DataError, match="holds 6 pages"):
        read_image(tiff(tmp_path / "a.tif", both, imagej=True, metadata={"axes": "ZCYX"}))
    with pytest.raises(DataError, match=r"holds 2 pages \(axes QYXS"):
        read_image(tiff(tmp_path / "a.tif", np.stack([RGB, RGB]), photometric="rgb"))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY)
        writer.write(RGB, photometric="rgb")
    with pytest.raises(DataError, match="holds 2 pages"):
        read_image(tmp_path / "a.tif")
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 2 frames"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_refused(tmp_path, name):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / name)
    with pytest.raises(DataError, match=r"a\..* is a CMYK image, made for printing; convert it to RGB"):
        read_image(tmp_path / name)


def test_other_colour_spaces_are_refused(tmp_path):
    with pytest.raises(DataError, match="colour space CIELAB; convert it to RGB or grey"):
        read_image(tiff(tmp_path / "a.tif", RGB, photometric="cielab"))


def test_colour_png_of_sixteen_bits_is_refused(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    content = bytearray(path.read_bytes())
    content[24] = 16  # the header's bit depth
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"PNG with colour or alpha at 16 bits.*save it as TIFF"):
        read_image(path)


def test_compressed_deep_colours_are_refused_rather_than_cut(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    path = tiff(tmp_path / "a.tif", RGB.astype(np.uint16) * 257, photometric="rgb")
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", refuse)
    with pytest.raises(
        DataError, match=r"at uint16; save it uncompressed or with deflate, or install imagecodecs"
    ):
        read_image(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(tmp_path, bad):
    values = np.zeros((20, 30), np.float32)
    values[3, 4] = bad
    with pytest.raises(DataError, match=r"a\.tif holds 1 NaN or infinite values; replace them"):
        read_image(tiff(tmp_path / "a.tif", values))


def test_complex_is_refused(tmp_path):
    with pytest.raises(DataError, match="has complex64 pixels; save it with 8 or 16 bits, or as float"):
        read_image(tiff(tmp_path / "a.tif", np.zeros((20, 30), np.complex64)))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "lzw.tif", "deflate.tif"])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.9])
def test_truncated_files_are_data_errors(tmp_path, name, share):
    noise = GENERATOR.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    options = {"lzw.tif": {"compression": "tiff_lzw"}, "deflate.tif": {"compression": "tiff_adobe_deflate"}}
    path = save(tmp_path / name, noise, **options.get(name, {}))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=str(path)):
        read_image(path)


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the image .*none\.png: No such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png is empty \(0 bytes\); copy it again"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("not an image at all")
    with pytest.raises(DataError, match=r"a\.png is not a PNG, JPEG, TIFF or BMP image"):
        read_image(tmp_path / "a.png")


# ---- the contract


def contract(channels=3, dtype="uint8", low=0.0, high=255.0):
    return InputContract(channels=channels, dtype=dtype, low=(low,) * channels, high=(high,) * channels)


def test_eight_bit_levels_are_the_type():
    assert InputContract.from_images([RGB // 8 + 30]).model_copy(update={"colour_alone": False}) == contract()
    assert InputContract.from_images([GREY[:, :, None]]) == contract(channels=1)


def test_deep_levels_are_percentiles_of_each_channel():
    first = GENERATOR.integers(1000, 2000, (50, 50, 2)).astype(np.uint16)
    second = first + np.array([0, 3000], np.uint16)
    found = InputContract.from_images([first, second])
    expected = np.percentile(
        np.concatenate([first.reshape(-1, 2), second.reshape(-1, 2)]), (0.1, 99.9), axis=0
    )
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-6)
    assert (found.channels, found.dtype) == (2, "uint16")


def test_large_images_are_sampled_with_a_fixed_seed():
    large = GENERATOR.normal(5, 1, (400, 400, 1)).astype(np.float32)
    found = InputContract.from_images([large])
    assert found == InputContract.from_images([large])
    np.testing.assert_allclose(found.low + found.high, np.percentile(large, (0.1, 99.9)), atol=0.3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_few_objects_in_a_large_field_are_not_clipped(dtype):
    unit = {"uint8": 1, "uint16": 100, "float32": 1 / 255}[dtype]
    image = GENERATOR.normal(20, 1, (600, 600, 1)) * unit
    rows, columns = np.mgrid[:600, :600]
    disc = np.hypot(rows - 300.5, columns - 211) < 8  # .06% of the field
    image[disc] += 160 * unit
    image[7, 7] = 255 * unit  # a hot pixel counts for nothing
    image = image.astype(dtype)
    own = InputContract.from_images([image], levels="image").apply(image)[0]
    assert 1 < own[disc].min() < own[disc].max() < 2
    assert abs(np.median(own)) < 0.1
    if dtype != "uint8":  # whose levels are those of its type
        fixed = InputContract.from_images([image], [np.array([[300.0, 211.0], [301.4, 210.0]])]).apply(image)[
            0
        ]
        assert 1 < fixed[disc].min() < fixed[disc].max() < 2
        assert InputContract.from_images([image]).apply(image)[0][disc].min() == 2


def test_empty_images_do_not_make_contrasts_unlike():
    blank = np.full((40, 40, 3), 240, np.uint8)
    full = [GENERATOR.integers(60, 240, (40, 40, 3)).astype(np.uint8) for _ in range(6)]
    assert InputContract.from_images([*full, blank, blank]).levels == "fixed"
    assert InputContract.from_images([blank, blank]).levels == "fixed"


def test_mixed_training_images():
    assert InputContract.from_images([GREY[:, :, None], RGB]).channels == 3
    assert InputContract.from_images([RGB, DEEP[:, :, None]]).dtype == "uint16"
    with pytest.raises(
        DataError, match="the training images have 1 and 2 channels; expected one count for all"
    ):
        InputContract.from_images([RGB[:, :, :1], RGB[:, :, :2]])
    with pytest.raises(DataError, match="of the types float32 and uint8; expected whole numbers or floats"):
        InputContract.from_images([RGB, RGB.astype(np.float32)])
    with pytest.raises(DataError, match="no training image"):
        InputContract.from_images([])


def test_constant_images_have_levels():
    found = InputContract.from_images([np.full((9, 9, 1), 7, np.uint16)])
    np.testing.assert_array_equal(found.apply(np.full((9, 9, 1), 7, np.uint16)), 0)


@pytest.mark.parametrize("value", [-1e8, 1e6, 1e33])
@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_large_numbers_that_hardly_differ_have_levels(value, noise):
    image = (value * (1 + noise * GREY.astype(float)))[:, :, None].astype(np.float32)
    for levels in ("fixed", "image"):
        learned = InputContract.from_images([image], levels=levels)
        assert np.isfinite(learned.apply(image)).all()
    assert np.isfinite(contract(channels=1).model_copy(update={"levels": "image"}).apply(image)).all()


def test_apply_scales_and_puts_channels_first():
    found = contract().apply(RGB)
    assert (found.shape, found.dtype) == ((3, 20, 30), np.float32)
    np.testing.assert_allclose(found, np.moveaxis(RGB, 2, 0) / 255, atol=1e-6)


def test_apply_clips_far_outliers():
    levels = contract(channels=1, dtype="uint16", low=1000.0, high=2000.0)
    values = np.array([[[0], [1000], [1500], [2000], [3500], [60000]]], np.uint16)
    np.testing.assert_allclose(levels.apply(values)[0, 0], [-0.5, 0, 0.5, 1, 2, 2])


def test_grey_and_rgb_are_converted():
    np.testing.assert_array_equal(contract().apply(GREY[:, :, None])[2], np.float32(GREY / 255))
    expected = (RGB @ np.array([0.299, 0.587, 0.114])) / 255
    np.testing.assert_allclose(contract(channels=1).apply(RGB)[0], expected, atol=1e-6)


def test_grey_for_a_model_that_has_seen_colours_alone(caplog):
    blank = np.full((8, 8, 3), 255, np.uint8)
    colours = InputContract.from_images([RGB, blank])
    assert colours.colour_alone
    for image in (RGB, blank):
        colours.warn_if_grey(image, "a.png")
    assert not caplog.records
    for grey in (GREY[:, :, None], np.repeat(GREY[:, :, None], 3, axis=2)):
        colours.warn_if_grey(grey, "a.png")
        assert "a.png is grey, the model has seen colours alone" in caplog.records.pop().message
    assert not InputContract.from_images([RGB, GREY[:, :, None]]).colour_alone
    assert not InputContract.from_images([np.repeat(GREY[:, :, None], 3, axis=2)]).colour_alone
    assert not InputContract.from_images([blank]).colour_alone


def test_numbers_that_float32_could_not_rescale_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 1e300))
    with pytest.raises(DataError, match=r"beyond 1e\+33; rescale"):
        read_image(tmp_path / "a.tif")


def test_other_channel_counts_are_refused():
    with pytest.raises(
        DataError, match=r"a\.tif has 2 channels, the model was trained on 3 channels; only grey"
    ):
        contract().apply(RGB[:, :, :2], "a.tif")
    with pytest.raises(DataError, match="the model was trained on 1 channel;"):
        contract(channels=1).apply(RGB[:, :, :2])


def test_whole_numbers_are_converted_by_their_range(caplog):
    np.testing.assert_allclose(
        contract(channels=1).apply(DEEP[:, :, None])[0], np.float32(DEEP / 65535), atol=1e-6
    )
    deep = contract(channels=1, dtype="uint16", high=65535.0)
    np.testing.assert_allclose(deep.apply(GREY[:, :, None])[0], np.float32(GREY / 255), atol=1e-6)
    assert not caplog.records


def test_twelve_bits_in_sixteen_are_told(caplog):
    contract(channels=1).apply(DEEP[:, :, None] // 16, "a.tif")
    assert "a.tif: its maximum is 40" in caplog.text
    assert "as of a 12-bit image" in caplog.text
    caplog.clear()
    contract(channels=1, dtype="uint16", high=4095.0).apply(DEEP[:, :, None] // 16)  # trained on the same
    assert not caplog.records


@pytest.mark.parametrize("factor", [1, 16])
def test_an_image_on_another_scale_is_told(caplog, factor):
    """A model of 12 bits in 16, and images that were stretched to 16 bits or are floats in [0, 1]."""
    values = np.random.default_rng(0).integers(100, 3500, (60, 50, 1)).astype(np.uint16)
    contract = InputContract.from_images([values], levels="fixed")
    contract.apply(values * np.uint16(factor), "it")
    assert (
        "it: most of it is darker or brighter than anything that the model tells apart" in caplog.text
    ) == (factor == 16)
    caplog.clear()
    contract.apply((values / 4095).astype(np.float32), "it")
    assert "bring it to the scale of the training images" in caplog.text


def test_twelve_bits_for_a_model_of_stretched_ones_are_told(caplog):
    values = np.random.default_rng(0).integers(300, 3500, (60, 50, 1)).astype(np.uint16)
    InputContract.from_images([values * np.uint16(16)], levels="fixed").apply(values, "it")
    assert "it: most of it is darker or brighter than" in caplog.text


def test_floats_for_a_model_of_whole_numbers():
    values = np.float32(RGB / 255)
    np.testing.assert_allclose(contract().apply(values), contract().apply(RGB), atol=1e-6)
    with pytest.raises(
        DataError, match=r"a\.tif is a float image from 0 to 255.*expected floats in \[0, 1\]"
    ):
        contract().apply(np.float32(RGB), "a.tif")


def test_whole_numbers_for_a_model_of_floats():
    unit = contract(dtype="float32", high=1.0)
    np.testing.assert_allclose(unit.apply(RGB), contract().apply(RGB), atol=1e-6)
    with pytest.raises(
        DataError, match=r"a\.png is uint8, the model was trained on float images with levels"
    ):
        contract(dtype="float32", low=-3.0, high=90.0).apply(RGB, "a.png")


def test_whole_numbers_for_a_model_of_floats_with_levels_of_each_image():
    wide = contract(dtype="float32", low=0.0, high=4000.0).model_copy(update={"levels": "image"})
    noise = np.random.default_rng(0).integers(0, 60_000, (64, 64, 3)).astype(np.uint16)
    assert np.ptp(wide.apply(noise)) > 0.9


def test_tiles_are_scaled_as_the_whole():
    levels = InputContract.from_images([DEEP[:, :, None]])
    whole = levels.apply(DEEP[:, :, None])
    np.testing.assert_array_equal(levels.apply(DEEP[5:12, 3:9, None]), whole[:, 5:12, 3:9])


def test_a_damaged_contract_is_told():
    levels = InputContract.from_images([DEEP[:, :, None]])
    stored = levels.model_dump(mode="json")
    assert InputContract.model_validate(stored) == levels
    for change, message in [
        ({"dtype": "int64"}, "dtype\n *Input should be"),
        ({"low": [1.0, 2.0]}, "one level for each of the 1 channels"),
        ({"high": [-1.0]}, "each low must be below its high"),
        ({"colour": 1}, "colour\n *Extra inputs"),
    ]:
        with pytest.raises(ValidationError, match=message):
            InputContract.model_validate(stored | change)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel"}}, None),
        ({"imagej": True, "resolution": (4.0, 4.0), "metadata": {"unit": "micron"}}, 0.25),
        ({"imagej": True, "resolution": (4.0, 4.0), "metadata": {"unit": "\\u00B5m"}}, 0.25),
        ({"imagej": True, "resolution": (4.0, 4.0), "metadata": {"unit": "pixel"}}, None),
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (1, 1), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({}, None),
    ],
)
def test_the_pixel_size_that_a_tiff_states(tmp_path, options, size):
    found = stored_um_per_px(tiff(tmp_path / "a.tif", GREY, **options))
    assert found == (size and pytest.approx(size))


def test_other_files_state_no_pixel_size(tmp_path):
    (tmp_path / "cut.tif").write_bytes(tiff(tmp_path / "a.tif", GREY, ome=True).read_bytes()[:50])
    for path in (save(tmp_path / "a.png", GREY, dpi=(72, 72)), tmp_path / "cut.tif", tmp_path / "none"):
        assert stored_um_per_px(path) is None


def test_pillow_and_tifffile_stay_quiet(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_image(tiff(tmp_path / "a.tif", RGB, photometric="rgb"))
    assert not caplog.records
