"""The link beside a method's file leads to its code; else DVC would watch something else."""

import shutil
from pathlib import Path

import pytest

from discern.errors import ParamsError
from discern.params.links import check_link
from discern.params.load import load_methods

ROOT = Path(__file__).parents[2]
METHODS = load_methods(ROOT / "methods")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("methods", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize("name", METHODS)
def test_the_projects_own_are_right(name: str) -> None:
    check_link(ROOT / "methods", name, METHODS[name])


@pytest.mark.parametrize("name", ["moco", "srgan_generator", "random_init"])
@pytest.mark.parametrize("state", ["is missing", "leads to other code"])
def test_one_that_is_not_is_told_with_the_command_that_mends_it(name: str, state: str, project: Path) -> None:
    link = project / "methods" / name
    link.unlink()
    if state != "is missing":
        link.symlink_to("simclr")
    with pytest.raises(ParamsError, match=state) as error:
        check_link(project / "methods", name, METHODS[name])
    target, place = str(error.value).partition("`ln -sfn ")[2].partition("`")[0].split()
    link.unlink(missing_ok=True)
    Path(place).symlink_to(target)
    check_link(project / "methods", name, METHODS[name])


def test_another_set_of_parameters_may_link_to_the_first(project: Path) -> None:
    (project / "methods" / "mine").symlink_to("moco")
    check_link(project / "methods", "mine", METHODS["moco"])


def test_without_the_source_there_is_nothing_to_watch(project: Path) -> None:
    shutil.rmtree(project / "src")
    check_link(project / "methods", "nobody", METHODS["moco"])
