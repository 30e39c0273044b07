"""timm and Hugging Face: what they do to a photograph and to a tensor is done here, too; they are the oracles."""

import io
import json

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image

from saddlepoint.classifier import Preprocessing
from saddlepoint.data import pixels, preprocess
from saddlepoint.errors import InputError, WeightsError
from saddlepoint.models import hub, load_classifier


@pytest.fixture(scope="module")
def photo():
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((401, 300), Image.Resampling.BICUBIC)


def seen(classifier, photo):
    """The normalised tensor that the module sees of a photograph."""
    return classifier.normalise(pixels(preprocess(photo, classifier.preprocessing))[None])


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "test_vit.r160_in1k", "convnext_atto.d2_in1k", "deit3_small_patch16_384"]
)
def test_timm_sees_the_same(name, photo, tmp_path):
    module = timm.create_model(name)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    classifier = load_classifier(f"timm:{name}", weights=tmp_path / "w.pth")
    config = timm.data.resolve_model_data_config(module)
    expected = timm.data.create_transform(**config, is_training=False)(photo)[None]
    assert (seen(classifier, photo) - expected).abs().max() < 1e-5
    assert classifier.name_of(341) == "hog"


def test_every_timm_model_has_a_preprocessing_that_is_understood():
    for name in timm.list_models(pretrained=True):
        config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        _, height, width = config["input_size"]
        if height == width and config["crop_mode"] != "border":
            assert hub.timm_preprocessing(config).crop == height
        else:
            with pytest.raises(InputError, match="expected square ones|crop mode is 'border'"):
                hub.timm_preprocessing(config)


FAMILIES = {
    "vit": (
        lambda: transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32, patch_size=8
        ),
        lambda: transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
    ),
    "resnet": (
        lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"),
        lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875),
    ),
    "convnext": (
        lambda: transformers.ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]),
        lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
    ),
    "mobilenet": (
        lambda: transformers.MobileNetV2Config(depth_multiplier=0.1, image_size=64),
        lambda: transformers.MobileNetV2ImageProcessor(
            size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
        ),
    ),
}


@pytest.fixture(params=FAMILIES)
def saved(request, tmp_path):
    """A folder as the hub has it, with a random model in it."""
    config, processor = FAMILIES[request.param]
    torch.manual_seed(0)
    made = config()
    made.id2label = {0: "ant, emmet", 1: "bee"}
    made.label2id = {"ant, emmet": 0, "bee": 1}
    model = transformers.AutoModelForImageClassification.from_config(made).eval()
    model.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    return tmp_path, model


def test_transformers_see_the_same(saved, photo):
    folder, model = saved
    classifier = load_classifier(f"hf:{folder}")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    expected = processor(photo, return_tensors="pt")["pixel_values"]
    assert classifier.names == ("ant", "bee")
    # Their resize may work on tensors, ours works on 8-bit images: both round.
    assert seen(classifier, photo).shape == expected.shape
    assert (seen(classifier, photo) - expected).abs().max() < 3 / 255 / classifier.std.min()
    x = torch.rand(2, *expected.shape[1:])
    with torch.no_grad():
        assert torch.equal(classifier.predict(x).logits, model(classifier.normalise(x)).logits)


def test_weights_of_a_file_replace_those_of_the_folder(saved, tmp_path):
    folder, model = saved
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.mul_(1.5)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    x = torch.rand(2, 3, 64, 64) if "vit" not in type(model).__name__.lower() else torch.rand(2, 3, 32, 32)
    found = load_classifier(f"hf:{folder}", weights=tmp_path / "w.pth")
    with torch.no_grad():
        assert torch.allclose(found.predict(x).logits, model(found.normalise(x)).logits, atol=1e-5)


def test_a_timm_model_of_the_hub_is_known_by_its_configuration(tmp_path):
    module = timm.create_model("resnet10t", num_classes=3)
    config = {
        "architecture": "resnet10t",
        "num_classes": 3,
        "pretrained_cfg": {**module.pretrained_cfg, "num_classes": 3},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    from safetensors.torch import save_file

    save_file(module.state_dict(), tmp_path / "model.safetensors")
    found = load_classifier(f"hf:{tmp_path}")
    assert found.predict(torch.rand(1, 3, 64, 64)).logits.shape == (1, 3)
    assert found.preprocessing == hub.timm_preprocessing(timm.data.resolve_model_data_config(module))


REFUSED = {
    "does not take pixels / 255": {"do_rescale": False},
    "does not take pixels": {"rescale_factor": 1 / 127.5, "rescale_offset": True},
    "makes images of size .*'width': 3": {"size": {"height": 2, "width": 3}},
    "interpolation is 5": {"size": {"height": 2, "width": 2}, "resample": 5},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_processor_that_does_something_else_is_refused(message):
    with pytest.raises(InputError, match=message):
        hub.hf_preprocessing({"do_resize": True, "size": {"height": 2, "width": 2}, **REFUSED[message]})


def test_images_are_not_cut_unless_the_processor_says_so():
    config = {"size": {"shortest_edge": 8}, "do_center_crop": False, "crop_size": 4, "resample": 3}
    assert hub.hf_preprocessing(config) == Preprocessing(resize=8, interpolation="bicubic")


def test_what_cannot_be_fetched_is_one_line(monkeypatch):
    monkeypatch.setattr("timm.create_model", lambda *_, **__: (_ for _ in ()).throw(OSError("no route\nto host")))
    with pytest.raises(
        WeightsError, match="could not fetch timm:resnet18 \\(OSError: no route to host\\).*--weights FILE"
    ):
        load_classifier("timm:resnet18")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown model 'timm:resnet19'.*did you mean timm:resnet1"):
        load_classifier("timm:resnet19")
    with pytest.raises(InputError, match="no model was named after 'hf:'"):
        load_classifier("hf:")


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00", "[" * 100000])
def test_a_configuration_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match="expected the configuration of a model"):
        load_classifier(f"hf:{tmp_path}")


FOREIGN = "open({trap!r}, 'w').close()\nclass Config: pass\nclass Model: pass\nclass Processor: pass\n"


@pytest.fixture(params=["config", "processor"])
def foreign(request, tmp_path):
    """A folder whose configuration or image processor is code of its own, and the file which that code makes."""
    folder, trap = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    (folder / "its.py").write_text(FOREIGN.format(trap=str(trap)))
    own = {"AutoConfig": "its.Config", "AutoModelForImageClassification": "its.Model"}
    config = {"model_type": "its", "auto_map": own} if request.param == "config" else {"model_type": "vit"}
    processor = {"image_processor_type": "Processor", "auto_map": {"AutoImageProcessor": "its.Processor"}}
    if request.param == "config":
        processor = transformers.ViTImageProcessor().to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder, trap


@pytest.mark.parametrize("weights", [None, "w.pth"])
def test_code_of_a_repository_is_never_run_whatever_standard_input_says(foreign, weights, tmp_path, monkeypatch):
    folder, trap = foreign
    torch.save({"weight": torch.zeros(1)}, tmp_path / "w.pth")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match="could not fetch hf:.*custom code") as caught:
        load_classifier(f"hf:{folder}", weights=weights and tmp_path / weights)
    assert not trap.exists()
    assert "\n" not in str(caught.value)


WRONG = {
    "its configuration is damaged \\(ValueError": ("preprocessor_config.json", {"size": {"shortest_edge": "a"}}),
    "damaged \\(ValueError: could not convert": ("preprocessor_config.json", {"image_mean": "abc"}),
    "its resize is -5; expected a positive": ("preprocessor_config.json", {"size": {"shortest_edge": -5}}),
    "its image_mean is \\[0.5, 0.5\\]; expected 3 finite": ("preprocessor_config.json", {"image_mean": [0.5, 0.5]}),
    "its image_std is .*nan": ("preprocessor_config.json", {"image_std": [0.5, 0.5, float("nan")]}),
    "damaged \\(TypeError": ("preprocessor_config.json", {"rescale_factor": None}),
    "damaged \\(KeyError: 1": ("config.json", {"id2label": {"0": "a", "5": "b"}, "label2id": {"a": 0}}),
    "hf:.*Unknown|could not fetch hf:|cannot use hf:": ("config.json", {"architecture": 5}),
    "could not fetch hf:|cannot use hf:": ("config.json", {"architecture": "resnet10t", "pretrained_cfg": 7}),
    "fetch hf:.*|cannot use hf:": ("config.json", {"architecture": "resnet10t", "pretrained_cfg": {"input_size": "a"}}),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_value_in_a_configuration_is_one_line(message, tmp_path):
    config, processor = FAMILIES["resnet"]
    transformers.AutoModelForImageClassification.from_config(config()).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    name, change = WRONG[message]
    (tmp_path / name).write_text(json.dumps(json.loads((tmp_path / name).read_text()) | change))
    with pytest.raises(WeightsError, match=message) as caught:
        load_classifier(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)
