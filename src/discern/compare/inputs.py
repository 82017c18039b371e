"""What went into two revisions: parameters, data and code."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from discern.compare.revision import Revision, git
from discern.params.load import named_methods
from discern.tracking.record import flatten

CODE = ("src", "flows", "dvc.yaml", "requirements.lock")
MANY_FILES = 20  # of code that differ; more are summed by folder
DATA = re.compile(r"data/(raw|validated|packed/\w+|packed)")


@dataclass(frozen=True)
class Change:
    """A value that differs; None where a revision does not have it."""

    key: str
    before: str | None
    after: str | None


def params(old: Revision, new: Revision) -> list[Change]:
    """Parameters that differ, of params.yaml and of the methods that either revision names.

    A method's are called as DVC calls them, `methods/moco.yaml:queue`. Where one side lacks a whole branch or a
    whole file, that is one change.
    """
    before, after = (side.yaml("params.yaml") for side in (old, new))
    found = _differences(before, after)
    for name in dict.fromkeys((*named_methods(before), *named_methods(after))):
        file = f"methods/{name}.yaml"
        theirs, ours = old.yaml(file), new.yaml(file)
        if theirs and ours:
            found += [replace(one, key=f"{file}:{one.key}") for one in _differences(theirs, ours)]
        elif theirs or ours:
            text = f"{len(flatten(theirs or ours))} parameters"
            found.append(Change(file, text if theirs else None, text if ours else None))
    return found


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    before, after = flatten(old), flatten(new)
    found: dict[str, Change] = {}
    for key in dict.fromkeys((*before, *after)):
        theirs, ours = before.get(key), after.get(key)
        if theirs == ours:
            continue
        if theirs is not None and ours is not None:
            found[key] = Change(key, theirs, ours)
            continue
        have, lack = (before, after) if ours is None else (after, before)
        branch = _branch(key, lack)
        leaves = [leaf for leaf in have if leaf == branch or leaf.startswith(f"{branch}.")]
        text = have[key] if leaves == [branch] else f"{len(leaves)} parameters"
        found[branch] = Change(branch, text, None) if ours is None else Change(branch, None, text)
    return list(found.values())


def _branch(key: str, lack: dict[str, str]) -> str:
    """The shortest beginning of a dotted key that no key of `lack` has."""
    parts = key.split(".")
    beginnings = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return next((b for b in beginnings if not any(k == b or k.startswith(f"{b}.") for k in lack)), key)


def data(old: Revision, new: Revision) -> list[Change]:
    """Outputs of the data stages with their checksums, changed or not."""
    paths = sorted(path for path in {*old.outs, *new.outs} if DATA.fullmatch(path))
    return [Change(path, old.outs.get(path), new.outs.get(path)) for path in paths]


def code(old: Revision, new: Revision) -> list[tuple[str, str, str]]:
    """(path, added, deleted) of every file; the workspace may be on either side, but Git wants it last."""
    if old.in_workspace and new.in_workspace:
        return []
    reverse = ["-R"] if old.in_workspace else []
    commits = [side.commit for side in (old, new) if not side.in_workspace]
    lines = git(old.root, "diff", "--numstat", "--no-renames", *reverse, *commits, "--", *CODE).splitlines()
    found = [tuple(line.split("\t", 2)) for line in lines]
    if len(found) > MANY_FILES:
        found = _by_folder(found)
    return [(path, added, deleted) for added, deleted, path in found]


def _by_folder(files: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    folders: dict[str, list[tuple[str, ...]]] = {}
    for added, deleted, path in files:
        folders.setdefault(str(Path(path).parent), []).append((added, deleted))
    return [
        # Git says - for what is no text.
        (
            *(str(sum(int(n) for n in column if n != "-")) for column in zip(*counts, strict=True)),
            f"{folder}/ ({len(counts)} files)",
        )
        for folder, counts in folders.items()
    ]
