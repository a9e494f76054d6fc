"""The containers of the manifests, run with Docker exactly as the manifests say."""

import shutil
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import MEASURED, Image
from tests.deploy.engine import ROOT, docker, inspected
from tests.deploy.kustomize import Manifest, documents, kustomized
from tests.deploy.load import loading
from tests.deploy.pods import environment, pod_of, running_pod
from tests.deploy.test_manifests import KSERVE, KUBERNETES, with_component
from tests.deploy.waiting import wait_until
from tests.load.requests import MIX, drawings, prepared, v2_json

KEY = "a-key-of-a-secret"


def kserve_pod(name: str) -> Manifest:
    """The runtime's pod for an InferenceService, as KServe makes it: its mount, and its name."""
    (runtime,) = documents(KSERVE / "runtime.yaml")
    pod: Manifest = runtime["spec"]
    (container,) = pod["containers"]
    for variable in container["env"]:
        variable["value"] = variable["value"].replace("{{.Name}}", name)
    mount = {"name": "model", "mountPath": "/mnt/models", "readOnly": True}
    container["volumeMounts"].append(mount)
    pod["volumes"].append({"name": "model"})
    return pod


def ask(url: str, **headers: str) -> httpx.Response:
    request = prepared()[MIX[0]][0]
    answer = httpx.post(
        f"{url}{request.path}", content=request.body, headers={**request.headers, **headers}
    )
    if answer.status_code == 200:
        assert not request.wrong(answer.content)
    return answer


def test_the_pod_runs_as_the_manifest_says_and_stops_under_load_without_loss(image: Image) -> None:
    pod = pod_of(kustomized(KUBERNETES / "base"))
    with running_pod(pod, image.name, {}) as started, started.followed():
        host = inspected(started.name)["HostConfig"]
        assert (host["Memory"], host["NanoCpus"]) == (2**30, 10**9)
        assert host["ReadonlyRootfs"]
        readiness, liveness = started.probes["readinessProbe"], started.probes["livenessProbe"]
        with loading(4, base_url=started.url) as load:
            wait_until(lambda: load.answered > 200, what="load")
            wait_until(lambda: len(readiness.answers) > 1, what="readiness under load")
            assert all(readiness.answers)
            assert all(liveness.answers)
            assert liveness.answers
            status, seconds = started.stop()
        log = docker("logs", started.name)
        assert readiness.failed.wait(10), "it was not seen to be unready"
    MEASURED["from SIGTERM to the pod's end, s"] = seconds
    assert load.lost == []
    assert status == 0, log
    assert seconds < started.grace_seconds
    assert "Traceback" not in log
    assert "may be reset" not in log


def test_a_pod_that_stops_takes_connections_until_it_is_out_of_the_service(image: Image) -> None:
    pod = pod_of(kustomized(KUBERNETES / "base"))
    linger = float(environment(pod["containers"][0])["LOGITSERVE_LINGER_SECONDS"])
    with running_pod(pod, image.name, {}) as started:
        docker("kill", "--signal=TERM", started.name)
        readiness = started.probes["readinessProbe"]
        wait_until(lambda: not readiness.ask(), seconds=linger, what="unready")
        assert ask(started.url).status_code == 200
        wait_until(
            lambda: not inspected(started.name)["State"]["Running"],
            seconds=started.grace_seconds,
            what="the end",
        )
        assert inspected(started.name)["State"]["ExitCode"] == 0


def test_a_pod_of_the_production_overlay_asks_for_the_key_of_its_secret(
    image: Image, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "api-key").write_text(f"{KEY}\n")
    (secret / "api-key").chmod(0o440)
    shutil.chown(secret / "api-key", group=10001)
    pod = pod_of(kustomized(KUBERNETES / "overlays/production"))
    with running_pod(pod, image.name, {"api-key": secret}) as started:
        assert inspected(started.name)["HostConfig"]["NanoCpus"] == 2 * 10**9
        assert ask(started.url).status_code == 401
        assert ask(started.url, Authorization=f"Bearer {KEY}").status_code == 200
        authorized = {"Authorization": f"Bearer {KEY}"}

        def metrics() -> str:
            return httpx.get(f"{started.url}/metrics", headers=authorized).text

        # It is ready with the first worker; the second may take longer.
        wait_until(lambda: "logitserve_workers 2.0" in metrics(), what="both workers")
        assert 'logitserve_queue_pictures{model="digits"}' in metrics()


@pytest.mark.parametrize("component", ["models-from-volume", "models-from-image"])
def test_models_come_from_where_a_component_says(
    image: Image, tmp_path: Path, component: str
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    if component == "models-from-volume":
        shutil.copytree(ROOT / "models/digits", volume / "models/digits")
    shutil.chown(volume, user=10001)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    pod = pod_of(with_component(component))
    with running_pod(pod, image.name, {"models": volume}) as started:
        assert ask(started.url).status_code == 200
        served = {found["name"] for found in httpx.get(f"{started.url}/models").json()["models"]}
    everything = {entry.name for entry in (ROOT / "models").iterdir()}
    assert served == ({"digits"} if component == "models-from-volume" else everything)


@pytest.mark.parametrize("layout", ["model.onnx", "1/model.onnx"])
def test_the_runtime_of_kserve_serves_what_kserve_mounts(
    image: Image, tmp_path: Path, layout: str
) -> None:
    mounted = tmp_path / "mounted"
    (mounted / layout).parent.mkdir(parents=True)
    shutil.copy(ROOT / "models/digits/1/model.onnx", mounted / layout)
    mounted.chmod(0o755)
    tmp_path.chmod(0o755)
    request = v2_json(drawings()[:20])
    with running_pod(kserve_pod("cats"), image.name, {"model": mounted}) as started:
        path = "/v2/models/cats"
        assert httpx.get(f"{started.url}{path}/ready").status_code == 200
        answer = httpx.post(
            f"{started.url}{path}/infer", content=request.body, headers=request.headers
        )
        assert answer.json()["model_name"] == "cats"
        assert not request.wrong(answer.content)


def test_the_runtime_of_kserve_stops_under_load_without_loss(image: Image) -> None:
    (service,) = documents(KSERVE / "inference-service.yaml")
    name = service["metadata"]["name"]
    folders = {"model": ROOT / "models" / name}
    with (
        running_pod(kserve_pod(name), image.name, folders) as started,
        loading(2, base_url=started.url) as load,
    ):
        wait_until(lambda: load.answered > 100, what="load")
        assert started.stop()[0] == 0
    assert load.lost == []
