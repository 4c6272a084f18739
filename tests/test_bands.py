"""Images are converted in bands and by tables, and as they would be at once."""

import numpy as np
import pytest

from pointsense.images import InputContract
from pointsense.images.bands import BAND, converted

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("given", "wanted"), [(3, 3), (1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("height", [8, BAND + 44])
def test_an_image_is_converted_as_at_once(dtype, given, wanted, height):
    image = RNG.uniform(0, 255, (height, 300, given)).astype(dtype)
    contract = InputContract(
        channels=wanted, dtype=dtype, low=(10.0,) * wanted, high=tuple(range(200, 200 + wanted))
    )
    seen = []

    def function(part):
        seen.append(part.shape[0] * part.shape[1])
        return np.moveaxis(contract._levelled(part, *contract._levels_of(part)), 2, 0)

    np.testing.assert_array_equal(converted(image, wanted, function), function(image))
    # A table needs 256 or 65,536 numbers, and cannot mix channels.
    by_table = given <= wanted and {"uint8": True, "uint16": height > BAND, "float32": False}[dtype]
    assert sum(seen[:-1]) == ({"uint8": 2**8, "uint16": 2**16}[dtype] if by_table else height * 300)
    assert max(seen[:-1]) <= max(BAND * 300, 2**16 * by_table)


def test_numbers_are_converted_by_the_stains_of_the_image():
    image = RNG.integers(120, 256, (64, 64, 3), dtype=np.uint8)
    contract = InputContract(
        channels=3, dtype="uint8", low=(0.0,) * 3, high=(255.0,) * 3, stains=(0.5, 0.9, 0.4)
    )
    powers = contract._powers_of(image)
    assert np.ptp(powers) > 0.05
    expected = np.clip(image / np.float32(255), 1 / 255, 1) ** powers
    np.testing.assert_allclose(contract.apply(image), np.moveaxis(expected, 2, 0), rtol=1e-6)
