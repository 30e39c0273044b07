import io
import urllib.error

import pytest
import torch

from saddlepoint.classifier import Preprocessing
from saddlepoint.errors import InputError, WeightsError
from saddlepoint.models import load_classifier, zoo


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, and a network that answers nothing."""
    asked = []

    def refuse(request, *_, **__):
        asked.append(getattr(request, "full_url", request))
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return asked


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    """A file with random weights of the smallest torchvision classifier."""
    from torchvision import models

    path = tmp_path_factory.mktemp("squeezenet") / "w.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), path)
    return path


def test_everything_is_looked_up_in_the_weights_entry(squeezenet):
    found = load_classifier("torchvision:squeezenet1_1", weights=squeezenet)
    assert not found.training
    assert found.name == "torchvision:squeezenet1_1"
    assert found.preprocessing == Preprocessing(resize=256, crop=224, interpolation="bilinear")
    assert found.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert found.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert found.name_of(341) == "hog"
    assert found.predict(torch.rand(1, 3, 64, 64)).logits.shape == (1, 1000)


def test_the_first_published_entry_is_the_default_and_others_can_be_named():
    assert zoo._entry("resnet50", "").name == "IMAGENET1K_V1"
    assert zoo._entry("vit_h_14", "").name == "IMAGENET1K_SWAG_E2E_V1"
    assert zoo._entry("resnet50", "IMAGENET1K_V2").transforms().resize_size == [232]


def test_every_name_has_an_entry_that_says_all_we_need():
    for reference in zoo.references():
        entry = zoo._entry(reference.partition(":")[2], "")
        recipe = entry.transforms()
        Preprocessing(resize=recipe.resize_size[0], crop=recipe.crop_size[0], interpolation=recipe.interpolation.value)
        assert recipe.interpolation.value in ("bilinear", "bicubic")
        assert (len(recipe.mean), len(recipe.std), len(recipe.resize_size), len(recipe.crop_size)) == (3, 3, 1, 1)
        assert len(entry.meta["categories"]) == 1000


def test_an_impossible_download_is_one_line_with_the_address_and_the_way_out(no_network, capfd):
    with pytest.raises(WeightsError) as caught:
        load_classifier("torchvision:resnet50")
    line = str(caught.value)
    assert no_network == ["https://download.pytorch.org/models/resnet50-0676ba61.pth"]
    assert no_network[0] in line
    assert "no route to host" in line
    assert "--weights FILE" in line
    assert "\n" not in line
    assert capfd.readouterr() == ("", "")


def test_the_named_entry_is_what_is_downloaded(no_network):
    with pytest.raises(WeightsError, match=r"resnet50-11ad3fa6\.pth"):
        load_classifier("torchvision:resnet50:IMAGENET1K_V2")


def test_a_download_that_is_not_what_was_published_is_refused(monkeypatch, tmp_path):
    class Page(io.BytesIO):
        headers = {"Content-Length": "4"}  # noqa: RUF012

        def info(self):
            return self

        def get_all(self, _):
            return ["4"]

    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: Page(b"page"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not download .*resnet50-0676ba61\.pth"):
        load_classifier("torchvision:resnet50")


def test_published_densenets_have_old_names(tmp_path):
    from torchvision import models

    own = models.densenet121(weights=None).state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") for key in own}
    renamed = zoo._modern({key: torch.zeros(1) for key in old})
    assert set(renamed) == set(own)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_of_the_published_weights_fit(name, tmp_path):
    from torchvision import models

    kwargs = {"aux_logits": True, "init_weights": False}
    torch.save(models.get_model(name, weights=None, **kwargs).state_dict(), tmp_path / "w.pth")
    found = load_classifier(f"torchvision:{name}", weights=tmp_path / "w.pth")
    assert found.module.transform_input


def test_old_formats_know_their_version(tmp_path):
    from safetensors.torch import save_file
    from torchvision import models

    save_file(models.mnasnet0_5(weights=None).state_dict(), tmp_path / "w.safetensors")
    load_classifier("torchvision:mnasnet0_5", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("torchvision", "expected torchvision:NAME.*, such as torchvision:resnet50"),
        ("torchvision:resnet5", "did you mean torchvision:resnet50, "),
        ("torchvision:fcn_resnet50", "unknown model 'torchvision:fcn_resnet50'"),
        (
            "torchvision:resnet50:V3",
            "unknown weights 'V3' of torchvision:resnet50: expected IMAGENET1K_V1 or IMAGENET1K_V2",
        ),
        ("resnet50", "expected efficientnet-lite0, torchvision:NAME.*; did you mean 'torchvision:resnet50'"),
        ("efficientnet-lite", "did you mean 'efficientnet-lite0'"),
        ("tim:resnet50", "unknown model 'tim:resnet50': expected efficientnet-lite0, torchvision:NAME"),
        ("", "unknown model '': expected efficientnet-lite0, torchvision:NAME"),
    ],
)
def test_unknown_references(reference, said):
    with pytest.raises(InputError, match=said) as caught:
        load_classifier(reference)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_unknown_devices(device, squeezenet):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used .*; expected cpu, or cuda where present"):
        load_classifier("torchvision:squeezenet1_1", weights=squeezenet, device=device)
