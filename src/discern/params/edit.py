"""Changing params.yaml and methods/ with comments and layout kept: all files together, or none."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from discern.errors import ParamsError
from discern.params.load import METHODS, load_text, read_mapping

PARAMS = "params.yaml"
METHOD_FILE = re.compile(rf"{METHODS}/[a-z][a-z0-9_]*\.yaml")


class Edit:
    """The parameter files of a project, as they lie there and as they are to become.

    Args:
        root: folder of params.yaml.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 10_000  # long flow mappings stay on their line
        self._trees: dict[str, Any] = {}

    def tree(self, file: str) -> Any:
        """The content of a file, to be changed in place.

        Raises:
            ParamsError: there is no such file, it is no YAML mapping, or none of those that hold parameters.
        """
        if file != PARAMS and not METHOD_FILE.fullmatch(file):
            raise ParamsError(f"{file}: parameters stand in {PARAMS} and {METHODS}/NAME.yaml alone")
        if file not in self._trees:
            try:
                text = self._before(file)
            except FileNotFoundError as error:
                raise ParamsError(f"{self.root / file}: no such file; run from the project's root") from error
            read_mapping(text, file)  # refuses what is none
            self._trees[file] = self._yaml.load(text)
        return self._trees[file]

    def assign(self, override: str) -> None:
        """Change one value as `dvc exp run -S` does: `key=value`, or `methods/NAME.yaml:key=value`.

        Raises:
            ParamsError: it is no assignment, names no parameter, or its value is no YAML.
        """
        target, equals, value = override.partition("=")
        if not equals:
            raise ParamsError(f"override {override!r}: write key=value, e.g. train_encoder.pair_weight=0.5")
        named = re.fullmatch(r"([\w./-]+\.yaml):(.+)", target.strip())
        file, key = named.groups() if named else (PARAMS, target.strip())
        *parents, last = key.split(".")
        node = self.tree(file)
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            raise ParamsError(f"override {override!r}: {key} is not in {file}")
        try:
            node[last] = YAML().load(value)  # keeps the way a list or mapping is written
        except YAMLError as error:
            raise ParamsError(f"override {override!r}: the value is not valid YAML") from error

    def overlay(self, changes: Mapping[str, Any]) -> None:
        """Lay nested values over the files; keys that end in .yaml name a file, all others are of params.yaml.

        Mappings merge key by key, but one of another `kind` takes the place of the whole.

        Raises:
            ParamsError: a key is in no file, or a file is to become something else than a mapping.
        """
        for key, value in changes.items():
            if str(key).endswith(".yaml"):
                if not isinstance(value, dict):
                    raise ParamsError(f"{key}: a file takes a mapping of what changes, not {value!r}")
                _merge(self.tree(key), value, key)
            else:
                _merge(self.tree(PARAMS), {key: value}, PARAMS)

    def texts(self) -> dict[str, str]:
        """What the changed files are to hold, checked together.

        Raises:
            ParamsError: that would be no valid parameters.
        """
        self.tree(PARAMS)
        found = {file: self._dumped(tree) for file, tree in self._trees.items()}
        methods = {Path(file).stem: text for file, text in found.items() if Path(file).parent == METHODS}
        load_text(found[PARAMS], str(self.root / PARAMS), self.root / METHODS, methods)
        return {file: text for file, text in found.items() if text != self._before(file)}

    def write(self) -> None:
        """Write every changed file: a full disk, or a folder that takes no file, leaves all of them as they were.

        Raises:
            ParamsError: nothing is written, as the result would not be valid.
        """
        final = {self.root / file: text for file, text in self.texts().items()}
        partial = {path: path.with_name(f".{path.name}.partial") for path in final}
        try:
            for path, text in final.items():
                partial[path].write_text(text, encoding="utf-8")
            for path in final:
                partial[path].replace(path)
        finally:
            for path in partial.values():
                path.unlink(missing_ok=True)

    def _before(self, file: str) -> str:
        return (self.root / file).read_text(encoding="utf-8")

    def _dumped(self, tree: Any) -> str:
        text = io.StringIO()
        self._yaml.dump(tree, text)
        return text.getvalue()


def _merge(tree: Any, changes: Any, where: str) -> None:
    for key, value in changes.items():
        if key not in tree:
            raise ParamsError(f"{where}: there is no {key} that could be changed")
        old = tree[key]
        both = isinstance(old, dict) and isinstance(value, dict)
        if both and value.get("kind", old.get("kind")) == old.get("kind"):
            _merge(old, value, f"{where}: {key}" if where.endswith(".yaml") else f"{where}.{key}")
        else:
            tree[key] = value
