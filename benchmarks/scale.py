"""The tables of `docs/scale.md`: `python -m benchmarks.scale`.

They are worked out from `results/scale.json` (`scale_measured.py`), the shipped manifests, and the
assumptions at the top of this file. After `make bench` and `make bench-sweeps`, `--rates` takes
over what they found; then the document is to be brought in step, which a test demands.
"""

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

import yaml

from benchmarks.autoscaling import RESULTS, SHIPPED
from benchmarks.hpa import Spec, quantity
from benchmarks.markdown import Row, table

Table = Callable[[], list[Row]]

RATES = (1_000, 1_000_000)

# Assumed, not measured.
FRAME_BYTES = 90
"""Of a packet, beside HTTP: Ethernet with preamble and gap 38, IPv4 20, TCP with timestamps 32."""
TLS_BYTES = 22
"""Of a record of TLS 1.3: header 5, type 1, tag 16."""
PROXY_BUSY = 0.5
"""Share of its cores that a proxy may use, so that half of them may fail."""
PROXY_CORES = 16
REQUESTS_A_CONNECTION = 100
"""A client's, with keep-alive: a handshake for each so many requests."""
POD_CORES = 2
PODS_A_NODE = 15
"""Of 2 CPUs, on a node of 32."""
REPLICAS = 1_000
GIGABIT = 1e9 / 8
REGISTRY_GIGABITS, NODE_GIGABITS, STORE_GIGABITS, NFS_GIGABITS = 10, 10, 100, 10
"""What an image registry, a node, an object store and one file server can send or take."""
SCRAPE_SECONDS = 15
SERIES_BYTES = 4096
"""Of Prometheus' memory, for a series."""
SAMPLE_BYTES = 1.5
"""On Prometheus' disk: its documentation says 1 to 2."""


def results(name: str) -> Any:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def last_rates() -> dict[str, float]:
    """Kind of request → requests/s of one core, as the benchmarks found last."""
    sizes = {row["picture"]: row for row in results("picture_sizes")["rows"]}
    raw = results("forms")["rows"][0]  # raw PNG, default model
    ours = raw["servers"]["logitserve"]["per_second"]
    return {
        "28×28 PNG in MNIST's form": ours,
        "28×28 PNG, to be cut out": sizes["28×28"]["PNG, requests/s"],
        "256×256 PNG": sizes["256×256"]["PNG, requests/s"],
        "1024×768 JPEG": sizes["1024×768"]["JPEG, requests/s"],
    }


def per_core() -> dict[str, float]:
    """Kind of request → requests/s of one core, as the document has them."""
    rates: dict[str, float] = results("scale")["rates"]
    return rates


def replicas(rate: float, core: float) -> int:
    """Pods of the shipped size, as busy as the shipped autoscaler wants them."""
    busy = Spec.of_file(SHIPPED / "autoscaler.yaml").targets["cpu"] / 100
    return math.ceil(rate / (core * POD_CORES * busy))


def sizing() -> list[Row]:
    """Pods, cores and memory."""
    deployment = yaml.safe_load((SHIPPED / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    memory = quantity(container["resources"]["requests"]["memory"])
    rows = []
    for kind, core in per_core().items():
        row = {"one picture a request": kind, "requests/s of a core": f"{core:,.0f}"}
        for rate in RATES:
            pods = replicas(rate, core)
            row[f"{rate:,}/s: pods, cores, memory"] = (
                f"{pods:,}, {pods * POD_CORES:,}, {pods * memory / 2**30:,.0f} GiB"
            )
        rows.append(row)
    return rows


def network() -> list[Row]:
    """Bytes, packets and bits of one side of a proxy."""
    rows = []
    for kind, wire in results("scale")["wire"].items():
        extra = FRAME_BYTES + TLS_BYTES
        into, out = wire["request"] + extra, wire["answer"] + extra
        rows.append(
            {
                "answer": kind,
                "request + answer, bytes": f"{wire['request']} + {wire['answer']}",
                "on the wire": f"{into} + {out}",
                **{
                    f"{rate:,}/s": f"{rate * into / GIGABIT:.2g} in, {rate * out / GIGABIT:.2g} out"
                    for rate in RATES
                },
            }
        )
    return rows


def handshake_microseconds() -> float:
    """The signature of a TLS handshake, without the rest of it."""
    return float(1e6 / results("scale")["openssl"]["P-256 signatures"])


def proxies() -> list[Row]:
    """Cores and boxes of a proxy that reads HTTP."""
    found = results("scale")
    handshake = handshake_microseconds() / REQUESTS_A_CONNECTION
    rows = []
    for kind, spent in found["proxy µs"].items():
        whole = spent + (handshake if "TLS" in kind else 0)
        cores = {rate: rate * whole / 1e6 / PROXY_BUSY for rate in RATES}
        rows.append(
            {
                "proxy": kind,
                "CPU of a request": f"{spent:.0f} µs",
                **{f"cores for {rate:,}/s": f"{math.ceil(cores[rate]):,}" for rate in RATES},
                f"boxes of {PROXY_CORES} cores": f"{math.ceil(cores[RATES[-1]] / PROXY_CORES)}",
            }
        )
    return rows


def metrics() -> list[Row]:
    """What Prometheus has to take."""
    found = results("scale")["metrics"]
    million = replicas(RATES[-1], next(iter(per_core().values())))
    rows = []
    for count in (1, million, REPLICAS):
        series = count * found["series"]
        samples = series / SCRAPE_SECONDS
        rows.append(
            {
                "replicas": f"{count:,}",
                "series": f"{series:,}",
                "samples/s": f"{samples:,.0f}",
                "memory of Prometheus": f"{series * SERIES_BYTES / 1e9:,.2g} GB",
                "its disk a day": f"{samples * 86_400 * SAMPLE_BYTES / 1e9:,.2g} GB",
                "scraped": f"{count * found['bytes'] / SCRAPE_SECONDS / 1e6:,.2g} MB/s",
            }
        )
    return rows


def spreading() -> list[Row]:
    """How long a new model takes to 1,000 replicas, at the narrowest place of each way."""
    nodes = math.ceil(REPLICAS / PODS_A_NODE)
    rows = []
    for name, swap in results("scale")["swap"].items():
        size = swap["file"] * 1e6

        def seconds(copies: float, gigabits: float, size: float = size) -> float:
            return copies * size / (gigabits * GIGABIT)

        ways = {
            "image or image volume, a copy a node": (
                nodes * size,
                max(seconds(nodes, REGISTRY_GIGABITS), seconds(1, NODE_GIGABITS)),
            ),
            "init container from an object store, a copy a pod": (
                REPLICAS * size,
                max(seconds(REPLICAS, STORE_GIGABITS), seconds(PODS_A_NODE, NODE_GIGABITS)),
            ),
            "one file server, read by every worker": (
                REPLICAS * POD_CORES * size,
                seconds(REPLICAS * POD_CORES, NFS_GIGABITS),
            ),
        }
        rows += [
            {
                "model": name,
                "way": way,
                "moved": f"{moved / 1e12:.1f} TB" if moved >= 1e12 else f"{moved / 1e9:.2g} GB",
                "at least": f"{least:.2g} s" if least < 100 else f"{least / 60:.0f} min",
            }
            for way, (moved, least) in ways.items()
        ]
    return rows


def swaps() -> list[Row]:
    """Memory of one worker while a model is replaced."""
    return [
        {
            "model": name,
            "before": f"{swap['before']:,.0f} MB",
            "at the peak": f"{swap['peak']:,.0f} MB",
            "after": f"{swap['after']:,.0f} MB",
            "until it answers": f"{swap['seconds']:.0f} s",
        }
        for name, swap in results("scale")["swap"].items()
    ]


def queue() -> list[Row]:
    """What the autoscaler's second metric sees of a worker that is full."""
    return [
        {"requests at a worker": connections, "`logitserve_queue_pictures`": f"{value:.0f}"}
        for connections, value in results("scale")["queue"].items()
    ]


TABLES: tuple[Table, ...] = (sizing, network, proxies, metrics, spreading, swaps, queue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rates", action="store_true", help="take over what was last measured of one core"
    )
    if parser.parse_args().rates:
        found = {**results("scale"), "rates": last_rates()}
        (RESULTS / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
    for rows in TABLES:
        print(f"{rows.__name__}: {rows.__doc__}\n\n{table(rows())}")


if __name__ == "__main__":
    main()
