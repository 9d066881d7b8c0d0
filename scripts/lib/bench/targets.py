"""What is measured: the plain folder, the mount, JuiceFS; and the server that the two last share."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

from common import FUSED, ROOT, call, wait_until


class Server:
    """SeaweedFS and a boto3 client for it."""

    def __init__(self, base):
        serve = [sys.executable, ROOT / "tests/programs/serve.py", "--dir", base / "s3", "seaweedfs"]
        self.process = subprocess.Popen(list(map(str, serve)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = json.loads(self.process.stdout.readline())
        self.endpoint, self.master = said["endpoint"], said["master"]
        self.access_key, self.secret_key = said["access_key"], said["secret_key"]
        os.environ.update(
            AWS_ACCESS_KEY_ID=self.access_key, AWS_SECRET_ACCESS_KEY=self.secret_key,
            AWS_ENDPOINT_URL=self.endpoint, AWS_REGION="us-east-1",
            # As the plain client does.
            AWS_UNSIGNED_PAYLOAD="true",
        )
        import boto3
        import botocore.config
        # What costs a client time and the server doesn't ask for is off: the best plain client counts.
        config = botocore.config.Config(
            s3={"addressing_style": "path", "payload_signing_enabled": False}, max_pool_connections=32,
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )
        self.s3 = boto3.client("s3", endpoint_url=self.endpoint, config=config)

    def make_bucket(self, name):
        """Also where it is there already."""
        there = (self.s3.exceptions.BucketAlreadyOwnedByYou, self.s3.exceptions.BucketAlreadyExists)
        with contextlib.suppress(*there):
            self.s3.create_bucket(Bucket=name)

    def vacuum(self):
        """Gives the space of deleted objects back."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.master}/vol/vacuum?garbageThreshold=0.01", timeout=120).close()

    def upload(self, file, part_mib, parallel):
        """Seconds of one plain multipart upload."""
        from boto3.s3.transfer import TransferConfig
        config = TransferConfig(multipart_chunksize=part_mib << 20, max_concurrency=parallel)
        with self.bucket() as bucket:
            began = time.perf_counter()
            self.s3.upload_file(str(file), bucket, "object", Config=config)
            return time.perf_counter() - began

    @contextlib.contextmanager
    def bucket(self):
        """A new bucket, which goes away with all that is in it."""
        name = f"plain-{time.time_ns()}"
        self.s3.create_bucket(Bucket=name)
        yield name
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=name):
            keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
            if keys:
                self.s3.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
        self.s3.delete_bucket(Bucket=name)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Local:
    """The plain folder on the file system of the extents."""

    def __init__(self, base):
        self.dir = base / "local"
        self.dir.mkdir()

    def settle(self):
        pass

    def stop(self):
        pass


class Fused:
    """The release binary, its cache beside the plain folder."""

    # Of every daemon of this run.
    rss_kib_max = 0

    def __init__(self, base, server, options, name="fused", endpoint=None, bucket=None):
        """Of the bucket `bench-NAME`, if nothing else is said."""
        bucket = bucket or f"bench-{name}"
        server.make_bucket(bucket)
        self.dir, self.cache = base / name, base / f"{name}-cache"
        self.dir.mkdir()
        options = ",".join([f"cache_dir={self.cache}"] + options)
        self.command = [FUSED, "mount", f"s3://{bucket}", self.dir, "-o", options]
        self.environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint or server.endpoint}
        self.mount()
        self.sampling = threading.Event()
        threading.Thread(target=self.sample, daemon=True).start()

    def mount(self):
        call(*self.command, env=self.environment)
        self.status = json.loads(call(FUSED, "status", "--json", self.dir))

    def kill(self):
        pid = self.status["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until("the daemon is gone", lambda: not pathlib.Path(f"/proc/{pid}").exists(), 60)

    def sample(self):
        """VmHWM is the kernel's own maximum; asked again and again, in case the daemon ends."""
        while not self.sampling.wait(0.5):
            with contextlib.suppress(OSError, StopIteration):
                lines = open(f"/proc/{self.status['pid']}/status").read().splitlines()
                peak = next(line for line in lines if line.startswith("VmHWM"))
                Fused.rss_kib_max = max(Fused.rss_kib_max, int(peak.split()[1]))

    def settle(self):
        call(FUSED, "sync", self.dir)

    def rss_kib(self):
        lines = open(f"/proc/{self.status['pid']}/status").read().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    def stop(self):
        self.sampling.set()
        subprocess.run([FUSED, "umount", self.dir], check=False)


class JuiceFs:
    """JuiceFS with --writeback on the same server, Redis for its metadata."""

    def __init__(self, base, server, name="juicefs", endpoint=None):
        server.make_bucket(f"bench-{name}")
        self.dir, self.cache = base / name, base / f"{name}-cache"
        self.dir.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", base, "--daemonize", "no"]
        self.redis = subprocess.Popen(list(map(str, redis)), stdout=subprocess.DEVNULL)
        wait_until("redis answers", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 30)
        meta = f"redis://127.0.0.1:{port}/1"
        self.program = pathlib.Path(sys.executable).parent / "juicefs"
        call(
            self.program, "format", "--storage", "s3", "--bucket", f"{endpoint or server.endpoint}/bench-{name}",
            "--access-key", server.access_key, "--secret-key", server.secret_key, "--trash-days", "0", meta, "bench",
        )
        self.command = [
            self.program, "mount", "-d", "--writeback", "--no-usage-report", "--metrics", "127.0.0.1:0", "--cache-dir", self.cache,
            "--log", base / f"{name}.log", meta, self.dir,
        ]
        call(*self.command)

    def forget(self):
        """Nothing is cached any more."""
        self.settle()
        call(self.program, "umount", self.dir)
        shutil.rmtree(self.cache, ignore_errors=True)
        call(*self.command)

    def settle(self):
        """Until every staged block is in the store."""
        staged = lambda: any(files for top in self.cache.glob("*/rawstaging") for _, _, files in os.walk(top))
        wait_until("JuiceFS has uploaded what it staged", lambda: not staged())

    def stop(self):
        subprocess.run([self.program, "umount", "--force", self.dir], check=False, capture_output=True)
        self.redis.terminate()
        self.redis.wait()


class Rclone:
    """rclone mount with a full VFS cache, of a bucket that others have filled."""

    def __init__(self, base, server, bucket, endpoint):
        self.dir = base / "rclone"
        self.dir.mkdir()
        environment = {
            **os.environ, "RCLONE_CONFIG_S_TYPE": "s3", "RCLONE_CONFIG_S_PROVIDER": "Other", "RCLONE_CONFIG_S_ENDPOINT": endpoint,
            "RCLONE_CONFIG_S_ACCESS_KEY_ID": server.access_key, "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": server.secret_key,
            "RCLONE_CONFIG_S_REGION": "us-east-1", "RCLONE_CONFIG": "/dev/null",
        }
        # Its library refuses to start with it, and the server has no TLS.
        environment.pop("AWS_CA_BUNDLE", None)
        command = ["rclone", "mount", f"s:{bucket}", self.dir, "--vfs-cache-mode", "full", "--cache-dir", base / "rclone-cache",
                   "--dir-cache-time", "1h", "--log-file", base / "rclone.log"]
        self.process = subprocess.Popen(list(map(str, command)), env=environment)
        wait_until("rclone has mounted", lambda: os.path.ismount(self.dir), 30)

    def settle(self):
        pass

    def stop(self):
        subprocess.run(["fusermount3", "-u", "-z", self.dir], check=False)
        self.process.wait()


class S3fs:
    """s3fs with a cache folder, of a bucket that others have filled."""

    def __init__(self, base, server, bucket, endpoint):
        self.dir = base / "s3fs"
        self.dir.mkdir()
        secret = base / "s3fs-password"
        secret.touch(mode=0o600)
        secret.write_text(f"{server.access_key}:{server.secret_key}")
        options = f"url={endpoint},use_path_request_style,passwd_file={secret},use_cache={base / 's3fs-cache'}"
        call("s3fs", bucket, self.dir, "-o", options, stdin=subprocess.DEVNULL)
        wait_until("s3fs has mounted", lambda: os.path.ismount(self.dir), 30)

    def settle(self):
        pass

    def stop(self):
        subprocess.run(["fusermount3", "-u", "-z", self.dir], check=False)
