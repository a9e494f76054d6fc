"""`python -m tests.deploy.schemas.trim CRD.yaml VERSION [PROPERTY…] > kind.json`: a small schema.

Takes the OpenAPI schema of one version out of a CustomResourceDefinition, without descriptions and
without the named properties of `spec` (`predictor.xgboost` is one of `spec.predictor`), whose
absence makes the check stricter, never looser: see README.md for where the files come from.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml


def without_descriptions(schema: Any) -> Any:
    """The same schema; a property that is called `description` stays."""
    if isinstance(schema, dict):
        return {
            key: without_descriptions(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [without_descriptions(value) for value in schema]
    return schema


def trimmed(definition: dict[str, Any], version: str, dropped: list[str]) -> dict[str, Any]:
    """The schema of a version of a CustomResourceDefinition."""
    (schema,) = [
        found["schema"]["openAPIV3Schema"]
        for found in definition["spec"]["versions"]
        if found["name"] == version
    ]
    small: dict[str, Any] = without_descriptions(schema)
    for path in dropped:
        *parents, last = path.split(".")
        place = small["properties"]["spec"]
        for parent in parents:
            place = place["properties"][parent]
        del place["properties"][last]
    del small["properties"]["status"]
    return small


if __name__ == "__main__":
    file, of_version, *properties = sys.argv[1:]
    found = trimmed(yaml.safe_load(Path(file).read_text()), of_version, properties)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
