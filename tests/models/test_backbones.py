"""Every backbone of the table: what it is, and that its compiled graph computes what torch computes."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from frostline.convert import FromUint8, convert_network, with_exact_layers
from frostline.drawn import drawn_images
from frostline.engine import Engine
from frostline.environment import has_bf16
from frostline.errors import UserError
from frostline.models.backbones import BACKBONES, FeatureNetwork, as_map, build, find
from frostline.preprocess import Preprocess

#: D, (C, h, w) of the map at 64 pixels (a transformer: at 224), and whether parameters fit the published count without classifier.
SHAPES = {
    "mobilenetv2": (1280, (1280, 2, 2), 2_223_872),
    "densenet169": (1664, (1664, 2, 2), 12_484_480),
    "vgg16": (512, (512, 2, 2), 14_714_688),
    "resnet50": (2048, (2048, 2, 2), 23_508_032),
    "resnet50v2": (2048, (2048, 2, 2), 23_500_352),
    "efficientnetb0": (1280, (1280, 2, 2), 4_007_548),
    "efficientnetb2": (1408, (1408, 2, 2), 7_700_994),
    "efficientnetb4": (1792, (1792, 2, 2), 17_548_616),
    "efficientnetv2s": (1280, (1280, 2, 2), 20_177_488),
    "convnext-tiny": (768, (768, 2, 2), 27_820_128),
    "vit-small": (384, (384, 14, 14), 21_665_664),
}
STORED = (32, 32)


def relative(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def settled(network, preprocess):
    """Random weights that make sense: BatchNorm statistics of drawn images, and blocks that add a little to what they are given."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of the batches seen
    for name, parameter in network.named_parameters():
        if name.endswith(("bn3.weight", "norm3.weight")) or (name.endswith("bn2.weight") and ".0." not in name):
            nn.init.constant_(parameter, 0.3)
    inputs = FromUint8(network, preprocess).train()
    with torch.no_grad():
        inputs(torch.from_numpy(drawn_images(16, *STORED, seed=9)))
    return network.eval()


#: Four seconds and more each; the others' kinds of layers are theirs.
LARGE = (
    "efficientnetb0",
    "efficientnetb2",
    "efficientnetb4",
    "efficientnetv2s",
    "densenet169",
    "vit-small",
    "resnet50",
    "convnext-tiny",
    "vgg16",
    "resnet50v2",
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in BACKBONES])
def test_a_compiled_backbone_computes_what_torch_computes(name):
    side = 224 if BACKBONES[name].sized else 64
    made = Preprocess(size=(side, side), stored=STORED, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bare = build(name, (side, side))
        network = FeatureNetwork(settled(bare, made)).eval()
    images = drawn_images(8, *STORED)
    with torch.inference_mode():
        features, grid = FromUint8(network, made).eval()(torch.from_numpy(images))
    D, shape, parameters = SHAPES[name]
    assert (tuple(features.shape), tuple(grid.shape)) == ((8, D), (8, *shape))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    graph = convert_network(network, made)
    (found,) = Engine(graph, "f32", ("features", "map")).run([images])
    assert relative(found[0], features.numpy()) < 1e-3
    assert relative(found[1], grid.numpy()) < 1e-3
    if not has_bf16():
        pytest.skip("this processor has no bf16; f32 was checked")
    marked, layers, _ = with_exact_layers(graph, drawn_images(16, *STORED))
    assert relative(Engine(marked, "bf16").features(images), features.numpy()) < 5e-2, f"{layers} layers in f32"


def test_the_table_is_checked_whole():
    assert set(SHAPES) == set(BACKBONES)


def test_vgg_ends_before_its_dense_layers():
    """512 features; a plain head for ten classes has 5,130 weights, as source C counts them."""
    with torch.device("meta"):
        network = FeatureNetwork(build("vgg16", (64, 64)))
        features, grid = network(torch.empty(1, 3, 64, 64))
    assert features.shape == (1, 512)
    assert grid.shape == (1, 512, 2, 2)
    assert sum(parameter.numel() for parameter in nn.Linear(features.shape[1], 10).parameters()) == 5_130


def test_a_map_averages_to_the_features():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FeatureNetwork(timm.create_model("test_resnet", num_classes=0)).eval()
    with torch.inference_mode():
        features, grid = network(torch.rand(2, 3, 64, 96))
    assert grid.shape == (2, 96, 2, 3)
    torch.testing.assert_close(grid.mean((2, 3)), features)


def test_a_map_whose_channels_come_last_is_turned():
    """Swin's and others'."""
    network = FeatureNetwork(build("timm:test_mambaout", (32, 32))).eval()
    assert network.network.output_fmt == "NHWC"
    with torch.inference_mode():
        features, grid = network(torch.zeros(2, 3, 64, 64))
        assert torch.equal(grid, network.network.forward_features(torch.zeros(2, 3, 64, 64)).permute(0, 3, 1, 2))
    assert features.shape[1] >= grid.shape[1] > 3


def test_a_transformers_map_is_its_patches_in_their_places():
    network = FeatureNetwork(timm.create_model("test_vit", num_classes=0, img_size=(64, 96))).eval()
    with torch.inference_mode():
        tokens = network.network.forward_features(torch.rand(2, 3, 64, 96))
        grid = as_map(tokens, network.network.num_prefix_tokens, 96 / 64)
    rows, columns = 64 // 16, 96 // 16
    assert grid.shape == (2, 64, rows, columns)
    torch.testing.assert_close(grid[:, :, 2, 5], tokens[:, 1 + 2 * columns + 5])


# names


@pytest.mark.parametrize("name", BACKBONES)
def test_timm_has_the_network_and_its_weights(name):
    row = BACKBONES[name]
    assert row.timm.split(".")[0] in timm.list_models()
    config = timm.get_pretrained_cfg(row.timm)
    assert config is not None
    assert config.hf_hub_id
    assert config.tag == row.timm.split(".")[1]
    assert row.sized == bool(config.fixed_input_size)


def test_any_other_network_of_timm():
    assert find("timm:resnet18") == find("timm:resnet18.a1_in1k").__class__("resnet18", photos=224, arrays=160, sized=False)
    vit = find("timm:vit_base_patch16_224.augreg2_in21k_ft_in1k")
    assert (vit.photos, vit.arrays, vit.sized) == (224, 224, True)
    assert find("timm:test_resnet").arrays == 160


@pytest.mark.parametrize(
    ("name", "hint"), [("densenet", "densenet169"), ("timm:resnet17", "resnet18"), ("timm:", ""), ("resnet18", "resnet50")]
)
def test_unknown_names_suggest_the_nearest(name, hint):
    with pytest.raises(UserError, match=r"no (backbone|model)") as caught:
        find(name)
    assert hint in caught.value.hint
    assert caught.value.received == name


def test_arguments_reach_the_network():
    plain, changed = build("timm:test_resnet", (64, 64)), build("timm:test_resnet", (64, 64), output_stride=16)
    with torch.inference_mode():
        sizes = [network.eval().forward_features(torch.rand(1, 3, 64, 64)).shape[-1] for network in (plain, changed)]
    assert sizes == [2, 4]
