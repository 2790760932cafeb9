"""Errors that other programs raise, in words that say what to do: files, disks, servers, databases.

One table from a class, by its full name so that nothing is imported for it, to a function that explains it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from feature_store.errors import UserError

Explanation = tuple[str, str | None, str]  # what, where, hint

FREE = "free some space, or set LUNGTUNE_HOME, LUNGTUNE_CACHE or TMPDIR to another disk; what is finished is kept"
ELSEWHERE = "fix its permissions, or set LUNGTUNE_HOME (and LUNGTUNE_CACHE, TMPDIR) to a folder that can be written"
DOCTOR = "`lungtune doctor` looks at every server and folder"
OF_FILES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", FREE),
    errno.EDQUOT: ("the disk quota is used up", FREE),
    errno.EFBIG: ("the file would be larger than is allowed here", FREE),
    errno.EROFS: ("cannot be written: the file system is read-only", ELSEWHERE),
    errno.EACCES: ("permission denied", ELSEWHERE),
    errno.EPERM: ("permission denied", ELSEWHERE),
    errno.ENOENT: ("there is no such file or folder", "is the path right? " + DOCTOR),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", ELSEWHERE),
    errno.EISDIR: ("is a folder, not a file", "name a file"),
    errno.EEXIST: ("is there already, as something else", "move it away, or name another place"),
    errno.ENOTEMPTY: ("the folder is not empty", "move its content away, or name another place"),
    errno.ENAMETOOLONG: ("the path is too long for this file system", "name a shorter one"),
    errno.EINVAL: ("the file system does not take this name or request", "name another place"),
    errno.EILSEQ: ("the file system does not take this name", "name another place"),
    errno.ELOOP: ("symbolic links go in a circle there", "fix the links"),
    errno.EMFILE: ("too many files are open", "raise the limit: ulimit -n 4096"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs"),
    errno.ENOMEM: ("the memory is used up", "run fewer fold runs at once (--set resources.concurrent_trials=1)"),
    errno.EIO: ("the disk fails to read or write", "look at the system's log; copy the data to another disk"),
    errno.ESTALE: ("the network file system has lost the file", "mount it again, then start the same command again"),
    errno.ETXTBSY: ("the file is in use", "wait for the program that uses it"),
    errno.EBUSY: ("the file is in use", "wait for the program that uses it"),
    errno.EXDEV: ("two places that must be on one disk are not", "set LUNGTUNE_HOME and LUNGTUNE_CACHE to one disk"),
    errno.ENOLCK: ("the file system gives no locks", "set LUNGTUNE_HOME to a local disk"),
    errno.EOPNOTSUPP: ("the file system cannot do that (links, locks)", "set LUNGTUNE_HOME to a local disk"),
}
OF_NETWORK = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.ECONNRESET: "the server broke the connection off",
    errno.ECONNABORTED: "the server broke the connection off",
    errno.EPIPE: "the server broke the connection off",
    errno.ETIMEDOUT: "the server does not answer",
    errno.EHOSTUNREACH: "there is no way to the server",
    errno.ENETUNREACH: "there is no way to the server",
    errno.EADDRINUSE: "another program has that port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def explain(error: BaseException) -> UserError | None:
    """An error of a file, a server or the disk as a `UserError`; None for what is a fault of lungtune itself."""
    for one in _chain(error):
        if isinstance(one, UserError):
            return one
        for kind in type(one).__mro__:
            explained = TABLE.get(f"{kind.__module__}.{kind.__qualname__}")
            found = explained(one) if explained else None
            if found is not None:
                what, where, hint = found
                return UserError(what, where=where, hint=hint)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, then what it was raised from: a task's error of Ray, a driver's of SQLAlchemy."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        cause = getattr(following, "cause", None)  # Ray's
        following = cause if isinstance(cause, BaseException) else following.__cause__


def _os(error: BaseException) -> Explanation | None:
    assert isinstance(error, OSError)
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
    where = os.fsdecode(names[0]) if names else None
    number = error.errno or 0
    if number in OF_NETWORK:
        return OF_NETWORK[number], where or "a server", DOCTOR
    if number in OF_FILES:
        what, hint = OF_FILES[number]
        return what, where, hint
    if number:
        return error.strerror or os.strerror(number), where, DOCTOR
    text = _first_line(error)  # pyarrow's, fsspec's and the like carry their errno in words
    for number, (what, hint) in OF_FILES.items():
        if f"[errno {number}]" in text.lower() or os.strerror(number).lower() in text.lower():
            return what, text, hint
    return (text, where, DOCTOR) if text else None


def _unicode(error: BaseException) -> Explanation:
    return f"a text cannot be read or written: {_first_line(error)}", None, "write it in UTF-8"


def _memory(error: BaseException) -> Explanation:
    hint = "give the program more, or ask for less: a smaller batch, fewer fold runs at once"
    return "the memory is used up", None, hint


def _database(error: BaseException) -> Explanation:
    said = _first_line(getattr(error, "orig", None) or error)
    low = said.lower()
    if "no such column" in low or "no such table" in low or "undefined" in low:
        hint = "it is of another program or version: move it away, or `mlflow db upgrade URI` for MLflow's"
    elif "readonly" in low or "read-only" in low or "unable to open" in low:
        hint = ELSEWHERE
    elif "disk is full" in low or "disk i/o" in low:
        hint = FREE
    elif "not a database" in low or "malformed" in low or "corrupt" in low:
        hint = "bring back a copy of the file, or move it away: results are kept in the result store"
    elif "locked" in low:
        hint = "another program holds it: wait for it, then start the same command again"
    else:
        hint = f"is the database up? {DOCTOR}"
    return f"the database refuses: {said}", _location("mlflow"), hint


def _mlflow(error: BaseException) -> Explanation:
    said, where = _first_line(error), _location("mlflow")
    if "database schema" in said:
        return said.partition(". ")[0], where, f"copy it, then: mlflow db upgrade {where}"
    code = getattr(error, "error_code", "")
    if code in ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
        return f"MLflow refuses: {said}", where, DOCTOR
    if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return f"MLflow refuses: {said}", where, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    return f"MLflow does not answer as it should: {said}", where, f"is the server up? {DOCTOR}"


def _requests(error: BaseException) -> Explanation:
    return f"the server cannot be reached ({type(error).__name__})", _location("mlflow"), f"is it up? {DOCTOR}"


def _s3(error: BaseException) -> Explanation:
    hint = "see AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, the bucket's name and the keys"
    return f"S3 cannot be used: {_first_line(error)}", os.environ.get("AWS_ENDPOINT_URL") or "S3", hint


def _optuna(error: BaseException) -> Explanation:
    return f"Optuna refuses: {_first_line(error)}", _location("optuna"), DOCTOR


def _arrow(error: BaseException) -> Explanation:
    hint = "the file is damaged or of another program: build the features again (`lungtune features verify` names it)"
    return f"cannot be read: {_first_line(error)}", "a Parquet or Arrow file", hint


def _json(error: BaseException) -> Explanation:
    hint = "a file is damaged: LUNGTUNE_TRACEBACK=1 shows where it is read; bring back a copy or move it away"
    return f"is no JSON: {_first_line(error)}", "a file of this installation", hint


def _ray(error: BaseException) -> Explanation:
    hint = f"start the same command again: what is finished is kept. If it happens again: {DOCTOR}"
    return f"Ray stopped: {_first_line(error)}", os.environ.get("RAY_ADDRESS") or "Ray", hint


def _missing(error: BaseException) -> Explanation | None:
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if name in ("", "orchestrator", "search_spaces", "workers", "feature_store"):
        return None  # lungtune's own fault
    return f"the package '{name}' is missing or does not load: {_first_line(error)}", None, "make setup"


def _location(key: str) -> str | None:
    """The setting that names the server or database, where the settings can be read."""
    from feature_store.settings import Settings

    try:
        return str(getattr(Settings.load(), key))
    except (UserError, OSError):
        return None


def _first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:400]


TABLE: dict[str, Callable[[BaseException], Explanation | None]] = {
    "builtins.OSError": _os,
    "builtins.UnicodeError": _unicode,
    "builtins.MemoryError": _memory,
    "builtins.ModuleNotFoundError": _missing,
    "json.decoder.JSONDecodeError": _json,
    "sqlite3.Error": _database,
    "sqlalchemy.exc.SQLAlchemyError": _database,
    "alembic.util.exc.CommandError": _database,
    "mlflow.exceptions.MlflowException": _mlflow,
    "requests.exceptions.RequestException": _requests,
    "urllib3.exceptions.HTTPError": _requests,
    "botocore.exceptions.BotoCoreError": _s3,
    "botocore.exceptions.ClientError": _s3,
    "boto3.exceptions.Boto3Error": _s3,
    "optuna.exceptions.OptunaError": _optuna,
    "pyarrow.lib.ArrowException": _arrow,
    "ray.exceptions.RaySystemError": _ray,
    "ray.exceptions.RayActorError": _ray,
    "ray.exceptions.WorkerCrashedError": _ray,
    "ray.exceptions.ObjectLostError": _ray,
    "ray.exceptions.OutOfMemoryError": _ray,
    "ray.exceptions.NodeDiedError": _ray,
    "ray.exceptions.RuntimeEnvSetupError": _ray,
    "ray.exceptions.GetTimeoutError": _ray,
    "ray.exceptions.RpcError": _ray,
    "ray.exceptions.AuthenticationError": _ray,
}
