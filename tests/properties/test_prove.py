"""Whole answers: networks in files, properties in files, counterexamples that onnxruntime confirms."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import saddlepoint as sp
from properties.chains import written
from saddlepoint.cli.main import main
from saddlepoint.errors import InputError, ModelError
from saddlepoint.properties.property import Box, Clause, Constraint, Property
from saddlepoint.testing.certifier_laws import least_margin

ONE = Fraction(1)


def drawn(seed):
    """Three linear layers of a network with four inputs and eight ReLUs."""
    torch.manual_seed(seed)
    layers = [nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(3, 3)]
    for parameter in (parameter for layer in layers for parameter in layer.parameters()):
        parameter.data.copy_(torch.randn(parameter.shape))
    return layers


def arrays(layers):
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]


def margin_property(low, high, threshold):
    """Inputs of a box at which z_0 − z_1 ≤ t or z_0 − z_2 ≤ t."""
    box = Box(tuple(map(Fraction, low)), tuple(map(Fraction, high)))
    clauses = [Clause(box, (Constraint({0: ONE, j: -ONE}, Fraction(threshold)),)) for j in (1, 2)]
    return Property(len(low), 3, tuple(clauses))


def onnx_of(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    return session.run(None, {entry.name: x.reshape([n if isinstance(n, int) else 1 for n in entry.shape])})[0].ravel()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_answers_are_those_of_enumeration(tmp_path, seed):
    layers, eps = drawn(seed), 0.4
    path = written(tmp_path / "net.onnx", arrays(layers), [1, 4])
    x = torch.rand(1, 1, 2, 2)
    least = min(least_margin(layers, x, eps, 0, j) for j in (1, 2))
    low, high = ((x.double() + side).clamp(0, 1).flatten().tolist() for side in (-eps, eps))
    below, above = (sp.prove(path, margin_property(low, high, least + gap)) for gap in (-2e-3, 2e-3))
    assert (below.outcome, above.outcome) == ("unsat", "sat")
    assert 0 < below.least <= 2e-3 + 1e-6
    x, y = above.witness.x, onnx_of(path, above.witness.x)
    assert all(a <= float(v) <= b for a, v, b in zip(low, x, high, strict=True))
    assert min(y[0] - y[1], y[0] - y[2]) <= least + 2e-3
    assert sp.prove(path, margin_property(low, high, least + 2e-3), attack=False, domains=500).outcome == "unknown"


def planted():
    """Networks with a counterexample, and whether an attack can be expected to find it: x* of the first coordinate."""
    spike = 64.0  # 1 − K|x − x*|, the trapdoor: no gradient leads there
    yield (
        "trapdoor",
        [
            ([[1.0], [-1.0]], [-0.3, 0.3]),
            ([[-spike, -spike]], [1.0]),
            ([[-2.0], [0.0]], [1.0, 0.0]),
        ],
    )
    # Real arithmetic keeps x beside 2²⁴; float32 loses it, and its margin is then exactly 0.
    yield "absorption", [([[1.0], [0.0]], [2.0**24, 2.0**24]), ([[1.0, -1.0]], [0.0]), ([[1.0], [0.0]], [-0.25, 0.0])]
    yield "zero margin", [([[1.0]], [0.0]), ([[1.0], [1.0]], [0.0, 0.0])]
    yield "dead", [([[1.0]], [-9.0]), ([[0.0], [0.0]], [0.0, 0.0])]
    yield "cancelling", [([[1.0], [1.0]], [1e6, 1e6]), ([[1.0, -1.0]], [0.0]), ([[1e3], [0.0]], [0.0, 0.0])]


@pytest.mark.parametrize(("kind", "layers"), list(planted()), ids=[kind for kind, _ in planted()])
@pytest.mark.parametrize("attack", [True, False])
def test_what_has_a_counterexample_is_never_proven(tmp_path, kind, layers, attack):
    path = written(tmp_path / "net.onnx", layers, [1, 1])
    box = Box((Fraction(0),), (ONE,))
    prop = Property(1, 2, (Clause(box, (Constraint({0: ONE, 1: -ONE}, Fraction(0)),)),))
    answer = sp.prove(path, prop, attack=attack, domains=2000)
    assert answer.outcome != "unsat", kind
    assert answer.outcome in (("sat", "unknown") if attack else ("unknown",))


def test_unusual_boxes(tmp_path):
    path = written(tmp_path / "net.onnx", [([[1.0, 1.0]], [0.0]), ([[1.0], [-1.0]], [0.0, 0.0])], [1, 2])

    def asked(low, high, bound):
        box = Box(tuple(map(Fraction, low)), tuple(map(Fraction, high)))
        return sp.prove(path, Property(2, 2, (Clause(box, (Constraint({0: -ONE}, Fraction(-bound)),)),)))

    assert asked((0, 0), (1, 1), 3).outcome == "unsat"  # y_0 = x_0 + x_1 ≥ 3
    assert asked((0, 0), (1, 1), 2).outcome == "sat"  # the corner alone
    assert asked((0.5, 0.5), (0.5, 0.5), 1).outcome == "sat"  # a point
    assert asked((0.5, 0.5), (0.5, 0.5), 1.001).outcome == "unsat"
    assert asked((1, 0), (0, 1), 0).outcome == "unsat"  # empty
    third = Fraction(1, 3)  # no float lies in it
    assert asked((third, 0), (third, 1), 2).outcome == "unsat"
    assert asked((third, 0), (third, 1), 1).outcome == "unknown"


def test_conjunctions_and_clauses_without_constraints(tmp_path):
    path = written(tmp_path / "net.onnx", [(np.eye(2), [0.0, 0.0]), (np.eye(2), [0.0, 0.0])], [1, 2])
    box = Box((Fraction(0),) * 2, (ONE,) * 2)

    def both(a, b):
        return Clause(box, (Constraint({0: -ONE}, -Fraction(a)), Constraint({1: -ONE}, -Fraction(b))))

    assert sp.prove(path, Property(2, 2, (both(0.9, 0.9),))).outcome == "sat"
    assert sp.prove(path, Property(2, 2, (both(0.9, 1.1), both(1.1, 0.0)))).outcome == "unsat"
    assert sp.prove(path, Property(2, 2, (Clause(box, ()),))).outcome == "sat"
    assert sp.prove(path, Property(2, 2, (Clause(box, ()),)), attack=False).outcome == "unknown"
    assert sp.prove(path, Property(2, 2, ())).outcome == "unsat"


TEXT = """; x_0 + x_1 is at least 3 somewhere in [0, 1]²
(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)
(assert (and (<= X_0 1) (>= X_0 0.0) (<= X_1 1.0) (>= X_1 0)))
(assert (>= Y_0 BOUND))
"""


def test_the_command_answers_as_the_competition_wants_it(tmp_path, capsys):
    path = written(tmp_path / "net.onnx", [([[1.0, 1.0]], [0.0]), ([[1.0]], [0.0])], [1, 2])
    prop, witness = tmp_path / "prop.vnnlib", tmp_path / "witness.txt"
    command = ["certify", "--onnx", str(path), "--vnnlib", str(prop), "--timeout", "30"]
    prop.write_text(TEXT.replace("BOUND", "3"))
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("unsat\nproven in real arithmetic by ")
    prop.write_text(TEXT.replace("BOUND", "1.5"))
    assert main([*command, "--witness", str(witness)]) == 0
    assert capsys.readouterr().out.startswith("sat\nonnxruntime confirms")
    values = [float(line.strip("()").split()[1]) for line in witness.read_text().splitlines()]
    assert len(values) == 3
    assert sum(np.float32(v) for v in values[:2]) == np.float32(values[2])
    assert values[2] >= 1.5
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["least"]) == ("sat", None)
    assert len(told["witness"]["x"]) == 2


def test_witnesses_of_version_two_name_their_variables(tmp_path):
    path = written(tmp_path / "net.onnx", [([[1.0, 1.0]], [0.0]), ([[1.0]], [0.0])], [1, 2])
    text = (
        "(vnnlib-version <2.0>)(declare-network f (declare-input in real [1,2]) (declare-output out real [1,1]))"
        "(assert (and (<= in[0,0] 1) (>= in[0,0] 0) (<= in[0,1] 1) (>= in[0,1] 0) (> out[0,0] BOUND)))"
    )
    (tmp_path / "prop.vnnlib").write_text(text.replace("BOUND", "1.5"))
    declared = sp.read_property(tmp_path / "prop.vnnlib")
    lines = sp.prove(path, declared).witness.text(declared).splitlines()
    assert (lines[0], lines[3]) == ("in real [1, 2]", "out real [1, 1]")
    (tmp_path / "prop.vnnlib").write_text(text.replace("BOUND", "2"))
    assert sp.prove(path, tmp_path / "prop.vnnlib").outcome == "unknown"  # > 2 holds nowhere, ≥ 2 at a corner


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--onnx", "net.onnx"], "expected both"),
        (["--vnnlib", "p", "--onnx", "absent.onnx"], "'p'"),
        (["--vnnlib", "p", "--onnx", "n", "--eps", "0.1"], "--eps does not go with --onnx and --vnnlib"),
        (["--vnnlib", "p", "--onnx", "n", "--model", "m"], "--model does not go"),
    ],
)
def test_wrong_commands_are_one_line(flags, said, capsys):
    assert main(["certify", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_weights_that_float32_does_not_hold_are_refused(tmp_path):
    """A proof would be of the rounded ones: here y_0 = x · 2⁻³⁰, or 0."""
    box = Box((Fraction(1, 2),), (ONE,))
    prop = Property(1, 2, (Clause(box, (Constraint({0: ONE}, Fraction(-1)),)),))
    for weight, outcome in ((1.0 + 2.0**-30, None), (1.0 + 2.0**-20, "unsat")):
        path = written(
            tmp_path / "net.onnx",
            [([[weight], [1.0]], [0.0, 0.0]), ([[1.0, -1.0], [0.0, 0.0]], [0.0, 0.0])],
            [1, 1],
            np.float64,
        )
        if outcome is None:
            with pytest.raises(InputError, match="float32 does not hold"):
                sp.prove(path, prop)
        else:
            assert sp.prove(path, prop).outcome == outcome


def test_numbers_beyond_any_float(tmp_path):
    path = written(tmp_path / "net.onnx", [([[1.0, -1.0]], [0.0]), ([[1.0], [1.0]], [0.0, 1.0])], [1, 2])
    wide = Box((Fraction(-(10**400)), Fraction(0)), (Fraction(10**400), ONE))
    prop = Property(2, 2, (Clause(wide, (Constraint({0: ONE}, Fraction(-(10**400))),)),))
    with pytest.raises(InputError, match="beyond any float"):
        sp.prove(path, prop)
    large = Box((Fraction(-(10**40)), Fraction(0)), (Fraction(10**40), ONE))  # beyond float32 alone
    assert sp.prove(path, replace(prop, clauses=(Clause(large, prop.clauses[0].constraints),))).outcome == "unknown"


def test_an_output_without_an_axis_of_its_own(tmp_path):
    """One number for each row, (B,), cannot be proven, which is said by name; a counterexample needs no bounds."""
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [axes])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    box = Box((Fraction(0),) * 2, (ONE,) * 2)
    met, never = (Clause(box, (Constraint({0: -ONE}, -least),)) for least in (ONE, 3 * ONE))
    assert sp.prove(tmp_path / "net.onnx", Property(2, 1, (never, met))).outcome == "sat"
    with pytest.raises(ModelError, match="without an axis of its own"):
        sp.prove(tmp_path / "net.onnx", Property(2, 1, (never,)))


def test_wrong_arguments(tmp_path):
    path = written(tmp_path / "net.onnx", [([[1.0, 1.0]], [0.0]), ([[1.0]], [0.0])], [1, 2])
    box = Box((Fraction(0),) * 3, (ONE,) * 3)
    with pytest.raises(InputError, match="3 inputs and the network 2"):
        sp.prove(path, Property(3, 1, (Clause(box, (Constraint({0: ONE}, ONE),)),)))
    short = Box((Fraction(0),) * 2, (ONE,) * 2)
    with pytest.raises(InputError, match="5 outputs and the network 1"):
        sp.prove(path, Property(2, 5, (Clause(short, (Constraint({4: ONE}, ONE),)),)))
    for wrong in (0, -1.0, math.nan):
        with pytest.raises(InputError, match="timeout"):
            sp.prove(path, Property(2, 1, ()), timeout=wrong)
    with pytest.raises(InputError, match="domains"):
        sp.prove(path, Property(2, 1, ()), domains=-1)
