"""Getting published files: from disk where they lie whole, else from a mirror, so that nobody ever sees half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..device import quiet
from .published import SETS, Published

CONNECT, SILENCE = 5, 30  # seconds to wait for an answer, and for the next bytes
PATIENCE = 600  # seconds to wait for another process that is downloading the same set
FORGET = 120  # seconds for which a server that could not be reached is not asked again
STALE = 3600  # seconds after which a half-downloaded file belongs to nobody any more
MISSING = "no such file"


class DataUnavailable(ValueError):
    """A data set can't be had: neither on disk nor from a mirror. The message says what was tried and what to do."""


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


def fetch(name: str, file: str) -> bytes:
    """The whole, verified contents of a published file: from disk, else from the first mirror that has it.

    Looks in COURSE_DATA, then in the user's cache. A download is kept in the first of the two that can be written to;
    it appears there complete or not at all. A damaged file stays until a good one can take its place.
    Raises DataUnavailable.
    """
    published, findings = SETS[name], {}
    for folder in places():
        content, problem = read_verified(folder / name / file, *published.files[file])
        if content is not None:
            _tell_damage(findings)
            return content
        findings[folder / name] = problem
    target = next((folder for folder in findings if can_write(folder)), None)
    _tell_damage(findings, target)
    log = [f"looked in {folder}: {problem}" for folder, problem in findings.items()]
    if target is None:
        log.append("downloaded nothing, having no place for it: none of these folders can be written to")
        raise DataUnavailable(_apology(published, file, log))
    if target != next(iter(findings)):
        _say(f"{data_root()} can't be written to and lacks {published.title}: keeping a copy of your own in {target}.")
    with _one_at_a_time(target, published.title):
        content, _ = read_verified(target / file, *published.files[file])  # another process may have got it meanwhile
        return content if content is not None else _download(published, file, target, log)


def read_verified(path: Path, size: int, sha256: str) -> tuple[bytes | None, str]:
    """(contents, "") of a file that is what it should be, else (None, what is wrong with it)."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None, MISSING
    except OSError as error:
        return None, f"{path.name} can't be read ({error.strerror})"
    problem = damage(content, size, sha256)
    return (None, f"{path.name} is damaged ({problem})") if problem else (content, "")


def damage(content: bytes, size: int, sha256: str) -> str:
    """What is wrong with these bytes; "" if they are the published ones.

    >>> damage(b"only a part", 26_421_880, "3aed")
    'truncated: 11 of 26,421,880 bytes'
    """
    got = hashlib.sha256(content).hexdigest()
    if got == sha256:
        return ""
    if content.lstrip()[:1] == b"<":
        return "a web page in place of the file; does this network want you to log in?"
    if len(content) < size:
        return f"truncated: {len(content):,} of {size:,} bytes"
    return f"wrong checksum: SHA-256 {got[:12]}… instead of {sha256[:12]}…"


def _tell_damage(findings: dict[Path, str], target: Path | None = None) -> None:
    """Say aloud which files were there but no good, and what becomes of them."""
    for folder, problem in findings.items():
        if problem != MISSING:
            mended = folder == target
            print(f"{folder}: {problem}; " + ("fetching it again." if mended else "tell whoever keeps that folder."))


def can_write(folder: Path) -> bool:
    """Can a file be made in this folder (made if need be)? Tried out, since permissions alone don't tell."""
    probe = folder / f".{secrets.token_hex(8)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ downloads


def mirrors(published: Published) -> list[str]:
    """Where to ask, best first. COURSE_MIRROR is a server of your own that has folders fashion-mnist/, mnist/, ..."""
    own = os.environ.get("COURSE_MIRROR", "").strip()
    return ([f"{own.rstrip('/')}/{published.name}/"] if own else []) + list(published.mirrors)


def _download(published: Published, file: str, folder: Path, log: list[str]) -> bytes:
    """Ask one mirror after the other; write beside, verify, rename. `log` says what was tried before."""
    _sweep(folder)
    size, sha256 = published.files[file]
    for mirror in mirrors(published):
        host = urlsplit(mirror).netloc
        when, why = _unreachable.get(host, (-FORGET, ""))
        if time.monotonic() - when < FORGET:
            log.append(f"asked {host}: {why}")
            continue
        part = folder / f".{file}.{secrets.token_hex(8)}.part"
        try:
            _get(mirror + file, part, size, f"{published.name}/{file}")
            content = part.read_bytes()
            problem = damage(content, size, sha256)
            if not problem:
                os.replace(part, folder / file)
                return content
            log.append(f"asked {host}: {problem}")
        except requests.RequestException as error:
            log.append(f"asked {host}: {_reason(error, size)}")
            if isinstance(error, requests.ConnectionError) and not _broke_off(error):
                _unreachable[host] = (time.monotonic(), _reason(error, size))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            log.append(f"wrote to {folder}: " + (f"no space left for {size:,} bytes" if full else str(error.strerror)))
            break
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    raise DataUnavailable(_apology(published, file, log))


_unreachable: dict[str, tuple[float, str]] = {}  # host -> (when, why): four files shan't wait for it four times


def _get(url: str, path: Path, size: int, label: str) -> None:
    with tqdm(total=size, unit="B", unit_scale=True, desc=label, delay=0.5, leave=False, disable=quiet()) as bar:
        pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=(CONNECT, SILENCE))(url, str(path), None)


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
        f"{published.title} can't be had: there is no good copy of {file} here, and none could be downloaded.",
        *(f"  {line}" for line in log),
        "What to do:",
        *(f"  {line}" for line in todo),
    ]
    return "\n".join(lines)


def _sweep(folder: Path) -> None:
    """Remove what killed downloads left behind."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


# ---------------------------------------------------------------------------------------------------- several processes


@contextlib.contextmanager
def _one_at_a_time(folder: Path, title: str) -> Iterator[None]:
    """Hold the folder's lock, so that of several processes one downloads and the others wait and then find the file.

    The system drops the lock when its holder dies. Where a file system has no locks, or a holder hangs, we go on
    without: files appear whole, by renaming, so that the worst is a file downloaded twice.
    """
    lock = FileLock(folder / ".lock", mode=0o666)
    held = _acquire(lock, title)
    try:
        yield
    finally:
        if held:
            lock.release()


def _acquire(lock: FileLock, title: str) -> bool:
    with contextlib.suppress(OSError, NotImplementedError):  # the last time-out is an OSError, too
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(f"Another process is downloading {title}: waiting for it.")
            lock.acquire(timeout=PATIENCE)
        return True
    return False


_said: set[str] = set()


def _say(line: str) -> None:
    """Print a line, once a process: a set is several files."""
    if line not in _said:
        _said.add(line)
        print(line)
