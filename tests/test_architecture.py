"""The house: who imports whom, what may not be used anywhere, and that the floor plan is true."""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "model", "train")
MAY_IMPORT = {"pipeline": {"pipeline"}, "model": {"pipeline", "model"}, "train": {"pipeline", "model", "train"}}
PEERS = ROOT / "pipeline" / "bench" / "peers"
"""scripts that only the Pythons of other projects run"""
PICTURE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1].strip().splitlines()
LOOSE = "stages and programs"
"""the room of what a person runs"""


def floors() -> list[list[str]]:
    """Return the rooms of pipeline/, line by line as CONTRIBUTING draws them; lines of stages and programs are one."""
    below = next(number for number, line in enumerate(PICTURE) if "─" in line)
    drawn = [line.split("  ")[0].split() for line in PICTURE[below + 1 :]]
    rooms = [
        [name.removesuffix("/") for name in names] for names in drawn if names[0].endswith("/") or names == ["errors"]
    ]
    return [[LOOSE], *rooms]


FLOORS = floors()
"""each room imports only from rooms after it, and rooms of one floor do not know each other"""
ROOMS = [room for floor in FLOORS[1:-1] for room in floor]
HEAVY = {"torch", "datasets", "accelerate", "pyarrow", "transformers", "pandas"}
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
BANNED_CALLS = {"torch.save", "torch.load", "np.load", "numpy.load", "yaml.unsafe_load", "yaml.full_load"}
TESTS_OF_NO_ONE_MODULE = {"tests/test_architecture.py", "tests/test_flow.py", "tests/test_launch.py"}
TESTS_OF_NO_ONE_MODULE |= {"tests/test_faults.py", "tests/test_readme.py", "tests/test_cluster.py"}
TESTS_OF_NO_ONE_MODULE |= {"tests/pipeline/test_hostile.py", "tests/pipeline/test_format.py"}
TESTS_OF_NO_ONE_MODULE |= {"tests/test_old_store.py"}
_PEER = "only the Python of its own environment has what it imports"
WITHOUT_A_TEST = {
    "pipeline.bench.peers.datasets_windows": _PEER,
    "pipeline.bench.peers.datatrove_shards": _PEER,
    "pipeline.bench.peers.litdata_windows": _PEER,
    "pipeline.bench.peers.nanogpt_shards": _PEER,
    "pipeline.bench.peers.nanogpt_windows": _PEER,
    "pipeline.bench.peers.streaming_windows": _PEER,
    "pipeline.bench.peers.tokenizers_training": _PEER,
}
"""the modules that no test file is about, and why"""


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sources(*PACKAGES)}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(node: ast.AST, *, top: bool) -> Iterator[ast.AST]:
    """Yield what runs: all of a file or, with `top`, what importing it runs."""
    for child in ast.iter_child_nodes(node):
        if top and (is_type_checking(child) or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            continue
        yield child
        yield from nodes(child, top=top)


def imports(path: Path, *, top: bool = False) -> Iterator[str]:
    """Yield the full name of everything a file imports; `from a import b` gives a.b."""
    for node in nodes(tree(path), top=top):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` of an expression that is a name, else the empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def our_module(name: str) -> str | None:
    """Return which of our modules `name` is in: a.b.c is a thing in a.b, or the module a.b.c itself."""
    return next((m for m in (name, name.rpartition(".")[0]) if m in MODULES and m not in PACKAGES), None)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_to_its_left(package: str) -> None:
    wrong = {
        f"{module_of(path)} imports {name}"
        for path in sources(package)
        for name in imports(path)
        if name.partition(".")[0] in PACKAGES and name.partition(".")[0] not in MAY_IMPORT[package]
    }
    assert wrong == set()


def test_no_module_needs_itself_to_be_imported() -> None:
    graph = {
        module: {found for name in imports(path, top=True) if (found := our_module(name)) not in (None, module)}
        for module, path in MODULES.items()
    }
    assert graph["train.loop"] >= {"train.optim", "pipeline.loading.order"}, "the graph is not read"
    graphlib.TopologicalSorter(graph).prepare()


def room_of(module: str) -> str:
    """Return the room of pipeline/ that a module is in; what is in no room is a stage, a program or the bench."""
    parts = module.split(".")
    if module == "pipeline.errors":
        return "errors"
    # The program `python -m pipeline.artifacts` has its place in the room that it is about.
    return parts[1] if len(parts) > 2 and parts[1] in ROOMS and parts[-1] != "__main__" else LOOSE


def climbs(graph: dict[str, set[str]]) -> set[str]:
    """Return the imports that go to a room before one's own, or beside it."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    return {
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in names
        if room_of(name) != room_of(module) and floor[room_of(name)] <= floor[room_of(module)]
    }


def test_a_room_imports_only_from_rooms_after_it() -> None:
    ours = {module: path for module, path in MODULES.items() if module.startswith("pipeline.")}
    graph = {module: {found for n in imports(path) if (found := our_module(n))} for module, path in ours.items()}

    assert climbs(graph) == set()
    assert climbs({"pipeline.tables.arrow": {"pipeline.runtime.files", "pipeline.artifacts.store"}}) == {
        "pipeline.tables.arrow imports pipeline.artifacts.store"
    }
    assert climbs({"pipeline.sources.card": {"pipeline.loading.order"}})


def test_the_picture_in_contributing_is_the_house() -> None:
    folders = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    names = {name for line in PICTURE if "─" not in line for name in line.split("  ")[0].split()}
    modules = {path.stem for path in (ROOT / "pipeline").glob("*.py") if path.stem != "__init__"}

    assert {"train/", "model/", "errors", "bench/"} <= names
    drawn, there = names - {"train/", "model/"}, modules | {f"{folder}/" for folder in folders}
    assert drawn == there, f"CONTRIBUTING's picture lacks {there - drawn} and has {drawn - there} beside what is there"
    assert set(ROOMS) == folders - {"bench"} and len(ROOMS) == 11


def test_every_module_of_the_pipeline_is_in_a_room_or_is_run_by_a_person() -> None:
    loose = {m for m in MODULES if m.startswith("pipeline.") and m.count(".") == 1 and m != "pipeline.errors"}
    assert loose - set(programs()) - {f"pipeline.{room}" for room in (*ROOMS, "bench")} == set()


def test_the_pipeline_never_imports_torch_and_accelerate_lives_in_train_alone() -> None:
    ours = [path for path in sources(*PACKAGES) if not path.is_relative_to(PEERS)]
    users = {
        library: {path.relative_to(ROOT).parts[0] for path in ours if library in tops(path)}
        for library in ("torch", "accelerate")
    }
    assert users == {"torch": {"model", "train"}, "accelerate": {"train"}}


def test_no_part_of_ours_imports_what_the_peers_run() -> None:
    ours = [path for path in sources(*PACKAGES) if not path.is_relative_to(PEERS)]
    assert PEERS.is_dir()
    assert [name for path in ours for name in imports(path) if name.startswith("pipeline.bench.peers")] == []


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def pickles(path: Path) -> Iterator[str]:
    """Yield each place where a file reads or writes pickles, or loads YAML that could run code."""
    yield from (name for name in imports(path) if name.partition(".")[0] in PICKLES or name in BANNED_CALLS)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in BANNED_CALLS or (name.startswith("yaml.load") and len(node.args) + len(node.keywords) < 2):
                yield f"{path.name}:{node.lineno} {name}"
            yield from (f"{path.name}:{node.lineno} {k.arg}" for k in node.keywords if k.arg == "allow_pickle")
    yield from (f"{path.name} yaml.{loader}" for loader in yaml_loaders(path) - {"SafeLoader", "CSafeLoader"})


def yaml_loaders(path: Path) -> set[str]:
    """Return the loaders of yaml that a file speaks of, as `yaml.XLoader` or `getattr(yaml, "XLoader")`."""
    written = {dotted(node).removeprefix("yaml.") for node in ast.walk(tree(path)) if dotted(node).startswith("yaml.")}
    quoted = {str(node.value) for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
    return {name for name in written | quoted if name.endswith("Loader") and name.isidentifier()}


def test_no_pickle_anywhere() -> None:
    ours = [path for path in sources(*PACKAGES, "tests", "data_cards") if path != Path(__file__)]
    assert [found for path in ours for found in pickles(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from dill import dumps",
        "torch.save(x, 'a')",
        "from torch import load",
        "np.load('a', allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
    ],
)
def test_the_search_for_pickles_finds_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text)
    assert list(pickles(tmp_path / "bad.py"))


@pytest.mark.parametrize("module", [m for m, path in MODULES.items() if path.name != "__init__.py"])
def test_the_first_line_says_which_room_a_module_is_in(module: str) -> None:
    first = (ast.get_docstring(tree(MODULES[module])) or "").split("\n")[0]
    kind, _, rest = first.partition(": ")
    assert kind in ("Program", "Machinery") or (kind.startswith("Stage ") and kind[6:].isdigit())
    assert len(rest.split()) > 3 and len(first) <= 120


def test_the_stages_are_numbered_in_the_order_of_the_chain() -> None:
    stages = [
        (int(doc[6 : doc.index(":")]), module)
        for module, path in MODULES.items()
        if (doc := ast.get_docstring(tree(path)) or "").startswith("Stage ")
    ]
    numbers = dict(stages)
    assert sorted(number for number, _ in stages) == list(range(1, len(stages) + 1)), "each the next free number"
    assert [numbers[i] for i in (1, 2, 3, 4)] == [
        "pipeline.corpus",
        "pipeline.tokenizer",
        "pipeline.shards",
        "train.pretrain",
    ]


@pytest.mark.parametrize("package", [*PACKAGES, *(f"pipeline/{name}" for name in ("bench", "bench/peers", *ROOMS))])
def test_a_package_file_is_a_docstring_and_nothing_else(package: str) -> None:
    body = tree(ROOT / package / "__init__.py").body
    assert len(body) == 1 and ast.get_docstring(tree(ROOT / package / "__init__.py"))


def programs() -> list[str]:
    """Return the modules a person runs: stages and programs."""
    documented = {m: ast.get_docstring(tree(p)) or "" for m, p in MODULES.items()}
    return [m for m, doc in documented.items() if doc.startswith(("Stage ", "Program: "))]


def test_importing_every_stage_and_program_loads_no_heavy_library() -> None:
    code = f"import sys, json, {', '.join(programs())}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert {"train.pretrain", "pipeline.corpus", "model.chat"} <= loaded
    assert loaded & HEAVY == set()


def has_main(module: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body)


def test_every_stage_and_program_has_a_main_and_nothing_else_has_one() -> None:
    assert {m for m, path in MODULES.items() if has_main(tree(path))} == set(programs())


def may_be_about(test: Path) -> list[Path]:
    """Return where the module that a test file is named after may be."""
    folder, name = test.parent.relative_to(ROOT / "tests"), test.stem.removeprefix("test_")
    return [ROOT / folder / f"{name}.py", ROOT / folder / name / "__main__.py"]


def test_every_test_file_is_named_after_the_module_it_tests() -> None:
    files = [path for path in sources("tests") if path.name.startswith("test_")]
    strays = [
        str(path.relative_to(ROOT))
        for path in files
        if str(path.relative_to(ROOT)) not in TESTS_OF_NO_ONE_MODULE
        and not any(module.exists() for module in may_be_about(path))
    ]
    assert files and strays == []


def place_of_tests(module: str) -> Path:
    """Return where the tests of a module are; a program `python -m pipeline.bench` is bench/__main__.py."""
    *folders, name = module.removesuffix(".__main__").split(".")
    return ROOT.joinpath("tests", *folders, f"test_{name}.py")


def test_every_module_has_its_test_file_or_is_named_with_the_reason() -> None:
    missing = {m for m, path in MODULES.items() if path.name != "__init__.py" and not place_of_tests(m).exists()}

    assert sorted(missing - set(WITHOUT_A_TEST)) == [], "modules without a test file"
    assert sorted(set(WITHOUT_A_TEST) - missing) == [], "named as without a test file, and they have one or are gone"
    assert place_of_tests("pipeline.bench.__main__") == ROOT / "tests" / "pipeline" / "test_bench.py"
    assert place_of_tests("model.gpt") == ROOT / "tests" / "model" / "test_gpt.py"


def test_every_test_file_has_a_test() -> None:
    files = [path for path in sources("tests") if path.name.startswith("test_")]
    empty = [
        str(path.relative_to(ROOT))
        for path in files
        if not any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree(path).body)
    ]
    assert empty == []


def test_tests_are_no_packages() -> None:
    assert [path for path in sources("tests") if path.name == "__init__.py"] == []


def called(check: Callable[[ast.Call], bool]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and check(node)
    ]


def test_nothing_is_executed_as_code_or_handed_to_a_shell() -> None:
    assert called(lambda node: dotted(node.func) in ("eval", "exec", "os.system", "os.popen")) == []
    assert called(lambda node: any(k.arg == "shell" for k in node.keywords)) == []
