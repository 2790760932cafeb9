"""Make the S3 bucket that the services share, once the server answers: `make_bucket.py NAME`."""

from __future__ import annotations

import sys
import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE = 120.0  # seconds


def make_bucket(client: Any, name: str, patience: float = PATIENCE) -> None:
    """Make a bucket; one that is there already is as good.

    Args:
        client: boto3's, of the S3 server.
        name: of the bucket.
        patience: seconds that the server may take to answer.

    Raises:
        ClientError, BotoCoreError: the server refuses, or does not answer in time.
    """
    until = time.monotonic() + patience
    while True:
        try:
            client.create_bucket(Bucket=name)
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if code in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                return
            if code in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"} or time.monotonic() > until:
                raise
            time.sleep(1)
        else:
            return


if __name__ == "__main__":
    make_bucket(boto3.client("s3"), sys.argv[1])
