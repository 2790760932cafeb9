"""Files under one place, a folder or an S3 prefix, each written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from feature_store.errors import UserError

HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{32}")  # what a killed `LocalStorage.write` leaves behind
SETTINGS = "AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, the keys and the bucket's name"
EXPECTED = frozenset({"NoSuchKey", "NotFound", "PreconditionFailed", "ConditionalRequestConflict"})  # by callers
REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"})


class Storage(Protocol):
    """Keys are POSIX paths relative to the place."""

    def read(self, key: str) -> bytes:
        """Raises FileNotFoundError where there is no such key."""

    def write(self, key: str, data: bytes) -> None:
        """Put the whole content in place at once."""

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """Put the content in place unless the key is there; of many writers exactly one gets True."""

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> list[str]:
        """All keys under a folder, sorted; hidden files are locks and what a killed writer left."""

    def delete(self, key: str) -> None:
        """Remove a key; a missing one is no error."""

    def uri(self, key: str) -> str:
        """For messages."""

    def local_path(self, key: str) -> Path | None:
        """The file itself where it lies on this machine."""


class LocalStorage:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        temporary = self._write_beside(key, data)
        try:
            temporary.replace(self.root / key)
        finally:
            temporary.unlink(missing_ok=True)

    def write_if_absent(self, key: str, data: bytes) -> bool:
        temporary = self._write_beside(key, data)
        try:
            os.link(temporary, self.root / key)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()

    def list(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        if not folder.is_dir():
            return []
        files = (path.relative_to(self.root) for path in folder.rglob("*") if path.is_file())
        return sorted(file.as_posix() for file in files if not any(part.startswith(".") for part in file.parts))

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def uri(self, key: str) -> str:
        return str(self.root / key)

    def local_path(self, key: str) -> Path | None:
        return self.root / key

    def _write_beside(self, key: str, data: bytes) -> Path:
        final = self.root / key
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f".{final.name}.{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:  # a half file would keep a full disk full
            temporary.unlink(missing_ok=True)
            raise
        return temporary


class S3Storage:
    """A prefix of an S3 bucket. Endpoint and credentials come from the environment, as boto3 reads them."""

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.bucket, self.prefix = bucket, prefix.strip("/")
        retries = Config(retries={"max_attempts": 5, "mode": "standard"})
        try:
            self.client: Any = boto3.client("s3", config=retries)
        except (ValueError, BotoCoreError) as error:  # a bad AWS_ENDPOINT_URL is a ValueError
            raise UserError("S3 cannot be used", where=f"s3://{bucket}", hint=f"{error}: see {SETTINGS}") from error

    def read(self, key: str) -> bytes:
        try:
            with self._explained():
                return self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
        except self.client.exceptions.NoSuchKey as error:
            raise FileNotFoundError(self.uri(key)) from error

    def write(self, key: str, data: bytes) -> None:
        with self._explained():
            self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def write_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        try:
            with self._explained():
                self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 412 or (status == 409 and self.exists(key)):  # 409: another write was under way
                return False
            raise
        return True

    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            with self._explained():
                self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def list(self, prefix: str) -> list[str]:
        folder = self._key(f"{prefix.rstrip('/')}/" if prefix else "")
        cut = len(self.prefix) + 1 if self.prefix else 0
        with self._explained():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=folder)
            return sorted(item["Key"][cut:] for page in pages for item in page.get("Contents", []))

    def delete(self, key: str) -> None:
        with self._explained():
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    def local_path(self, key: str) -> Path | None:
        return None

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Make of what the reader can mend a UserError."""
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self.bucket}"
        try:
            yield
        except BotoCoreError as error:  # no server, no keys, a bucket's name that none may have
            raise UserError("S3 cannot be used", where=where, hint=f"{error}: see {SETTINGS}") from error
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code == "NoSuchBucket":
                raise UserError("there is no bucket of this name", where=where, hint="create it first") from error
            if code in REFUSED:
                raise UserError(f"S3 refuses the request: {code}", where=where, hint="see AWS_ACCESS_KEY_ID") from error
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in EXPECTED or status in (404, 409, 412):
                raise
            hint = f"{error}: see {SETTINGS}"
            raise UserError(f"S3 refuses the request: {code or status}", where=where, hint=hint) from error


def open_storage(uri: str) -> Storage:
    """A folder or ``s3://bucket/prefix``.

    Raises:
        UserError: another kind of URI.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalStorage(Path(uri))
    if scheme == "file":
        return LocalStorage(Path(rest))
    bucket, _, prefix = rest.partition("/")
    if scheme == "s3" and bucket:
        return S3Storage(bucket, prefix)
    raise UserError(f"'{uri}' is no place for files", hint="use a folder or s3://bucket/prefix")
