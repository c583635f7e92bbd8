"""Grad-CAM against torch autograd on tiny random networks of every kind, and on a case whose answer is planted."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from frostline import engine
from frostline.convert import FromUint8, convert_head, convert_network
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.explaining.gradcam import BY_POSITION, GRAD_CAM, OCCLUSION, GradCam, Heat, occlusion, overlay
from frostline.models.backbones import FeatureNetwork, as_map
from frostline.models.cnn import WithMap, make_network
from frostline.models.heads import compressed_linear, make_head
from frostline.preprocess import Preprocess

#: Of a map or a gradient, relative to its largest value: both sides compute in f32.
TOLERANCE = 1e-4


class Split(nn.Module):
    """A network in two, that keeps what passes between them, so that autograd can be asked for the gradient by it."""

    def __init__(self, below, above, show=lambda grid: grid):
        super().__init__()
        self.below, self.above, self.show = below, above, show

    def forward(self, x):
        self.kept = self.below(x).detach().requires_grad_(True)
        return self.above(self.kept)


def pretrained(name, size, **arguments):
    """A random timm network as the frozen and fine-tuning paths hold it, parted where its features are pooled."""
    torch.manual_seed(3)
    network = timm.create_model(name, num_classes=0, **arguments).eval()
    whole = FeatureNetwork(network)
    above = (lambda grid: grid.mean((2, 3))) if whole.dense_top else (lambda grid: network.forward_head(grid, pre_logits=True))
    tokens = getattr(network, "num_prefix_tokens", 0)
    return whole, Split(network.forward_features, above, lambda grid: as_map(grid, tokens, 1.0)), Preprocess((size, size), (32, 32))


def scratch(name, side=32):
    network = make_network(name, 3, (side, side)).eval()
    torch.manual_seed(4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.bias.data.normal_(0, 0.2)
    body = WithMap(network.body)
    return body, Split(body.below, body.above), Preprocess((side, side), (side, side)), network.head


def linear(width, power=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return compressed_linear(rng.normal(size=(width, 3)).astype("f"), rng.normal(size=3).astype("f"), power)


def grad_cam(body, head, preprocess, views=1):
    graph = convert_network(body, preprocess)
    width = graph.output("features").get_partial_shape()[1].get_length()
    return GradCam(engine.join(engine.with_views(graph, views), convert_head(head, width, 1.7)))


def by_autograd(parted, head, preprocess, image, number):
    """The map and the gradient of the class' logit by it, (C, h, w) each, as torch has them."""
    features = FromUint8(parted, preprocess).eval()(torch.from_numpy(image[None]))
    head.eval()(features)[0, number].backward()
    return tuple(parted.show(each)[0].numpy() for each in (parted.kept.detach(), parted.kept.grad))


def assert_near(found, wanted):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


#: Name, side that the network sees, what it is built with, head: means and maxima of the map, a norm or a convolution behind them.
POOLED = [
    ("test_resnet", 96, {}, "linear"),
    ("test_resnet", 96, {}, "dense-a"),
    ("test_resnet", 96, {"global_pool": "max"}, "linear"),
    ("test_resnet", 96, {"global_pool": "catavgmax"}, "dense-d"),
    ("test_convnext", 96, {}, "dense-b"),
    ("vgg11", 64, {}, "linear"),
    ("mobilenetv3_small_050", 64, {}, "dense-c"),
    ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 1, "global_pool": "avg"}, "linear"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "arguments", "head"), POOLED)
def test_pretrained_networks_agree_with_autograd(name, size, arguments, head):
    whole, parted, preprocess = pretrained(name, size, **arguments)
    width = whole(torch.zeros(1, 3, size, size))[0].shape[1]
    module = linear(width) if head == "linear" else make_head(head, width, 3).eval()
    explained, image = grad_cam(whole, module, preprocess), drawn_images(1, 32, 32)[0]
    A, by_map = explained.map_and_gradient(image, 2)
    wanted_map, wanted = by_autograd(parted, module, preprocess, image, 2)
    assert_near(A, wanted_map)
    assert_near(by_map.sum((1, 2)), wanted.sum((1, 2)))
    single = np.ones(len(A), bool)
    if "max" in arguments.get("global_pool", ""):  # of equal maxima autograd takes one, or shares: no derivative exists there
        single = (A.max((1, 2), keepdims=True) == A).sum((1, 2)) == 1
        assert single.any()
    assert_near(by_map[single], wanted[single])
    heat = explained(image, 2)
    assert heat.method == GRAD_CAM
    cam = np.maximum((wanted.mean((1, 2))[:, None, None] * wanted_map).sum(0), 0)  # eq. 1 and 2
    assert_near(heat.values, cam)


@pytest.mark.parametrize("name", ["cnn-vgg", "cnn-small", "fast-small", "fast-large"])
def test_scratch_networks_agree_with_autograd(name):
    body, parted, preprocess, head = scratch(name)
    explained, image = grad_cam(body, head, preprocess), drawn_images(1, 32, 32, seed=1)[0]
    A, by_map = explained.map_and_gradient(image, 1)
    wanted_map, wanted = by_autograd(parted, head, preprocess, image, 1)
    assert_near(A, wanted_map)
    assert_near(by_map, wanted)
    assert explained.method == (BY_POSITION if name.startswith("cnn") else GRAD_CAM)
    if name.startswith("cnn"):
        assert A.shape == (128, 8, 8)
        assert_near(explained(image, 1).values, np.maximum((wanted * wanted_map).sum(0), 0))


def test_powers_of_features_agree_with_autograd_where_it_has_a_gradient():
    whole, parted, preprocess = pretrained("test_resnet", 96)
    head, image = linear(96, power=0.75), drawn_images(1, 32, 32)[0]
    A, by_map = grad_cam(whole, head, preprocess).map_and_gradient(image, 0)
    wanted_map, wanted = by_autograd(parted, head, preprocess, image, 0)
    silent = (A == 0).all((1, 2))
    # of a feature that is 0 autograd says nan: 0 · ∞; it has no part in the map, and 0 is said of it here
    assert np.isnan(wanted[silent]).all()
    assert silent.any()
    assert (by_map[silent] == 0).all()
    assert_near(by_map[~silent], wanted[~silent])
    assert_near(A, wanted_map)


@pytest.mark.parametrize("views", [2, 6])
def test_with_views_the_gradient_is_that_of_the_image_itself(views):
    whole, parted, preprocess = pretrained("test_resnet", 96)
    head, image = linear(96), drawn_images(1, 32, 32)[0]
    A, by_map = grad_cam(whole, head, preprocess, views).map_and_gradient(image, 0)
    wanted_map, wanted = by_autograd(parted, head, preprocess, image, 0)
    assert_near(A, wanted_map)
    assert_near(by_map, wanted)


def test_a_saved_graph_gives_the_same(tmp_path):
    body, _, preprocess, head = scratch("cnn-small", 16)
    graph = engine.join(engine.with_views(convert_network(body, preprocess), 2), convert_head(head, 256, 1.0))
    engine.save_graph(graph, tmp_path / "graph.xml")
    image = drawn_images(1, 16, 16)[0]
    again = GradCam(engine.read_graph(tmp_path / "graph.xml"))
    np.testing.assert_array_equal(again(image, 1).values, GradCam(graph)(image, 1).values)


def test_a_class_token_is_refused_by_name():
    whole, _, preprocess = pretrained("vit_tiny_patch16_224", 64, img_size=64, depth=1)
    explained = grad_cam(whole, linear(192), preprocess)
    with pytest.raises(UserError, match="class token") as caught:
        explained(drawn_images(1, 32, 32)[0], 0)
    assert caught.value.hint == "--method occlusion"


def test_a_graph_without_a_map_is_refused():
    network = make_network("cnn-small", 3, (16, 16)).eval()
    preprocess = Preprocess((16, 16), (16, 16))
    graph = engine.join(engine.with_views(convert_network(network.body, preprocess), 1), convert_head(network.head, 256, 1.0))
    with pytest.raises(UserError, match="without its last feature map"):
        GradCam(graph)


class Corner(nn.Module):
    """Features that are the mean, or all places, of a map of brightness."""

    def __init__(self, flat):
        super().__init__()
        self.flat = flat

    def forward(self, x):
        grid = nn.functional.avg_pool2d(x, 4)
        return (grid.flatten(1) if self.flat else grid.mean((2, 3))), grid


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("corner", "peak"), [((0, 0), (0.125, 0.125)), ((12, 12), (0.875, 0.875)), ((0, 12), (0.125, 0.875))])
def test_a_bright_corner_that_decides_the_class_is_the_peak(flat, corner, peak):
    weight = np.zeros((48 if flat else 3, 2), np.float32)
    weight[:, 1] = 1.0  # bright speaks for class 1, and nothing for class 0
    head = compressed_linear(weight, np.zeros(2, np.float32), 1.0)
    preprocess = Preprocess((16, 16), (16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    image = np.zeros((16, 16, 3), np.uint8)
    image[corner[0] : corner[0] + 4, corner[1] : corner[1] + 4] = 255
    explained = grad_cam(Corner(flat), head, preprocess)
    heat = explained(image, 1)
    assert heat.peak == peak
    assert (heat.shares > 0.5).sum() == 1
    assert heat.values.max() == pytest.approx(3.0 if flat else 3 / 16, rel=1e-5)
    assert explained(image, 0).shares.max() == 0


def test_where_a_flattened_map_speaks_for_and_against_positions_are_kept_apart():
    weight = np.zeros((48, 2), np.float32)
    weight[0::16, 1], weight[15::16, 1] = 1.0, -1.0  # bright above left speaks for class 1, bright below right against it
    head = compressed_linear(weight, np.zeros(2, np.float32), 1.0)
    preprocess = Preprocess((16, 16), (16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    heat = grad_cam(Corner(True), head, preprocess)(np.full((16, 16, 3), 255, np.uint8), 1)
    assert heat.peak == (0.125, 0.125)
    assert (heat.values > 0).sum() == 1


def test_occlusion_finds_what_decides():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:4, 12:] = 255

    def probabilities(images):
        bright = images[:, :4, 12:].mean((1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1)

    heat = occlusion(probabilities, image, 1, (0, 0, 0))
    assert (heat.method, heat.values.shape) == (OCCLUSION, (16, 16))
    assert heat.values[0, 15] == 1.0  # the one square that covers the corner hides all of it
    assert heat.values[8:].max() == 0
    assert heat.peak[0] < 0.25 < 0.75 < heat.peak[1]
    assert occlusion(probabilities, image, 0, (0, 0, 0)).values.max() == 0


def test_the_overlay_colours_what_is_hot_and_leaves_the_rest():
    image = np.full((20, 30, 3), 100, np.uint8)
    values = np.zeros((2, 3))
    values[1, 2] = 5.0
    shown = overlay(image, Heat(values, GRAD_CAM, 0))
    assert (shown.shape, shown.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(shown[:5, :10], 100)
    assert (shown[-1, -1] == np.rint(100 + 0.72 * (np.array([252, 255, 164]) - 100))).all()
    np.testing.assert_array_equal(overlay(image, Heat(np.zeros((2, 3)), GRAD_CAM, 0)), image)
