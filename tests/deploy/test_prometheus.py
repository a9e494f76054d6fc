"""Debian's Prometheus with `deploy/prometheus`, which scrapes a real service."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from logitserve_service.telemetry.families import FAMILIES
from tests.deploy.load import loading
from tests.deploy.scraping import FOLDER, KEY, Prometheus, scraping
from tests.deploy.waiting import wait_until
from tests.e2e.process import clean_environment, running

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards/logitserve.json").read_text())


def test_promtool_finds_nothing_wrong() -> None:
    assert shutil.which("promtool"), "prometheus is missing: `make test-deploy` installs it"
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml", "alerts.yml"],
        ["test", "rules", "rules.test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def groups_of(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((FOLDER / name).read_text())["groups"])


def test_every_alert_says_what_to_do_and_is_in_the_runbook() -> None:
    (group,) = groups_of("alerts.yml")
    runbook = (ROOT / "docs/runbook.md").read_text()
    entries = re.findall(r"^### (Logitserve\w+)$", runbook, re.MULTILINE)
    assert entries == [rule["alert"] for rule in group["rules"]]
    for rule in group["rules"]:
        notes = rule["annotations"]
        assert set(notes) == {"summary", "action", "runbook_url"}, rule
        assert notes["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule


def test_every_alert_is_drilled() -> None:
    drills = "".join(file.read_text() for file in Path(__file__).parent.glob("test_alerts*.py"))
    (group,) = groups_of("alerts.yml")
    assert [rule["alert"] for rule in group["rules"] if rule["alert"] not in drills] == []


def test_kubernetes_gets_the_same_rules_and_the_same_dashboard(tmp_path: Path) -> None:
    """By prometheus-operator's PrometheusRule, and a ConfigMap that Grafana's sidecar takes."""
    done = subprocess.run([ROOT / "scripts/monitoring-manifests"], capture_output=True, check=True)
    rule, dashboard = yaml.safe_load_all(done.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    groups = rule["spec"]["groups"]
    assert groups == groups_of("rules.yml") + groups_of("alerts.yml")
    assert len({group["name"] for group in groups}) == len(groups)
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    subprocess.run(["promtool", "check", "rules", file], check=True)
    assert (dashboard["apiVersion"], dashboard["kind"]) == ("v1", "ConfigMap")
    assert json.loads(dashboard["data"]["logitserve.json"]) == DASHBOARD


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a service with a key that is under load."""
    environment = clean_environment(LOGITSERVE_API_KEY=KEY)
    # The load is not like the training: without the floor, drift would be alarmed rightly.
    options = ("--models", str(ROOT / "models"), "--watch", "true", "--drift-floor", "1000")
    with running(*options, environment=environment) as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        with (
            loading(2, base_url=server.url, headers=headers) as load,
            scraping(server.url.removeprefix("http://"), tmp_path_factory.mktemp("p")) as started,
        ):
            wait_until(lambda: load.answered > 20, what="load")
            rates = "logitserve:request_seconds:p99_5m"
            wait_until(lambda: started.values(rates), what="rates are recorded")
            yield started
        assert not load.lost


def test_the_service_is_scraped_with_its_key(prometheus: Prometheus) -> None:
    assert prometheus.values('up{job="logitserve"}') == [1]
    assert prometheus.values("logitserve_ready") == [1]


def test_a_rotation_of_keys_loses_no_scrape(tmp_path: Path) -> None:
    """As docs/deploy.md has it: Prometheus's key has a file of its own."""
    keys, prometheus_key = tmp_path / "keys", tmp_path / "prometheus/api-key"
    keys.write_text(f"{KEY}\n")
    options = ("--models", str(ROOT / "models"), "--api-key-file", str(keys))
    with (
        running(*options) as server,
        scraping(server.url.removeprefix("http://"), tmp_path / "prometheus") as prometheus,
    ):

        def scrapes() -> float:
            return sum(prometheus.values('count_over_time(up{job="logitserve"}[1h])'))

        for file, content in (
            (keys, f"{KEY}\nnew-key\n"),
            (prometheus_key, "new-key\n"),
            (keys, "new-key\n"),
        ):
            file.write_text(content)
            before = scrapes()
            wait_until(lambda before=before: scrapes() >= before + 3, what="it is scraped")  # type: ignore[misc]
        assert prometheus.values('min_over_time(up{job="logitserve"}[1h])') == [1]
        old = {"Authorization": f"Bearer {KEY}"}
        assert httpx.get(f"{server.url}/metrics", headers=old).status_code == 401


def test_every_rule_works_and_no_alert_is_wrong(prometheus: Prometheus) -> None:
    groups = prometheus.get("/api/v1/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 27
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    for rule in rules:
        if rule["type"] == "recording":
            assert prometheus.values(rule["name"]), rule["name"]
    assert prometheus.get("/api/v1/alerts")["alerts"] == []


QUERIES = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


@pytest.mark.parametrize("which", QUERIES)
def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus, which: str) -> None:
    asked = QUERIES[which].replace("$__rate_interval", "10s").replace("$instance", ".*")
    asked = asked.replace("$model", ".*")
    assert "$" not in asked
    wait_until(lambda: prometheus.values(asked), what=asked, seconds=15)


def test_the_choices_of_the_dashboard_have_values(prometheus: Prometheus) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        inner = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
        selector, label = inner.rsplit(", ", 1)
        found = prometheus.get(f"/api/v1/label/{label}/values", **{"match[]": selector})
        assert found, variable["name"]


def test_the_dashboard_shows_every_metric_of_the_service() -> None:
    shown = " ".join(QUERIES.values())
    unseen = [family.name for family in FAMILIES if f"{family.prefix}{family.name}" not in shown]
    assert unseen == []


def test_the_panels_lie_beside_each_other_and_ask_the_provisioned_source() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_compose_puts_the_dashboard_where_grafana_is_told_to_look() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/logitserve.yml").read_text())[
        "providers"
    ]
    volumes = compose["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in volumes
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in volumes
