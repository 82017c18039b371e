"""Where the photographs come from: `dataset`, a union told apart by `kind`."""

from typing import Annotated, Literal

from pydantic import Field

from discern.params.model import ParamModel


class Plumage(ParamModel):
    """The embedded data set: drawn birds whose species differ only in small parts."""

    kind: Literal["plumage"]
    seed: int = Field(ge=0)
    species: int = Field(ge=2, le=200, description="classes; five species to a genus")
    train_per_species: int = Field(ge=2)
    test_per_species: int = Field(ge=1)
    image_size: int = Field(ge=32, le=512, description="side in pixels")
    nuisance: float = Field(ge=0, le=1, description="0: muted shared backgrounds; 1: each image its own")


class Folder(ParamModel):
    """A directory of photographs: CLASS/file, or files without classes, with an optional split.csv."""

    kind: Literal["folder"]
    path: str = Field(min_length=1, description="directory; relative to the project or absolute")
    licence: str = Field(min_length=1, description="licence of the photographs, kept with every result")


class Archive(ParamModel):
    """A tar or zip holding such a directory, local or fetched."""

    kind: Literal["archive"]
    url: str = Field(min_length=1, description="http(s) address, or a local path")
    mirrors: list[str] = Field(description="addresses tried in order when `url` fails")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="checksum of the archive")
    licence: str = Field(min_length=1, description="licence of the photographs, kept with every result")


Dataset = Annotated[Plumage | Folder | Archive, Field(discriminator="kind")]
