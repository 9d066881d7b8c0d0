"""A NameNode and a DataNode of a real Hadoop 2.7, as children of this process; for serve.py.

    hdfs.py DIR NAME-NODE-PORT NAME-NODE-HTTP-PORT DATA-NODE-PORT DATA-NODE-HTTP-PORT DATA-NODE-IPC-PORT

The jars are below target/hadoop, where scripts/test puts those that the sources of pyspark carry, and in
/usr/share/java, where Debian puts the rest. Data and settings go into DIR. Both servers die with this
process.
"""

import ctypes
import pathlib
import signal
import subprocess
import sys

HADOOP = pathlib.Path(__file__).resolve().parent.parent.parent / "target/hadoop"
DEBIAN = ["jersey1-core", "jersey1-server", "jersey1-servlet", "jsr311-api", "commons-daemon", "asm"]
SERVER = "org.apache.hadoop.hdfs.server."
# Hadoop 2.7 is older than Java's modules.
OPENED = ["java.lang", "java.util", "java.nio", "java.net"]


def settings(directory, ports):
    name, name_http, data, data_http, data_ipc = (f"127.0.0.1:{port}" for port in ports)
    values = {
        "fs.defaultFS": f"hdfs://{name}",
        "hadoop.tmp.dir": directory / "tmp",
        "dfs.replication": 1,
        "dfs.namenode.rpc-address": name,
        "dfs.namenode.http-address": name_http,
        "dfs.namenode.safemode.extension": 0,
        "dfs.datanode.address": data,
        "dfs.datanode.http.address": data_http,
        "dfs.datanode.ipc.address": data_ipc,
        "dfs.webhdfs.enabled": "false",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
    }
    rows = (f"<property><name>{key}</name><value>{value}</value></property>" for key, value in values.items())
    return f"<configuration>{''.join(rows)}</configuration>"


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main():
    directory, ports = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    conf = directory / "conf"
    # The servers insist on the folders of their web pages.
    for pages in ["hdfs", "datanode"]:
        (conf / "webapps" / pages / "WEB-INF").mkdir(parents=True, exist_ok=True)
    for file in ["core-site.xml", "hdfs-site.xml"]:
        (conf / file).write_text(settings(directory, ports))
    jars = [conf, *sorted(HADOOP.glob("*.jar")), *(f"/usr/share/java/{jar}.jar" for jar in DEBIAN)]
    java = ["java", "-Xmx256m", "-cp", ":".join(map(str, jars))]
    for package in OPENED:
        java += ["--add-opens", f"java.base/{package}=ALL-UNNAMED"]
    if not (directory / "tmp").exists():
        subprocess.run([*java, SERVER + "namenode.NameNode", "-format", "-nonInteractive"], check=True)
    servers = [
        subprocess.Popen([*java, SERVER + name], preexec_fn=die_with_parent)
        for name in ["namenode.NameNode", "datanode.DataNode"]
    ]
    return max(server.wait() for server in servers)


if __name__ == "__main__":
    sys.exit(main())
