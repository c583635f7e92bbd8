"""The frost line: every family splits where it is asked to, the two parts are the whole, and only what should train trains."""

import copy
import math

import pytest
import torch
from torch import nn

from frostline.config import Settings
from frostline.errors import UserError
from frostline.models.backbones import FeatureNetwork, build
from frostline.models.keras_names import keras_blocks
from frostline.models.layers import seeded
from frostline.models.transfer import Trainable, cut
from frostline.optim import parameter_groups

#: A network, what a person types, where it then begins, and the activations' shape at 64 pixels (transformers: 224).
CUTS = [
    ("mobilenetv2", "block_12", "blocks.4.2.conv_pw", (96, 4, 4)),
    ("mobilenetv2", "blocks.5", "blocks.5.0.conv_pw", (96, 4, 4)),
    ("mobilenetv2", "all", "conv_stem", (3, 64, 64)),
    ("mobilenetv2", "bn1", "bn1", (32, 32, 32)),
    ("densenet169", "denseblock3", "features.denseblock3.denselayer1.cat", (256, 4, 4)),
    ("densenet169", "conv5", "features.denseblock4.denselayer1.cat", (640, 2, 2)),
    ("vgg16", "block5", "features.24", (512, 4, 4)),
    ("vgg16", "block1", "features.0", (3, 64, 64)),
    ("resnet50", "layer4", "layer4.0.conv1", (1024, 4, 4)),
    ("resnet50", "3", "layer3.0.conv1", (512, 8, 8)),
    ("resnet50v2", "conv5_block1", "stages.3.blocks.0.norm1", (1024, 4, 4)),
    ("efficientnetb0", "block6a", "blocks.5.0.conv_pw", (112, 4, 4)),
    ("efficientnetb2", "block6a", "blocks.5.0.conv_pw", (120, 4, 4)),
    ("efficientnetb4", "block6a", "blocks.5.0.conv_pw", (160, 4, 4)),
    ("efficientnetv2s", "block6a", "blocks.5.0.conv_pw", (160, 4, 4)),
    ("convnext-tiny", "stages.3", "stages.3.downsample.0.permute", (384, 4, 4)),
    ("vit-small", "8", "blocks.8.norm1", (197, 384)),
    ("vit-small", "all", "patch_embed", (3, 224, 224)),
    ("timm:mobilenetv3_large_100", "blocks.5", "blocks.5.0.conv_pw", (112, 4, 4)),
    ("timm:test_resnet", "layer3", "layer3.0.conv1", (48, 8, 8)),
]


def network(name):
    side = 224 if name == "vit-small" else 64
    with seeded(0):
        return FeatureNetwork(build(name, (side, side))).eval(), (side, side)


@pytest.mark.parametrize(("name", "where", "first", "shape"), CUTS)
def test_lower_and_upper_are_the_whole(name, where, first, shape):
    whole, size = network(name)
    line = cut(whole, where, size, name)
    assert line.first.startswith(first)
    assert line.shape == shape
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for found, wanted in zip(line.upper(line.lower(images)), whole(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    below, above = ({id(parameter) for parameter in part.parameters()} for part in (line.lower, line.upper))
    assert not below & above
    assert below | above == {id(parameter) for parameter in whole.parameters()}


#: Others of timm, none of which is in the table: families of their own, and the side at which they are cut.
OTHERS = [
    *((name, 64) for name in ("regnety_002", "mobilenetv4_conv_small", "repvgg_a0", "ghostnet_100", "edgenext_xx_small")),
    *((name, 64) for name in ("lcnet_050", "resnet10t", "mobilevit_xxs", "rexnet_100", "fastvit_t8", "pvt_v2_b0", "densenet121")),
    *((name, 224) for name in ("deit_tiny_patch16_224", "mixer_s32_224")),
    pytest.param("swin_tiny_patch4_window7_224", 224, marks=pytest.mark.slow),
    pytest.param("maxvit_rmlp_pico_rw_256", 256, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "side"), OTHERS)
def test_any_network_of_timm_with_stages_is_cut_at_its_last_one_and_before_its_first_layer(name, side):
    with seeded(0):
        whole = FeatureNetwork(build(f"timm:{name}", (side, side))).eval()
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    last = str(len(whole.network.feature_info) - 1)
    for where, shape in ((last, None), ("all", (3, side, side))):
        line = cut(whole, where, (side, side), f"timm:{name}")
        with torch.inference_mode():
            for found, wanted in zip(line.upper(line.lower(images)), whole(images), strict=True):
                torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert shape in (None, line.shape)
        assert bool(list(line.lower.parameters())) == (where != "all")


@pytest.mark.parametrize(
    ("name", "where", "shape"), [(name, where, shape) for name, where, _, shape in CUTS if where not in ("all", "block1")]
)
def test_gradients_above_the_line_are_the_losss_slope(name, where, shape):
    """In double precision, along a drawn direction through all that trains, from both sides."""
    whole, size = network(name)
    line = cut(whole, where, size, name)
    with torch.no_grad():
        width = line.upper(torch.zeros(1, *shape))[0].shape[1]
    made = Trainable(line.upper, nn.Linear(width, 3), shape).double()
    generator = torch.Generator().manual_seed(2)
    x, y = torch.rand(4, *shape, generator=generator, dtype=torch.double), torch.arange(4) % 3
    made.train()
    trained = list(made.parameters())
    along = [torch.randn(p.shape, generator=generator, dtype=p.dtype) * p.detach().std().nan_to_num(1) for p in trained]

    @torch.no_grad()
    def loss(step):
        move(step)
        found = float(nn.functional.cross_entropy(made(x), y))
        move(-step)
        return found

    def move(step):
        for parameter, direction in zip(trained, along, strict=True):
            parameter += step * direction

    nn.functional.cross_entropy(made(x), y).backward()
    slope = sum(float((parameter.grad * direction).sum()) for parameter, direction in zip(trained, along, strict=True))
    assert slope != 0
    assert (loss(1e-7) - loss(-1e-7)) / 2e-7 == pytest.approx(slope, rel=1e-4)


def test_every_boundary_of_a_network_splits_it():
    whole, size = network("timm:test_resnet")
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = whole(images)[0]
        for where in ("all", "conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "1", "2", "3", "4"):
            line = cut(whole, where, size)
            torch.testing.assert_close(line.upper(line.lower(images))[0], wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "where", "first", "said"),
    [
        ("mobilenetv2", "last:50", "blocks.4.2", "block_12, Keras' last 47 layers"),
        ("mobilenetv2", "last:47", "blocks.4.2", ""),
        ("resnet50", "last:50", "layer3.5", "conv4_block6, Keras' last 42 layers"),
        ("vgg16", "last:4", "features.24", ""),
        ("vgg16", "last:18", "features.0", ""),
        ("vgg16", "last:50", "features.0", "vgg16 has 19 Keras layers, and all of it trains"),
        ("vgg16", "last:2", "features.24", "no block begins so late; the last one before is block5, Keras' last 4 layers"),
        ("mobilenetv2", "last:3", "blocks.6", "the last one before is block_16, Keras' last 11 layers"),
        ("mobilenetv2", "last:153", "blocks.0", "the nearest block within is expanded_conv, Keras' last 150 layers"),
        ("mobilenetv2", "last:154", "conv_stem", "all of it trains"),
        ("densenet169", "last:50", "features.denseblock4", "the last one before is conv5_block1, Keras' last 226 layers"),
    ],
)
def test_keras_layer_counts_are_met_by_the_nearest_block(name, where, first, said):
    line = cut(network(name)[0], where, (64, 64), name)
    assert line.first.startswith(first)
    assert said in line.said if said else line.said == ""


def test_no_keras_layer_is_none():
    with pytest.raises(UserError, match="at least one Keras layer"):
        cut(network("vgg16")[0], "last:0", (64, 64), "vgg16")


def test_every_keras_block_is_a_place_of_its_network():
    for name in ("vgg16", "resnet50", "mobilenetv2", "efficientnetb0"):
        modules = dict(network(name)[0].network.named_modules())
        counts = [count for _, count, path in keras_blocks(name) if path in modules]
        assert len(counts) == len(keras_blocks(name))
        assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("where", ["layer9", "block5", "", "7", "last:x", "last:5", "layer1.conv9"])
def test_a_place_that_is_not_there(where):
    with pytest.raises(UserError):
        cut(network("timm:test_resnet")[0], where, (64, 64), "timm:test_resnet")


def trainable(where="layer4"):
    whole, size = network("timm:test_resnet")
    for module in whole.modules():  # timm's residual blocks begin as nothing: their first layers would get no gradient
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    line = cut(whole, where, size)
    return whole, line, Trainable(line.upper, nn.Linear(96, 3), line.shape)


def test_all_that_trains_moves_and_nothing_else_does():
    _, line, made = trainable()
    before, lower = copy.deepcopy(made.state_dict()), copy.deepcopy(line.lower.state_dict())
    groups = parameter_groups(made, Settings(optimizer="sgd", lr=0.1, weight_decay=0.0))
    optimizer = torch.optim.SGD(groups)
    made.train()
    x = torch.randn(8, *line.shape, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(made(x), torch.arange(8) % 3).backward()
    optimizer.step()
    trained = {name for name, _ in made.named_parameters()}
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in trained), name
    for name, value in line.lower.state_dict().items():
        assert torch.equal(value, lower[name]), name


def test_views_are_answered_one_by_one():
    _, line, made = trainable()
    stored = torch.randn(2, 3, *line.shape, generator=torch.Generator().manual_seed(0))
    made.eval()
    with torch.inference_mode():
        torch.testing.assert_close(made(stored), torch.stack([made(stored[:, view]) for view in range(3)], dim=1))


def test_rates_are_met_in_order():
    _, _, made = trainable("layer3")
    settings = Settings(lr=0.1, weight_decay=0.3, rates=("head.*=10", "*layer4*=1", "*=frozen"))
    groups = parameter_groups(made, settings)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in made.named_parameters():
        wanted = 1.0 if name.startswith("head.") else 0.1 if "layer4" in name else None
        assert rates.get(id(parameter)) == (pytest.approx(wanted) if wanted else None)
        assert parameter.requires_grad == (wanted is not None)
    assert {parameter.dim() > 1 for group in groups if "weight_decay" in group for parameter in group["params"]} == {False}


@pytest.mark.parametrize("rates", [("head.*=1",), ("*=fast",), ("=1",), ("*",)])
def test_rates_that_cannot_be_meant(rates):
    with pytest.raises(UserError):
        parameter_groups(trainable()[2], Settings(rates=rates))


def test_the_parameters_of_source_c():
    whole, size = network("vgg16")
    line = cut(whole, "block5", size, "vgg16")
    head = nn.Linear(512, 10)
    count = sum(parameter.numel() for parameter in head.parameters())
    assert count == 5_130
    assert count + sum(parameter.numel() for parameter in line.upper.parameters()) == 7_084_554


def test_each_layer_below_learns_more_slowly():
    whole, _, made = trainable("layer3")
    groups = parameter_groups(made, Settings(lr=1.0, layer_decay=0.5, rates=("head.*=2", "*=1")), whole.network)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = {name: rates[id(parameter)] for name, parameter in made.named_parameters()}
    assert {rate for name, rate in named.items() if name.startswith("head.")} == {2.0}
    above, below = ({rate for name, rate in named.items() if layer in name} for layer in ("layer4", "layer3"))
    assert max(below) < min(above) <= 1
    assert all(rate == 2.0 ** round(math.log2(rate)) for rate in above | below)


def test_a_backbone_whose_layers_have_no_order_is_refused():
    with pytest.raises(UserError, match="does not order"):
        parameter_groups(trainable()[2], Settings(layer_decay=0.5), nn.Linear(1, 1))


def test_batchnorm_takes_up_statistics_only_where_asked():
    _, line, made = trainable()
    asked = Trainable(line.upper, made.head, line.shape, train_batchnorm=True)
    x = torch.randn(8, *line.shape, generator=torch.Generator().manual_seed(0)) + 3
    statistics = copy.deepcopy(dict(made.named_buffers()))
    made.train()(x)
    assert all(torch.equal(value, statistics[name]) for name, value in made.named_buffers())
    asked.train()(x)
    assert any(not torch.equal(value, statistics[name]) for name, value in made.named_buffers())


def test_noise_and_dropout_of_activations_are_for_training_alone():
    _, line, made = trainable()
    x = torch.randn(4, *line.shape, generator=torch.Generator().manual_seed(0))
    for options in ({"noise": 0.5}, {"drop": 0.5}):
        noisy = Trainable(line.upper, made.head, line.shape, **options)
        with torch.no_grad():
            assert torch.equal(noisy.eval()(x), made.eval()(x))
            assert not torch.equal(noisy.train()(x), made.eval()(x))


def test_maps_are_in_the_type_that_autocast_multiplies_and_tokens_are_left():
    """Seen at the place of the tail: what a network joins to its maps is bf16 then, and a transformer's sum stays f32."""
    _, line, made = trainable()
    seen: list[torch.dtype] = []
    made.upper.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    x = torch.randn(2, *line.shape)
    made(x)
    with torch.autocast("cpu", torch.bfloat16):
        made(x)
    tokens = Trainable(nn.Sequential(nn.LayerNorm(8), Kept()), made.head, (5, 8))  # type: ignore[arg-type]
    tokens.upper.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        tokens(torch.randn(2, 5, 8))
    assert seen == [torch.float32, torch.bfloat16, torch.float32]


class Kept(nn.Module):
    """Tokens to features and a map, as an upper part gives them."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.nn.functional.pad(x.mean(1), (0, 88)), x


@pytest.mark.parametrize(
    ("name", "where", "side"), [("mobilenetv2", "bn2", 64), ("efficientnetb0", "bn2", 64), ("vit-small", "norm", 224)]
)
def test_a_module_s_own_path_goes_before_a_part_of_another_s(name, where, side):
    line = cut(FeatureNetwork(build(name, (side, side))).eval(), where, (side, side), name)
    assert line.first.split(".")[0] == where


def test_a_stage_that_timm_names_otherwise_is_said():
    with pytest.raises(UserError, match="Where stage 2 of this network begins") as caught:
        cut(FeatureNetwork(build("timm:hrnet_w18_small", (64, 64))).eval(), "2", (64, 64), "timm:hrnet_w18_small")
    assert "layer1" in caught.value.expected
