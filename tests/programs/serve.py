"""Starts stores on loopback for the tests and the bench, and ends them with whoever asked.

    serve.py [--dir DIR] [--s3-port PORT] NAME           announces, serves until its input ends
    serve.py [--dir DIR] NAME... -- COMMAND ...          serves while COMMAND runs

NAME is `seaweedfs`, `moto`, `azurite` or `hdfs`. The first form prints one line of JSON once the server
answers: {"endpoint", "access_key", "secret_key", "pid"}. The second sets FUSED_TEST_SEAWEEDFS,
FUSED_TEST_MOTO, FUSED_TEST_AZURITE and FUSED_TEST_HDFS to the endpoints (of HDFS: host and port of the
NameNode) for COMMAND, and exits as COMMAND did. The S3 servers take the credentials below, Azurite the
account and key that every Azurite has; all live on 127.0.0.1 only and die with this process
(PR_SET_PDEATHSIG). scripts/test installs azurite and hdfs below target/.
"""

import argparse
import base64
import contextlib
import ctypes
import email.utils
import hashlib
import hmac
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ACCESS_KEY = "fused-test"
SECRET_KEY = "fused-test-secret"
START_SECONDS_MAX = 90
BIN = pathlib.Path(sys.executable).parent
HERE = pathlib.Path(__file__).resolve().parent
AZURITE = HERE.parent.parent / "target/azurite/node_modules/azurite/dist/src/blob/main.js"


def free_ports(count):
    """Ports that nobody had a moment ago, all below 32768, out of the way of outgoing connections."""
    ports = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            port = 10000 + int.from_bytes(os.urandom(2), "big") % 22000
            taken = socket.socket()
            held.enter_context(contextlib.closing(taken))
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def seaweedfs(directory, s3_port):
    """One process with master, volume server, filer and S3 gateway."""
    ports = free_ports(8)
    s3_port = s3_port or ports[7]
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    # A second one that may look but not touch, for the probe of a read-only store.
    reader = {
        "name": "reader",
        "credentials": [{"accessKey": "reader", "secretKey": SECRET_KEY}],
        "actions": ["Read", "List"],
    }
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [identity, reader]}))
    data = directory / "data"
    data.mkdir(exist_ok=True)
    # A volume per collection (= bucket) is enough here; the default of seven would use up the volumes.
    (directory / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    options = {
        "dir": data, "ip": "127.0.0.1", "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": 1024, "volume.max": 2000, "master.telemetry": "false",
        "master.port": ports[0], "master.port.grpc": ports[1],
        "volume.port": ports[2], "volume.port.grpc": ports[3],
        "filer.port": ports[4], "filer.port.grpc": ports[5],
        "s3.port": s3_port, "s3.port.grpc": ports[6],
        "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.config": config,
    }
    command = [BIN / "weed", "-logtostderr=true", "server", "-filer", "-s3"]
    command += [f"-{name}={value}" for name, value in options.items()]
    return command, s3_port, ports[0]


def moto(_directory, s3_port):
    """Everything in memory; a flat key space where every legal key can live."""
    port = s3_port or free_ports(1)[0]
    return [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)], port, None


def azurite(_directory, _s3_port):
    """Microsoft's simulator of its blob store. Everything in memory."""
    port = free_ports(1)[0]
    options = ["--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--blobPort", str(port)]
    return ["node", AZURITE, *options], port, None


def make_container(endpoint):
    """Azurite's `container`, by a signed request. Its key is in its manual, for everybody to read."""
    account = endpoint.rsplit("/", 1)[1]
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
    signed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + "\n" * 12 + signed + f"/{account}/{account}/container\nrestype:container"
    digest = hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    headers["Content-Length"] = "0"
    url = f"{endpoint}/container?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=10).close()


def hdfs(directory, _s3_port):
    """A NameNode and a DataNode of their own; see hdfs.py."""
    ports = free_ports(5)
    command = [sys.executable, HERE / "hdfs.py", directory, *map(str, ports)]
    return command, ports[0], ports[1]


def answers(url):
    """Whether an HTTP server answers there at all; which status does not matter."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def can_store(url):
    """SeaweedFS answers some seconds before it has a volume to write to."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return "fid" in json.load(reply)
    except (OSError, ValueError):
        return False


def has_data_node(url):
    """The NameNode answers some seconds before it has a DataNode to write to."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return json.load(reply)["beans"][0]["NumLiveDataNodes"] > 0
    except (OSError, ValueError, LookupError):
        return False


SERVERS = {"seaweedfs": seaweedfs, "moto": moto, "azurite": azurite, "hdfs": hdfs}


def is_ready(name, endpoint, master):
    match name:
        case "seaweedfs":
            return answers(endpoint) and can_store(f"http://127.0.0.1:{master}/dir/assign")
        case "hdfs":
            query = "qry=Hadoop:service=NameNode,name=FSNamesystemState"
            return has_data_node(f"http://127.0.0.1:{master}/jmx?{query}")
    return answers(endpoint)


def start(name, directory, s3_port=None):
    directory.mkdir(parents=True, exist_ok=True)
    command, port, master = SERVERS[name](directory, s3_port)
    with open(directory / "log", "ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=directory, preexec_fn=die_with_parent,
        )
    endpoint = f"127.0.0.1:{port}" if name == "hdfs" else f"http://127.0.0.1:{port}"
    if name == "azurite":
        endpoint += "/devstoreaccount1"
    deadline = time.monotonic() + START_SECONDS_MAX
    while not is_ready(name, endpoint, master):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit(f"{name} did not start; its log: {directory / 'log'}")
        time.sleep(0.1)
    if name == "azurite":
        make_container(endpoint)
    return process, endpoint, master


def announce(name, process, endpoint, master):
    print(json.dumps({
        "name": name, "endpoint": endpoint, "pid": process.pid, "master": master,
        "access_key": ACCESS_KEY, "secret_key": SECRET_KEY,
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=list(SERVERS))
    parser.add_argument("--dir", type=pathlib.Path, help="data and logs (default: a temporary folder)")
    parser.add_argument("--s3-port", type=int, help="port to serve at (default: a free one)")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, command = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1:]

    with tempfile.TemporaryDirectory(prefix="fused-s3-", ignore_cleanup_errors=True) as temporary:
        base = options.dir or pathlib.Path(temporary)
        servers = [(name, *start(name, base / name, options.s3_port)) for name in options.names]
        try:
            if command:
                environment = dict(os.environ)
                for name, _, endpoint, _ in servers:
                    environment[f"FUSED_TEST_{name.upper()}"] = endpoint
                return subprocess.call(command, env=environment)
            for name, process, endpoint, master in servers:
                announce(name, process, endpoint, master)
            # Until the asker closes our input, or goes away, or a server ends by itself.
            threading.Thread(target=lambda: (sys.stdin.read(), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()
            for _, process, _, _ in servers:
                process.wait()
            return 1
        finally:
            for _, process, _, _ in servers:
                process.kill()
                process.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.exit(main())
