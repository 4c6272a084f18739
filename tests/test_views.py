"""Views: turned back to where they were, and from an enlarged image to the size of the others."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pointsense.errors import UsageError
from pointsense.images import InputContract
from pointsense.inference.mass import MassMapper, average_mass
from pointsense.inference.views import brought_back
from pointsense.model.config import override
from pointsense.model.network import build_network
from pointsense.model.presets import fitted_to, preset

ZOOMS = (1.5, 2.0)


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_views_are_turned_back(views):
    class Seen(nn.Module):
        def mass(self, image):
            return image

    image = torch.rand(1, 8, 12)
    torch.testing.assert_close(average_mass(Seen(), image, range(views)), image)


@pytest.mark.parametrize("zoom", ZOOMS)
def test_no_mass_of_an_enlarged_view_is_lost(zoom):
    maps = torch.zeros(2, int(16 * zoom), int(24 * zoom))
    maps[0, 0, 0] = maps[0, -1, -1] = 1.0
    maps[1, 7, 20] = 1.0
    found = brought_back(maps, zoom, (16, 24))
    assert found[0, :1, :1].sum().item() == pytest.approx(1.0)
    assert found[0, -1:, -1:].sum().item() == pytest.approx(1.0)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    place = [(found[1] * along).sum().item() for along in (y, x)]
    assert place == pytest.approx([7.5 / zoom - 0.5, 20.5 / zoom - 0.5], abs=1e-5)


def test_what_an_enlarged_view_sees_beyond_the_image_is_left_out():
    maps = torch.ones(1, 24, 24)
    found = brought_back(maps, 1.5, (11, 9))
    assert found.shape == (1, 11, 9)
    assert found.sum().item() == pytest.approx(16 * 13)  # small cells that are centred on 11 x 9 large ones


def mapper(target: str, views: int, zoom: float) -> MassMapper:
    """One whose network answers with the brightness of the image, of which an image holds 1 in all where it is mass."""
    settings = {"target": target, "views": views, "view_zoom": zoom}
    config = override(fitted_to(preset("pointsense"), 6.0), settings)
    network = build_network(config, 1, load=False)

    def answer(image):
        level = F.avg_pool2d(image[:, :1], config.stride)
        return level if target == "heatmap" else level / level.sum().clamp(min=1e-6)

    network.mass = answer
    return MassMapper(network, config, InputContract.from_images([np.zeros((8, 8, 1), np.uint8)]))


@pytest.mark.parametrize("zoom", [1.0, *ZOOMS])
@pytest.mark.parametrize("views", [1, 2, 4, 8])
@pytest.mark.parametrize(("y", "x"), [(2, 3), (30, 41), (72, 84)])
def test_an_object_has_its_mass_and_place_in_views_of_all_sizes(views, zoom, y, x):
    one = mapper("code", views, zoom)
    image = torch.zeros(1, 77, 91)  # no multiple of anything
    image[0, y - 2 : y + 3, x - 2 : x + 3] = 1.0
    (found,) = one.maps(image)
    mass = found.mass[0]
    assert mass.sum().item() == pytest.approx(1.0, abs=0.01)
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in mass.shape), indexing="ij")
    place = [(mass * cells).sum().item() * 2 + 0.5 for cells in (rows, columns)]
    assert place == pytest.approx([y, x], abs=0.3)


@pytest.mark.parametrize("zoom", ZOOMS)
def test_heights_of_an_enlarged_view_stay_what_they_are(zoom):
    one = mapper("heatmap", 2, zoom)
    torch.testing.assert_close(one.mass(torch.full((1, 64, 96), 0.7)), torch.full((1, 32, 48), 0.7))


def test_views_are_enlarged_by_one_half_or_one():
    with pytest.raises(UsageError, match=r"setting view_zoom: .* multiple of 0.5, found 1.25"):
        override(preset("nuclei"), {"view_zoom": 1.25})
