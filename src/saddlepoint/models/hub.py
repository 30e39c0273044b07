"""Classifiers of timm and of the Hugging Face hub; preprocessing, mean and std are those of their own configuration."""

import contextlib
import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.errors import InputError, WeightsError
from saddlepoint.extras import imported
from saddlepoint.models.card import preprocessing as checked
from saddlepoint.models.weights import fit, read_weights
from saddlepoint.models.zoo import imagenet_names
from saddlepoint.words import meant

TIMM, HF = "timm:NAME", "hf:ORG/NAME"
Made = TypeVar("Made")

# Left open, transformers asks on standard input whether to run a repository's own code, and a pipe may answer.
_CODELESS: dict[str, Any] = {"trust_remote_code": False}


def load_timm(place: str | None, weights: Path | None) -> Classifier:
    """Return a timm classifier with its published weights, or with those of a file in timm's names."""
    timm = imported("timm")

    name = place or ""
    if not timm.is_model(name):
        hint = meant(name, timm.list_models(), most=3, shown="timm:{}".format)
        raise InputError(f"unknown model 'timm:{name}': expected {TIMM}, a name of timm.list_models(){hint}")
    return _of_timm(f"timm:{name}", name, weights)


def timm_references() -> list[str]:
    """Return `timm:NAME` for every timm classifier with published weights."""
    timm = imported("timm")

    return [f"timm:{name}" for name in timm.list_models(pretrained=True) if _pretrained(name).num_classes]


def timm_facts(reference: str) -> dict[str, object]:
    """Return crop, classes and licence of a timm classifier."""
    config = _pretrained(reference.partition(":")[2])
    crop = config.input_size[1]
    return {"reference": reference, "crop": crop, "classes": config.num_classes, "licence": config.license or "unknown"}


def _pretrained(name: str) -> Any:  # noqa: ANN401 - timm has no types
    timm = imported("timm")

    return timm.get_pretrained_cfg(name)


def load_hf(place: str | None, weights: Path | None) -> Classifier:
    """Return an image classifier of the Hugging Face hub, or of a local folder in its format."""
    if not place:
        raise InputError(f"no model was named after 'hf:'; expected {HF}, such as hf:microsoft/resnet-50, or hf:FOLDER")
    if not (place.startswith("timm/") or Path(place).is_dir()):
        _transformers()  # what is missing here is named before the network is asked
    config = _configuration(place)
    if "architecture" in config:  # the hub's sign of timm
        source = "local-dir" if Path(place).is_dir() else "hf-hub"
        return _of_timm(f"hf:{place}", f"{source}:{place}", weights)
    return _of_transformers(place, weights)


def timm_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Return what timm's own transform for evaluation does: resize to side / crop_pct, then cut the centre."""
    _, height, width = config["input_size"]
    if height != width:
        raise InputError(f"the model takes images of {height} × {width}; expected square ones")
    squash = config.get("crop_mode") == "squash"
    if not squash and config.get("crop_mode", "center") != "center":
        raise InputError(f"the model's crop mode is {config['crop_mode']!r}; expected center or squash")
    resize = math.floor(height / (config.get("crop_pct") or 0.875))
    return checked(resize=resize, crop=height, interpolation=_filter(config["interpolation"]), squash=squash)


def hf_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Return what an image processor of the hub does to pixels before it normalises them.

    Raises:
        InputError: it does something else than resize, crop, divide by 255 and normalise.
    """
    rescales = config.get("do_rescale", True) and math.isclose(config.get("rescale_factor", 1 / 255), 1 / 255)
    if not rescales or config.get("rescale_offset") or config.get("do_pad"):
        raise InputError("the model's image processor does not take pixels / 255; expected one that does")
    resize = squash = None
    if config.get("do_resize", True):
        resize, squash = _hf_size(config)
    crop = config.get("crop_size") if config.get("do_center_crop") else None
    if isinstance(crop, Mapping):
        crop = _square(crop)
    if config.get("crop_pct") and resize is not None and not squash:  # ConvNeXt: enlarged, then cut to `size`
        cut = int(resize / config["crop_pct"]), resize, False
        resize, crop, squash = cut if resize < 384 else (resize, None, True)
    return checked(resize=resize, crop=crop, interpolation=_filter(config.get("resample", 2)), squash=bool(squash))


def _of_timm(reference: str, name: str, weights: Path | None) -> Classifier:
    timm = imported("timm")

    module: nn.Module = fetched(reference, lambda: timm.create_model(name, pretrained=weights is None))
    if weights is not None:
        fit(module, read_weights(weights), str(weights))
    with _understood(reference):
        config = _timm_data().resolve_model_data_config(module)
        return Classifier(
            module,
            mean=_numbers(config, "mean", config["input_size"][0]),
            std=_numbers(config, "std", config["input_size"][0]),
            names=_timm_names(module),
            preprocessing=timm_preprocessing(config),
        )


def _timm_names(module: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - timm has no types
    """Return class names of the model's own configuration, or of the ImageNet subset that it says it knows."""
    own = module.pretrained_cfg.get("label_names")
    if own:
        return tuple(own)
    subset = _timm_data().infer_imagenet_subset(module)
    if subset == "imagenet-1k":
        return tuple(imagenet_names())
    if not subset:
        return None
    info = _timm_data().ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def _timm_data() -> Any:  # noqa: ANN401 - timm has no types
    return import_module("timm.data")


def _of_transformers(place: str, weights: Path | None) -> Classifier:
    transformers = _transformers()
    processor = fetched(f"hf:{place}", lambda: transformers.AutoImageProcessor.from_pretrained(place, **_CODELESS))
    module = fetched(f"hf:{place}", lambda: _transformer(transformers, place, published=weights is None))
    if weights is not None:
        fit(module, read_weights(weights), str(weights))
    with _understood(f"hf:{place}"):
        processor, names = processor.to_dict(), module.config.id2label
        normalises, channels = processor.get("do_normalize", True), getattr(module.config, "num_channels", 3)
        return Classifier(
            module.float(),
            mean=_numbers(processor, "image_mean", channels) if normalises else None,
            std=_numbers(processor, "image_std", channels) if normalises else None,
            names=[str(names[index]).partition(",")[0] for index in range(len(names))],
            preprocessing=hf_preprocessing(processor),
        )


def _transformer(transformers: Any, place: str, published: bool) -> Any:  # noqa: ANN401 - no types
    family = transformers.AutoModelForImageClassification
    if published:
        return family.from_pretrained(place, use_safetensors=True, **_CODELESS)
    return family.from_config(transformers.AutoConfig.from_pretrained(place, **_CODELESS), **_CODELESS)


def _transformers() -> Any:  # noqa: ANN401 - no types
    try:
        import transformers
    except ImportError:
        raise InputError("hf: references need transformers; pip install 'saddlepoint[hf]'") from None
    return transformers


def _configuration(place: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    path = Path(place) / "config.json"
    if not Path(place).is_dir():
        path = Path(fetched(f"hf:{place}", lambda: hf_hub_download(place, "config.json")))
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"cannot read {str(path)!r} ({error}); expected the configuration of a model") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{str(path)!r} holds a {type(config).__name__}; expected the configuration of a model")
    return config


def fetched(reference: str, fetch: Callable[[], Made]) -> Made:
    """Fetch from a hub, and keep standard output clean; a failure is one line that says what to do.

    Raises:
        WeightsError: it cannot be had.
    """
    try:
        with quiet():
            return fetch()
    except (InputError, WeightsError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise WeightsError(
            f"could not fetch {reference} ({reason}); expected a network, the model in the cache, or its weights in a "
            "local file: --weights FILE (weights=FILE in Python)"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep announcements off standard output, and retries out of the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _understood(reference: str) -> Iterator[None]:
    """Name the model of whose configuration something is missing, or of another type.

    Raises:
        WeightsError: it is not that of an image classifier; InputError: it is one of a kind that is not supported.
    """
    try:
        yield
    except InputError as error:
        raise type(error)(f"cannot use {reference}: {error}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise WeightsError(
            f"cannot use {reference}: its configuration is damaged ({reason}); expected that of an image classifier"
        ) from None


def _numbers(config: Mapping[str, Any], key: str, channels: int) -> list[float]:
    """Return one finite number, or one per channel."""
    values = [float(number) for number in config[key]]
    if len(values) not in (1, channels) or not all(map(math.isfinite, values)):
        raise WeightsError(f"its {key} is {list(config[key])!r}; expected {channels} finite numbers, one per channel")
    return values


def _hf_size(config: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the side, and whether both sides become it."""
    size = config["size"]
    if isinstance(size, int):
        return size, not config.get("do_center_crop")
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), False
    return _square(size), True


def _square(size: Mapping[str, Any]) -> int:
    if "height" not in size or size["height"] != size.get("width"):
        raise InputError(f"the model's image processor makes images of size {dict(size)}; expected square ones")
    return int(size["height"])


def _filter(name: str | int) -> Any:  # noqa: ANN401 - checked by the table
    known = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
    method = known.get(name) if isinstance(name, int) else name
    if method not in known.values():
        raise InputError(f"the model's interpolation is {name!r}; expected one of {', '.join(known.values())}")
    return method
