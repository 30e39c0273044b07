"""What people bring: modules of other types, exported, lazy or quantised ones, files with prefixes."""

import copy
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import saddlepoint as sp
from saddlepoint.models.weights import fit, read_weights

X = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_of_another_type_is_judged_as_it_is(dtype):
    low = sp.Classifier(net().to(dtype), mean=0.5, std=0.25)
    logits = low(X)
    assert logits.dtype == torch.float32
    module = low.module
    assert torch.equal(logits, module(((X - 0.5) / 0.25).to(dtype)).float())
    y = low.predict(X).label
    found = sp.attack(low, X, y, sp.Linf(0.3), sp.PGD(steps=5))
    assert torch.equal(low.predict(found.x_adv).label != y, found.success)
    assert module[0].weight.dtype == dtype


def test_an_exported_module_can_be_attacked_and_certified():
    rows = torch.export.Dim.DYNAMIC
    program = torch.export.export(net(), (X,), dynamic_shapes=({0: rows},))
    plain = sp.Classifier(net())
    for module in (program, program.module()):
        exported = sp.Classifier(module)
        y = exported.predict(X).label
        assert torch.equal(y, plain.predict(X).label)
        sp.attack(exported, X, y, sp.Linf(0.1), sp.PGD(steps=2))
        torch.testing.assert_close(
            sp.certify(exported, X, y, sp.Linf(0.01)).lower_bound, sp.certify(plain, X, y, sp.Linf(0.01)).lower_bound
        )


def test_a_program_of_a_fixed_number_of_images_is_one_line():
    with pytest.raises(sp.SaddlepointError, match="was exported for 3 images at once; expected any number"):
        sp.Classifier(torch.export.export(net(), (X,)))


def test_lazy_layers_are_named():
    with pytest.raises(sp.ModelError, match="lazy layers"):
        sp.Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(3))).predict(X)


def test_what_a_module_keeps_in_other_forms_is_in_its_digest():
    class Extra(nn.Module):
        def __init__(self, extra, sparse):
            super().__init__()
            self.extra = extra
            self.register_buffer("sparse", sparse)

        def forward(self, x):
            return x.flatten(1)

        def get_extra_state(self):
            return self.extra

        def set_extra_state(self, state):
            self.extra = state

    eye = torch.eye(3)
    digests = {
        sp.Classifier(Extra(extra, sparse)).digest()
        for extra in (1, {"a": 2}, None)
        for sparse in (eye.to_sparse(), (2 * eye).to_sparse())
    }
    assert len(digests) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = [torch.ao.quantization.quantize_dynamic(copy.deepcopy(net()), {nn.Linear}) for _ in range(2)]
    with torch.no_grad():
        quantised[1][3].set_weight_bias(torch.quantize_per_tensor(torch.ones(3, 16), 0.1, 0, torch.qint8), None)
    first, other = (sp.Classifier(module).digest() for module in quantised)
    assert first != other


NESTS = {
    "lightning": lambda state: {"state_dict": {f"net.{key}": value for key, value in state.items()}},
    "with a head beside": lambda state: {
        **{f"backbone.body.{key}": value for key, value in state.items()},
        "loss.weight": torch.ones(2),
    },
    "parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "twice": lambda state: {f"module.model.{key}": value for key, value in state.items()},
    "ema": lambda state: {"state_dict_ema": dict(state), "epoch": 3},
    "ema beside": lambda state: {"state_dict": dict(state), "state_dict_ema": {k: 0 * v for k, v in state.items()}},
}


@pytest.mark.parametrize("nest", NESTS)
def test_weights_are_found_in_their_nests(nest, tmp_path):
    state = net().state_dict()
    torch.save(NESTS[nest](state), tmp_path / "weights.pt")
    other = net()
    nn.init.zeros_(other[3].weight)
    fit(other, read_weights(tmp_path / "weights.pt"), "w")
    assert all(torch.equal(other.state_dict()[key], value) for key, value in state.items())


def test_the_first_key_of_a_file_that_does_not_fit_is_named(tmp_path):
    save_file({"encoder.weight": torch.ones(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(sp.SaddlepointError, match=r"the file's first key is 'encoder\.weight'"):
        fit(net(), read_weights(tmp_path / "weights.safetensors"), "w")


def test_a_search_for_the_nearest_point_keeps_the_least_margin_where_it_finds_none():
    classifier = sp.Classifier(net())
    y = classifier.predict(X).label
    found = sp.attack(classifier, X, y, sp.Linf(1e-3), sp.PGD(steps=5), goal=sp.Nearest())
    clean = classifier.predict(X).logits
    margin = clean.gather(1, y[:, None])[:, 0] - clean.scatter(1, y[:, None], -torch.inf).amax(1)
    assert not found.success.any()
    assert (found.margin < margin).all()
    assert (found.norm > 0).all()


def test_fab_has_the_least_margin_on_its_way_to_show():
    classifier = sp.Classifier(net())
    y = classifier.predict(X).label
    found = sp.attack(classifier, X, y, sp.Linf(1e-3), sp.FAB(targets=2, steps=5))
    clean = classifier.predict(X).logits
    margin = clean.gather(1, y[:, None])[:, 0] - clean.scatter(1, y[:, None], -torch.inf).amax(1)
    assert not found.success.any()
    assert (found.margin < margin).all()
    assert (found.norm > 0).all()
