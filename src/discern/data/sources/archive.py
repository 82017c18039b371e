"""A tar or zip of photographs, local or fetched."""

from pathlib import Path

from discern.data.fetch import fetch, file_sha256, is_url
from discern.data.sources.folder import resolve
from discern.errors import DownloadError
from discern.params.dataset import Archive
from discern.settings import settings
from discern.workspace import Workspace


def locate(dataset: Archive, workspace: Workspace) -> Path:
    """The archive on this machine, its checksum verified, fetched where need be.

    Raises:
        DownloadError: it is missing, cannot be fetched, or has another checksum.
    """
    addresses = [dataset.url, *dataset.mirrors]
    problems = []
    for path in (resolve(address, workspace) for address in addresses if not is_url(address)):
        if not path.is_file():
            problems.append(f"{path}: no such file")
            continue
        found = file_sha256(path)
        if found == dataset.sha256:
            return path
        problems.append(f"{path}: sha256 is {found}, expected {dataset.sha256}")
    urls = [address for address in addresses if is_url(address)]
    if urls:
        return fetch(urls, dataset.sha256, workspace.downloads, offline=settings().offline)
    raise DownloadError(f"dataset.url: {'; '.join(problems)}")
