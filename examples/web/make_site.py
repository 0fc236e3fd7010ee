"""Put the page, ONNX Runtime for the browser and a bundle into one folder, which any web server can serve.

    python3 make_site.py SITE [--bundle NAME.edgecxr] [--packages node_modules] [--serve [PORT]]

Needs no package. `--serve` serves the folder on this machine alone; README.md says what another server has to send.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EMBEDDED = HERE.parents[1] / "edgecxr" / "models" / "xception-cxr-edge.edgecxr"
PAGE = ("index.html", "style.css", "page.js", "worker.js", "bundle.js", "decode.js", "overlay.js", "preprocess.js")
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# Only beside a bundle with an fp32 network, the one that the GPU runs.
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
# What a server has to send with every file. Isolation gives threads (MDN, "crossOriginIsolated"); a worker takes its
# policy from its own file's header, and not from the page.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
}


def make(site: Path, bundle: Path, packages: Path) -> dict[str, int]:
    """Fill the folder `site`; the bytes of each part. Raises SystemExit where something isn't there."""
    engine = packages / "onnxruntime-web" / "dist"
    if not engine.is_dir():
        raise SystemExit(f"expected `npm install --no-package-lock` to have made {packages}/onnxruntime-web, got none")
    if not (bundle / "bundle.json").is_file():
        raise SystemExit(f"expected a bundle with its bundle.json, got {bundle}")
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    cpu, gpu = _networks(manifest["artifacts"])
    golden = [row["file"] for row in manifest["files"] if row["file"].startswith("golden/")]
    parts = {
        "page": [(HERE / name, name) for name in PAGE],
        "ort": [(engine / name, f"ort/{name}") for name in (*WASM, *(WEBGPU if gpu else ()))],
        "bundle": [(bundle / f, f"bundle/{f}") for f in ("bundle.json", *golden, *sorted({cpu, *gpu}))],
    }
    for source, name in (pair for pairs in parts.values() for pair in pairs):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, site / name)
    return {part: sum((site / name).stat().st_size for _, name in pairs) for part, pairs in parts.items()}


def _networks(artifacts: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """(the file that the page runs on a CPU, those for a GPU), as bundle.js chooses them."""
    onnx = [row for row in artifacts if row["format"] == "onnx" and row["precision"] in ("int8", "fp32")]
    if not onnx:
        raise SystemExit(f"expected a bundle with an ONNX file in int8 or fp32, got {[a['file'] for a in artifacts]}")
    cpu = next((row for row in onnx if row["preferred"]), onnx[0])
    return cpu["file"], [row["file"] for row in onnx if row["precision"] == "fp32"][:1]


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, with HEADERS."""

    extensions_map = {  # noqa: RUF012  as in the class above; a browser runs a module of no other type
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def server(site: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the folder on loopback; port 0 takes a free one."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(site)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--bundle", type=Path, default=EMBEDDED)
    parser.add_argument("--packages", type=Path, default=HERE / "node_modules")
    parser.add_argument("--serve", type=int, nargs="?", const=8000, metavar="PORT")
    arguments = parser.parse_args()
    sizes = make(arguments.site, arguments.bundle, arguments.packages)
    print(f"{arguments.site}: {', '.join(f'{part} {size / 1e6:.1f} MB' for part, size in sizes.items())}")
    if arguments.serve is not None:
        with server(arguments.site, arguments.serve) as serving:
            print(f"serving on 127.0.0.1, port {serving.server_port}; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                serving.serve_forever()


if __name__ == "__main__":
    main()
