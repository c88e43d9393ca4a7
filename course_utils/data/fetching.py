"""Published files: where they lie, where they can be had, and how we know that they are whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


@dataclass(frozen=True)
class Published:
    """A published data set: its files by split (images, labels), where to get them, and what they must be."""

    name: str
    title: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]  # addresses of folders that hold the files; https only
    files: dict[str, tuple[int, str]]  # file name -> (bytes, SHA-256)
    splits: dict[str, tuple[str, str]]


SETS = {
    "fashion-mnist": Published(
        "fashion-mnist",
        "Fashion-MNIST",
        ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        ),
        {
            TRAIN[0]: (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            TRAIN[1]: (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            TEST[0]: (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            TEST[1]: (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        },
        {"train": TRAIN, "test": TEST},
    ),
    "mnist": Published(
        "mnist",
        "MNIST",
        tuple("0123456789"),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
        {
            TRAIN[0]: (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            TRAIN[1]: (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            TEST[0]: (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            TEST[1]: (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        },
        {"train": TRAIN, "test": TEST},
    ),
    "kmnist": Published(
        "kmnist",
        "Kuzushiji-MNIST",
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        {
            TEST[0]: (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            TEST[1]: (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        },
        {"test": TEST},
    ),
}

CONNECT, SILENCE = 5, 30  # seconds to wait for an answer, and for the next bytes
PATIENCE = 600  # seconds to wait for another process that is downloading the same set
FORGET = 120  # seconds for which a server that could not be reached is not asked again
STALE = 3600  # seconds after which a half-downloaded file belongs to nobody any more


class DataUnavailable(ValueError):
    """A data set can't be had: neither on disk nor from a mirror. The message says what was tried and what to do."""


def user_cache() -> Path:
    """The folder for data that belongs to this user alone."""
    return Path(pooch.os_cache("course-image-generation"))


def data_root() -> Path:
    """Where data sets are looked for first: the environment's COURSE_DATA, else this user's cache."""
    shared = os.environ.get("COURSE_DATA", "").strip()
    return Path(shared).expanduser() if shared else user_cache()


# ------------------------------------------------------------------------------------------------------------------- one file


def fetch(name: str, file: str) -> bytes:
    """The whole, verified contents of a published file: from disk, else from the first mirror that has it.

    Looks in COURSE_DATA, then in the user's cache. What is downloaded is kept in the first of the two that can be written to;
    it appears there complete or not at all, so that other processes never see half a file. Raises DataUnavailable.
    """
    published = SETS[name]
    findings = []
    for folder in places():
        content, problem = read_verified(folder / name / file, *published.files[file])
        if content is not None:
            return content
        findings.append((folder, problem))
    target = _where_to_keep(published, file, findings)
    log = [f"looked in {folder / name}: {problem}" for folder, problem in findings]
    if target is None:
        log.append("cannot keep a download: none of these folders can be written to")
        raise DataUnavailable(_apology(published, file, log))
    with _one_at_a_time(target / name, published.title):
        content, problem = read_verified(target / name / file, *published.files[file])  # another process may have got it
        return content if content is not None else _download(published, file, target / name, log)


def places() -> list[Path]:
    """The folders that data sets are looked for in, best first."""
    return list(dict.fromkeys([data_root(), user_cache()]))


def read_verified(path: Path, size: int, sha256: str) -> tuple[bytes | None, str]:
    """(contents, "") of a file that is what it should be, else (None, what is wrong with it)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None, MISSING
    except OSError as error:
        return None, f"{path.name} can't be read ({error.strerror})"
    problem = _damage(content, size, sha256)
    return (None, f"{path.name} is damaged ({problem})") if problem else (content, "")


MISSING = "no such file"


def _damage(content: bytes, size: int, sha256: str) -> str:
    """What is wrong with these bytes; "" if they are the published ones."""
    if len(content) < size and content[:1] != b"<":
        return f"truncated: {len(content):,} of {size:,} bytes"
    got = hashlib.sha256(content).hexdigest()
    if got == sha256:
        return ""
    if content.lstrip()[:1] == b"<":
        return "a web page instead of the file; does this network want you to log in?"
    return f"wrong checksum: SHA-256 {got[:12]}… instead of {sha256[:12]}…"


def _where_to_keep(published: Published, file: str, findings: list[tuple[Path, str]]) -> Path | None:
    """The first folder that can be written to; says aloud what was damaged and where the download goes instead."""
    for number, (folder, problem) in enumerate(findings):
        path = folder / published.name / file
        writable = can_write(path.parent)
        if problem != MISSING:
            then = "fetching it again" if writable else "it can't be replaced there: tell whoever keeps that folder"
            say(f"{path.parent}: {problem}; {then}.")
        if writable:
            if number:
                first = findings[0][0]
                say(f"{first} can't be written to and lacks {published.title}: keeping a copy of your own in {folder}.")
            return folder
    return None


def can_write(folder: Path) -> bool:
    """Can a file be made in this folder (which is made if it doesn't exist)? Tried, since permissions alone don't tell."""
    probe = folder / f".{secrets.token_hex(8)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------------- download


def _download(published: Published, file: str, folder: Path, log: list[str]) -> bytes:
    """Ask one mirror after the other; write beside, verify, rename. `log` collects what went wrong."""
    _sweep(folder)
    for mirror in mirrors(published):
        host = urlsplit(mirror).netloc
        if time.monotonic() - _unreachable.get(host, (-FORGET, ""))[0] < FORGET:
            log.append(f"asked {host}: {_unreachable[host][1]}")
            continue
        part = folder / f".{file}.{secrets.token_hex(8)}.part"
        try:
            _get(mirror + file, part, f"{published.name}/{file}")
            content, problem = part.read_bytes(), ""
            problem = _damage(content, *published.files[file])
            if not problem:
                os.replace(part, folder / file)
                return content
            log.append(f"asked {host}: sent {_what(problem)}")
        except OSError as error:  # requests' exceptions are OSErrors too
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                log.append(f"asked {host}: the disk of {folder} is full ({sum(n for n, _ in published.files.values()):,} bytes)")
                break
            log.append(f"asked {host}: {_reason(error, part, published.files[file][0])}")
            if _is_unreachable(error):
                _unreachable[host] = (time.monotonic(), _reason(error, part, 0))
        finally:
            part.unlink(missing_ok=True)
    raise DataUnavailable(_apology(published, file, log))


_unreachable: dict[str, tuple[float, str]] = {}  # host -> (when, why)


def mirrors(published: Published) -> list[str]:
    """Where to ask, best first. COURSE_MIRROR is a server of your own, with the folders fashion-mnist/, mnist/, ... on it."""
    own = os.environ.get("COURSE_MIRROR", "").strip()
    return ([f"{own.rstrip('/')}/{published.name}/"] if own else []) + list(published.mirrors)


def quiet() -> bool:
    """No progress bars: in continuous integration, and where anything on stderr would cost points."""
    return any(os.environ.get(name) for name in ("CI", "COURSE_QUIET", "NBGRADER_EXECUTION"))


def _get(url: str, path: Path, label: str) -> None:
    with tqdm(unit="B", unit_scale=True, desc=f"downloading {label}", disable=quiet()) as bar:
        pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=(CONNECT, SILENCE))(url, str(path), None)


def _what(problem: str) -> str:
    return problem if problem.startswith("a ") else f"a file that isn't the published one ({problem})"


def _reason(error: OSError, part: Path, size: int) -> str:
    """Why a request failed, in words."""
    import requests  # late: half a second that is seldom needed

    text = str(error).lower()
    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted (a proxy in between?)"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy set in HTTPS_PROXY did not let us through"
    if isinstance(error, requests.Timeout):
        return f"no answer within {CONNECT} seconds" if "connect" in text else f"nothing came for {SILENCE} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"broke off after {part.stat().st_size if part.exists() else 0:,} of {size:,} bytes"
    if any(words in text for words in ("resolve", "resolution", "getaddrinfo", "name or service")):
        return "its name could not be resolved (no network?)"
    if "refused" in text:
        return "refused the connection"
    return f"{type(error).__name__}: {error.strerror or str(error)[:120]}"


def _is_unreachable(error: OSError) -> bool:
    import requests

    return isinstance(error, requests.ConnectionError | requests.exceptions.ConnectTimeout)


def _apology(published: Published, file: str, log: list[str]) -> str:
    """The message of DataUnavailable: what is missing, what was tried, what to do."""
    folder = data_root() / published.name
    return "\n  ".join(
        [
            f"{published.title} can't be had: {file} is not on this machine and could not be downloaded.",
            *log,
            f"What to do: connect to the internet and run this again; or copy {', '.join(published.files)} into {folder}; "
            "or set COURSE_DATA to a folder that has them; "
            'or go on without a network: load("digits"), or COURSE_DATASET=digits for a whole notebook.',
        ]
    )


def _sweep(folder: Path) -> None:
    """Remove what killed downloads left behind."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


@contextlib.contextmanager
def _one_at_a_time(folder: Path, title: str) -> Iterator[None]:
    """Hold the folder's lock, so that of several processes one downloads and the others wait and then find the file.

    The system drops the lock when its holder dies. Where a file system has no locks, or a holder hangs, we go on without:
    files appear whole by renaming, so at worst one is downloaded twice.
    """
    lock = FileLock(folder / ".lock")
    held = _acquire(lock, title)
    try:
        yield
    finally:
        if held:
            lock.release()


def _acquire(lock: FileLock, title: str) -> bool:
    with contextlib.suppress(OSError, NotImplementedError):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"Another process is downloading {title}: waiting for it.")
            lock.acquire(timeout=PATIENCE)
        return True
    return False


_said: set[str] = set()


def say(line: str) -> None:
    """Print a line, once a process."""
    if line not in _said:
        _said.add(line)
        print(line)
