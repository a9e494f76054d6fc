import os

import pytest
from hypothesis import settings

FIRST = ("e2e", "training")
"""Folders whose files take longest; short files at the end keep all processes busy to it."""

# How long an example takes says more about who else uses the machine than about the code.
# In CI the examples are always the same, so that a run judges the change and not its luck;
# everywhere else they are new each time.
settings.register_profile("logitserve", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("logitserve")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order in which `--dist loadfile --no-loadscope-reorder` hands files out."""
    items.sort(key=lambda item: not any(folder in item.path.parts for folder in FIRST))
