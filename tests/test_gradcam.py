"""Where the network looked: by hand on a network small enough, and as a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stages.backbone import network
from stages.report.gradcam import LEVELS, SIDE, gradcam, overlay, overlay_png


class Two(nn.Module):
    """Two channels, x and 1 - x, whose means are weighed by class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer2 = nn.Conv2d(1, 2, 1)
        self.layer2.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        self.layer2.bias.data = torch.tensor([0.0, 1.0])
        self.weights = torch.tensor([[2.0, 0.0], [0.0, 3.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(x).mean(dim=(2, 3)) @ self.weights.T


def test_a_map_is_the_channels_weighed_by_their_gradient():
    image = np.zeros((2, 8, 8), np.uint8)
    image[:, :4] = 255
    found = gradcam(Two(), image, np.array([0, 1]), mean=0.0, std=1.0)
    bright, dark = image[0] / 255, 1 - image[0] / 255
    assert found[0] == pytest.approx(bright) and found[1] == pytest.approx(dark)


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
