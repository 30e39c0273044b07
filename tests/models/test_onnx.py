"""The importer as a whole: batch sizes, export, gradients, names, refusals, damaged files. Operators: test_onnx_ops."""

import gzip
import io
from contextlib import suppress

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import nn

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError, ModelError
from saddlepoint.models import load_classifier
from saddlepoint.models import onnx as importer
from saddlepoint.models.onnx.ops import OPS

RANDOM = np.random.default_rng(0)


def rand(*shape):
    """Weights whose every use is well conditioned: positive, around one."""
    return RANDOM.uniform(0.5, 1.5, shape).astype(np.float32)


def node(op, *inputs, out="y", **attributes):
    """A node, and the initializers for those inputs that are arrays or lists of integers."""
    named = [each if isinstance(each, str) else f"{out}.{place}" for place, each in enumerate(inputs)]
    arrays = {name: np.asarray(each) for name, each in zip(named, inputs, strict=True) if not isinstance(each, str)}
    return helper.make_node(op, named, out if isinstance(out, list) else [out], **attributes), arrays


def graph(*nodes, size=(3, 6, 6), batch=1, opset=17, flat=True, listed=False, kind=onnx.TensorProto.FLOAT):
    """A model from x, (batch, *size), to the last node's y, flattened to logits."""
    nodes = [*nodes, node("Flatten", "y", out="logits")] if flat else list(nodes)
    arrays = {name: array for _, more in nodes for name, array in more.items()}
    inputs = [helper.make_tensor_value_info("x", kind, [batch, *size])]
    if listed:
        inputs += [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in arrays.items()
        ]
    result = helper.make_tensor_value_info(nodes[-1][0].output[0], kind, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    body = helper.make_graph([each for each, _ in nodes], "g", inputs, [result], tensors)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if listed else 8)


def runtime(model, x):
    """What onnxruntime computes for each row by itself."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"x": row[None].numpy()})[0] for row in x]
    return torch.tensor(np.stack(rows)).reshape(len(x), -1)


def opened(model, folder, name="net.onnx"):
    (folder / name).write_bytes(model.SerializeToString())
    return importer.load(str(folder / name), None)


def refused(model, folder, said, kind=InputError):
    with pytest.raises(kind, match=said) as caught:
        opened(model, folder)
    assert str(caught.value).startswith("cannot use ONNX file ")
    assert "\n" not in str(caught.value)


def agrees(model, folder, size, oracle=None, tolerance=1e-5):
    """The law: any number of rows, alone or together, run or exported, gives what onnxruntime gives for each."""
    module = opened(model, folder).module
    x = torch.rand(3, *size)
    expected = runtime(oracle or model, x)
    with torch.no_grad():
        logits = module(x)
        torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))
        torch.testing.assert_close(module(x[:1]), logits[:1])
    return module


def exported(module, size):
    rows = torch.export.Dim("rows")
    program = torch.export.export(module, (torch.rand(2, *size),), dynamic_shapes=({0: rows},)).module()
    x = torch.rand(5, *size)
    torch.testing.assert_close(program(x), module(x))


CONVOLUTIONAL = [
    node("Conv", "x", rand(4, 3, 3, 3), rand(4), out="a", pads=[1, 1, 1, 1]),
    node("BatchNormalization", "a", rand(4), rand(4), rand(4), rand(4), out="b"),
    node("Relu", "b", out="c"),
    node("MaxPool", "c", out="d", kernel_shape=[2, 2], strides=[2, 2]),
]
FLATTENINGS = {
    "flatten": [node("Flatten", "d", out="f")],
    "burnt in": [node("Reshape", "d", [1, 36], out="f")],
    "burnt in, rest open": [node("Reshape", "d", [1, -1], out="f")],
    "rows open": [node("Reshape", "d", [-1, 36], out="f")],
    "copied": [node("Reshape", "d", [0, -1], out="f")],
    "computed": [
        node("Shape", "d", out="s"),
        node("Gather", "s", np.array(0), out="n"),
        node("Unsqueeze", "n", [0], out="m"),
        node("Concat", "m", np.array([-1]), out="t", axis=0),
        node("Reshape", "d", "t", out="f"),
    ],
    "through one axis": [node("Reshape", "d", [-1], out="g"), node("Reshape", "g", [-1, 36], out="f")],
    "batch second": [
        node("Transpose", "d", out="g", perm=[1, 0, 2, 3]),
        node("Reshape", "g", [4, -1, 9], out="h"),
        node("Transpose", "h", out="i", perm=[1, 2, 0]),
        node("Flatten", "i", out="f"),
    ],
}


@pytest.mark.parametrize("batch", [1, 2, "N"])
@pytest.mark.parametrize("way", FLATTENINGS)
def test_the_batch_size_of_the_file_is_forgotten(tmp_path, way, batch):
    if batch == 2 and "burnt in" in way:
        pytest.skip("burns in a batch of one")
    tail = node("Gemm", "f", rand(5, 36), rand(5), transB=1)
    model = graph(*CONVOLUTIONAL, *FLATTENINGS[way], tail, batch=batch, flat=False)
    one = graph(*CONVOLUTIONAL, *FLATTENINGS[way], tail, batch=1, flat=False)
    module = agrees(model, tmp_path, (3, 6, 6), oracle=one)
    exported(module, (3, 6, 6))


def test_attention_with_the_batch_between_tokens_and_heads(tmp_path):
    """As torch.nn.MultiheadAttention is exported at a batch of one: heads merge with the rows, in front and behind."""
    nodes = [
        node("Reshape", "x", [1, 4, 6], out="tokens"),
        node("Transpose", "tokens", out="q", perm=[1, 0, 2]),
        node("Reshape", "q", [4, 2, 3], out="heads"),
        node("Transpose", "heads", out="a", perm=[1, 0, 2]),
        node("Transpose", "a", out="t", perm=[0, 2, 1]),
        node("MatMul", "a", "t", out="scores"),
        node("Softmax", "scores", out="p"),
        node("MatMul", "p", "a", out="mixed"),
        node("Transpose", "mixed", out="back", perm=[1, 0, 2]),
        node("Reshape", "back", [4, 6], out="rows"),
        node("Gemm", "rows", rand(6, 6), rand(6), out="g"),
        node("Reshape", "g", [4, 1, 6], out="r"),
        node("Transpose", "r", out="y", perm=[1, 0, 2]),
    ]
    exported(agrees(graph(*nodes, size=(24,)), tmp_path, (24,)), (24,))


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_learnt_token_is_repeated_for_each_row(tmp_path, batch):
    nodes = [node("Reshape", "x", [0, 4, 6], out="tokens")]
    if batch == 1:
        nodes += [node("Concat", rand(1, 1, 6), "tokens", axis=1)]
    else:
        nodes += [
            node("Shape", "x", out="s"),
            node("Slice", "s", [0], [1], out="n"),
            node("Concat", "n", np.array([-1, -1]), out="t", axis=0),
            node("ConstantOfShape", np.array([3]), out="ones", value=numpy_helper.from_array(np.array([1]))),
            node("Equal", "t", np.array([-1, -1, -1]), out="e"),
            node("Where", "e", "ones", "t", out="w"),
            node("Expand", rand(1, 1, 6), "w", out="token"),
            node("Concat", "token", "tokens", axis=1),
        ]
    exported(agrees(graph(*nodes, size=(24,), batch=batch), tmp_path, (24,)), (24,))


def test_a_classifier_is_exported_with_any_number_of_rows(tmp_path):
    (tmp_path / "net.onnx").write_bytes(graph(*CONVOLUTIONAL, node("Flatten", "d", out="y")).SerializeToString())
    exported(load_classifier(f"onnx:{tmp_path / 'net.onnx'}", mean=0.5, std=[0.1, 0.2, 0.3]), (3, 6, 6))


@pytest.mark.parametrize(
    ("size", "images"),
    [((12,), (3, 2, 2)), ((12, 1), (1, 3, 4)), ((1, 1, 5), (5, 1, 1)), ((6, 8), (1, 6, 8)), ((6, 8, 1), (1, 6, 8))],
)
def test_images_are_reshaped_row_by_row_to_what_the_graph_wants(tmp_path, size, images):
    model = graph(node("Mul", "x", rand(*size)), size=size)
    classifier = opened(model, tmp_path)
    assert classifier.module.input_shape == size
    x = torch.rand(4, *images)
    torch.testing.assert_close(classifier(x), runtime(model, x.reshape(4, *size)))
    exported(classifier.module, images)
    with pytest.raises(InputError, match=r"images of shape \(7, 1, 1\) do not fit the network's input"):
        classifier(torch.rand(1, 7, 1, 1))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_last_are_the_same_images(tmp_path, channels):
    body = [*CONVOLUTIONAL[:1], node("Flatten", "a", out="y")]
    body[0] = node("Conv", "x", rand(4, channels, 3, 3), out="a", pads=[1, 1, 1, 1])
    first = opened(graph(*body, size=(channels, 6, 5)), tmp_path)
    body[0][0].input[0] = "t"
    last = opened(graph(node("Transpose", "x", out="t", perm=[0, 3, 1, 2]), *body, size=(6, 5, channels)), tmp_path)
    x = torch.rand(3, channels, 6, 5)
    torch.testing.assert_close(last(x), first(x))
    exported(last.module, (channels, 6, 5))


@pytest.mark.parametrize("size", [(8, 3, 2), (3, 2, 8), (2, 3, 4, 2), (6, 8)])
def test_a_shape_that_would_scramble_the_images_is_refused(tmp_path, size):
    classifier = opened(graph(node("Mul", "x", rand(*size)), size=size), tmp_path)
    with pytest.raises(InputError, match=r"images of shape \(3, 4, 4\) do not fit .* though both have 48 numbers"):
        classifier(torch.rand(2, 3, 4, 4))


def test_weights_are_parameters_of_torchs_layers_under_readable_names(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.rand_like(tensor, dtype=torch.float32) + 0.5)
    state = {f"net.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
    body = [
        helper.make_node("Conv", ["x", "net.0.weight", "net.0.bias"], ["a"], pads=[1] * 4),
        helper.make_node(
            "BatchNormalization",
            ["a", *(f"net.1.{n}" for n in ("weight", "bias", "running_mean", "running_var"))],
            ["b"],
        ),
        helper.make_node("Relu", ["b"], ["c"], name="/net/act!/"),
        helper.make_node("Flatten", ["c"], ["d"], name="forward"),
        helper.make_node("Gemm", ["d", "net.4.weight", "net.4.bias"], ["e"], transB=1),
        helper.make_node("Add", ["e", "shift"], ["y"]),
    ]
    nodes = [(each, {}) for each in body]
    nodes[0] = (body[0], state | {"shift": np.ones(5, np.float32)})
    module = opened(graph(*nodes, flat=False), tmp_path).module
    kinds = {name: type(layer) for name, layer in module.named_children()}
    assert kinds["net_0"] is nn.Conv2d
    assert kinds["net_1"] is nn.BatchNorm2d
    assert kinds["net_act"] is nn.ReLU
    assert kinds["net_4"] is nn.Linear
    assert dict(module.named_parameters()).keys() == {f"net_{i}.{n}" for i in (0, 1, 4) for n in ("weight", "bias")}
    assert torch.equal(module.get_buffer("shift"), torch.ones(5))
    x, y = (torch.rand(3, 3, 6, 6, requires_grad=True) for _ in range(2))
    y.data.copy_(x.data)
    logits, expected = module(x), network.eval()(y) + 1
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(
        torch.autograd.grad(logits.logsumexp(1).sum(), x), torch.autograd.grad(expected.logsumexp(1).sum(), y)
    )


def test_loading_touches_no_random_state_and_is_repeatable(tmp_path):
    model = graph(*CONVOLUTIONAL, node("Flatten", "d", out="f"), node("Gemm", "f", rand(36, 5)), flat=False)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = opened(model, tmp_path), opened(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.digest() == second.digest()


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_other_precisions_become_float32(tmp_path, kind):
    nodes = [node("Flatten", "x", out="f"), node("Gemm", "f", rand(108, 5).astype(kind), rand(5).astype(kind))]
    module = opened(graph(*nodes, kind=helper.np_dtype_to_tensor_dtype(np.dtype(kind))), tmp_path).module
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    assert module(torch.rand(2, 3, 6, 6)).dtype == torch.float32


def test_initializers_listed_as_inputs_are_none(tmp_path):
    agrees(graph(node("Mul", "x", rand(3, 1, 1)), opset=8, listed=True), tmp_path, (3, 6, 6))


def test_gzip_is_told_by_the_content_and_the_reference_works(tmp_path):
    data = graph(node("Relu", "x")).SerializeToString()
    (tmp_path / "plain.gz").write_bytes(data)
    (tmp_path / "packed.onnx").write_bytes(gzip.compress(data))
    x = torch.rand(2, 3, 6, 6)
    first, second = (load_classifier(f"onnx:{tmp_path / name}") for name in ("plain.gz", "packed.onnx"))
    assert isinstance(first, Classifier)
    assert torch.equal(first.predict(x).logits, second.predict(x).logits)
    assert load_classifier(f"onnx:{tmp_path / 'plain.gz'}", mean=0.5, std=0.5).normalises


def test_a_disagreement_with_onnxruntime_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(OPS, "Sigmoid", lambda node: nn.Tanh())
    refused(graph(node("Sigmoid", "x")), tmp_path, r"differ by up to 0\.\d+, where rounding explains", ModelError)


def test_rows_that_see_their_neighbours_are_found(tmp_path, monkeypatch):
    monkeypatch.setitem(OPS, "Relu", lambda node: importer.node.Call(lambda x: x + x.mean(0)))
    refused(graph(node("Relu", "x")), tmp_path, "its first row, alone and among others, differ", ModelError)


REFUSALS = {
    "operator": ([node("Det", "x")], r"node 0 'Det' \(inputs: 'x' \(B, 3, 6, 6\)\): .*knows Abs, Add, .*Where"),
    "attribute": ([node("Relu", "x", alpha=0.1)], "its attribute 'alpha' is not supported"),
    "domain": ([node("Gelu", "x", domain="com.microsoft")], "domain 'com.microsoft'"),
    "unknown value": ([node("Add", "x", "z")], "needs 'z', which no node before it computes"),
    "twice": ([node("Relu", "x", out="a"), node("Relu", "x", out="a"), node("Relu", "a")], "'a' is defined twice"),
    "quantized": ([node("Add", "x", np.zeros(1, np.int8))], "quantized networks are not supported"),
    "training": (
        [node("BatchNormalization", "x", *[rand(3)] * 4, training_mode=1)],
        r"statistics of the batch \(training_mode\)",
    ),
    "random": ([node("Dropout", "x", np.float32(0.5), np.array(True))], "drops at random"),
    "mixes rows by softmax": ([node("Softmax", "x", axis=0)], "it works along the batch"),
    "mixes rows by mean": ([node("ReduceMean", "x", axes=[0])], "it works along the batch"),
    "mixes rows by concat": ([node("Concat", "x", "x", axis=0)], "it works along the batch"),
    "takes a row": ([node("Gather", "x", np.array(0), axis=0)], "it works along the batch"),
    "flips the batch": ([node("Slice", "x", [-1], [-9], [0], [-1])], "it works along the batch"),
    "gram matrix": (
        [node("Flatten", "x", out="f"), node("Transpose", "f", out="t"), node("MatMul", "f", "t")],
        "one axis B of the batch",
    ),
    "sizes": ([node("Add", "x", rand(5))], r"cannot be computed \(RuntimeError: "),
    "dynamic weight": ([node("Conv", "x", "x")], "its input 1 depends on the image; expected a constant"),
    "huge": ([node("Pad", "x", [0, 0, 0, 0, 0, 0, 12_000, 12_000])], "expected at most 268435456 numbers"),
    "huge window": ([node("AveragePool", "x", kernel_shape=[10**6] * 2)], "larger than the padded image"),
    "huge constant": ([node("ConstantOfShape", np.array([10**6] * 2), out="c"), node("Mul", "x", "c")], "268435456"),
    "segmentation": ([node("Conv", "x", rand(2, 3, 3, 3))], r"has shape \(B, 2, 4, 4\); expected logits"),
    "one logit": ([node("ReduceSum", "x", [1, 2, 3], keepdims=0)], r"has shape \(B,\); expected logits"),
    "constant": ([node("ConstantOfShape", np.array([1, 2]))], "does not depend on the images"),
    "no tensor": ([node("Constant", out="c", value_string="a"), node("Relu", "x")], "holds no tensor of numbers"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_supported_is_named_in_one_line(tmp_path, case):
    nodes, said = REFUSALS[case]
    refused(graph(*nodes, flat=False), tmp_path, said)


def test_inputs_and_outputs_are_one_each(tmp_path):
    model = graph(node("Relu", "x"))
    model.graph.input.append(helper.make_tensor_value_info("second", 1, [1]))
    refused(model, tmp_path, r"2 inputs \('x', 'second'\); expected one")
    model = graph(node("Relu", "x"))
    model.graph.output.append(helper.make_tensor_value_info("y", 1, None))
    refused(model, tmp_path, r"2 outputs \('logits', 'y'\); expected one")
    refused(graph(node("Relu", "x"), size=("H", 4)), tmp_path, r"has shape \(1, H, 4\); expected a batch of a fixed")
    refused(graph(node("Relu", "x"), size=()), tmp_path, r"has shape \(1\); expected a batch of a fixed shape")
    refused(graph(node("Relu", "x"), kind=onnx.TensorProto.UINT8), tmp_path, "ONNX type 2; expected floating point")


def test_weights_elsewhere_are_refused_and_not_opened(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 12)
    model = graph(node("Add", "x", rand(3, 1, 1)))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    refused(model, tmp_path, "weights 'y.1' lie in another file; expected all in one")


def test_a_file_of_weights_and_no_file_are_one_line(tmp_path):
    opened(graph(node("Mul", "x", rand(12)), size=(12,)), tmp_path)
    for place, weights, said in [
        (None, None, r"names no file; expected onnx:FILE\[\.gz\]"),
        (str(tmp_path), None, "there is no such file"),
        (str(tmp_path / "none"), None, "there is no such file"),
        (str(tmp_path / "net.onnx"), tmp_path / "w.pth", "cannot read weights .*: there is no such file"),
    ]:
        with pytest.raises(InputError, match=said):
            importer.load(place, weights)


def test_a_bomb_is_not_unfolded(tmp_path):
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=1) as file:
        for _ in range(160):
            file.write(bytes(2**20))
    (tmp_path / "bomb").write_bytes(bomb.getvalue())
    with pytest.raises(InputError, match="unfolds to more than 134217728 bytes"):
        importer.load(str(tmp_path / "bomb"), None)


SPECIMEN = graph(
    *CONVOLUTIONAL, *FLATTENINGS["computed"], node("Gemm", "f", rand(5, 36), rand(5), transB=1), batch="N", flat=False
).SerializeToString()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_network_or_one_line(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from([SPECIMEN, gzip.compress(SPECIMEN)])))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), data.draw(st.integers(0, len(content)))]))]
    path = tmp_path_factory.mktemp("onnx") / "net"
    path.write_bytes(bytes(content))
    with suppress(InputError, ModelError):
        importer.load(str(path), None)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("onnx") / "net"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot use ONNX file") as caught:
        importer.load(str(path), None)
    assert "\n" not in str(caught.value)


def test_the_digest_tells_how_a_network_is_wired(tmp_path):
    """a − b and b − a have the same layers and weights, and opposite logits."""
    digests = set()
    for place, order in enumerate([("a", "b"), ("b", "a")]):
        model = graph(
            node("Flatten", "x", out="flat"),
            node("Gemm", "flat", rand(108, 4), out="a"),
            node("Gemm", "flat", rand(108, 4) * 0 + 2, out="b"),
            node("Sub", *order, out="y"),
        )
        first = model.graph.initializer[0].raw_data if place == 0 else first
        model.graph.initializer[0].raw_data = first
        path = tmp_path / f"{place}.onnx"
        onnx.save(model, path)
        digests.add(load_classifier(f"onnx:{path}").digest())
    assert len(digests) == 2


def test_the_sum_of_what_constants_unfold_to_is_bounded(tmp_path):
    """Each of twelve is just small enough; together they would fill a memory."""
    shape = np.array([2**14, 2**13], np.int64)
    fills = [node("ConstantOfShape", shape, out=f"c{place}") for place in range(12)]
    sums = [node("ReduceSum", f"c{place}", out=f"s{place}", keepdims=0) for place in range(12)]
    path = tmp_path / "bomb.onnx"
    onnx.save(graph(*fills, *sums, node("Add", "x", "s0", out="y")), path)
    with pytest.raises(InputError, match="constants of .* numbers are made until here"):
        load_classifier(f"onnx:{path}")
