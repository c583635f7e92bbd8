import pytest
import torch

from frostline.config import Settings
from frostline.data.augment import (
    Channels,
    Contrast,
    Cutout,
    Gamma,
    Mirror,
    PerImage,
    Shift,
    Zoom,
    augment,
    cropped,
    make_augmentations,
)


def ramp(B=2, C=3, H=4, W=5, dtype=torch.uint8):
    return torch.arange(B * C * H * W).view(B, C, H, W).to(dtype)


def test_mirror_flips_the_chosen_images_only():
    batch = ramp()
    out = Mirror().apply(batch, torch.tensor([True, False]))
    assert torch.equal(out[0], batch[0].flip(-1))
    assert torch.equal(out[1], batch[1])


def test_shift_by_hand():
    batch = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8).view(1, 1, 3, 3).expand(2, 1, 3, 3)
    out = Shift(2).apply(batch, torch.tensor([[1, 0], [0, -2]]))
    assert out[0, 0].tolist() == [[4, 5, 6], [7, 8, 9], [4, 5, 6]]  # rows 1, 2, 3 → reflected: 1, 2, 1
    assert out[1, 0].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]  # columns −2, −1, 0 → 2, 1, 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shift_is_a_crop_of_the_padded_image(layout):
    batch = ramp(8, 3, 9, 6, torch.float32).contiguous(memory_format=layout)
    choice = Shift(3).choose(8, (9, 6), torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(batch, (3, 3, 3, 3), mode="reflect")
    expected = [padded[i, :, 3 + y : 12 + y, 3 + x : 9 + x] for i, (y, x) in enumerate(choice.tolist())]
    assert torch.equal(Shift(3).apply(batch, choice), torch.stack(expected))


def test_shift_further_than_the_image_and_of_one_pixel():
    row = torch.tensor([10, 20, 30]).view(1, 1, 1, 3)
    assert Shift(9).apply(row, torch.tensor([[5, 4]])).flatten().tolist() == [10, 20, 30]  # 4, 5, 6 → 0, 1, 2
    assert Shift(9).apply(row, torch.tensor([[0, -7]])).flatten().tolist() == [20, 30, 20]  # −7, −6, −5 → 1, 2, 1


def test_shift_draws_every_distance_alike():
    choice = Shift(2).choose(5000, (8, 8), torch.Generator().manual_seed(1))
    assert choice.shape == (5000, 2)
    assert torch.bincount(choice.flatten() + 2).min() > 1800  # 2,000 expected of each of −2 … 2


def test_cutout_by_hand():
    batch = torch.ones(2, 2, 4, 4, dtype=torch.uint8)
    out = Cutout(2, (7, 9)).apply(batch, torch.tensor([[1, 2], [0, 0]]))
    hole = torch.zeros(4, 4, dtype=torch.bool)
    hole[0:2, 1:3] = True  # centre (1, 2), side 2: from one before the centre
    assert torch.equal(out[0, 0], torch.where(hole, 7, 1).to(torch.uint8))
    assert torch.equal(out[0, 1], torch.where(hole, 9, 1).to(torch.uint8))
    assert (out[1, 0] == 7).nonzero().tolist() == [[0, 0]]  # cut off at the corner


def test_settings_name_the_augmentations():
    assert make_augmentations(Settings(), (0.5, 0.5, 0.5)) == ()
    made = make_augmentations(Settings(mirror=True, shift=2, cutout=8), (0.5, 0.25, 1.0))
    assert made == (Mirror(), Shift(2), Cutout(8, (128, 64, 255)))


def test_the_generator_alone_decides():
    steps = make_augmentations(Settings(mirror=True, shift=2, cutout=2), (0.5, 0.5, 0.5))
    one, two, three = (augment(ramp(16, 3, 8, 8), steps, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert one.dtype == torch.uint8


def photos(B=4, side=8):
    return torch.randint(0, 256, (B, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_zoom_by_hand():
    batch = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    batch[:, :, 3:5, 3:5] = 200
    out = Zoom().apply(batch, torch.tensor([[1.0], [2.0], [0.5]]))
    assert torch.equal(out[0], batch[0])
    assert (out[1] > 100).sum() == 16  # 2 x 2 pixels enlarged twice
    assert (out[2, 0, 3:5, 3:5] == 50).all()  # one pixel's brightness on four
    assert (out[2, 0, 3:5, 0] == 50).all()  # and its reflection


def test_gamma_contrast_and_channels_by_hand():
    batch = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert Gamma().apply(batch, torch.tensor([[2.0]]))[0, 0].flatten().tolist() == [0, 10, 41, 255]
    assert Contrast().apply(batch, torch.tensor([[0.5]]))[0, 0].flatten().tolist() == [51, 76, 102, 178]  # mean 102
    out = Channels().apply(batch, torch.tensor([[1.0, 0.5, 2.0]]))
    assert [out[0, channel].flatten().tolist() for channel in range(3)] == [[0, 51, 102, 255], [0, 26, 51, 128], [0, 102, 204, 255]]


@pytest.mark.parametrize("name", ["mirror", "zoom", "gamma", "contrast", "channels", "erase", "randaugment", "trivial"])
def test_every_named_augmentation_changes_images_one_by_one_and_again_the_same(name):
    batch = photos(16)
    (made,) = make_augmentations(Settings(augment=(name,)), (0.5, 0.5, 0.5))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two, other = (augment(batch, (made,), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.dtype == torch.uint8
    assert one.shape == batch.shape
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert (one != batch).flatten(1).any(1).sum() >= 4
    same = augment(batch[:1].expand(16, 3, 8, 8), (made,), torch.Generator().manual_seed(0))
    assert len({image.numpy().tobytes() for image in same}) >= 2  # each image has numbers of its own


def test_choices_stay_in_their_range():
    drawn = torch.Generator().manual_seed(0)
    for made, low, high in (
        (Zoom(0.2), 0.8, 1.2),
        (Gamma(1.5), 1 / 1.5, 1.5),
        (Contrast(0.4), 0.6, 1.4),
        (Channels(0.2), 0.8, 1.2),
    ):
        choice = made.choose(2000, (8, 8), drawn)
        assert low <= choice.min() < low + 0.05
        assert high - 0.05 < choice.max() <= high


def test_an_image_is_changed_alike_in_any_batch():
    made, batch = PerImage(lambda image: image + torch.randint(0, 9, ()).to(torch.uint8)), photos()
    choice = made.choose(4, (8, 8), torch.Generator().manual_seed(0))
    assert torch.equal(made.apply(batch, choice)[2], made.apply(batch[2:3], choice[2:3])[0])


def test_names_are_applied_in_order_between_shift_and_cutout():
    made = make_augmentations(Settings(mirror=True, augment=("gamma", "zoom"), cutout=4), (0.5, 0.5, 0.5))
    assert made == (Mirror(), Gamma(), Zoom(), Cutout(4, (128, 128, 128)))


def test_cropped_maps_are_parts_of_their_own_map_from_all_over_it():
    maps = torch.randn(200, 2, 5, 4)
    parts = cropped(maps, (3, 2), torch.Generator().manual_seed(0))
    places = set()
    for whole, part in zip(maps, parts, strict=True):
        places |= {(y, x) for y in range(3) for x in range(3) if torch.equal(whole[:, y : y + 3, x : x + 2], part)}
    assert parts.shape == (200, 2, 3, 2)
    assert places == {(y, x) for y in range(3) for x in range(3)}
    assert cropped(maps, (5, 4), torch.Generator()) is maps
