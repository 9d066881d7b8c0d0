"""An S3 client that shares no line with the program under test: boto3, driven by JSON lines.

Reads one request a line, {"do": NAME, ...}, and answers each with one line, {"ok": RESULT} or
{"error": CODE}. Endpoint and credentials come from the AWS variables. Bytes travel through files.
"""

import json
import os
import sys

import boto3
import botocore.config
import botocore.exceptions

s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    region_name=os.environ.get("AWS_REGION", "us-east-1"),
    config=botocore.config.Config(
        s3={"addressing_style": "path"}, retries={"max_attempts": 3}, connect_timeout=10, read_timeout=120,
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    ),
)


def make_bucket(bucket):
    s3.create_bucket(Bucket=bucket)


def remove_bucket(bucket):
    for key in list_keys(bucket):
        s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_bucket(Bucket=bucket)


def put(bucket, key, file=None, text="", metadata=None):
    if file is not None:
        s3.upload_file(file, bucket, key, ExtraArgs={"Metadata": metadata or {}})
    else:
        s3.put_object(Bucket=bucket, Key=key, Body=text.encode(), Metadata=metadata or {})


def put_if(bucket, key, file, over=None):
    condition = {"IfMatch": over} if over else {"IfNoneMatch": "*"}
    with open(file, "rb") as body:
        s3.put_object(Bucket=bucket, Key=key, Body=body, **condition)


def get(bucket, key, file):
    with open(file, "wb") as out:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        for chunk in body.iter_chunks(1 << 20):
            out.write(chunk)


def head(bucket, key):
    found = s3.head_object(Bucket=bucket, Key=key)
    return {"size": found["ContentLength"], "etag": found["ETag"], "metadata": found["Metadata"]}


def delete(bucket, key):
    s3.delete_object(Bucket=bucket, Key=key)


def list_keys(bucket, prefix=""):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def list_uploads(bucket):
    return [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


COMMANDS = {f.__name__: f for f in (make_bucket, remove_bucket, put, put_if, get, head, delete, list_keys, list_uploads)}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"ok": COMMANDS[request.pop("do")](**request)}
    except botocore.exceptions.ClientError as error:
        answer = {"error": error.response["Error"]["Code"], "message": str(error)}
    except Exception as error:  # every request is answered, or the asker would wait for ever
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
