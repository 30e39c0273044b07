import pytest
import torch
from torch import nn

from saddlepoint.classifier import Preprocessing
from saddlepoint.data import COFFEE, pixels, preprocess, read_image
from saddlepoint.errors import InputError, WeightsError
from saddlepoint.models import load_classifier
from saddlepoint.models.lite0 import fit_in_order


@pytest.fixture(scope="module")
def lite0():
    return load_classifier("efficientnet-lite0")


def test_the_embedded_model_knows_the_espresso(lite0):
    x = pixels(preprocess(read_image(COFFEE), lite0.preprocessing))[None]
    said = lite0.predict(x)
    assert said.name == ["espresso"]
    assert said.probability.item() == pytest.approx(0.951, abs=0.002)


def test_what_is_known_of_the_embedded_model(lite0):
    assert not lite0.training
    assert lite0.name == "efficientnet-lite0"
    assert lite0.preprocessing == Preprocessing(resize=256, crop=224, interpolation="bicubic")
    assert (lite0.mean.item(), lite0.std.item()) == (0.5, 0.5)


def test_names_are_those_of_the_lesson(lite0):
    assert len(lite0.names) == len(set(lite0.names)) == 1000
    assert [lite0.name_of(label) for label in (341, 106, 404)] == ["hog", "wombat", "airliner"]
    assert lite0.label_of("espresso") == 967


def test_it_has_no_variants():
    with pytest.raises(InputError, match="'efficientnet-lite0:b0': expected efficientnet-lite0, which has no variants"):
        load_classifier("efficientnet-lite0:b0")


def test_a_file_with_timm_names_replaces_the_weights(lite0, tmp_path):
    state = {key: torch.full_like(value, 0.5) for key, value in lite0.module.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    loaded = load_classifier("efficientnet-lite0", weights=tmp_path / "w.pth")
    assert all(bool((value == value.new_tensor(0.5)).all()) for value in loaded.module.state_dict().values())


def test_weights_are_fitted_in_order_with_their_buffers():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    given = {f"other{i}": torch.full_like(value, 7) for i, value in enumerate(module.state_dict().values())}
    fit_in_order(module, given, "a file")
    assert all(bool((value == 7).all()) for value in module.state_dict().values())


def test_another_number_of_tensors_is_one_error():
    with pytest.raises(WeightsError, match=r"hold 1 tensors; expected 2: .*--weights FILE"):
        fit_in_order(nn.Linear(2, 3), {"w": torch.zeros(3, 2)}, "a file")


def test_another_shape_is_one_error_that_names_the_pair():
    given = {"w": torch.zeros(2, 3), "b": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"have w of shape \(2, 3\); expected \(3, 2\) for weight: "):
        fit_in_order(nn.Linear(2, 3), given, "a file")
