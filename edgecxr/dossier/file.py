"""The technical file of a bundle: what stands in its folder, each file as bytes (extra: report)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import edgecxr
from edgecxr.bundle import MANIFEST, Bundle
from edgecxr.dossier import hazards, model, page
from edgecxr.dossier.claims import Claim, Section, Source, digest, listed, said
from edgecxr.dossier.difference import difference
from edgecxr.dossier.hazards import Outcomes
from edgecxr.dossier.mlbom import mlbom
from edgecxr.dossier.sbom import EXTRAS, sbom
from edgecxr.engines.select import fingerprint
from edgecxr.system import storage

SCHEMA = 1
PAGE, DATA, SBOM, MLBOM = "technical-file.html", "technical-file.json", "sbom.cdx.json", "mlbom.cdx.json"
VERIFIED, BENCHED = "verify.json", "bench.json"
ORDER = ("Speed", "Evaluation", "Audit")  # how titles of what was found begin
STATEMENT = "Research weights, no conformity claimed. Missing: intended use, clinical evidence, risk acceptance."
# What whoever makes a device of this would have to add, and why it can't stand here.
MISSING = {
    "intended use": "Who uses it, on whom, for which decision, beside what else: whoever makes a device says that. The "
    "card names research.",
    "clinical evidence": "The figures are of films that others had labelled; no clinical study was made.",
    "risk acceptance": "The hazards below are those of the software, with tests. Nobody weighed them for a use, or "
    "accepted them.",
}


@dataclass(frozen=True)
class Found:
    """What is put into a technical file, beside what the bundle says itself."""

    verified: Section
    others: tuple[Section, ...]  # speed, evaluations, audits
    reports: Mapping[str, bytes]  # files that these sections cite and that go into the folder
    tests: Outcomes | None = None  # of the tests that show what prevents hazards


def contents(bundle: Bundle, found: Found, old: Bundle | None) -> dict[str, bytes]:
    """The files of the technical file, by name; raises BundleError and UnavailableError as what it reads does."""
    own = model.own_evaluations(bundle)
    security = hazards.text()
    software, network = sbom(), mlbom(bundle, [(name, report) for _, name, report in own])
    carried = {
        **found.reports,
        SBOM: storage.json_text(software).encode(),
        MLBOM: storage.json_text(network).encode(),
    }
    others = sorted(found.others, key=lambda section: ORDER.index(section.title.split()[0]))
    sections = [model.described(bundle), found.verified, *others, *(section for section, _, _ in own)]
    if old is not None:
        sections.append(_difference(bundle, old))
    made = f"edgecxr report {bundle.path.name} -o DIR"
    sections.append(_software(software, Source(made, SBOM, digest(carried[SBOM]))))
    sections.append(_network(network, Source(made, MLBOM, digest(carried[MLBOM]))))
    came = {} if found.tests is None else found.tests.of
    rows = [
        {**asdict(hazard), "tests": [{"test": test, "outcome": came.get(test)} for test in hazard.tests]}
        for hazard in hazards.hazards(security)
    ]
    data = {
        "statement": STATEMENT,
        "missing": MISSING,
        "schema": SCHEMA,
        "edgecxr": edgecxr.__version__,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.digest},
        "device": fingerprint(),
        "claims": [claim for section in sections for claim in section.to_json()],
        "notes": [
            {"section": section.title, "note": note}
            for section in sections
            for note in (*section.warnings, *section.notes)
        ],
        "hazards": {
            "file": hazards.FILE, "sha256": digest(security.encode()), "edgecxr": edgecxr.__version__,
            "outcomes": None if found.tests is None else asdict(found.tests.source), "rows": rows,
        },
        "card": None if (card := model.card(bundle)) is None else {**asdict(card[0]), "markdown": card[1]},
        "files": {name: digest(content) for name, content in carried.items()},
    }  # fmt: skip
    text = storage.json_text(data).encode()
    html = page.page(data, sections, packages(software), digest(text))
    return {PAGE: html.encode("utf-8", "backslashreplace"), DATA: text, **carried}


def _difference(bundle: Bundle, old: Bundle) -> Section:
    source = Source(
        f"edgecxr report {bundle.path.name} --against {old.path.name} -o DIR",
        f"{MANIFEST} of {old.path.name}",
        old.manifest_sha256,
    )
    changes = difference(bundle, old)
    notes = (
        f"Whether it is more often right than {old.name} {old.version}, on the same films: edgecxr eval "
        f"{bundle.path.name} DATA --against {old.path.name} -o FILE.json, and that FILE.json given here.",
    )
    return Section(f"Since {old.name} {old.version}", source, changes, notes)


def packages(software: Mapping[str, Any]) -> list[tuple[str, str, str, list[str]]]:
    """(name, version, licence, what it says it holds) of each component of an SBOM."""
    return [
        (
            row["name"],
            row.get("version", ""),
            ", ".join(_licence(each) for each in row.get("licenses", [])),
            [f"{inner['name']} {inner.get('version', '')}".strip() for inner in row.get("components", [])],
        )
        for row in software["components"]
    ]


def _licence(choice: Mapping[str, Any]) -> str:
    licence = choice.get("license", {})
    return str(choice.get("expression") or licence.get("id") or licence.get("name"))


def _software(software: Mapping[str, Any], source: Source) -> Section:
    rows = packages(software)
    libraries = [row for row, each in zip(rows, software["components"], strict=True) if each["type"] == "library"]
    nameless = [name for name, _, licence, _ in libraries if not licence]
    claims = (
        Claim("packages of the runtime", len(libraries), f"{len(libraries)}, and what they stand on"),
        said("libraries that wheels say they hold", sum(len(row[3]) for row in rows)),
        Claim("packages that name no licence", nameless, listed(nameless)),
    )
    notes = (
        f"What edgecxr's runtime asks for, with the extras {', '.join(EXTRAS)} as far as they are installed.",
        "What only trains, exports, evaluates or writes this file isn't in it. A wheel's parts are what it names.",
    )
    return Section("Software that is installed", source, claims, notes)


def _network(network: Mapping[str, Any], source: Source) -> Section:
    model_component = network["metadata"]["component"]
    card = model_component["modelCard"]
    sources = [row["name"] for row in card["modelParameters"]["datasets"]]
    claims = (
        Claim(
            "files of the bundle, with hashes",
            len(model_component["components"]),
            str(len(model_component["components"])),
        ),
        Claim("data it was fitted on", sources, listed(sources) if sources else "the bundle doesn't say"),
        said("figures of the bundle's own evaluations", len(card["quantitativeAnalysis"]["performanceMetrics"])),
    )
    return Section("The model's bill of materials", source, claims)
