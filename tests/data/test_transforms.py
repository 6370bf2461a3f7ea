import math

import pytest
import torch
from torch.nn import functional as F

from fashion.data.transforms import Augmentation, affine_maps, blurred, erased, recoloured, shrunk
from fashion.errors import FashionError

OFF = {"crop_scale": 1, "crop_largest": 1, "flip": 0, "rotate": 0, "colour": 0, "grey": 0, "sharpness": 0, "erasing": 0}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (20, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_keeps_the_type_changes_pictures_and_follows_the_seed(pictures):
    augment = Augmentation(32)
    torch.manual_seed(0)
    first = augment(pictures)
    torch.manual_seed(0)
    assert first.shape == (20, 3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(augment(pictures), first)
    assert not torch.equal(augment(pictures), first)


def test_its_numbers_are_drawn_where_the_pictures_are(pictures):
    # Tensors of the device "meta" have no content, and refuse, as a GPU's do, to meet those of the CPU.
    assert Augmentation(32)(pictures.to("meta")).device.type == "meta"
    with pytest.raises(RuntimeError, match="on device cpu"):
        pictures.to("meta") + torch.ones(40)


def test_with_all_off_pictures_stay(pictures):
    assert torch.equal(Augmentation(40, **OFF)(pictures), pictures)


@pytest.mark.parametrize("only", [{"crop_scale": 0.3}, {"rotate": 30}, {"colour": 0.5}, {"sharpness": 0.9}])
def test_every_picture_has_a_draw_of_its_own(pictures, only):
    same = pictures[:1].expand(16, -1, -1, -1)
    result = Augmentation(40, **OFF | only)(same)
    assert len({bytes(picture.numpy().tobytes()) for picture in result}) == 16


def test_mirroring_is_exact(pictures):
    assert torch.equal(Augmentation(40, **OFF | {"flip": 1})(pictures), pictures.flip(3))


def test_crops_lie_inside_the_picture_and_keep_their_share():
    maps = affine_maps(500, 0.4, 1, 1.25, 0.5, 0)
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    assert (maps @ corners.T).abs().max() <= 1 + 1e-6
    width, height = maps[:, 0, 0].abs(), maps[:, 1, 1].abs()
    assert 0.4 - 1e-5 <= (width * height).min() <= 0.45
    near = affine_maps(500, 0.9, 1, 1.25, 0, 0)
    assert near[:, 0, 0].max() <= 1
    assert near[:, 1, 1].max() <= 1
    assert (width / height).max() <= 1.25 + 1e-5
    assert 0.3 < (maps[:, 0, 0] < 0).float().mean() < 0.7


def test_crops_come_from_everywhere():
    maps = affine_maps(500, 0.25, 0.25, 1, 0, 0)  # half as wide and half as high: centres lie within ±0.5
    for centre in (maps[:, 0, 2], maps[:, 1, 2]):
        assert centre.abs().max() <= 0.5 + 1e-6
        assert centre.max() > 0.45
        assert centre.min() < -0.45


def test_larger_crops_show_the_whole_picture_and_its_mirror_image_round_it():
    maps = affine_maps(500, 1.2, 1.5, 1.0, 0, 0)
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    assert 1.2 - 1e-5 <= (width * height).min() < (width * height).max() <= 1.5 + 1e-5
    assert ((maps[:, 0, 2].abs() <= width - 1) & (maps[:, 1, 2].abs() <= height - 1)).all()  # nothing is cut off


def test_a_shrunk_picture_has_its_mirror_image_at_its_edges():
    ramp = (4 * torch.arange(40, dtype=torch.uint8)).expand(60, 3, 40, 40)
    result = Augmentation(40, **OFF | {"crop_largest": 2, "crop_ratio": 1})(ramp)
    rows = result[:, 0, 20].int()
    falls = (rows[:, 1:] < rows[:, :-1]).any(dim=1)
    assert falls.float().mean() > 0.8  # the ramp turns round at an edge
    assert (rows.amin(dim=1) <= 6).all()  # and all of it is there
    assert (rows.amax(dim=1) >= 150).all()


def test_turning_is_a_turn():
    maps = affine_maps(200, 1, 1, 1, 0, 90)
    turn = maps[:, :, :2]
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(2).expand(200, 2, 2), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(200), atol=1e-5)


def test_turns_go_as_far_as_they_may_both_ways():
    maps = affine_maps(500, 1, 1, 1, 0, 20)
    angles = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert angles.abs().max() <= 20 + 1e-3
    assert angles.max() > 18
    assert angles.min() < -18


def test_colours_of_grey_pictures_change_in_white_balance_only():
    grey = torch.full((50, 3, 4, 4), 100.0)
    result = recoloured(grey, 0.4, 0)
    assert torch.allclose(result, result[:, :, :1, :1].expand_as(result), atol=1e-3)  # still one colour
    spread = result.amax(dim=1) / result.amin(dim=1)
    assert spread.max() > 1.1
    assert spread.max() <= (1 + 0.1 * 1.4) / (1 - 0.1 * 1.4) + 1e-4  # a balance of ±10%, at most 1.4 times the contrast


def test_brightness_and_contrast_vary_as_far_as_they_may():
    two = torch.full((500, 3, 2, 2), 60.0)
    two[:, :, 0] = 140
    result = recoloured(two, 0.4, 0)
    light = result.mean(dim=(1, 2, 3)) / 100
    gain = (result[:, :, 0] - result[:, :, 1]).mean(dim=(1, 2)) / 80 / light
    for factor, slack in ((light, 0.1), (gain, 1e-3)):  # the white balance brightens too, by up to a tenth
        assert 0.6 * (1 - slack) <= factor.min() < 0.65
        assert 1.35 < factor.max() <= 1.4 * (1 + slack)


def test_hues_turn_as_far_as_they_may():
    red = torch.zeros(500, 3, 2, 2)
    red[:, 0] = 200
    colour = recoloured(red, 0.4, 0)[:, :, 0, 0]
    x, y = (2 * colour[:, 0] - colour[:, 1] - colour[:, 2]), math.sqrt(3) * (colour[:, 1] - colour[:, 2])
    angles = torch.rad2deg(torch.atan2(y, x))  # of red it is 0, round the grey axis
    assert 30 < angles.max() < 45  # 0.4 of a quarter circle, and what the white balance adds
    assert -45 < angles.min() < -30


def test_without_colour_a_picture_is_grey(pictures):
    result = recoloured(pictures.float(), 0, 1)
    luma = (pictures.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    assert torch.allclose(result, luma.expand_as(result), atol=1e-2)


def test_blurring_is_the_mean_of_neighbours(pictures):
    x = pictures.float()
    slow = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert torch.allclose(blurred(x), slow, atol=1e-3)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_sharpness_adds_or_removes_at_most_the_difference_to_a_blur(strength):
    dot = torch.full((300, 3, 9, 9), 100, dtype=torch.uint8)
    dot[:, :, 4, 4] = 145  # 40 above the mean of its neighbours
    change = Augmentation(9, **OFF | {"sharpness": strength})(dot)[:, 0, 4, 4].int() - 145
    assert change.abs().max() <= 40 * strength + 1
    assert change.max() > 36 * strength
    assert change.min() < -36 * strength


def test_sharpened_pictures_stay_within_a_byte():
    dots = torch.zeros(50, 3, 9, 9, dtype=torch.uint8)
    dots[:, :, 4, 4] = 255
    result = Augmentation(9, **OFF | {"sharpness": 1.0})(dots)
    assert (result[:, :, 4, 4] >= 28).all()  # the blur of it, or more; beyond 255 it would begin anew at 0
    assert (result[:, :, 0, 0] == 0).all()


def test_erased_rectangles_have_their_share_of_the_area():
    x = torch.zeros(400, 3, 64, 64)
    result = erased(x, 0.5)
    holes = (result == 127).all(dim=1)
    touched = holes.flatten(1).any(dim=1)
    assert 0.4 < touched.float().mean() < 0.6
    areas = holes[touched].float().mean(dim=(1, 2))
    assert 0.005 < areas.min() < areas.max() < 0.36
    for hole in holes[touched][:20]:  # a rectangle: what its rows and columns span is full
        rows, columns = hole.any(dim=1), hole.any(dim=0)
        assert hole.sum() == rows.sum() * columns.sum()
    assert math.isclose(erased(x, 0).sum().item(), 0)


def test_pictures_are_smoothed_as_they_are_shrunk():
    lines = torch.zeros(1, 3, 64, 64)
    lines[..., ::4] = 200
    assert shrunk(lines, 64) is lines
    middle = shrunk(lines, 16)[..., 2:-2, 2:-2]
    assert (middle - 50).abs().max() < 5


@pytest.mark.parametrize(
    "setting",
    [{"crop_ratio": 0.5}, {"rotate": -1}, {"rotate": 181}, {"crop_largest": 0.9}, {"crop_largest": 5},
     {"crop_scale": 0}, {"flip": 1.5}, {"erasing": -0.1}],
)  # fmt: skip
def test_settings_out_of_their_range_are_named(setting):
    with pytest.raises(FashionError, match=next(iter(setting))):
        Augmentation(32, **setting)
