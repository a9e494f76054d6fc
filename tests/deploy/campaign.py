"""Rolling updates under load, many times: what docs/deploy.md tells of.

python -m tests.deploy.campaign --rounds 5
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from tests.deploy.engine import Compose, base_image, running_engine
from tests.deploy.load import Load, loading
from tests.deploy.replicas import PROXIES, Proxy, Replica, another_image, three_replicas
from tests.deploy.waiting import wait_until

CALLERS = 4
IMAGE = "logitserve-test:service"


def rolling_model(replicas: list[Replica]) -> None:
    """Publish a new version to one replica after the other."""
    version = str(int(replicas[0].version()) + 1)
    for replica in replicas:
        replica.publish(version)


def rolling_image(proxy: Proxy, replicas: list[Replica], image: str) -> None:
    """Replace one replica after the other by one of another image."""
    for replica in replicas:
        assert replica.stop() == 0
        replica.start(image)
        wait_until(lambda replica=replica: proxy.asks(replica), what="it has its share")  # type: ignore[misc]


def updates(proxy: Proxy, replicas: list[Replica], rounds: int) -> bool:
    """Update models and image so often, under load; whether nothing was lost."""
    good = True
    for number in range(1, rounds + 1):
        with loading(CALLERS, base_url=proxy.url) as load:
            _under_way(load)
            rolling_model(replicas)
            rolling_image(proxy, replicas, another_image(IMAGE))
            _under_way(load)
        sent = load.answered + len(load.lost)
        click.echo(f"{type(proxy).__name__}, round {number}: {len(load.lost)} of {sent} lost")
        for lost in load.lost[:5]:
            click.echo(f"    {lost}")
        good = good and not load.lost
    return good


def _under_way(load: Load) -> None:
    answered = load.answered
    wait_until(lambda: load.answered > answered + 50, what="load")


def run(rounds: int, report: Callable[[bool], None]) -> None:
    """Build the image, and update behind each proxy."""
    with tempfile.TemporaryDirectory() as made, running_engine(Path(made) / "dockerd.log"):
        folder = Path(made)
        folder.chmod(0o755)
        environment = {"PYTHON_IMAGE": base_image(), "SERVICE_IMAGE": IMAGE}
        Compose(environment).run("build", "service")
        with three_replicas(IMAGE, folder / "models") as replicas:
            for name, started in PROXIES.items():
                (folder / name).mkdir()
                with started(replicas, folder / name) as proxy:
                    report(updates(proxy, replicas, rounds))


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rolling updates behind each proxy.")
def main(rounds: int) -> None:
    """Exit status 1 if a request was lost."""
    results: list[bool] = []
    run(rounds, results.append)
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
