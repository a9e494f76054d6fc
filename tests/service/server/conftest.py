from collections.abc import Iterator

import pytest

from tests.service.serving import Bench, bench


@pytest.fixture(scope="module")
def of_module() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.fixture
def served(of_module: Bench) -> Iterator[Bench]:
    of_module.records.clear()
    of_module.gated.entered.clear()
    of_module.gated.gate.set()
    yield of_module
    of_module.gated.gate.set()
