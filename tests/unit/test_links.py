"""The link beside a method's file leads to its code; else DVC would watch something else."""

import shutil
import subprocess
from pathlib import Path

import pytest

from discern.errors import ParamsError
from discern.params.links import check_link, check_links
from discern.params.load import read_methods

ROOT = Path(__file__).parents[2]
METHODS, UNREADABLE = read_methods(ROOT / "methods")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("methods", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_projects_own_can_be_read() -> None:
    assert not UNREADABLE


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


def test_a_part_of_the_code_or_more_than_it_is_not_the_code(project: Path) -> None:
    """What the module imports from its folder would not be watched; or every other method would be."""
    for target in ("../src/discern/methods/pretext/srgan/objective.py", "../src/discern/methods/pretext"):
        link = project / "methods" / "srgan_generator"
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(ParamsError, match="leads to other code"):
            check_link(project / "methods", "srgan_generator", METHODS["srgan_generator"])


def test_a_copy_in_the_place_of_a_link_is_told_with_a_command_that_works(project: Path) -> None:
    """As a checkout without links leaves it, or `cp -rL`."""
    folder = project / "methods"
    for name, copy in (("srgan_generator", shutil.copytree), ("moco", shutil.copy)):
        code = (folder / name).resolve()
        (folder / name).unlink()
        copy(code, folder / name)
        with pytest.raises(ParamsError, match="is a copy") as error:
            check_link(folder, name, METHODS[name])
        subprocess.run(["sh", "-c", str(error.value).split("`")[1]], check=True)
        check_link(folder, name, METHODS[name])


def test_all_are_looked_at_and_each_wrong_one_is_a_line(project: Path) -> None:
    folder = project / "methods"
    check_links(folder, METHODS)
    (folder / "moco").unlink()
    (folder / "dino").unlink()
    (folder / "dino").symlink_to("../src/discern/methods/two_view/byol.py")
    (folder / "byol.yaml").write_text("kind: [")  # told by those who read it
    with pytest.raises(ParamsError) as error:
        check_links(folder, read_methods(folder)[0])
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{folder / 'dino'}: the link to the method's code leads to other code; `ln -sfn ")
    assert second.startswith(f"{folder / 'moco'}: the link to the method's code is missing; `ln -sfn ")


def test_another_set_of_parameters_may_link_to_the_first(project: Path) -> None:
    (project / "methods" / "mine").symlink_to("moco")
    check_link(project / "methods", "mine", METHODS["moco"])


def test_without_the_source_there_is_nothing_to_watch(project: Path) -> None:
    shutil.rmtree(project / "src")
    check_link(project / "methods", "nobody", METHODS["moco"])
