import pickle
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from saddlepoint.errors import WeightsError
from saddlepoint.models import fit, read_weights


class Bomb:
    """Unpickled without care, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def module():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def same(module, state):
    return all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_safetensors_are_known_by_their_content(module, tmp_path, name):
    state = {key: torch.ones_like(value) for key, value in module.state_dict().items()}
    save_file(state, tmp_path / name)
    fit(module, read_weights(tmp_path / name), "w")
    assert same(module, state)


@pytest.mark.parametrize("nest", [(), ("state_dict",), ("model",), ("model", "state_dict"), ("model_state_dict",)])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_are_unwrapped(module, tmp_path, nest, prefix, legacy):
    state = {key: torch.ones_like(value) for key, value in module.state_dict().items()}
    content = {prefix + key: value for key, value in state.items()}
    for key in nest:
        content = {"epoch": 3, key: content}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    fit(module, read_weights(tmp_path / "w.pth"), "w")
    assert same(module, state)


def test_a_prefix_that_is_the_models_own_stays(tmp_path):
    wrapped = nn.Module()
    wrapped.model = nn.Linear(2, 2)
    torch.save(wrapped.state_dict(), tmp_path / "w.pth")
    fit(wrapped, read_weights(tmp_path / "w.pth"), "w")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, protocol):
    trap, path = tmp_path / "trap", tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({"weight": Bomb(trap)}, protocol=protocol))
    with pytest.raises(WeightsError, match=r"^refused .*execute code \([\w.]+\); .*state_dict\(\)") as caught:
        read_weights(path)
    assert not trap.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_code_in_a_checkpoint_of_a_newer_protocol_is_named_without_a_warning(tmp_path, legacy, recwarn):
    trap, path = tmp_path / "trap", tmp_path / "w.pth"
    torch.save({"weight": Bomb(trap)}, path, pickle_protocol=4, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"execute code \(pathlib\.Path\.touch\)|execute code \(builtins\.getattr\)"):
        read_weights(path)
    assert not trap.exists()
    assert not recwarn.list


def test_a_torchscript_file_is_refused_with_the_way_out_and_without_a_warning(module, tmp_path, recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"^refused .*execute code \(a TorchScript program\); .*state_dict\(\)"):
        read_weights(tmp_path / "w.pt")
    assert not recwarn.list


def test_a_checkpoint_that_would_run_code_is_refused_with_reason_and_way_out(tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "w.pth"
    torch.save({"weight": Bomb(trap)}, path)
    with pytest.raises(WeightsError, match=r"^refused .*execute code \([\w.]+\); .*state_dict\(\).* safetensors$"):
        read_weights(path)
    assert not trap.exists()


def test_a_whole_pickled_module_is_refused(module, tmp_path):
    torch.save(module, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"execute code \(torch\.nn\.modules\.container\.Sequential\)"):
        read_weights(tmp_path / "w.pth")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_weights_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("w") / "w.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(1)], "hold a list"),
        ({}, "hold nothing"),
        ({"epoch": 3}, "hold no tensor under 'epoch'"),
        ({3: torch.zeros(1)}, "hold no tensor under 3"),
        (torch.zeros(2), "hold a Tensor"),
    ],
)
def test_what_is_no_state_dict(tmp_path, content, said):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=said):
        read_weights(tmp_path / "w.pth")


def test_a_truncated_file(module, tmp_path):
    torch.save(module.state_dict(), tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"cannot read weights .*w\.pth"):
        read_weights(tmp_path / "w.pth")


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file; expected safetensors, or a state dict"):
        read_weights(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("0.bias"), "0.bias is missing"),
        (lambda state: state.update({"2.weight": torch.zeros(1)}), "2.weight is unexpected"),
        (
            lambda state: state.update({"0.weight": torch.zeros(5, 2)}),
            r"0.weight has shape \(5, 2\), expected \(3, 2\)",
        ),
    ],
)
def test_a_mismatch_names_the_first_key(module, change, said):
    state = dict(module.state_dict())
    change(state)
    with pytest.raises(WeightsError, match=rf"the weights of w do not fit: {said}; pass weights of the same"):
        fit(module, state, "w")
