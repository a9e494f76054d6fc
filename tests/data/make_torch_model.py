"""Makes `torch_cnn.onnx` and `torch_cnn.npz`: a PyTorch classifier, and what PyTorch says of it.

PyTorch is too heavy for everybody's development environment, so its two files are committed.
To make them again:

    python3 -m venv /tmp/torch
    /tmp/torch/bin/pip install torch==2.13.0 onnx onnxscript --index-url <the CPU builds>
    /tmp/torch/bin/python tests/data/make_torch_model.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

FOLDER = Path(__file__).parent
CLASSES = 5
SIZE = 24
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's


def network() -> nn.Module:
    """RGB `[n, 3, 24, 24]` → probabilities: it ends in Softmax, as many a stranger's does."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, CLASSES),
        nn.Softmax(dim=1),
    )


def export(net: nn.Module, inputs: torch.Tensor, name: str, **options: Any) -> None:
    """Write an ONNX file without the notes on each node, which hold paths of this machine."""
    path = FOLDER / name
    torch.onnx.export(net, (inputs,), path, dynamo=True, external_data=False, **options)
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


def main() -> None:
    """Draw weights and pictures, let PyTorch answer, export."""
    torch.manual_seed(3)
    net = network()
    images = torch.randint(0, 256, (12, SIZE, SIZE, 3), dtype=torch.uint8)
    images = (images * torch.rand(len(images), 1, 1, 3)).to(torch.uint8)  # of different colors
    inputs = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
        STD
    ).view(3, 1, 1)
    with torch.no_grad():
        net(inputs)  # lets the batch normalization see statistics
        net[-2].weight *= 8  # probabilities far from 1 / CLASSES
        net.eval()
        probabilities = net(inputs)
    any_batch = ({0: torch.export.Dim("batch")},)
    export(net, inputs, "torch_cnn.onnx", dynamic_shapes=any_batch)
    # as people do who leave the option out: the batch of the example stays in the graph
    export(net, inputs[:2], "torch_cnn_fixed_batch.onnx")
    np.savez_compressed(
        FOLDER / "torch_cnn.npz", images=images.numpy(), probabilities=probabilities.numpy()
    )


if __name__ == "__main__":
    main()
