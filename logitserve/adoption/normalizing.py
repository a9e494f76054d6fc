"""Rewrite an ONNX file into the forms that the rest of adoption expects.

`tidied` changes only the representation of the graph, not its results; it gives the reference.
`modernized` converts operators; its caller compares the results.
"""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import onnx
from onnx import TensorProto, helper, inliner, version_converter

from logitserve.errors import AdoptionError

MIN_IR: Final = 4
"""From this IR version on, initializers need not be inputs."""
OLD_OPSET: Final = 9
"""Below this opset, operators are converted to `CONVERTED_OPSET`."""
CONVERTED_OPSET: Final = 12
RUNNABLE_OPSET: Final = 7
"""The oldest opset that onnxruntime supports."""
STANDARD: Final = frozenset({"", "ai.onnx"})
HIDDEN: Final = {"QLinearSoftmax": "Softmax", "QLinearSigmoid": "Sigmoid"}
"""Quantized operators of onnxruntime, and the function that each computes."""


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators."""
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    return int(versions[0]) if versions else OLD_OPSET


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """Return an attribute's value, or None."""
    found = [entry for entry in node.attribute if entry.name == name]
    return helper.get_attribute_value(found[0]) if found else None


def reads(node: onnx.NodeProto) -> set[str]:
    """Return the inputs of a node, including those of its subgraphs."""
    names = {name for name in node.input if name}
    for entry in node.attribute:
        for graph in [entry.g, *entry.graphs]:
            made = {name for inner in graph.node for name in inner.output}
            names |= {name for inner in graph.node for name in reads(inner)} - made
    return names


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return a map from each tensor to the node that produces it."""
    return {name: node for node in model.graph.node for name in node.output if name}


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that may be modified."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove initializers from the inputs, sort the nodes, and make the outputs plain tensors.

    Raises:
        AdoptionError: the graph is invalid, or is a training graph.
    """
    tidy = copy_of(model)
    graph = tidy.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {tensor.values.name for tensor in graph.sparse_initializer}
    inputs = [entry for entry in graph.input if entry.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    for entry in graph.input:
        for dim in entry.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 1:  # "any size" of old exporters
                dim.Clear()
    tidy.ir_version = max(tidy.ir_version, MIN_IR)
    if not tidy.opset_import:
        tidy.opset_import.append(helper.make_opsetid("", OLD_OPSET))
    nodes = _ordered(tidy)
    del graph.node[:]
    graph.node.extend(nodes)
    _refuse_training(tidy)
    for output in list(graph.output):
        _open(tidy, output)
    return tidy


def _ordered(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    made_by = {
        name: index for index, node in enumerate(model.graph.node) for name in node.output if name
    }
    before = {
        index: {made_by[name] for name in reads(node) if name in made_by}
        for index, node in enumerate(model.graph.node)
    }
    if all(one < index for index, needed in before.items() for one in needed):
        return list(model.graph.node)
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise AdoptionError("the graph has a cycle: the file is damaged") from error
    return [model.graph.node[index] for index in order]


def _refuse_training(model: onnx.ModelProto) -> None:
    """Refuse a graph exported in training mode: with batch statistics or active dropout."""
    constants = constants_of(model)
    opset = opset_of(model)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            outputs = sum(1 for name in node.output if name)
            trains = attribute(node, "training_mode") == 1 or (
                opset >= RUNNABLE_OPSET and outputs > 1
            )
        elif node.op_type == "Dropout" and len(node.input) > 2 and opset >= 12:
            mode = constants.get(node.input[2])
            trains = mode is not None and bool(onnx.numpy_helper.to_array(mode))
        else:
            continue
        if trains:
            raise AdoptionError(
                f"the graph was exported in training mode ({node.op_type}), so its answers depend "
                "on the batch or are random: call model.eval() and export it again"
            )


def constants_of(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the constant tensors of the graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if value is not None:
            constants[node.output[0]] = value
    return constants


def _open(model: onnx.ModelProto, output: onnx.ValueInfoProto) -> None:
    """Bypass a final ZipMap, and dequantize a final QuantizeLinear."""
    node = producers(model).get(output.name)
    if node is None:
        return
    if node.op_type == "ZipMap":
        node.CopyFrom(helper.make_node("Identity", [node.input[0]], [output.name]))
    elif node.op_type == "QuantizeLinear":
        scale_and_zero = list(node.input[1:])
        node.output[0] = f"{output.name}/quantized"
        model.graph.node.append(
            helper.make_node("DequantizeLinear", [node.output[0], *scale_and_zero], [output.name])
        )
    else:
        return
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None))


def modernized(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Yield the graph with fused activations split into nodes and its operators converted.

    Yields:
        candidates, the best first; the last is the graph itself if onnxruntime can run it.
    """
    plain = inliner.inline_local_functions(model) if model.functions else model
    if opset_of(plain) < OLD_OPSET:
        try:
            converted = version_converter.convert_version(plain, CONVERTED_OPSET)
        # The converter's errors have no other common base class.
        except Exception as error:
            if opset_of(plain) < RUNNABLE_OPSET:
                raise AdoptionError(
                    f"the file is of opset {opset_of(plain)}, and onnx.version_converter cannot "
                    f"convert it ({str(error).strip().splitlines()[-1][:200]}): export it again "
                    f"with opset {CONVERTED_OPSET} or later"
                ) from error
        else:
            del converted.graph.value_info[:]
            yield from _unfolded(converted)
            yield converted
    yield from _unfolded(plain)
    yield plain


def _unfolded(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Yield the graph with fused activations split into separate nodes."""
    copy = copy_of(model)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        copy.graph.node.extend(_steps(node))
    if len(copy.graph.node) > len(nodes):
        yield copy


def _steps(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    if node.op_type in HIDDEN:
        pixels, scale, zero, *to = node.input
        name = node.output[0]
        axis = {"axis": attribute(node, "axis") or -1} if "Softmax" in node.op_type else {}
        return [
            helper.make_node("DequantizeLinear", [pixels, scale, zero], [f"{name}/logits"]),
            helper.make_node(HIDDEN[node.op_type], [f"{name}/logits"], [f"{name}/one"], **axis),
            helper.make_node("QuantizeLinear", [f"{name}/one", *to], [name]),
        ]
    function = {b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}.get(
        attribute(node, "post_transform") or b""
    )
    if function is None or len(node.output) < 2 or not node.op_type.endswith("Classifier"):
        return [node]
    raw = onnx.NodeProto()
    raw.CopyFrom(node)
    raw.output[1] = f"{node.output[1]}/logits"
    for entry in raw.attribute:
        if entry.name == "post_transform":
            entry.s = b"NONE"
    axis = {"axis": 1} if function == "Softmax" else {}
    return [raw, helper.make_node(function, [raw.output[1]], [node.output[1]], **axis)]


def pruned(model: onnx.ModelProto, end: str, start: str | None = None) -> onnx.ModelProto:
    """Return the part of a graph that one tensor needs, with that tensor as its only output.

    With `start`, an earlier tensor, the part begins there: `start` becomes an input, beside the
    graph's own input if the part needs that too.
    """
    copy = copy_of(model)
    made_by = producers(copy)
    needed, waiting = set[str](), [end]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += reads(made_by[name]) if name in made_by and name != start else ()
    nodes = [node for node in copy.graph.node if needed & set(node.output) - {start}]
    if start is not None:
        inputs = [entry for entry in copy.graph.input if entry.name in needed]
        del copy.graph.input[:]
        copy.graph.input.extend([*inputs, onnx.ValueInfoProto(name=start)])
    constants = [tensor for tensor in copy.graph.initializer if tensor.name in needed]
    for field, kept in ((copy.graph.node, nodes), (copy.graph.initializer, constants)):
        del field[:]
        field.extend(kept)
    del copy.graph.value_info[:], copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=end))
    return copy


def free_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return the graph with a dynamic batch: in its input, and in reshapes with a fixed batch.

    Other causes of a fixed batch are found when the graph is run.
    """
    copy = copy_of(model)
    shape = copy.graph.input[0].type.tensor_type.shape
    if shape.dim:
        shape.dim[0].dim_param = "batch"
    del copy.graph.value_info[:]
    constants = constants_of(copy)
    for node in copy.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            _free_reshape(node, constants[node.input[1]], batch)
    return copy


def _free_reshape(node: onnx.NodeProto, tensor: onnx.TensorProto, batch: int) -> None:
    shape = onnx.numpy_helper.to_array(tensor).copy()
    if shape.size < 2 or shape[0] != batch:
        return
    if (shape[1:] == -1).any():
        shape[0] = 0  # copy from the input; allowzero would forbid it
        for entry in node.attribute:
            if entry.name == "allowzero":
                entry.i = 0
    else:
        shape[0] = -1
    tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
