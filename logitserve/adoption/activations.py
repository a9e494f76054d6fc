"""Which function ends a graph, and the graph without it.

Softmax, LogSoftmax and Sigmoid, and what skl2onnx writes for scikit-learn's classifiers: label
and probabilities, ZipMap, a LinearClassifier with its `post_transform`, 1 − p beside p.
Logarithms of probabilities are logits of a softmax: softmax(log p) = p, whatever made p.
"""

from typing import Final

import onnx
from onnx import TensorProto

from logitserve.adoption.foreign import Activation, PictureInput, attribute, producers, walk_back
from logitserve.errors import AdoptionError
from logitserve.inference.card import Head

PASSING: Final = frozenset({"Cast", "Dropout", "Identity", "Normalizer", "ZipMap"})
"""Operators between the activation and the output that do not change the probabilities."""

_SOFTMAX: Final = frozenset({Head.SOFTMAX})
_SIGMOIDS: Final = frozenset({Head.SIGMOID, Head.BINARY})


def find(model: onnx.ModelProto, answer: str) -> Activation | None:
    """The activation that ends a graph; None if none of those known here does.

    Args:
        model: as loaded.
        answer: the output that holds the answer.

    Raises:
        AdoptionError: its logits cannot be had back.
    """
    is_normalized = False
    for node in walk_back(model, answer):
        if node.op_type not in PASSING:
            found = _of(model, node)
            if found and is_normalized and Head.SOFTMAX not in found.heads:
                raise AdoptionError(
                    f"the graph ends in {found.operator} of each class on its own, normalized to "
                    "sum to 1, which has no logits to cut back to: add --log-probabilities"
                )
            return found
        is_normalized |= node.op_type == "Normalizer"
    return None


def _of(model: onnx.ModelProto, node: onnx.NodeProto) -> Activation | None:
    match node.op_type:
        case "Softmax":
            return Activation("Softmax", node.input[0], _SOFTMAX)
        case "LogSoftmax":
            return Activation("LogSoftmax", node.input[0], _SOFTMAX, is_log=True)
        case "Sigmoid":
            return Activation("Sigmoid", node.input[0], _SIGMOIDS)
        case "Concat" if len(node.input) == 2:
            return _complement(model, *node.input)
        case "LinearClassifier":
            return _linear_classifier(node)
    return None


def _complement(model: onnx.ModelProto, no: str, yes: str) -> Activation | None:
    """[1 − sigmoid(z), sigmoid(z)], as skl2onnx writes the network of two classes."""
    made_by = producers(model)
    last, first = made_by.get(yes), made_by.get(no)
    if last is None or first is None or last.op_type != "Sigmoid":
        return None
    if first.op_type != "Sub" or first.input[1] != yes:
        return None
    return Activation("Sigmoid", last.input[0], _SIGMOIDS)


def _linear_classifier(node: onnx.NodeProto) -> Activation | None:
    """A linear layer that has its activation as an attribute (ai.onnx.ml)."""
    scores, name = node.output[1], node.output[0]
    classes = len(
        attribute(node, "classlabels_strings") or attribute(node, "classlabels_ints") or ()
    )
    match attribute(node, "post_transform") or b"NONE":
        case b"NONE":
            return None
        case b"SOFTMAX":
            return Activation("Softmax", scores, _SOFTMAX, classifier=name)
        case b"LOGISTIC" if classes == 2:  # the scores are [−z, z]
            binary = frozenset({Head.BINARY})
            return Activation("Sigmoid", scores, binary, column=1, classifier=name)
        case b"LOGISTIC":
            return Activation("Sigmoid", scores, _SIGMOIDS, classifier=name)
        case other:
            raise AdoptionError(
                f"the graph ends in a LinearClassifier with post_transform {other.decode()}, "
                "which has no logits: export the classifier's raw scores instead"
            )


def up_to(
    model: onnx.ModelProto, source: PictureInput, answer: str, cut: Activation | None
) -> onnx.ModelProto:
    """The part of a graph from its input to one tensor, and nothing beside it.

    Args:
        model: as loaded; it is left as it is.
        source: its input.
        answer: where to end if there is nothing to cut.
        cut: the activation to leave out.

    Raises:
        AdoptionError: the part cannot be taken out.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    end = answer
    if cut is not None:
        end = cut.logits
        _raw_scores(copy, cut)
    elif producers(copy)[end].op_type == "ZipMap":
        end = producers(copy)[end].input[0]
    known = {value.name for value in [*copy.graph.value_info, *copy.graph.output]}
    if end not in known:
        inferred = onnx.shape_inference.infer_shapes(copy).graph.value_info
        types = {value.name: value.type.tensor_type.elem_type for value in inferred}
        value = onnx.helper.make_tensor_value_info(end, types.get(end, TensorProto.FLOAT), None)
        copy.graph.value_info.append(value)
    try:
        part: onnx.ModelProto = onnx.utils.Extractor(copy).extract_model([source.name], [end])
    except (AssertionError, ValueError) as error:
        raise AdoptionError(f"the graph cannot be cut at {end!r}: {error}") from error
    del part.graph.value_info[:]
    return part


def _raw_scores(model: onnx.ModelProto, cut: Activation) -> None:
    for node in model.graph.node:
        if cut.classifier is not None and cut.classifier in node.output:
            for entry in node.attribute:
                if entry.name == "post_transform":
                    entry.s = b"NONE"


def free_batch(model: onnx.ModelProto, batch: int) -> None:
    """Let a graph with a fixed batch take any: its input, and reshapes that spell it out.

    Whether that was all that holds the batch fast shows when the graph is run.
    """
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            _free_reshape(node, constants[node.input[1]], batch)


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for entry in node.attribute:
            if node.op_type == "Constant" and entry.name == "value":
                constants[node.output[0]] = entry.t
    return constants


def _free_reshape(node: onnx.NodeProto, tensor: onnx.TensorProto, batch: int) -> None:
    shape = onnx.numpy_helper.to_array(tensor).copy()
    if shape.size < 2 or shape[0] != batch:
        return
    if (shape[1:] == -1).any():
        shape[0] = 0  # as in the input, which allowzero would forbid
        for entry in node.attribute:
            if entry.name == "allowzero":
                entry.i = 0
    else:
        shape[0] = -1
    tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
