"""What can be set: one frozen, validated value. Unknown keys are errors; it comes from a recipe, a TOML file and ``--set``."""

from __future__ import annotations

import math
import tomllib
import typing
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from frostline.errors import UserError, nearest
from frostline.setting_values import coerced, described, fits

Precision = Literal["auto", "bf16", "f32"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Fit = Literal["squash", "crop", "pad"]
Head = Literal["logistic", "ridge", "dense-a", "dense-b", "dense-c", "dense-d"]
#: How ``torch.compile`` works: quickly, with CUDA graphs, or with a search for the fastest code; see ``models.compiled``.
Compile = Literal["no", "default", "reduce-overhead", "max-autotune"]
#: What can be done to the pixels of training images by name; see ``data.augment``.
Augment = Literal["mirror", "zoom", "gamma", "contrast", "channels", "erase", "randaugment", "trivial"]
#: Settings that do not shape what a model becomes: places, clocks and limits, what is said, the test split.
NOT_OF_THE_MODEL = (
    *("weights", "teacher", "exclude", "relabel"),
    *("stop_at", "budget", "memory", "announce", "test", "unknown_as_wrong"),
)


#: Settings that there were not at first, with their defaults; see ``Settings.identity``.
_LATER = {"teacher_mixtures": 0, "head_lr": 0.0, "head_epochs": 0, "crop_from": 1.0, "skip_easy_from": 0}


@dataclass(frozen=True)
class Settings:
    """Every setting of a training run. A recipe is one of these with a name; see ``recipes.py``.

    ``kind`` "frozen" fits a head on the cached features of ``backbone``, and trains on from it where ``train_from`` names more;
    "scratch" trains ``network`` from random weights.
    Sizes are pixels, times seconds, rates per step, fractions in [0, 1].
    """

    recipe: str = "custom"
    kind: Literal["frozen", "scratch"] = "frozen"
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    memory: float = 4.0  # GiB for arrays: those over an eighth of it are kept in files; the libraries take about 1 GiB besides

    # data
    fit: Fit = "squash"  # how photos are brought to the network's aspect ratio
    validation_fraction: float = 0.1
    validation_max: int = 5000
    group: str = ""  # column (tables) whose equal values no split may divide
    test: Literal["auto", "none"] = "auto"  # "none": cut no test split where the data has none
    strict: bool = False
    exclude: str = ""  # CSV of images to leave out of train and validation; see ``data.edits``
    relabel: str = ""  # CSV of images that get another class there
    unknown_as_wrong: bool = False

    # frozen
    backbone: str = "densenet169"
    weights: str = ""  # folder in timm's hub layout or a safetensors file; empty: timm's hub
    excuse: tuple[str, ...] = ()  # weight names that may be missing or unexpected
    image_size: int = 0  # side the network sees; 0: the recipe's or the weights' own
    views: int = 1  # averaged when judging: 1: as is; 2: and mirrored; 6 (from scratch): and both moved by a pixel, to and fro
    feature_dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    head: Head = "logistic"
    power: float = 0.75  # of features that are never negative, before a linear head with nothing trained below it
    l2: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # searched on validation

    # fine-tuned: frozen below a line, trained above it
    train_from: str = "head"  # the first thing that trains: a block, a stage's index, last:N, all; "head": nothing but the head
    cached_views: int = 0  # of every training image: as it is, mirrored, shifted, cropped, recoloured, …; 0: as many as ``views``
    drop_activations: float = 0.0  # share of the activations at the line that are set to zero in training
    crop_from: float = 1.0  # share of the maps' sides that the first epoch sees of them, rising to 1; the place is random
    noise: float = 0.0  # added to them in training, as a share of their deviation
    rates: tuple[str, ...] = ("*=1",)  # pattern=factor on the learning rate, or pattern=frozen; the first that matches decides
    freezeout: tuple[str, ...] = ()  # pattern=share: parameters that stay as they are from this share of the epochs on
    layer_decay: float = 1.0  # factor on the learning rate from each layer, as timm groups them, to the one below it
    train_batchnorm: bool = False  # above the line: let BatchNorm take up this data's statistics
    head_lr: float = 0.0  # of a dense head before what is below it trains; 0: ``lr``
    head_epochs: int = 0  # of the same, at most; 0: ``epochs``
    announce: float = 0.0  # validation accuracy whose passing is said, with the time; 0: none

    # trained by the loop: dense heads, what is above the line, scratch networks
    network: str = "cnn-vgg"
    epochs: int = 20
    batch_size: int = 128
    accumulate: int = 1  # parts of a batch that are computed one after another; BatchNorm that trains sees a part at a time
    least_steps: int = 0  # from scratch: smaller batches, but of 64, where an epoch had fewer steps or images are large; 0: never
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    lr: float = 1e-3
    find_lr: bool = False  # let a short test find the learning rate; ``lr`` is where it begins to look
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "one-cycle", "linear"] = "constant"
    warmup_epochs: float = 0.0
    clip: float = 0.0  # largest norm of a step's gradients; 0: any
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    teacher: str = ""  # a run or model whose answers for the training images are learned in place of their labels
    teacher_temperature: float = 2.0  # by which its answers, and the student's beside them, are softened
    teacher_mixtures: int = 0  # from scratch: so many mixtures of each image with others, of which the teacher is asked as well
    skip_easy: float = 0.0  # share of the images that an epoch leaves out: of the lowest losses, twice as many, a random half
    skip_easy_from: int = 0  # training images from which on some are left out; of fewer, every epoch shows all
    balance: Literal["none", "loss", "sampling"] = "none"  # give rare classes weight: in the loss, or by drawing them more often
    mixup: float = 0.0  # Beta(a, a) of the share in which a row is blended with another; 0: none
    cutmix: float = 0.0  # Beta(a, a) of the share of a map that is another row's; 0: none
    ema: float = 0.0  # decay a step of the moving average of the weights, which is then judged and kept; 0: none
    soup: int = 0  # so many best epochs' weights are averaged at the end, and kept if that is better; 0: none
    dropout_share: float = 1.0  # of the epochs, from the first, in which dropout is on ("early dropout", Liu et al. 2023)
    compile: Compile = "no"  # torch.compile's mode for the steps: minutes before the first of them, for long trainings on a GPU

    # pixels of training images, anew each epoch; with any of these a fine-tuning runs the whole network at every step
    mirror: bool = False  # random horizontal flips
    alternate: bool = False  # from scratch: mirror every image in every other epoch, half of them in the first
    shift: int = 0  # random translation by up to this many pixels, reflected at the border
    grow_from: int = 0  # from scratch: shorter side to which images are reduced in the first epoch, rising to their own; 0: none
    grow_share: float = 0.5  # of the epochs, in which images are reduced by ``grow_from`` or maps cut by ``crop_from``
    cutout: int = 0  # side of a random square set to the mean, 0 for none
    augment: tuple[Augment, ...] = ()

    # which weights are kept
    monitor: Literal["accuracy", "loss"] = "accuracy"  # of validation: which epoch's weights are the best and are kept
    patience: int = -1  # epochs without a better validation score before stopping; 0: never; -1: 5 for a dense head, else never

    # ending early
    stop_at: float = 0.0  # validation accuracy; 0: no
    budget: float = 0.0  # seconds; 0: no

    def __post_init__(self) -> None:
        for field in fields(self):
            value, hint = getattr(self, field.name), _hints()[field.name]
            if not fits(value, hint):
                raise UserError(f"Setting '{field.name}' has an impossible value.", expected=described(hint), received=repr(value))
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                wanted = f"a number between {low:g} and {high:g}"
                raise UserError(f"Setting '{name}' is out of range.", expected=wanted, received=repr(getattr(self, name)))
        if self.views not in (1, 2, 6) or (self.kind == "frozen" and self.views == 6):
            wanted = "1 or 2" if self.kind == "frozen" else "1, 2 or 6"
            raise UserError("Setting 'views' is out of range.", expected=wanted, received=repr(self.views))
        if self.skip_easy and _mixes(vars(self)):
            raise UserError(
                "Easy images cannot be left out here.",
                expected="skip_easy=0, or mixup=0, cutmix=0, teacher_mixtures=0 and another balance than sampling",
                received=f"skip_easy={self.skip_easy:g}",
                hint="--set skip_easy=0: mixtures have no label of one image, and sampling draws images itself",
            )
        if not self.l2 or min(self.l2) < 0:
            raise UserError("Setting 'l2' must list at least one value, none negative.", received=repr(self.l2))
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
                raise UserError(f"Setting '{field.name}' is not finite.", expected="finite numbers", received=repr(value))

    @property
    def changes_pixels(self) -> bool:
        """Whether training images are to be seen changed, and differently in every epoch."""
        return bool(self.mirror or self.alternate or self.shift or self.cutout or self.augment)

    @property
    def growth(self) -> int:
        """Epochs in which images are reduced, or maps cut, so that the last shows them whole."""
        return min(round(self.grow_share * self.epochs), self.epochs - 1)

    def left_out(self, images: int) -> float:
        """The share of so many training images that an epoch leaves out: ``skip_easy``, but 0 of fewer than ``skip_easy_from``."""
        return self.skip_easy if images >= self.skip_easy_from else 0.0

    def with_values(self, /, **values: Any) -> Self:
        """These settings with some changed; an unknown name is a ``UserError``. Mixing ends the ``skip_easy`` of a recipe."""
        known = [field.name for field in fields(self)]
        if unknown := [name for name in values if name not in known]:
            raise UserError(f"There is no setting '{unknown[0]}'.", received=unknown[0], hint=nearest(unknown[0], known))
        changed = {name: coerced(value, _hints()[name]) for name, value in values.items()}
        ended = {"skip_easy": 0.0} if _mixes(changed) and self.recipe != "custom" else {}
        return replace(self, **(ended | changed))

    def with_assignments(self, assignments: list[str]) -> Self:
        """These settings with ``key=value`` texts applied, as ``--set`` takes them. Lists are separated by commas."""
        return self.with_values(**assigned(assignments))

    def with_toml(self, path: Path) -> Self:
        """These settings with the values of a TOML file applied."""
        return self.with_values(**toml_values(path))

    def identity(self) -> dict[str, Any]:
        """The settings by which a training or a search is known again, as JSON values.

        Of those that were added later, only what is not at its default: what was interrupted before then is still itself.
        """
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value != _LATER[name]}

    def as_dict(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return asdict(self)


_RANGES: list[tuple[str, float, float]] = [
    ("seed", 0, 2**32 - 1),
    ("memory", 0.05, 1e6),
    ("validation_fraction", 0.01, 0.9),
    ("validation_max", 1, 10**9),
    ("image_size", 0, 4096),
    ("views", 1, 6),
    ("power", 0.1, 1),
    ("epochs", 1, 100_000),
    ("batch_size", 1, 65_536),
    ("accumulate", 1, 1024),
    ("lr", 1e-9, 1e3),
    ("head_lr", 0, 1e3),
    ("head_epochs", 0, 100_000),
    ("momentum", 0, 0.9999),
    ("weight_decay", 0, 10),
    ("warmup_epochs", 0, 10_000),
    ("layer_decay", 0.01, 1),
    ("clip", 0, 1e6),
    ("focal_gamma", 0, 10),
    ("label_smoothing", 0, 0.9),
    ("teacher_temperature", 0.1, 100),
    ("teacher_mixtures", 0, 64),
    ("skip_easy", 0, 0.5),
    ("skip_easy_from", 0, 10**9),
    ("mixup", 0, 100),
    ("cutmix", 0, 100),
    ("ema", 0, 0.99999),
    ("soup", 0, 100),
    ("dropout_share", 0, 1),
    ("shift", 0, 512),
    ("cutout", 0, 512),
    ("least_steps", 0, 10_000),
    ("grow_from", 0, 4096),
    ("grow_share", 0, 1),
    ("patience", -1, 100_000),
    ("cached_views", 0, 64),
    ("announce", 0, 1),
    ("drop_activations", 0, 0.9),
    ("crop_from", 0.1, 1),
    ("noise", 0, 10),
    ("stop_at", 0, 1),
    ("budget", 0, 1e9),
]


def _mixes(values: dict[str, Any]) -> bool:
    """Whether images are shown as mixtures or drawn: then none has losses of its own by which to be called easy."""
    return any(map(values.get, ("mixup", "cutmix", "teacher_mixtures"))) or values.get("balance") == "sampling"


@cache  # resolving them anew took 1 ms a setting: 4 s of a command that looks through the recipes
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Settings)


def assigned(assignments: list[str]) -> dict[str, str]:
    """Texts by the name of a setting, of ``key=value`` texts; the last of several for one name wins."""
    values = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError("--set takes key=value.", expected="for example --set lr=0.001", received=text)
        values[name.strip().replace("-", "_")] = value.strip()
    return values


def toml_values(path: Path) -> dict[str, Any]:
    """Values by the name of a setting, of a TOML file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"Cannot read settings from {path}.", received=str(error)) from error
