"""Runs the containers of a pod with Docker as a kubelet would: limits, mounts, probes, the stop.

What is not known here is refused, so that no field of a manifest is passed over in silence.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.engine import docker, inspected
from tests.deploy.kustomize import Manifest

FOR_THE_CLUSTER = {
    *("automountServiceAccountToken", "enableServiceLinks", "topologySpreadConstraints"),
    *("annotations", "supportedModelFormats", "protocolVersions"),
}
"""Of a pod or a runtime of KServe: what is no matter of the container's."""
OF_A_POD = {
    *("containers", "initContainers", "volumes", "securityContext"),
    "terminationGracePeriodSeconds",
}
OF_A_CONTAINER = {
    *("name", "image", "command", "args", "env", "ports", "resources", "securityContext"),
    *("volumeMounts", "startupProbe", "readinessProbe", "livenessProbe"),
}
GRACE_SECONDS = 30
"""Of Kubernetes, where a pod names none."""
HARDENING = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
UNITS = {"Mi": 2**20, "Gi": 2**30, "m": 0.001, "": 1}


def quantity(text: str) -> float:
    """A number of Kubernetes: `500m`, `64Mi`."""
    number = text.rstrip("Mimg" + "G")
    return float(number) * UNITS[text.removeprefix(number)]


def environment(container: Manifest) -> dict[str, str]:
    """Its variables; each must have a value of its own."""
    return {variable["name"]: variable["value"] for variable in container.get("env", ())}


def _security(pod: Manifest, container: Manifest) -> list[str]:
    context = {**pod.get("securityContext", {}), **container["securityContext"]}
    user, group = context.pop("runAsUser"), context.pop("runAsGroup")
    options = [f"--user={user}:{group}"]
    if extra := context.pop("fsGroup", None):
        options.append(f"--group-add={extra}")
    assert context == HARDENING, f"{container['name']}: {context}"
    # Seccomp: Docker's own profile is what a runtime gives by default.
    return [*options, "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]


def _mounts(pod: Manifest, container: Manifest, folders: Mapping[str, Path]) -> list[str]:
    volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
    options = []
    for mount in container.get("volumeMounts", ()):
        volume, target = volumes[mount["name"]], mount["mountPath"]
        if volume.get("emptyDir", {}).get("medium") == "Memory":
            size = int(quantity(volume["emptyDir"]["sizeLimit"]))
            options.append(f"--mount=type=tmpfs,target={target},tmpfs-size={size},tmpfs-mode=1777")
        else:
            mode = ",readonly" if mount.get("readOnly") else ""
            options.append(
                f"--mount=type=bind,source={folders[mount['name']]},target={target}{mode}"
            )
    return options


def docker_options(pod: Manifest, container: Manifest, folders: Mapping[str, Path]) -> list[str]:
    """What `docker run` is told, but for the image and its arguments.

    Args:
        pod: the specification.
        container: one of its containers.
        folders: volume → the folder that stands for it, but for those in memory.
    """
    assert set(pod) <= OF_A_POD | FOR_THE_CLUSTER, set(pod)
    assert set(container) <= OF_A_CONTAINER, set(container)
    limits = container["resources"]["limits"]
    memory = int(quantity(limits["memory"]))
    return [
        *_security(pod, container),
        *_mounts(pod, container, folders),
        *(f"--env={name}={value}" for name, value in environment(container).items()),
        *(f"--cpus={quantity(limits['cpu']):g}", f"--memory={memory}", f"--memory-swap={memory}"),
        *(f"--entrypoint={word}" for word in container.get("command", ())[:1]),
    ]


def _words(container: Manifest) -> list[str]:
    return [*container.get("command", ())[1:], *container.get("args", ())]


@dataclass
class Probe:
    """Asks as often as a kubelet does, and comes to its verdict."""

    described: Manifest
    url: str
    failed: threading.Event = field(default_factory=threading.Event)
    answers: list[bool] = field(default_factory=list)

    def ask(self) -> bool:
        """Once."""
        path, seconds = self.described["httpGet"]["path"], self.described["timeoutSeconds"]
        try:
            status = httpx.get(f"{self.url}{path}", timeout=seconds).status_code
        except httpx.TransportError:
            status = 0
        good = 200 <= status < 400
        self.answers.append(good)
        return good

    def follow(self, ended: threading.Event) -> None:
        """Ask until the end; `failed` is set while so many in a row were not good."""
        ended.wait(self.described.get("initialDelaySeconds", 0))
        failures = 0
        while not ended.is_set():
            failures = 0 if self.ask() else failures + 1
            if failures >= self.described["failureThreshold"]:
                self.failed.set()
            elif not failures:
                self.failed.clear()
            ended.wait(self.described["periodSeconds"])


@dataclass
class RunningPod:
    """Its container, and what its probes say."""

    name: str
    url: str
    """By the container's own address: the forwarder of a published port takes connections when
    nobody listens."""
    grace_seconds: float
    probes: dict[str, Probe]

    def start(self) -> None:
        """Wait as the startup probe does, or the readiness probe where there is none."""
        probe = self.probes.get("startupProbe", self.probes["readinessProbe"])
        tries = probe.described["failureThreshold"] if "startupProbe" in self.probes else 60
        for _ in range(tries):
            if probe.ask():
                return
            assert inspected(self.name)["State"]["Running"], docker("logs", self.name)
            time.sleep(probe.described["periodSeconds"])
        raise TimeoutError(f"not started: {docker('logs', self.name)}")

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Readiness and liveness are asked meanwhile."""
        ended = threading.Event()
        threads = [
            threading.Thread(target=probe.follow, args=(ended,))
            for name, probe in self.probes.items()
            if name != "startupProbe"
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def stop(self) -> tuple[int, float]:
        """SIGTERM, and SIGKILL after the grace period; the exit status, and the seconds it took."""
        begun = time.monotonic()
        docker("stop", f"--time={self.grace_seconds:g}", self.name)
        return inspected(self.name)["State"]["ExitCode"], time.monotonic() - begun


@contextmanager
def running_pod(pod: Manifest, image: str, folders: Mapping[str, Path]) -> Iterator[RunningPod]:
    """Run the init containers and then the container of a pod, each from `image`."""
    (container,) = pod["containers"]
    for first in pod.get("initContainers", ()):
        options = docker_options(pod, first, folders)
        docker("run", "--rm", *options, image, *_words(first))
    (port,) = container["ports"]
    options = docker_options(pod, container, folders)
    name = docker("run", "--detach", *options, image, *_words(container)).strip()
    try:
        (network,) = inspected(name)["NetworkSettings"]["Networks"].values()
        url = f"http://{network['IPAddress']}:{port['containerPort']}"
        for probe in (value for key, value in container.items() if key.endswith("Probe")):
            assert probe["httpGet"]["port"] in {port.get("name"), port["containerPort"]}
        probes = {k: Probe(v, url) for k, v in container.items() if k.endswith("Probe")}
        grace = pod.get("terminationGracePeriodSeconds", GRACE_SECONDS)
        started = RunningPod(name, url, grace, probes)
        started.start()
        yield started
    finally:
        docker("rm", "--force", name)


def pod_of(manifests: list[Manifest]) -> Manifest:
    """The pod of the one Deployment among them."""
    (deployment,) = [found for found in manifests if found["kind"] == "Deployment"]
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod
