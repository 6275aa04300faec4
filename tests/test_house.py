"""The rules of the house: who may import whom, what may touch the world, and how big things
get. A new module is added to the README's tree (and to PURE when it is); nothing else is needed."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
SOURCE = HOME / "src" / "embarchive"

# A module may import only modules that stand before it in the tree of the README.
TREE = (HOME / "README.md").read_text(encoding="utf-8").partition("\nsrc/embarchive/")[2]
ORDER = re.findall(r"^  (\w+)\.py ", TREE.partition("\n```")[0], re.MULTILINE)
# Only these of them, numpy, pyarrow and what is named here.
PURE = """
    errors digests heads strictjson recipe dates bandnames oneband product sensors stac geohash
    polygons itemtable grid resample tiles regions compiled bitcount quantize rows shortlist best
    filters model tensors quantisers coarse rangecoder contexts transform fidelity refine layer
    codes fit_quantisers fit_fidelity components baselines sizing tile2vec drift choice indices
    cellmeans pyramid partition parts partrefs inverted manifest headers shards thrift footers pages
    collection search reads exemplars change views interpolation queries welcome measures
""".split()
ALSO_PURE = {
    "polygons": {"shapely"}, "tensors": {"safetensors"}, "layer": {"safetensors"},
    "quantisers": {"safetensors"}, "coarse": {"safetensors"}, "views": {"scipy"},
    "compiled": {"numba"},
}  # fmt: skip
# Imports against the order: the reader's front hands over to SQL when asked to.
LATE = {("archive", "sql")}
# The only ways in for what is heavy, foreign or dangerous.
DOORS = {
    "rasterio": {"placement", "rasters", "pictures"},
    "duckdb": {"sql"},
    "obstore": {"store", "objectstore"},
    "torch": {"train", "frozen", "adapters", "fit_refine", "fit_tile2vec", "encode", "feeds"},
    "onnx": {"onnx_export"},
    "pyproj": {"points"},
    "starlette": {"answers", "serve"},
    "uvicorn": {"serve"},
    "numba": {"compiled"},
    "scipy": {"views"},
    "ray": {"engine"},
    "click": {"options", "terminal", "making", "keeping", "asking", "cli"},
}
# Modules that open files by name: the local store and its server, the package's own page, and
# what a user names.
OPENERS = {
    "localstore", "answers", "serve", "page", "recipe", "polygons", "folders", "rasters",
    "pictures", "decode", "save", "exporting", "report", "cli",
}  # fmt: skip
OPENING = {"open", "fdopen", "read_bytes", "read_text", "write_bytes", "write_text"}
# Tests of more than one module, and of the page.
WHOLE = {
    "house", "quality", "docs", "first_light", "crash", "benchmarks", "golden", "kernels",
    "manifests", "viewer", "viewer_afar", "viewer_archive", "viewer_code", "viewer_faults",
    "viewer_imported", "viewer_overview", "viewer_packed", "buckets",
}  # fmt: skip

MODULES = sorted(path.stem for path in SOURCE.glob("*.py") if path.stem != "__init__")


@cache
def tree(module):
    return ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8"))


def imports(module):
    """(top-level package or own module, is own) of all imports but those for types alone."""
    typing_only = {
        inner
        for node in ast.walk(tree(module))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree(module)):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = tuple((node.module or "").split("."))
            found |= {(*base, alias.name) for alias in node.names}
    own = {names[1] for names in found if names[0] == "embarchive" and names[1] in ORDER}
    return own, {names[0] for names in found} - {"embarchive", "__future__"}


def test_every_module_has_its_place_in_the_order():
    assert set(MODULES) <= set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_earlier_ones(module):
    own, _ = imports(module)
    later = {name for name in own if ORDER.index(name) >= ORDER.index(module)}
    assert not {(module, name) for name in later} - LATE


@pytest.mark.parametrize("module", [name for name in MODULES if name in PURE])
def test_a_pure_module_imports_only_pure_ones(module):
    import sys

    own, foreign = imports(module)
    assert own <= set(PURE)
    allowed = {"numpy", "pyarrow"} | ALSO_PURE.get(module, set()) | sys.stdlib_module_names
    assert foreign <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_only_the_doors_import_what_is_heavy(module):
    _, foreign = imports(module)
    assert not [name for name in foreign if module not in DOORS.get(name, {module})]


def test_nobody_imports_the_command_line():
    assert not [module for module in MODULES if "cli" in imports(module)[0]]


@pytest.mark.parametrize("module", [name for name in MODULES if name not in OPENERS])
def test_only_openers_open_files(module):
    calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    names = [call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls]
    assert not OPENING & set(names)


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_stay_small(module):
    text = (SOURCE / f"{module}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 80, node.name
            assert len(node.args.posonlyargs) + len(node.args.args) <= 8, node.name


@pytest.mark.parametrize("module", MODULES)
def test_the_library_never_prints(module):
    calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    assert "print" not in [call.id for call in calls if isinstance(call, ast.Name)]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_and_so_does_what_it_offers(module):
    assert ast.get_docstring(tree(module))
    for node in tree(module).body:
        offered = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
        assert not offered or ast.get_docstring(node), node.name


def test_every_test_file_is_named_after_a_module():
    names = {path.stem.removeprefix("test_") for path in (HOME / "tests").glob("test_*.py")}
    assert names <= set(ORDER) | WHOLE


def test_no_file_names_a_machine_or_a_package_index():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=HOME, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders, hosts = "work|root|home|Users", "pypi|pythonhosted|registry.npmjs"
    odd = re.compile(rf"(?<![\w.])/(?:{folders})/\w|(?:{hosts})\.(?:org|com)\b")
    bad = []
    for name in listed.stdout.splitlines():
        path = HOME / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ".js", ".yaml", ""}:
            text = path.read_text(encoding="utf-8", errors="ignore") if path.is_file() else ""
            bad += [f"{name}: {match[0]}" for match in odd.finditer(text)]
    assert not bad


def test_the_readme_shows_every_module():
    text = (HOME / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\s+(\w+)\.py\s", text, re.MULTILINE))
    assert set(MODULES) <= shown
