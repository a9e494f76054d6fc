"""Configuration and statistics of models in the format of Triton's clients and tools.

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
"""Suffixes of inference routes."""


def configuration(card: ModelCard, max_images: int) -> dict[str, Any]:
    """Return the configuration of a model; shapes do not include the batch dimension."""
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
    # A Triton tensor has at least one dimension; the reshape removes it.
    return {**described, "dims": dims} if dims else {**described, "dims": [1], "reshape": {}}


def statistics(metrics: Metrics, cards: Iterable[ModelCard]) -> dict[str, Any]:
    """Return the statistics of models since the start, over all workers and versions.

    The step times of a request are those of its whole batches, as in Triton.
    """
    totals: defaultdict[tuple[str, str], float] = defaultdict(float)
    for family in metrics.collect():
        for sample in family.samples:
            name, labels = sample.name.removeprefix("logitserve_"), sample.labels
            if labels.get("route", "ModelInfer").endswith(_INFERENCE) and "model" in labels:
                which = labels.get("step") or labels.get("status", "")[:1]
                totals[labels["model"], name + which] += sample.value
    return {"model_stats": [_statistics(totals, card) for card in cards]}


def _statistics(totals: defaultdict[tuple[str, str], float], card: ModelCard) -> dict[str, Any]:
    def total(*names: str) -> float:
        return sum(totals[card.name, name] for name in names)

    success, fail = (
        round(total("requests_total2")),
        round(total("requests_total4", "requests_total5")),
    )

    def duration(*names: str, count: int = success) -> dict[str, int]:
        return {"count": count, "ns": round(total(*names) * 1e9)}

    failed = "request_seconds_sum4", "request_seconds_sum5"
    return {
        "name": card.name,
        "version": card.version,
        "inference_count": round(total("batch_size_sum")),
        "execution_count": round(total("batch_size_count")),
        "inference_stats": {
            "success": duration("request_seconds_sum2"),
            "fail": duration(*failed, count=fail),
            "queue": duration("step_seconds_totalqueue"),
            "compute_input": duration("step_seconds_totaldecode"),
            "compute_infer": duration("step_seconds_totalinference"),
            "compute_output": duration("step_seconds_totaloutput"),
        },
    }
