"""Proofs of properties: the audit reads the property by itself, and nothing in a proof makes it say what is not so."""

import gzip
import json
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import saddlepoint as sp
from properties.chains import written
from saddlepoint.cli.main import main
from saddlepoint.errors import InputError
from saddlepoint.properties.proof import asked_by
from saddlepoint_audit.__main__ import main as audit
from saddlepoint_audit.boxes import Halvings, split
from saddlepoint_audit.enclosures import FLOAT32, REAL
from saddlepoint_audit.files import Refused
from saddlepoint_audit.properties import Proof, questions, targets

NUMBERS = st.sampled_from(["0", "1", "-2.5", "0.1", "3e-2", ".5", "7.", "-1E1"])


def declared(inputs, outputs):
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{j}" for j in range(outputs)]
    return "".join(f"(declare-const {name} Real)\n" for name in names)


def box(inputs, low, high):
    return "".join(f"(assert (>= X_{i} {low}))(assert (<= X_{i} {high}))\n" for i in range(inputs))


def outputs_alone(depth):
    """Formulas of Y_0 to Y_2, and of single inputs."""
    term = st.one_of(
        st.sampled_from(["Y_0", "Y_1", "Y_2"]),
        st.builds("(* {} {})".format, NUMBERS, st.sampled_from(["Y_0", "Y_1"])),
        st.builds("(+ Y_2 {} {})".format, NUMBERS, st.sampled_from(["Y_0", "Y_1"])),
        st.builds("(- Y_2 {})".format, NUMBERS),
    )
    order = st.sampled_from(["<=", ">=", "<", ">"])
    atom = st.one_of(
        st.builds("({} {} {})".format, order, term, NUMBERS),
        st.builds("({} (- Y_0) {})".format, order, st.sampled_from(["Y_1", "Y_2"])),
        st.builds("({} {} X_1)".format, order, NUMBERS),
    )
    if not depth:
        return atom
    below = st.lists(outputs_alone(depth - 1), min_size=1, max_size=3).map(" ".join)
    return st.one_of(atom, st.builds("(or {})".format, below), st.builds("(and {})".format, below))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(formulas=st.lists(outputs_alone(2), min_size=1, max_size=3))
def test_both_readers_read_the_same(formulas, tmp_path):
    """`asked_by` refuses where they do not; the audit reads a file that the search refuses never as something else."""
    text = declared(2, 3) + box(2, "-1", "1.5") + "".join(f"(assert {one}) ; said\n" for one in formulas)
    path = tmp_path / "p.vnnlib"
    path.write_bytes(gzip.compress(text.encode()) if len(text) % 2 else text.encode())
    try:
        own = sp.read_property(path)
    except InputError:
        return
    asked, ordered = asked_by(path, own)
    assert [len(one.clauses) for one in asked] == [len(clauses) for _, clauses in ordered.by_box()]


@pytest.mark.parametrize(
    "text",
    [
        "(assert (<= X_0 1)",
        declared(1, 1) + "(assert (<= X_0 (* X_0 X_0)))",
        declared(1, 1) + "(assert (<= X_0 1))(assert (>= Y_0 1))",  # no lower bound
        declared(1, 1) + box(1, 0, 1) + "(assert (>= (+ X_0 Y_0) 1))",
        declared(1, 1) + box(1, 0, 1) + "(assert (== Y_0 1))",
        declared(1, 1) + box(1, 0, 1) + "(assert (>= Y_1 1))",
        declared(1, 1) + declared(1, 1) + box(1, 0, 1),
        "(vnnlib-version <2.0>)",
        "\x1f\x8b",
        declared(1, 1) + box(1, 0, 1) + "(assert (or " * 3000,
    ],
)
def test_what_is_not_understood_is_refused(text, tmp_path):
    path = tmp_path / "p.vnnlib"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Refused, match=r"p\.vnnlib cannot be read"):
        questions(path)


def chain(path, inputs, seed=0, widths=(8, 6), outputs=3):
    draw, sizes = np.random.default_rng(seed), [inputs, *widths, outputs]
    layers = [(draw.normal(0, 1.5 / np.sqrt(a), (b, a)), draw.normal(0, 0.3, b)) for a, b in pairwise(sizes)]
    return written(path, layers, [1, inputs]), [(w.astype(np.float32), b.astype(np.float32)) for w, b in layers]


def computed(layers, x):
    for w, b in layers[:-1]:
        x = np.maximum(x @ w.T.astype(float) + b, 0)
    return x @ layers[-1][0].T.astype(float) + layers[-1][1]


@pytest.fixture(scope="module", params=["boxes", "signs", "conjunction of boxes", "conjunction of signs"])
def shown(request, tmp_path_factory):
    """A network, a property that it barely has, and the proof."""
    folder, inputs = tmp_path_factory.mktemp("proof"), 4 if "boxes" in request.param else 24
    network, layers = chain(folder / "net.onnx", inputs, seed=len(request.param))
    half = 0.5 if inputs == 4 else 0.12
    points = np.random.default_rng(0).uniform(-half, half, (20000, inputs))
    y = computed(layers, points)
    rest = f" (<= Y_1 {y[:, 1].min() - 0.3:.4f})" if "conjunction" in request.param else ""
    for more in (0.5, 1, 2, 4, 8):
        above, below = y[:, 0].max() + more * y[:, 0].std(), y[:, 2].min() - more * y[:, 2].std()
        clauses = f"(or (and (>= Y_0 {above:.4f}){rest}) (<= Y_2 {below:.4f}))"
        (folder / "p.vnnlib").write_text(declared(inputs, 3) + box(inputs, -half, half) + f"(assert {clauses})\n")
        answer = sp.prove(network, folder / "p.vnnlib", timeout=60, domains=500, proof=folder / "proof.safetensors")
        if answer.proof is not None:
            break
    assert (answer.outcome, answer.proof) == ("unsat", "float32")
    return folder, answer


def said(folder, *flags):
    return audit([str(folder / "proof.safetensors"), "--vnnlib", str(folder / "p.vnnlib"), *flags])


def test_a_proof_is_verified_from_three_files(shown, capsys):
    folder, _ = shown
    assert said(folder, "--weights", str(folder / "net.onnx")) == 0
    out = capsys.readouterr().out
    assert "of every float32 execution" in out
    assert "64 random points" in out


def test_without_onnx_its_file_is_one_line(shown, monkeypatch, capsys):
    folder, _ = shown
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert said(folder, "--weights", str(folder / "net.onnx")) == 2
    assert "an ONNX file needs onnx; pip install onnx" in capsys.readouterr().err


def test_another_property_is_not_proven(shown, tmp_path, capsys):
    """A property that the network does not have, and one with another box."""
    folder, _ = shown
    text = (folder / "p.vnnlib").read_text()
    for place, changed in enumerate(
        (text.replace("(or ", "(or (>= Y_1 -1000) "), text.replace("(<= X_1 ", "(<= X_1 9"))
    ):
        (tmp_path / f"{place}.vnnlib").write_text(changed)
        assert audit([str(folder / "proof.safetensors"), "--vnnlib", str(tmp_path / f"{place}.vnnlib")]) in (1, 2)
    assert "verified in" not in capsys.readouterr().out.replace("NOT verified in", "")


def test_another_network_is_foreign(shown, tmp_path, capsys):
    folder, _ = shown
    other, _ = chain(tmp_path / "other.onnx", 4, seed=99)
    assert said(folder, "--weights", str(other)) == 1
    assert "is none of other.onnx" in capsys.readouterr().out


def test_a_list_that_does_something_else_with_the_same_arrays_is_another_network(shown, tmp_path, capsys):
    """A ReLU left out, and one put in: every array is still the file's own."""
    folder, _ = shown
    arrays = load_file(folder / "proof.safetensors")
    with safe_open(folder / "proof.safetensors", "np") as file:
        about = file.metadata()
    listed = json.loads(about["network"])
    relus = [i for i, entry in enumerate(listed) if entry["kind"] == "relu"]
    last = len(listed) - 1
    changes = {
        "left out": (relus[0], {"kind": "sum"}, {f"network/{relus[0]}/scales": np.ones(1)}),
        "put in": (last + 1, {"kind": "relu", "parents": [last], "shape": listed[last]["shape"]}, {}),
    }
    for place, entry, more in changes.values():
        changed = [*listed, {}] if place > last else list(listed)
        changed[place] = changed[place] | entry
        save_file(arrays | more, tmp_path / "p.safetensors", about | {"network": json.dumps(changed)})
        told = [str(tmp_path / "p.safetensors"), "--vnnlib", str(folder / "p.vnnlib")]
        assert audit([*told, "--weights", str(folder / "net.onnx")]) == 1
        assert "it is another network" in capsys.readouterr().out


def test_changed_weights_change_what_is_proven(shown, tmp_path):
    """Weights with the opposite sign, and larger ones: the bound is of these."""
    folder, _ = shown
    path, arrays = folder / "proof.safetensors", load_file(folder / "proof.safetensors")
    with safe_open(path, "np") as file:
        about = file.metadata()
    asked, before = questions(folder / "p.vnnlib"), Proof.read(path).least(questions(folder / "p.vnnlib"))
    last = max((name for name in arrays if name.endswith("/weight")), key=lambda name: int(name.split("/")[1]))
    for factor in (-3.0, 10.0):
        changed = dict(arrays)
        changed[last] = (changed[last] * factor).astype(np.float32)
        save_file(changed, tmp_path / "changed.safetensors", about)
        try:
            assert Proof.read(tmp_path / "changed.safetensors").least(asked) != before
        except Refused:
            continue


def test_torn_and_foreign_files_are_refused(shown, tmp_path, capsys):
    folder, _ = shown
    whole = (folder / "proof.safetensors").read_bytes()
    arrays = load_file(folder / "proof.safetensors")
    with safe_open(folder / "proof.safetensors", "np") as file:
        about = file.metadata()
    files = {"torn": whole[:-3], "empty": b"", "long": whole + b"\0"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for key in about:
        save_file(arrays, tmp_path / f"without {key}", {k: v for k, v in about.items() if k != key})
        save_file(arrays, tmp_path / f"broken {key}", about | {key: "[["})
    save_file({k: v for k, v in arrays.items() if k.startswith("network")}, tmp_path / "without hints", about)
    save_file(arrays | {"0/more": np.zeros(1)}, tmp_path / "more", about)
    if "0/sides" in arrays:
        more = {
            "0/sides": np.append(arrays["0/sides"], np.int32(-1)),
            "0/bent": np.append(arrays["0/bent"], np.int32(-1)),
        }
        save_file(arrays | more, tmp_path / "more parts", about)
        save_file(arrays | {"0/bent": arrays["0/bent"] * 0 + 99}, tmp_path / "no such slopes", about)
    for path in sorted(tmp_path.iterdir()):
        code = audit([str(path), "--vnnlib", str(folder / "p.vnnlib")])
        # Fewer hints may still come to a proof: what they prove is computed, not claimed.
        assert code == 2 or (code in (0, 1) and path.name == "without hints"), path.name
    assert "Traceback" not in capsys.readouterr().err


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), several=st.booleans())
def test_whatever_halves_a_box_the_bound_holds(seed, several, tmp_path):
    """Of random sides and slopes: no point has less than what is proven over the parts."""
    draw = np.random.default_rng(seed)
    entries = [{"kind": "input", "parents": [], "shape": [3]}]
    arrays = {}
    for place, (size, kind) in enumerate([(5, "dense"), (5, "relu"), (4, "dense"), (4, "relu"), (2, "dense")], 1):
        entries.append({"kind": kind, "parents": [place - 1], "shape": [size]})
        if kind == "dense":
            before = entries[place - 1]["shape"][0]
            arrays |= {f"{place}/weight": draw.normal(0, 1, (size, before)), f"{place}/offset": draw.normal(0, 1, size)}
    constraints = " ".join(
        f"(<= (+ (* {draw.integers(-3, 4)} Y_0) Y_1) {draw.normal():.3f})" for _ in range(1 + several)
    )
    path = tmp_path / "p.vnnlib"
    path.write_text(
        declared(3, 2) + box(3, -1, 1) + f"(assert (or (and {constraints}) (<= Y_0 {draw.normal() - 2:.3f})))"
    )
    (question,) = questions(path)
    network, rows, thresholds = targets(question, entries, arrays)
    count = 63
    halved = np.where(draw.random(count) < 0.7, draw.integers(0, 3, count), -1).astype(np.int32)
    bent = draw.integers(-1, 3, count).astype(np.int32)
    sizes = [network.operations[i].size for i in network.relus]
    slopes = {k: draw.integers(0, 129, (3, len(rows), size)).astype(np.uint8) for k, size in enumerate(sizes)}
    for unit in (REAL, FLOAT32):
        try:
            least = split(network, question.region, rows, thresholds, Halvings(halved, bent, slopes), unit)
        except Refused:
            continue
        x = draw.uniform(-1, 1, (2000, 3))
        for place in (1, 3):
            x = np.maximum(x @ arrays[f"{place}/weight"].T + arrays[f"{place}/offset"], 0)
        y = x @ arrays["5/weight"].T + arrays["5/offset"]
        over = [
            np.max([sum(float(a) * y[:, j] for j, a in row.items()) - float(bound) for row, bound in clause], 0)
            for clause in question.clauses
        ]
        assert least <= np.min(over) + 1e-9


def test_the_command_keeps_a_proof_and_says_how_to_check_it(tmp_path, capsys):
    network, _ = chain(tmp_path / "net.onnx", 3)
    (tmp_path / "p.vnnlib").write_text(declared(3, 3) + box(3, 0, 0.1) + "(assert (>= Y_0 100))\n")
    (tmp_path / "sat.vnnlib").write_text(declared(3, 3) + box(3, 0, 0.1) + "(assert (<= Y_0 100))\n")
    command = ["certify", "--onnx", str(network), "--proof", str(tmp_path / "proof"), "--vnnlib"]
    assert main([*command, str(tmp_path / "p.vnnlib")]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "which holds of every float32 execution" in line
    assert audit(line.partition("python -m saddlepoint_audit ")[2].split()) == 0
    assert main([*command, str(tmp_path / "sat.vnnlib")]) == 0
    assert capsys.readouterr().out.startswith("sat\nverified") is False
    with pytest.raises(InputError, match="as a VNN-LIB file"):
        sp.prove(network, sp.read_property(tmp_path / "p.vnnlib"), proof=tmp_path / "proof")
    with pytest.raises(InputError, match="cannot be written"):
        sp.prove(network, tmp_path / "p.vnnlib", proof=tmp_path / "none" / "proof")
    (tmp_path / "two.vnnlib").write_text("(vnnlib-version <2.0>)")
    assert main([*command, str(tmp_path / "two.vnnlib")]) == 2


def test_an_answer_is_not_lost_with_a_network_that_the_audit_does_not_know(tmp_path):
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1), helper.make_node("Tanh", ["z"], ["y"])]
    arrays = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in (("w", np.eye(2)), ("b", np.zeros(2)))]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    (tmp_path / "p.vnnlib").write_text(declared(2, 2) + box(2, -1, 1) + "(assert (>= Y_0 2))")
    answer = sp.prove(tmp_path / "net.onnx", tmp_path / "p.vnnlib", proof=tmp_path / "proof")
    assert (answer.outcome, answer.proof) == ("unsat", None)
    assert not (tmp_path / "proof").exists()


def test_a_bound_is_rounded_up_and_no_number_is_lost(tmp_path):
    """Decimals are fractions: at a threshold that no float holds, equality is met, and nothing is proven."""
    path = tmp_path / "p.vnnlib"
    path.write_text(declared(1, 1) + box(1, "0.1", "0.3") + "(assert (<= (* 0.1 Y_0) 0.03))")
    (question,) = questions(path)
    assert (question.lower, question.upper) == ((Fraction(1, 10),), (Fraction(3, 10),))
    assert question.clauses == ((({0: Fraction(1)}, Fraction(3, 10)),),)
    low, high = question.region.lower[0], question.region.upper[0]
    assert Fraction(float(low)) <= Fraction(1, 10) <= Fraction(float(np.nextafter(low, 1)))
    assert Fraction(float(np.nextafter(high, 0))) <= Fraction(3, 10) <= Fraction(float(high))
