"""What the code must not do: open pickles, and listen beyond this machine."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
PICKLES = {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """Dotted name and keyword arguments of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: word.value for word in node.keywords if word.arg}


def true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def faults(text: str) -> list[str]:
    tree, found = ast.parse(text), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"imports {name}" for name in names if name.split(".")[0] in PICKLES]
    for name, words in calls(tree):
        if name.endswith("torch.load") and not true(words.get("weights_only")):
            found.append("torch.load without weights_only=True")
        if true(words.get("allow_pickle")) or name.endswith("read_pickle"):
            found.append(f"{name} opens pickles")
    found += [f"listens on {v}" for v in ("0.0.0.0", "::") if f'"{v}"' in text]
    return found


def test_no_code_opens_a_pickle_or_listens_beyond_this_machine() -> None:
    assert len(FILES) > 100
    assert {path.name: found for path in FILES if (found := faults(path.read_text(encoding="utf-8")))} == {}


def test_the_search_finds_what_it_looks_for() -> None:
    assert faults("import pickle") == ["imports pickle"]
    assert faults("from joblib import load") == ["imports joblib"]
    assert faults("torch.load(path)") == ["torch.load without weights_only=True"]
    assert faults("torch.load(path, weights_only=True)") == []
    assert faults("np.load(path, allow_pickle=True)") == ["np.load opens pickles"]
    assert faults("pd.read_pickle(path)") == ["pd.read_pickle opens pickles"]
    assert faults('serve(host="0.0.0.0")') == ["listens on 0.0.0.0"]
