"""Make the S3 bucket that compose.yaml's services share, once the server answers: `make-bucket.py NAME`."""

from __future__ import annotations

import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE = 120.0  # seconds


def make_bucket(name: str, patience: float = PATIENCE) -> None:
    """Make a bucket; one that is there already is as good.

    Raises:
        ClientError, BotoCoreError: the server refuses, or does not answer in time.
    """
    client = boto3.client("s3")
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
    make_bucket(sys.argv[1])
