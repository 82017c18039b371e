"""Fetching an archive: resumed where it was cut off, checked against its checksum, never fetched twice."""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from discern.data.progress import progress
from discern.errors import DownloadError

_CHUNK = 2**18
_TIMEOUT_SECONDS = 60
_ATTEMPTS = 5
# What another try may mend; any other refusal (not found, forbidden) sends us to the next mirror at once.
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


def is_url(address: str) -> bool:
    """Whether `address` has to be fetched; otherwise it is a local path."""
    return re.match(r"https?://", address, re.IGNORECASE) is not None


def file_sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_path(url: str, sha256: str, downloads: Path) -> Path:
    """Where the archive of this checksum is kept, or may be put by hand."""
    basename = re.sub(r"[^\w.-]", "_", url.partition("?")[0].rstrip("/").rpartition("/")[2])
    return downloads / f"{sha256[:12]}-{basename}"


def fetch(
    addresses: list[str], sha256: str, downloads: Path, *, offline: bool = False, backoff: float = 1.0
) -> Path:
    """The archive with this checksum, from the folder of downloads or else the first address that has it.

    Args:
        addresses: http(s) addresses, tried in order; the first also names the file.
        sha256: checksum of the archive.
        downloads: folder where fetched archives are kept, and `.part` files of broken ones.
        offline: never open a connection.
        backoff: seconds before the second try of one address; doubled for each further one.

    Raises:
        DownloadError: no address gave the archive with that checksum, or `offline` is set and it is
            not there.
    """
    final = cached_path(addresses[0], sha256, downloads)
    if _verified(final, sha256):
        return final
    if offline:
        found = "the file there has another checksum" if final.exists() else "no such file"
        raise DownloadError(
            f"{final}: {found}, and DISCERN_OFFLINE is set; put the archive with sha256 {sha256} there"
        )
    downloads.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    failures = []
    # Queued experiments may want the same archive at the same time.
    with FileLock(str(final) + ".lock"):
        if _verified(final, sha256):
            return final
        for address in addresses:
            try:
                _download(address, part, sha256, backoff)
            except DownloadError as error:
                failures.append(str(error))
                continue
            part.replace(final)
            return final
    raise DownloadError(f"{final.name} could not be fetched: {'; '.join(failures)}")


def _verified(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _download(address: str, part: Path, sha256: str, backoff: float) -> None:
    """Bring `part` to the whole archive, or raise."""
    resumed = part.exists()
    _retry(address, part, backoff)
    found = file_sha256(part)
    if found != sha256 and resumed:
        # What was there before may have come from another version of the archive.
        part.unlink()
        _retry(address, part, backoff)
        found = file_sha256(part)
    if found != sha256:
        part.unlink()
        raise DownloadError(f"{address}: sha256 is {found}, expected {sha256}")


def _retry(address: str, part: Path, backoff: float) -> None:
    tries = 0
    while True:
        before = _length(part)
        try:
            _continue(address, part)
            return
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            if error.code not in _PASSING_STATUS:
                raise DownloadError(f"{address}: {problem}") from error
        except urllib.error.URLError as error:
            problem = str(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(error) or type(error).__name__
        # A connection that keeps breaking but brings something each time gets there in the end.
        tries = 0 if _length(part) > before else tries + 1
        if tries >= _ATTEMPTS:
            raise DownloadError(f"{address}: {problem} ({_ATTEMPTS} tries)")
        time.sleep(backoff * 2 ** max(0, tries - 1))


def _continue(address: str, part: Path) -> None:
    """Fetch what `part` lacks."""
    have = _length(part)
    headers = {"User-Agent": "discern", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  # `is_url` let http(s) only pass
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310  # as above
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            # Nothing lies beyond what we have: it is the whole archive, or too much of it.
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise ConnectionError("the server has less than was fetched before; starting anew") from error
        raise
    with response:
        start = _start(response)
        if start not in (0, have):
            raise ConnectionError(f"asked for byte {have}, got byte {start}")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if start else "wb") as file,
            progress(part.name.removesuffix(".part"), total, done=start, in_bytes=True) as advance,
        ):
            _copy(response, file, advance)
    if total is not None and _length(part) < total:
        raise ConnectionError(f"cut off at {_length(part)} of {total} bytes")


def _start(response: Any) -> int:
    """The first byte that the server sends; a server that ignores Range sends the whole from 0."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None:
        raise ConnectionError("a partial answer without a valid Content-Range")
    return int(match[1])


def _copy(response: Any, file: BinaryIO, advance: Callable[[int], None]) -> None:
    while chunk := response.read1(_CHUNK):
        file.write(chunk)
        advance(len(chunk))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
