"""What may not be in this project at all, and what is fetched from elsewhere and must be checked before use."""

import ast
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator

import nbformat
import pytest

from wbc_lib import paths

#: Whose files can run code when they are read. (Processes of this project hand each other objects by pickle, through
#: multiprocessing and distributed; nothing of it is ever read from a file or from outside.)
MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "tarfile"}
CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "os.execv", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load"),
    *("load_model", "save_model", "model_from_json", "read_pickle", "to_pickle"),
    *("unpack_archive", "extractall"),
}
#: The only places that may read a pickle: with a reader that admits nothing but tensors (and its test).
READS_PICKLES = {"wbc_lib/training/networks.py", "tests/training/test_networks.py"}
#: Whose test hands an error to itself, as processes of dask do.
READS_PICKLES |= {"tests/training/test_cluster.py"}
#: The only place that may look whether a file is a tar; nothing may take anything out of one.
KNOWS_TARS = {"wbc_lib/data/archive.py"}
#: Settings that are an error unless they have this value.
SETTINGS = {"allow_pickle": False, "safe_mode": True, "shell": False, "weights_only": True}
#: The only places that may read weights from HDF5, which holds arrays: each compares the file's hash first.
READS_WEIGHTS = {
    "wbc_lib/training/networks.py": {"_fetch_imagenet": "load_weights", "_load_hed": "h5py.File"},
    "tests/training/test_networks.py": {"test_the_edge_detection_weights_are_those_of_the_package": "h5py.File"},
}
#: The only places that may open an archive: the data set's, pictures given in a zip, and predictions in an npz.
OPENS_ARCHIVES = {
    *(
        "wbc_lib/data/archive.py",
        "wbc_lib/data/picture_sets.py",
        "wbc_lib/evaluation/submission.py",
        "wbc_lib/paths.py",
    ),
    *("tests/data/test_archive.py", "tests/cli/test_leak.py", "tests/test_wheel.py"),
}


def sources() -> Iterator[tuple[str, str]]:
    """Name and Python text of every file of the project, notebooks too."""
    for folder in ("wbc_lib", "tests", "book"):
        for path in sorted((paths.ROOT / folder).rglob("*")):
            name = str(path.relative_to(paths.ROOT))
            if path.suffix == ".py":
                yield name, path.read_text(encoding="utf-8")
            elif path.suffix == ".ipynb":
                cells = nbformat.read(path, 4).cells
                yield name, "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def called(node: ast.Call) -> tuple[str, str]:
    """Last name of what is called, and the last two: of ``np.load(…)`` "load" and "np.load"."""
    parts = ast.unparse(node.func).split(".")
    return parts[-1], ".".join(parts[-2:])


def faults(name: str, text: str) -> list[str]:
    """What is in a Python text that may not be, by line."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        forbidden = MODULES - {"pickle"} if name in READS_PICKLES else MODULES
        forbidden = forbidden - {"tarfile"} if name in KNOWS_TARS else forbidden
        found += [f"{name}:{node.lineno} imports {n}" for n in names if n.split(".")[0] in forbidden]
        if "zipfile" in names and name not in OPENS_ARCHIVES:
            found.append(f"{name}:{node.lineno} imports zipfile")
        if isinstance(node, ast.Call):
            last, two = called(node)
            # A method of this name (a regular expression's compile, a network's eval) is another thing.
            built_in = last in {"eval", "exec", "compile", "__import__"}
            if two in CALLS or (last in CALLS and (not built_in or isinstance(node.func, ast.Name))):
                found.append(f"{name}:{node.lineno} calls {two}")
            for keyword in node.keywords:
                expected = SETTINGS.get(keyword.arg or "")
                if expected is not None and getattr(keyword.value, "value", None) is not expected:
                    found.append(f"{name}:{node.lineno} sets {keyword.arg}")
    return found


def weight_readers(text: str) -> dict[str, str]:
    """Functions of a Python text that read weights from a file, and by what call."""
    return {
        function.name: match
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        for match in {*called(node)} & {"load_weights", "h5py.File", "load_weights_from_hdf5"}
    }


HARMFUL = [
    *("import pickle", "from joblib import load", "import zipfile", "import tarfile", "eval('1')", "exec(text)"),
    *("import numpy as np\nnp.load(f, allow_pickle=True)", "np.load(f, allow_pickle=whatever)", "torch.load(f)"),
    *("keras.saving.load_model(f, safe_mode=False)", "keras.models.load_model('m.h5')", "pandas.read_pickle(f)"),
    *("yaml.load(f)", "subprocess.run('ls', shell=True)", "os.system('ls')", "zip.extractall('.')"),
]
HARMLESS = [
    *("np.load(f, allow_pickle=False)", "yaml.safe_load(f)", "re.compile('x')", "model.compile()", "net.eval()"),
    *("subprocess.run(['ls'])", "word = 'pickle, eval( and exec('"),
]


def test_what_is_looked_for_is_found_and_what_is_harmless_is_not():
    assert [text for text in HARMFUL if not faults("book/x.ipynb", text)] == []
    assert [text for text in HARMLESS if faults("book/x.ipynb", text)] == []


def test_nothing_in_the_project_can_run_what_it_reads():
    texts = dict(sources())
    assert {"wbc_lib/training/networks.py", "tests/test_safety.py", "book/index.ipynb"} <= set(texts)
    assert [fault for name, text in texts.items() for fault in faults(name, text)] == []


def test_weights_are_read_from_files_where_their_hash_is_checked_and_nowhere_else():
    found = {name: readers for name, text in sources() if (readers := weight_readers(text))}
    assert found == READS_WEIGHTS
    tree = ast.parse((paths.ROOT / "wbc_lib/training/networks.py").read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in READS_WEIGHTS["wbc_lib/training/networks.py"]:
            calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
            assert any(call.startswith("hashlib.") for call in calls), function.name


# --- the audit of the lock --------------------------------------------------------------------------------------------


class Advisories(http.server.BaseHTTPRequestHandler):
    """An advisory service that knows one fault, of six 1.0, and does not answer about 5.0."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        affected = [{"package": {"name": "six", "ecosystem": "PyPI"}, "versions": ["1.0"]}]
        faults = {"vulns": [{"id": "X-1", "summary": "a fault", "affected": affected}]}
        self.send_response(503 if query["version"] == "5.0" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(faults if query["version"] == "1.0" else {}).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.skipif(not (paths.ROOT / ".venv/bin/pip-audit").exists(), reason="needs the environment of make test")
@pytest.mark.parametrize(
    ("version", "code", "words"),
    [
        ("1.0", 1, "X-1"),
        ("2.0", 0, "no known fault"),
        ("5.0", 0, "were not audited"),
        ("1.0 nonsense", 1, ""),
    ],
)
def test_a_known_fault_of_a_locked_package_fails_the_audit_and_an_absent_service_does_not(
    tmp_path, version, code, words
):
    (tmp_path / "lock").write_text(f"six=={version} \\\n    --hash=sha256:{'0' * 64}\n")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [paths.ROOT / ".ci" / "audit", tmp_path / "lock", f"http://127.0.0.1:{server.server_port}/"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        server.shutdown()
    assert done.returncode == code and words in done.stdout
    assert bool(done.stderr) == bool(code)
