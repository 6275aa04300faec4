"""Build the two WebAssembly programs of the page from their C sources.

python web/kernels/build.py [--check]: writes web/viewer/*.wasm, or only compares. The compiler is
the clang in ziglang, pinned in pyproject.toml, so that everybody gets the same bytes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
VIEWER = HERE.parent / "viewer"
KERNELS = ("hamming", "decode")
# WebAssembly 1.0 and its fixed-width SIMD: what every browser has had since March 2023.
FLAGS = """
    --target=wasm32-freestanding -mcpu=mvp+simd128 -O3 -ffreestanding -nostdlib -s -Wall -Werror
    -Wl,--no-entry -Wl,--export=__heap_base -Wl,-z,stack-size=4096
""".split()


def compiled(name: str) -> bytes:
    """The bytes of one program; the compiler's caches go away with it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{name}.wasm"
        caches = {f"ZIG_{which}_CACHE_DIR": f"{folder}/{which}" for which in ("GLOBAL", "LOCAL")}
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, f"{name}.c", "-o", str(out)]
        subprocess.run(command, cwd=HERE, env={**os.environ, **caches}, check=True)
        return out.read_bytes()


def main(check: bool) -> int:
    """Write what differs, or with `check` only say so; 1 when something was to be written."""
    stale = 0
    for name in KERNELS:
        path, data = VIEWER / f"{name}.wasm", compiled(name)
        state = "same" if path.is_file() and path.read_bytes() == data else "stale"
        if state == "stale" and not check:
            path.write_bytes(data)
        stale += state == "stale"
        print(f"{state if check or state == 'same' else 'wrote'}: {path.name}, {len(data)} bytes")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
