"""Where the network looked: by hand on a network small enough, and as a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stages.backbone import network
from stages.report.gradcam import LEVELS, SIDE, STRIDES, enlarged, gradcam, overlay, overlay_png


class Two(nn.Module):
    """Two channels, x and 1 - x, whose means are weighed by class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer2 = nn.Conv2d(1, 2, 1, stride=8)
        self.layer2.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        self.layer2.bias.data = torch.tensor([0.0, 1.0])
        self.weights = torch.tensor([[2.0, 0.0], [0.0, 3.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(x).mean(dim=(2, 3)) @ self.weights.T


def test_a_map_is_the_channels_weighed_by_their_gradient():
    image = np.zeros((2, 32, 32), np.uint8)
    image[:, :16] = 255
    found = gradcam(Two(), image, np.array([0, 1]), mean=0.0, std=1.0)
    # cells stand on pixels 0, 8, 16 and 24; between 8, the last bright one, and 16 heat falls along a line
    bright = np.interp(np.arange(32), [8, 16], [1, 0])[:, None].repeat(32, axis=1)
    assert found[0] == pytest.approx(bright) and found[1] == pytest.approx(1 - bright)


@pytest.mark.parametrize(("size", "layer"), [(32, "layer2"), (64, "layer3"), (100, "layer3"), (224, "layer4")])
def test_a_cell_s_heat_is_drawn_where_the_network_sees_it(size, layer):
    """Told from the network itself: the pixels that move a cell at all lie evenly around the place of its heat."""
    torch.manual_seed(0)
    model = network.build(4).eval()
    kept = {}
    model.get_submodule(layer).register_forward_hook(lambda _m, _i, output: kept.update(cells=output))
    x = torch.rand(1, 1, size, size, requires_grad=True)
    model(x)
    side = kept["cells"].shape[-1]
    for cell in (1, side // 2):
        heat = torch.zeros(1, side, side)
        heat[0, cell, cell] = 1
        drawn = enlarged(heat, size, STRIDES[layer])[0]
        place = int(drawn.amax(dim=1).argmax())
        assert drawn.max() == 1 and drawn[place, place] == 1
        (moved,) = torch.autograd.grad(kept["cells"][0, :, cell, cell].sum(), x, retain_graph=True)
        weight = moved[0, 0].abs().sum(dim=1)
        near = min(place, size - 1 - place)  # the reach that no side of the image cuts off
        window = weight[place - near : place + near + 1]
        centre = (window * torch.arange(-near, near + 1)).sum() / window.sum()
        assert abs(centre) < STRIDES[layer] / 6, (centre, place)


def test_what_speaks_against_a_class_is_cut_off_and_nothing_gives_zeros():
    model = Two()
    model.weights = torch.tensor([[-2.0, 0.0], [0.0, 0.0]])
    found = gradcam(model, np.full((2, 8, 8), 200, np.uint8), np.array([0, 1]), mean=0.0, std=1.0)
    assert not found.any()
    assert gradcam(model, np.zeros((0, 8, 8), np.uint8), np.zeros(0, np.int64), mean=0.0, std=1.0).shape == (0, 8, 8)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_a_map_of_resnet_50_has_the_image_s_size_and_does_not_depend_on_its_neighbours(size):
    torch.manual_seed(0)
    model = network.build(4)
    for module in model.modules():  # blocks that start as the identity would have no gradient to speak of
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size), np.uint8)
    found = gradcam(model, images, np.array([1, 2]), mean=0.2, std=0.2)
    alone = gradcam(model, images[1:], np.array([2]), mean=0.2, std=0.2)
    assert found.shape == (2, size, size) and found.min() >= 0 and 0.5 < found.max() <= 1
    assert np.abs(found[1] - alone[0]).max() < 1e-4
    assert all(parameter.grad is None for parameter in model.parameters())


def test_heat_is_laid_where_it_is_and_the_rest_stays_grey(tmp_path):
    image, heat = np.full((64, 64), 100, np.uint8), np.zeros((64, 64), np.float32)
    heat[:32] = 1
    found = overlay(image, heat).astype(int)
    assert found.shape == (SIDE, SIDE, 3)
    assert (found[-80:] == 100).all() and found[:80, :, 0].min() > 150
    assert LEVELS * (255 // LEVELS) <= 255
    overlay_png(tmp_path / "a/b.png", image, heat)
    with Image.open(tmp_path / "a/b.png") as picture:
        assert picture.size == (2 * SIDE, SIDE)
