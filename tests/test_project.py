"""What the project promises as a whole: light imports, a quick --help, the wheel's contents, the root folders."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
SOURCES = ("dvme", "cli", "cache")
HEAVY = {
    "torch",
    "timm",
    "zarr",
    "faiss",
    "numpy",
    "pandas",
    "sklearn",
    "scipy",
    "plotly",
    "umap",
    "numba",
    "h5py",
    "PIL",
}


def test_import__neither_dvme_nor_the_cli_imports_torch() -> None:
    code = f"import dvme, dvme_cli.main, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_public_names__all_resolve() -> None:
    import dvme

    for name in dvme.__all__:
        public = getattr(dvme, name)
        assert getattr(public, "__module__", public.__name__).startswith("dvme.")


def test_help__answers_without_a_heavy_import() -> None:
    """The benchmarks hold how long it takes, beside a bare interpreter."""
    code = (
        "import sys; from dvme_cli.main import main\n"
        "sys.argv = ['dvme', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, sorted(HEAVY & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", f"HEAVY = {HEAVY!r}; {code}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "extract" in done.stdout
    assert done.stderr == "0 []\n"


def test_wheel__holds_exactly_the_three_packages(tmp_path: Path) -> None:
    """A line `cache/` in .gitignore would make hatchling drop `dvme_cache` without a word."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"dvme", "dvme_cache", "dvme_cli"}
    assert {"dvme/py.typed", "dvme_cache/py.typed", "dvme_cli/py.typed", "dvme_cache/schema.json"} <= set(names)
    assets = {
        f"dvme/report/html/assets/{path.name}" for path in (ROOT / "dvme" / "report" / "html" / "assets").iterdir()
    }
    assert "dvme/report/html/assets/page.css" in assets
    assert assets <= set(names)
    assert "dvme/paper/references.bib" in names


def test_root__folders_are_the_architecture() -> None:
    tracked = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT).stdout.split(
        "\n"
    )
    folders = {name.partition("/")[0] for name in tracked if "/" in name and not name.startswith(".")}
    assert folders == {"dvme", "cli", "cache", "tests", "examples"}


def test_architecture__names_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 12_000
    packages = [path.parent for source in SOURCES for path in (ROOT / source).rglob("__init__.py")]
    names = {package.relative_to(ROOT).as_posix() for package in packages}
    assert len(names) > 40
    # As ARCHITECTURE.md calls them: inside dvme by what stands behind `dvme/`.
    called = {name.removeprefix("cache/").removeprefix("cli/").removeprefix("dvme/") for name in names}
    assert {name for name in called if f"`{name}`" not in text} == set()


def test_modules__say_in_one_line_what_they_are() -> None:
    """In a line of their own: two modules of one description are one module, or one of them is told wrongly."""
    modules = [path for source in SOURCES for path in (ROOT / source).rglob("*.py")]
    told: dict[str, list[str]] = {}
    for path in modules:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        told.setdefault(text.partition("\n")[0], []).append(path.relative_to(ROOT).as_posix())
    assert {line: paths for line, paths in told.items() if not line or len(line) > 120 or len(paths) > 1} == {}


def test_sources__no_module_has_outgrown_its_file() -> None:
    sources = [path for source in SOURCES for path in (ROOT / source).rglob("*.py")]
    assert len(sources) > 30
    assert {path.name: n for path in sources if (n := len(path.read_text().splitlines())) > 320} == {}


def test_imports__run_in_no_circle() -> None:
    """Those in functions and of types included, as import-linter sees them."""
    for package in ("dvme_cache", "dvme", "dvme_cli"):
        graph = grimp.build_graph(package, cache_dir=None)
        assert graph.count_imports() > 30
        imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
        TopologicalSorter(imported).prepare()  # CycleError names the modules


def test_mutants__are_faults_of_the_sources_as_they_are() -> None:
    command = [sys.executable, "tests/mutants.py", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
