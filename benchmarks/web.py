"""How big, how quick and how right is the model in a browser? examples/web in headless Chromium, beside ONNX Runtime.

    python benchmarks/web.py [--packages node_modules] [-m BUNDLE] [-o FILE] [--starts 5] [--rounds 5]

Needs Chromium, and what `npm install --no-package-lock` has made in examples/web. Starts a browser STARTS times, each
with a profile of its own, until the page says that its model is ready; the files are on the same machine. Then ROUNDS
times the eight golden pictures, one at a time, through the page's network and through ONNX Runtime's for Python with as
many threads, in turn; and the samples, from a file's bytes to its record and pictures.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgecxr import Bundle, Classifier, load
from edgecxr.bench import environment
from edgecxr.pictures import decode

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples" / "web")]
import make_site  # noqa: E402

from browser import Browser  # noqa: E402

SCHEMA = 1
# A worker as the page has one, and `ask` for its answers.
ASK = """
window.worker ??= new Worker("worker.js", {type: "module"});
window.ask = (what, given) => new Promise((done, failed) => {
  worker.onmessage = ({data}) => data.error === undefined ? done(data.result) : failed(new Error(data.error));
  worker.postMessage({id: 0, what, ...given});
});
"""
SCORE = """
ask("score", {file: new File([Uint8Array.from(atob(%s), c => c.charCodeAt(0))], "film")})
  .then(found => ({record: found.record, ms: found.ms, image: Array.from(found.image)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=make_site.HERE / "node_modules")
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "web.json")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    bundle = load(arguments.model)
    before = environment.snapshot()
    with tempfile.TemporaryDirectory() as folder:
        sizes = make_site.make(Path(folder), bundle.path, arguments.packages)
        with serving(Path(folder)) as address:
            started = [start(address) for _ in range(arguments.starts)]
            with Browser() as browser:
                version = browser.call("Browser.getVersion")["product"]
                browser.open(address)
                browser.js(ASK)
                model = browser.js("ask('open', {on: 'cpu'})")
                report = measure(browser, bundle, model, arguments.rounds)
    installed = sum(path.stat().st_size for path in arguments.packages.rglob("*") if path.is_file())
    package = json.loads((arguments.packages / "onnxruntime-web" / "package.json").read_text())
    report = {
        "schema": SCHEMA,
        "what": f"{bundle.name} {bundle.version}, {model['precision']}",
        "on": f"onnxruntime-web {package['version']}, {version}",
        "bundle_sha256": bundle.digest,
        "threads": model["threads"],
        "site_megabytes": {name: size / 1e6 for name, size in sizes.items()},
        "node_modules_megabytes": installed / 1e6,
        "start_s": {"p50": median(started), "all": started},
        **report,
        "machine": environment.describe(before, environment.snapshot()),
    }
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: value for key, value in report.items() if key != "machine"}, indent=1))


@contextmanager
def serving(site: Path) -> Iterator[str]:
    server = make_site.server(site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def start(address: str) -> float:
    """Seconds from the address to the page that is ready for films."""
    with Browser() as browser:
        begin = time.perf_counter()
        browser.open(address)
        while browser.js("document.getElementById('verify').disabled"):
            time.sleep(0.02)
        return time.perf_counter() - begin


def measure(browser: Browser, bundle: Bundle, model: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Golden pictures in both, in turn, and the samples."""
    classifier = Classifier(bundle, engine="onnxruntime", precision=model["precision"], threads=model["threads"])
    engine, inputs = classifier.session.engine, bundle.golden_inputs()
    engine.run(inputs[:1])
    browser.js("ask('verify', {})")
    times: dict[str, list[float]] = {"browser": [], "onnxruntime": []}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        found = browser.js("ask('verify', {})")
        times["browser"] += found["milliseconds"]
        for image in inputs:
            begin = time.perf_counter()
            engine.run(image[None])
            times["onnxruntime"].append(1000 * (time.perf_counter() - begin))
    return {
        "golden": {
            "pictures": found["pictures"],
            "largest_difference": found["worst"],
            "tolerance": found["tolerance"],
            "ood_difference": None if found["oodTolerance"] is None else found["oodWorst"],
            "ood_tolerance": found["oodTolerance"],
        },
        "network_ms": {name: {"p50": median(ms), "least": min(ms), "samples": len(ms)} for name, ms in times.items()},
        "films": [film(browser, classifier, path) for path in sorted((ROOT / "samples").iterdir())],
    }


def film(browser: Browser, classifier: Classifier, path: Path) -> dict[str, Any]:
    """How far a sample's image and logits are from the runtime's, and how long it took from bytes to record."""
    data = path.read_bytes()
    found = [browser.js(SCORE % json.dumps(base64.b64encode(data).decode())) for _ in range(3)]
    image = decode.network_input(path, classifier.bundle.preprocessing)
    grey = np.abs(np.array(found[0]["image"]).reshape(image.shape) - image.astype(int))
    expected = classifier.predict(data).logits
    logits = [abs(found[0]["record"][f"logit_{label}"] - value) for label, value in expected.items()]
    return {
        "film": path.name,
        "grey_mean_difference": float(grey.mean()),
        "grey_largest_difference": int(grey.max()),
        "logit_largest_difference": max(logits),
        "whole_ms": median(one["ms"] for one in found),
    }


if __name__ == "__main__":
    main()
