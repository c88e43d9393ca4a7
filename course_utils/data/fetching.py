"""Getting published files: from disk where they lie whole, else from a mirror, so that nobody ever sees half a file."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..device import quiet
from ..files import check_writable, write_whole
from .sets import Published

CONNECT, SILENCE = 5, 30  # seconds to wait for an answer, and for the next bytes
PATIENCE = 600  # seconds to wait for another process that is downloading the same set
FORGET = 120  # seconds for which a server that could not be reached is not asked again
MISSING = "no such file"


class DataUnavailable(ValueError):
    """A data set is neither on disk nor to be had from a mirror. The message says what was tried and what to do."""


class Unusable(Exception):
    """What lies there, or came, is not the published file. The message says why in a few words."""


def user_cache() -> Path:
    """The folder for data that belongs to this user alone."""
    return Path(pooch.os_cache("course-image-generation"))


def data_root() -> Path:
    """Where data sets are looked for first: the environment's COURSE_DATA, else this user's cache."""
    shared = os.environ.get("COURSE_DATA", "").strip()
    return Path(shared).expanduser() if shared else user_cache()


def places() -> list[Path]:
    """The folders that data sets are looked for in, best first."""
    return list(dict.fromkeys([data_root(), user_cache()]))


# ------------------------------------------------------------------------------------------------------------- one file


def fetch(published: Published, file: str) -> bytes:
    """The whole, verified contents of a published file: from disk, else from the first mirror that has it.

    Looks in COURSE_DATA, then in the user's cache. A download is kept in the first of the two that can be written to;
    it appears there complete or not at all. A damaged file stays until a good one can take its place.
    Raises DataUnavailable.
    """
    content, problems, expected = None, {}, published.files[file]
    for folder in [place / published.name for place in places()]:
        try:
            content = read_verified(folder / file, *expected)
            break
        except Unusable as problem:
            problems[folder] = str(problem)
    target = next(filter(can_write, problems), None) if content is None else None
    for folder, problem in problems.items():
        if problem != MISSING:
            remedy = "fetching it again." if folder == target else "tell whoever keeps that folder."
            print(f"{folder}: {problem}; {remedy}")
    if content is not None:
        return content
    log = [f"looked in {folder}: {problem}" for folder, problem in problems.items()]
    if target is None:
        log.append("downloaded nothing: none of these folders can be written to")
        raise DataUnavailable(_apology(published, file, log))
    if target != next(iter(problems)):
        _say(f"{data_root()} can't be written to and lacks {published.title}: keeping a copy of your own in {target}.")
    with _one_at_a_time(target, published.title):
        with contextlib.suppress(Unusable):  # another process may have got it meanwhile
            return read_verified(target / file, *expected)
        return _download(published, file, target, log)


def read_verified(path: Path, size: int, sha256: str) -> bytes:
    """The contents of a file that is what it should be. Raises Unusable."""
    try:
        return verified(path.read_bytes(), size, sha256)
    except (FileNotFoundError, NotADirectoryError):
        raise Unusable(MISSING) from None
    except OSError as error:
        raise Unusable(f"{path.name} can't be read ({error.strerror})") from None
    except Unusable as problem:
        raise Unusable(f"{path.name} is damaged ({problem})") from None


def verified(content: bytes, size: int, sha256: str) -> bytes:
    """These bytes, if they are the published ones. Raises Unusable.

    >>> verified(b"only a part", 26_421_880, "3aed")
    Traceback (most recent call last):
    course_utils.data.fetching.Unusable: truncated: 11 of 26,421,880 bytes
    """
    got = hashlib.sha256(content).hexdigest()
    if got == sha256:
        return content
    if content.lstrip()[:1] == b"<":
        raise Unusable("a web page in place of the file; does this network want you to log in?")
    if len(content) < size:
        raise Unusable(f"truncated: {len(content):,} of {size:,} bytes")
    raise Unusable(f"wrong checksum: SHA-256 {got[:12]}… instead of {sha256[:12]}…")


def can_write(folder: Path) -> bool:
    """Can files be made in this folder?"""
    try:
        check_writable(folder)
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ downloads


def mirrors(published: Published) -> list[str]:
    """Where to ask, best first. COURSE_MIRROR is a server of your own that has folders fashion-mnist/, mnist/, ..."""
    own = os.environ.get("COURSE_MIRROR", "").strip()
    return ([f"{own.rstrip('/')}/{published.name}/"] if own else []) + list(published.mirrors)


def _download(published: Published, file: str, folder: Path, log: list[str]) -> bytes:
    """Ask one mirror after the other, verify, and only then write. `log` says what was tried before."""
    size, sha256 = published.files[file]
    for mirror in mirrors(published):
        host = urlsplit(mirror).netloc
        try:
            content = verified(_ask(host, mirror + file, size), size, sha256)
            write_whole(folder / file, content)
            return content
        except Unusable as problem:
            log.append(f"asked {host}: {problem}")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            log.append(f"wrote to {folder}: " + (f"no space left for {size:,} bytes" if full else str(error.strerror)))
            break
    raise DataUnavailable(_apology(published, file, log))


_unreachable: dict[str, tuple[float, str]] = {}  # host -> (when, why): so that four files don't wait for it four times


def _ask(host: str, url: str, size: int) -> bytes:
    """What this server sends. Raises Unusable where nothing comes, or not all."""
    when, why = _unreachable.get(host, (-FORGET, ""))
    if time.monotonic() - when < FORGET:
        raise Unusable(why)
    try:
        return _get(url, size)
    except requests.RequestException as error:
        why = _reason(error, size)
        if isinstance(error, requests.ConnectionError) and not _broke_off(error):
            _unreachable[host] = (time.monotonic(), why)
        raise Unusable(why) from None


def _get(url: str, size: int) -> bytes:
    content, label = io.BytesIO(), "/".join(url.split("/")[-2:])
    with tqdm(total=size, unit="B", unit_scale=True, desc=label, delay=0.5, leave=False, disable=quiet()) as bar:
        pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=(CONNECT, SILENCE))(url, content, None)
    return content.getvalue()


def _reason(error: requests.RequestException, size: int) -> str:
    """Why a request failed, in words."""
    text = str(error).lower()
    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted (a proxy in between?)"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy did not let us through (HTTPS_PROXY)"
    if _broke_off(error):
        return f"the connection broke off before all {size:,} bytes had come"
    if isinstance(error, requests.ConnectTimeout):
        return f"no answer within {CONNECT} seconds"
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return f"nothing came for {SILENCE} seconds"
    if any(words in text for words in ("resolve", "resolution", "getaddrinfo")):
        return "its name could not be resolved (no network?)"
    return "refused the connection" if "refused" in text else f"could not be reached ({type(error).__name__})"


def _broke_off(error: Exception) -> bool:
    return isinstance(error, requests.exceptions.ChunkedEncodingError) or "broken" in str(error).lower()


def _apology(published: Published, file: str, log: list[str]) -> str:
    """The message of DataUnavailable: what is missing, what was tried, what to do."""
    todo = [
        "connect to the internet and run this again",
        f"or copy {', '.join(published.files)} from a machine that has them into {data_root() / published.name}",
        "or set COURSE_DATA to a folder that holds the data sets, or that you can write to",
        'or go on without a network: load("digits"), for a whole notebook COURSE_DATASET=digits',
    ]
    lines = [
        f"{published.title} is not available: there is no good copy of {file} here, and none could be downloaded.",
        *(f"  {line}" for line in log),
        "What to do:",
        *(f"  {line}" for line in todo),
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- several processes


@contextlib.contextmanager
def _one_at_a_time(folder: Path, title: str) -> Iterator[None]:
    """Hold the folder's lock, so that of several processes one downloads and the others wait and then find the file.

    The system drops the lock when its holder dies. Where a file system has no locks, or a holder hangs, we go on
    without: files appear whole, by renaming, so that the worst is a file downloaded twice.
    """
    lock = FileLock(folder / ".lock", mode=0o666)
    with contextlib.suppress(OSError, NotImplementedError):  # a time-out is an OSError, too
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(f"Another process is downloading {title}: waiting for it.")
            lock.acquire(timeout=PATIENCE)
    try:
        yield
    finally:
        lock.release()  # does nothing where we don't hold it


@functools.cache
def _say(line: str) -> None:
    """Print a line, once a process: a set is several files."""
    print(line)
