"""The manifests of Kubernetes and KServe: valid by the published schemas, and in step.

Kubernetes' own kinds are held against the schemas that kubernetes-validate ships, custom resources
against those of their projects (`schemas/README.md`). The kustomizations are resolved by
`kustomize.py`, which is compared with kubectl where that is installed.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from logitserve_service.config.settings import Settings
from logitserve_service.telemetry.families import QUEUE
from tests.deploy.kustomize import Manifest, documents, kustomized
from tests.deploy.pods import GRACE_SECONDS, environment, pod_of, quantity

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
KSERVE = ROOT / "deploy/kserve"
SCHEMAS = Path(__file__).parent / "schemas"
RELEASES = ("1.30", "1.37")
"""Of Kubernetes: the oldest that the manifests are for, and the newest whose schemas there are."""
OVERLAYS = ("base", "overlays/production")
COMPONENTS = ("api-key", "models-from-volume", "models-from-image")


def with_component(name: str) -> list[Manifest]:
    """The base with a component."""
    return kustomized(KUBERNETES / "base", KUBERNETES / "components" / name)


VARIANTS = {
    **{name: kustomized(KUBERNETES / name) for name in OVERLAYS},
    **{name: with_component(name) for name in COMPONENTS},
    "kserve": [found for file in sorted(KSERVE.glob("*.yaml")) for found in documents(file)],
}


def closed(schema: Any) -> Any:
    """The same schema, but that objects have no other properties than it names.

    As the API server has it with strict field validation, which kubectl asks for.
    """
    if isinstance(schema, list):
        return [closed(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    of_an_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if of_an_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


def check(manifest: Manifest, release: str) -> None:
    """Hold a manifest against the schema of its kind; raises what is wrong with it."""
    own = SCHEMAS / f"{manifest['kind'].lower()}.json"
    if not own.exists():
        kubernetes_validate.validate(manifest, release, strict=True)
        return
    schema = closed(json.loads(own.read_text()))
    schema["properties"]["metadata"].pop("additionalProperties", None)
    jsonschema.Draft202012Validator(schema).validate(manifest)


def test_kserve_takes_the_metric_in_the_mode_of_the_service() -> None:
    """KServe's webhook (`validateScalingHPACompExtension`, `validateScalingKPACompExtension`)."""
    (service,) = documents(KSERVE / "inference-service.yaml")
    modes = {"Standard": {"cpu", "memory"}, "Serverless": {"concurrency", "rps"}}
    mode = service["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
    assert service["spec"]["predictor"]["scaleMetric"] in modes[mode or "Serverless"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_manifest_is_valid_by_the_published_schemas(variant: str, release: str) -> None:
    for manifest in VARIANTS[variant]:
        check(manifest, release)


@pytest.mark.parametrize(
    "kind",
    sorted({manifest["kind"] for manifests in VARIANTS.values() for manifest in manifests}),
)
def test_a_field_that_there_is_not_is_found(kind: str) -> None:
    manifest = next(m for ms in VARIANTS.values() for m in ms if m["kind"] == kind)
    misspelled = {**manifest, "spec": {**manifest["spec"], "replica": 2}}
    wrong = (kubernetes_validate.ValidationError, jsonschema.ValidationError)
    with pytest.raises(wrong, match="replica"):
        check(misspelled, RELEASES[0])


def test_every_file_belongs_to_a_variant() -> None:
    """So that none is left unchecked; the adapter's rule is no manifest, see below."""
    named = {"prometheus-adapter.yaml"}
    for file in KUBERNETES.rglob("kustomization.yaml"):
        described = yaml.safe_load(file.read_text())
        patches = [patch["path"] for patch in described.get("patches", ())]
        named |= {file.name, *described.get("resources", ()), *patches}
        folder = str(file.parent.relative_to(KUBERNETES))
        assert folder.removeprefix("components/") in VARIANTS
    for file in KUBERNETES.rglob("*.yaml"):
        assert file.name in named, file


def test_kubectl_makes_the_same_of_the_folders(tmp_path: Path) -> None:
    """Where there is a kubectl that knows components: Debian 12's is too old."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: what kustomize.py makes is not compared with it")
    version = subprocess.run(
        ["kubectl", "version", "--client"], capture_output=True, text=True, check=False
    ).stdout
    if not re.search(r"Kustomize Version: v[5-9]", version):
        pytest.skip("kubectl is older than 1.27: what kustomize.py makes is not compared with it")
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    for name in COMPONENTS:
        made = tmp_path / "kubernetes/overlays" / name
        made.mkdir()
        described = {"resources": ["../../base"], "components": [f"../../components/{name}"]}
        (made / "kustomization.yaml").write_text(yaml.safe_dump(described))
    for name in (*OVERLAYS, *COMPONENTS):
        folder = tmp_path / "kubernetes" / (name if name in OVERLAYS else f"overlays/{name}")
        done = subprocess.run(
            ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True
        )
        theirs = [found for found in yaml.safe_load_all(done.stdout) if found]
        assert sorted_lists(theirs) == sorted_lists(VARIANTS[name]), name


def sorted_lists(value: Any) -> Any:
    """The same, but for the order of lists, which kustomize changes where it merges them."""
    if isinstance(value, dict):
        return {key: sorted_lists(found) for key, found in value.items()}
    if isinstance(value, list):
        return sorted(
            (sorted_lists(found) for found in value), key=lambda v: json.dumps(v, sort_keys=True)
        )
    return value


def containers() -> list[tuple[str, Manifest, Manifest]]:
    """Each that serves, with its variant and its pod."""
    pods = [(name, pod_of(VARIANTS[name])) for name in (*OVERLAYS, *COMPONENTS)]
    (runtime,) = [m["spec"] for m in VARIANTS["kserve"] if m["kind"] == "ClusterServingRuntime"]
    return [(name, pod, pod["containers"][0]) for name, pod in [*pods, ("kserve", runtime)]]


@pytest.mark.parametrize(("variant", "pod", "container"), containers())
def test_limits_settings_and_times_are_in_step(
    variant: str, pod: Manifest, container: Manifest
) -> None:
    del variant
    variables = environment(container)
    for name in variables:
        assert name.removeprefix("LOGITSERVE_").lower() in Settings.model_fields, name
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    processors = int(variables["LOGITSERVE_WORKERS"]) * int(variables["LOGITSERVE_THREADS"])
    assert quantity(limits["cpu"]) == quantity(requests["cpu"]) == processors
    assert quantity(limits["memory"]) >= quantity(requests["memory"])
    linger = float(variables["LOGITSERVE_LINGER_SECONDS"])
    drain = float(variables["LOGITSERVE_DRAIN_SECONDS"])
    readiness = container["readinessProbe"]
    unready = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert unready < linger < drain < pod.get("terminationGracePeriodSeconds", GRACE_SECONDS)
    (port,) = container["ports"]
    assert variables["LOGITSERVE_PORT"] == str(port["containerPort"])


def test_the_image_is_the_one_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (version,) = set(re.findall(r'image\.version="([^"]+)"', dockerfile))
    images = {name: container["image"] for name, _, container in containers()}
    assert images.pop("overlays/production") == f"registry.example.com/logitserve:{version}"
    assert set(images.values()) == {f"logitserve:{version}"}


def test_what_refers_to_each_other_agrees() -> None:
    by_kind = {manifest["kind"]: manifest for manifest in VARIANTS["overlays/production"]}
    deployment = by_kind["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    (port,) = deployment["template"]["spec"]["containers"][0]["ports"]
    assert deployment["selector"]["matchLabels"] == labels
    assert by_kind["Service"]["spec"]["selector"] == labels
    assert by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    policy = by_kind["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port["name"]}]
    (service_port,) = by_kind["Service"]["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    monitor = by_kind["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"] == by_kind["Service"]["metadata"]["labels"]
    assert monitor["endpoints"][0]["port"] == service_port["name"]
    scaler = by_kind["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == by_kind["Deployment"]["metadata"]["name"]
    assert "replicas" not in deployment
    (runtime,) = [m for m in VARIANTS["kserve"] if m["kind"] == "ClusterServingRuntime"]
    (service,) = [m for m in VARIANTS["kserve"] if m["kind"] == "InferenceService"]
    asked = service["spec"]["predictor"]["model"]
    assert asked["runtime"] == runtime["metadata"]["name"]
    assert asked["protocolVersion"] in runtime["spec"]["protocolVersions"]
    (format_read,) = runtime["spec"]["supportedModelFormats"]
    assert asked["modelFormat"] == {key: format_read[key] for key in ("name", "version")}


def test_the_autoscaler_asks_for_what_the_adapter_says_of_the_service(tmp_path: Path) -> None:
    """Its rule is run by promtool, as the adapter would fill it in for one pod."""
    assert shutil.which("promtool"), "prometheus is missing: `make test-deploy` installs it"
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    metric = f"logitserve_{QUEUE.name}"
    (scaler,) = [m for m in VARIANTS["overlays/production"] if "metrics" in m["spec"]]
    asked = scaler["spec"]["metrics"][1]["pods"]["metric"]["name"]
    assert asked == rule["name"]["as"] == metric
    assert re.fullmatch(rule["name"]["matches"], metric)
    assert rule["seriesQuery"].startswith(f"{metric}{{")
    query = rule["metricsQuery"]
    filled = {"Series": metric, "LabelMatchers": 'namespace="n",pod="a"', "GroupBy": "pod"}
    for name, value in filled.items():
        query = query.replace(f"<<.{name}>>", value)
    series = [
        {"series": f'{metric}{{namespace="n",pod="a",model="{model}"}}', "values": values}
        for model, values in {"digits": "0 10 20 30 40", "scenes": "2x4"}.items()
    ]
    other = {"series": f'{metric}{{namespace="n",pod="b",model="digits"}}', "values": "900x4"}
    expected = {"labels": '{pod="a"}', "value": 32}  # (20 + 30 + 40) / 3, and 2
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [*series, other],
                "promql_expr_test": [{"expr": query, "eval_time": "2m", "exp_samples": [expected]}],
            }
        ],
    }
    file = tmp_path / "adapter.test.yml"
    file.write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
