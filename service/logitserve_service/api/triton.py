"""Configuration and statistics of models in Triton's form, which its clients and tools read.

https://github.com/triton-inference-server/server, docs/protocol/extension_model_configuration.md
and extension_statistics.md; the members are those of Triton's protocol buffers.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from logitserve.inference.card import ModelCard
from logitserve_service.api import tensors
from logitserve_service.telemetry.metrics import Metrics

EXTENSIONS: Final = ("model_configuration", "statistics")
BACKEND: Final = "onnxruntime"
_INFERENCE: Final = ("predict", "/infer", "ModelInfer")
"""How routes of inference end."""


def configuration(card: ModelCard, max_images: int) -> dict[str, Any]:
    """The configuration of a model; sizes are without the number of images."""
    inputs, outputs = ([_tensor(tensor) for tensor in side] for side in tensors.metadata(card))
    return {
        "name": card.name,
        "platform": tensors.PLATFORM,
        "backend": BACKEND,
        "max_batch_size": max_images,
        "input": [{**tensor, "format": "FORMAT_NHWC"} for tensor in inputs],
        "output": outputs,
        "dynamic_batching": {},
    }


def _tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    dims = tensor["shape"][1:]
    described = {"name": tensor["name"], "data_type": f"TYPE_{tensor['datatype']}"}
    # A tensor of Triton has at least one size; a reshape takes it away.
    return {**described, "dims": dims} if dims else {**described, "dims": [1], "reshape": {}}


def statistics(metrics: Metrics, cards: Iterable[ModelCard]) -> dict[str, Any]:
    """What has been counted of models since the start, in all workers and of all versions.

    Times are those of runs and of preprocessing; how long requests waited is not counted.
    """
    totals: defaultdict[tuple[str, str], float] = defaultdict(float)
    for family in metrics.collect():
        for sample in family.samples:
            name, labels = sample.name.removeprefix("logitserve_"), sample.labels
            if labels.get("route", "ModelInfer").endswith(_INFERENCE) and "model" in labels:
                totals[labels["model"], name + labels.get("status", "")] += sample.value
    return {"model_stats": [_statistics(totals, card) for card in cards]}


def _statistics(totals: defaultdict[tuple[str, str], float], card: ModelCard) -> dict[str, Any]:
    def total(name: str) -> int:
        return round(totals[card.name, name])

    def duration(*families: str) -> dict[str, int]:
        seconds = sum(totals[card.name, f"{family}_seconds_sum"] for family in families)
        return {"count": total("inference_seconds_count"), "ns": round(seconds * 1e9)}

    requests = [(name, n) for (model, name), n in totals.items() if model == card.name]
    answers = sum(n for name, n in requests if name.startswith("requests_total"))
    success = total("requests_total200")
    whole = duration("decode", "inference")
    return {
        "name": card.name,
        "version": card.version,
        "inference_count": total("batch_size_sum"),
        "execution_count": total("batch_size_count"),
        "inference_stats": {
            "success": {**whole, "count": success},
            "fail": {"count": round(answers) - success, "ns": 0},
            "queue": {"count": success, "ns": 0},
            "compute_input": duration("decode"),
            "compute_infer": duration("inference"),
            "compute_output": {"count": success, "ns": 0},
        },
    }
