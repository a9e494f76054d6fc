"""Three replicas behind a proxy, under load: updates lose nothing, failures next to nothing."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.deploy.campaign import rolling_image, rolling_model
from tests.deploy.conftest import MEASURED, Image
from tests.deploy.engine import docker
from tests.deploy.load import Load, loading
from tests.deploy.replicas import (
    NETWORK,
    PROXIES,
    Proxy,
    Replica,
    another_image,
    three_replicas,
)
from tests.deploy.waiting import wait_until

pytestmark = pytest.mark.drill

CALLERS = 4
MOST_SECONDS = 5
"""Until a replica that is gone is out of rotation."""


@dataclass(frozen=True)
class Cluster:
    proxy: Proxy
    replicas: list[Replica]
    image: str
    proxy_name: str


@pytest.fixture(scope="module")
def replicas(
    image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Replica], str]]:
    folder = tmp_path_factory.mktemp("replicas")
    folder.chmod(0o755)
    docker("network", "create", NETWORK, check=False)  # as a run leaves it that was killed
    with three_replicas(image.name, folder) as started:
        yield started, image.name


@pytest.fixture(scope="module", params=sorted(PROXIES))
def cluster(
    request: pytest.FixtureRequest,
    replicas: tuple[list[Replica], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    assert shutil.which(request.param), (
        f"{request.param} is missing: `make test-deploy` installs it"
    )
    started, image = replicas
    folder = tmp_path_factory.mktemp(request.param)
    folder.chmod(0o755)
    with PROXIES[request.param](started, folder) as proxy:
        yield Cluster(proxy, started, image, request.param)


def under_way(load: Load) -> None:
    answered = load.answered
    wait_until(lambda: load.answered > answered + 50, what="load")


def test_a_rolling_update_of_models_and_image_loses_nothing(cluster: Cluster) -> None:
    with loading(CALLERS, base_url=cluster.proxy.url) as load:
        under_way(load)
        rolling_model(cluster.replicas)
        rolling_image(cluster.proxy, cluster.replicas, another_image(cluster.image))
        under_way(load)
    assert load.lost == []


@pytest.mark.parametrize("fault", ["kill -9", "network cut"])
def test_a_replica_that_is_gone_costs_what_it_had_in_flight(cluster: Cluster, fault: str) -> None:
    replica = cluster.replicas[1]
    with loading(CALLERS, base_url=cluster.proxy.url) as load:
        wait_until(lambda: cluster.proxy.asks(replica), what="it has its share")
        begun = time.monotonic()
        if fault == "kill -9":
            replica.kill()
        else:
            replica.cut()
        wait_until(lambda: not cluster.proxy.asks(replica), what="it is out of rotation")
        seconds = time.monotonic() - begun
        under_way(load)
        lost = list(load.lost)
        under_way(load)
        if fault == "kill -9":
            replica.start(cluster.image)
        else:
            replica.mend()
        wait_until(lambda: cluster.proxy.asks(replica), what="it has its share again")
        under_way(load)
    MEASURED[f"{cluster.proxy_name}, {fault}: until it is out of rotation, s"] = seconds
    MEASURED[f"{cluster.proxy_name}, {fault}: requests lost"] = len(lost)
    assert len(lost) <= CALLERS
    assert load.lost == lost, "requests were lost after what it had in flight"
    assert seconds < MOST_SECONDS
