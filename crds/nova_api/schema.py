"""The CustomResourceDefinition, generated from the model, and everything else that is generated from it.

``python -m nova_api.schema`` writes the files into the repository, ``--check`` says which are stale (exit code 1).
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final, get_type_hints

from nova_api import block_yaml, reference
from nova_api.fielddocs import summary
from nova_api.openapi import Emitter, Schema
from nova_api.status import NovaServiceStatus
from nova_api.v1alpha1 import GROUP, KIND, PLURAL, VERSION, NovaService, NovaServiceSpec, ObjectMeta

CRD_NAME: Final = f"{PLURAL}.{GROUP}"
REPOSITORY: Final = Path(__file__).resolve().parents[2]

_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_DEGRADED: Final = '.status.conditions[?(@.type=="Degraded")]'
_HEADER: Final = "# Generated from crds/nova_api by `make crds`; edits here are lost.\n"


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["nsvc"],
                "categories": ["nova"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            _column("Ready", "string", f"{_READY}.status", "Whether the service runs as written."),
            _column("Replicas", "integer", ".status.readyReplicas", "Pods that are ready."),
            _column("Sidecars", "string", ".status.sidecars.summary", "Sidecars that run the current configuration."),
            _column("Upstreams", "string", ".status.upstreams", "Upstreams whose breaker is closed everywhere."),
            _column("Age", "date", ".metadata.creationTimestamp", "Time since it was created."),
            _column("Reason", "string", f"{_READY}.reason", "Why Ready is what it is.") | {"priority": 1},
            _column("Degraded", "string", f"{_DEGRADED}.reason", "What needs somebody, or AsExpected.")
            | {"priority": 1},
            _column("Rollout", "string", ".status.rollout.phase", "Where a canary stands.") | {"priority": 1},
            _column("Config", "string", ".status.configHash", "Hash of the configuration in force.") | {"priority": 1},
        ],
        "schema": {"openAPIV3Schema": _root()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    }


def _column(name: str, kind: str, path: str, description: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "description": description}


def _root() -> Schema:
    """The whole object. Of the metadata a CRD may restrict the name only, which the children's names are made of."""
    name = Emitter().hint(get_type_hints(ObjectMeta, include_extras=True)["name"])
    return {
        "description": summary(NovaService),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"{GROUP}/{VERSION}", "type": "string"},
            "kind": {"description": KIND, "type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": Emitter().object(NovaServiceSpec),
            "status": Emitter(defaults=False).object(NovaServiceStatus),
        },
    }


def crd_yaml(*, kept_by_helm: bool = False) -> str:
    """The CustomResourceDefinition as it is committed.

    `kept_by_helm` is the chart's copy: an uninstall leaves it, because with it every NovaService would go.
    """
    document = crd()
    if kept_by_helm:
        document["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    return _HEADER + block_yaml.dump(document)


def generated() -> dict[str, str]:
    """Path below the repository → text, of every generated file."""
    return {
        f"crds/{CRD_NAME}.yaml": crd_yaml(),
        f"charts/nova/charts/nova-crds/templates/{CRD_NAME}.yaml": crd_yaml(kept_by_helm=True),
        "docs/novaservice.md": reference.markdown(crd()),
    }


def stale(root: Path) -> list[str]:
    """The generated files below `root` that differ from what the model says now, or are missing."""
    return [
        name
        for name, text in generated().items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m nova_api.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the repository (default: this one)")
    options = parser.parse_args(arguments)
    if options.root == REPOSITORY and not (REPOSITORY / "pyproject.toml").is_file():
        parser.error("this is an installed nova: name a clone of the repository with --root")
    names, files = stale(options.root), generated()
    for name in names:
        if options.check:
            print(f"{name} is stale: run `make crds`", file=sys.stderr)
            continue
        target = options.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files[name], encoding="utf-8")
        print(f"wrote {name}")
    return 1 if options.check and names else 0


if __name__ == "__main__":
    sys.exit(main())
