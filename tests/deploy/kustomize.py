"""What `kubectl kustomize` makes of a folder, for machines that have no kubectl.

Exactly the features that `deploy/kubernetes` uses: `resources`, `components`, strategic merge
`patches` by `path`, and `images`; anything else is refused, so that nothing is passed over.
`test_manifests.py` compares it with kubectl where there is one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "images"}
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
"""Lists whose items are merged by a key (`x-kubernetes-patch-merge-key`); others are replaced."""

Manifest = dict[str, Any]


def documents(file: Path) -> list[Manifest]:
    """The manifests of a file."""
    return [dict(found) for found in yaml.safe_load_all(file.read_text())]


def kustomized(folder: Path, *components: Path) -> list[Manifest]:
    """The manifests that a folder stands for, with more components on top."""
    manifests = _applied(folder, [])
    for component in components:
        manifests = _applied(component, manifests)
    return manifests


def _applied(folder: Path, manifests: list[Manifest]) -> list[Manifest]:
    (described,) = documents(folder / "kustomization.yaml")
    assert set(described) <= KNOWN, f"{folder}: not known here: {set(described) - KNOWN}"
    for name in described.get("resources", ()):
        path = folder / name
        manifests = manifests + (kustomized(path) if path.is_dir() else documents(path))
    for name in described.get("components", ()):
        manifests = _applied(folder / name, manifests)
    for patch in described.get("patches", ()):
        assert set(patch) == {"path"}, f"{folder}: not known here: {patch}"
        for change in documents(folder / patch["path"]):
            manifests = _patched(manifests, change)
    for image in described.get("images", ()):
        for container in _containers(manifests):
            name, _, tag = container["image"].partition(":")
            if name == image["name"]:
                container["image"] = f"{image['newName']}:{image.get('newTag', tag)}"
    return manifests


def _identity(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _patched(manifests: list[Manifest], change: Manifest) -> list[Manifest]:
    assert _identity(change) in map(_identity, manifests), f"nothing to patch: {_identity(change)}"
    return [
        merged(manifest, change) if _identity(manifest) == _identity(change) else manifest
        for manifest in manifests
    ]


def merged(base: Any, change: Any, name: str = "") -> Any:
    """A strategic merge."""
    if isinstance(base, dict) and isinstance(change, dict):
        result = {key: value for key, value in base.items() if change.get(key, value) is not None}
        for key, value in change.items():
            if value is not None:
                result[key] = merged(base.get(key), value, key)
        return result
    if isinstance(base, list) and isinstance(change, list) and name in MERGE_KEYS:
        key = MERGE_KEYS[name]
        items = {item[key]: item for item in base}
        for item in change:
            items[item[key]] = merged(items.get(item[key]), item)
        return list(items.values())
    return change


def _containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for manifest in manifests:
        pod = manifest["spec"].get("template", {}).get("spec", {})
        yield from pod.get("containers", ())
        yield from pod.get("initContainers", ())
