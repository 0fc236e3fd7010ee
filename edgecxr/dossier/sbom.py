"""The runtime that is installed, as CycloneDX: its packages, what they link, who needs whom (extra: report).

Packages are those that edgecxr's runtime asks for, as their metadata say, through to the last of them. Native libraries
within a wheel are known where the wheel says so itself (https://peps.python.org/pep-0770/).
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from edgecxr.dossier.claims import digest
from edgecxr.errors import UnavailableError

# What a device may load. The lab's are not the runtime, nor is what writes the technical file.
EXTRAS = (
    "cpu", "gpu", "openvino", "litert", "dicom", "dicom-out", "node", "watch", "parquet", "signed"
)  # fmt: skip
MAX_SBOM_BYTES = 16 << 20  # of one within a wheel; the largest seen has 0.2 MB
_NAME = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")

Graph = dict[str, tuple[metadata.Distribution, set[str]]]  # by name: what is installed, and the names that it needs


def sbom(root: str = "edgecxr") -> dict[str, Any]:
    """A CycloneDX 1.6 document; raises UnavailableError where edgecxr isn't installed as a package."""
    try:
        found = installed(root, EXTRAS)
    except metadata.PackageNotFoundError:
        raise UnavailableError(f"an SBOM lists installed packages, and {root} isn't one here; install it") from None
    components = {name: _component(name, distribution) for name, (distribution, _) in found.items()}
    bom = Bom()
    bom.metadata.tools.components.add(this_component())
    bom.metadata.component = own = components.pop(root)
    own.type = ComponentType.APPLICATION
    bom.components.update(components.values())
    bom.components.update(_below())
    for name, (_, needs) in found.items():
        bom.register_dependency(own if name == root else components[name], [components[need] for need in sorted(needs)])
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    return document


def installed(root: str, extras: Iterable[str]) -> Graph:
    """`root`, of the extras named, and every installed package that it leads to; what isn't installed is left out.

    A requirement for another system or Python counts where its package is there all the same. Raises
    PackageNotFoundError for `root`.
    """
    found: Graph = {}
    done: set[tuple[str, frozenset[str]]] = set()
    waiting = [(normal(root), frozenset(extras), metadata.distribution(root))]
    while waiting:
        name, wanted, distribution = waiting.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        _, needs = found.setdefault(name, (distribution, set()))
        for needed, their_extras in _requirements(distribution, wanted):
            try:
                theirs = metadata.distribution(needed)
            except metadata.PackageNotFoundError:
                continue
            if needed != name:
                needs.add(needed)
            waiting.append((needed, their_extras, theirs))
    return found


def normal(name: str) -> str:
    """A package's name as indexes compare it (https://peps.python.org/pep-0503/#normalized-names)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(distribution: metadata.Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in distribution.requires or []:
        requirement, _, marker = line.partition(";")
        of = _EXTRA.search(marker)
        match = _NAME.match(requirement)
        if match and (of is None or normal(of[1]) in map(normal, extras)):
            yield normal(match[1]), frozenset(name.strip() for name in (match[2] or "").split(",") if name.strip())


def _component(name: str, distribution: metadata.Distribution) -> Component:
    said: Any = distribution.metadata  # an email.message.Message, typed as less
    record = distribution.read_text("RECORD")
    properties = [Property(name="edgecxr:record-sha256", value=digest(record.encode()))] if record else []
    licence = licence_of(said)
    return Component(
        name=name,
        version=distribution.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}=={distribution.version}",
        purl=PackageURL("pypi", name=name, version=distribution.version),
        description=said.get("Summary"),
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
        properties=properties,
        components=_within(name, distribution),
    )


def licence_of(said: Any) -> str:
    """The licence as a package's metadata name it: its expression, else its classifiers, else its text's first line."""
    if expression := said.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    names = [name for name in classifiers if name != "OSI Approved"]
    return ", ".join(names) or str(said.get("License") or "").strip().partition("\n")[0][:100]


def _within(name: str, distribution: metadata.Distribution) -> list[Component]:
    """The libraries that a wheel says it brings within."""
    found: dict[tuple[str, str], Component] = {}
    for file in distribution.files or []:
        if len(file.parts) < 3 or file.parts[-3:-1] != (file.parts[0], "sboms") or not file.name.endswith(".json"):
            continue
        path = Path(file.locate())
        try:
            if path.stat().st_size > MAX_SBOM_BYTES:
                continue
            rows = json.loads(path.read_bytes()).get("components", [])
            for row in rows:
                kind, version = str(row["name"]), str(row.get("version") or "")
                if normal(kind) != name:
                    purl = PackageURL.from_string(row["purl"]) if row.get("purl") else None
                    found[kind, version] = Component(
                        name=kind, version=version or None, type=ComponentType.LIBRARY, purl=purl,
                        bom_ref=f"{name} holds {kind} {version}".strip(),
                    )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # one of another format tells us nothing
            continue
    return list(found.values())


def _below() -> list[Component]:
    """What the packages stand on."""
    system, release = platform.system() or "unknown", platform.release()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [
        Component(
            name=platform.python_implementation(),
            version=platform.python_version(),
            type=ComponentType.PLATFORM,
            bom_ref=python,
        ),
        Component(name=system, version=release, type=ComponentType.OPERATING_SYSTEM, bom_ref=f"{system} {release}"),
    ]
