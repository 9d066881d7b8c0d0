"""Writes and checks a checkpoint the way torch.save does, with nothing but the standard library.

    checkpoint.py write FILE [--mib N] [--seed S]     prints the SHA-256 of what it wrote
    checkpoint.py digest FILE                         prints the SHA-256 of what it reads, checks the zip

What torch.save asks of a file system: open with O_TRUNC in place, append only, the file in the zip
format with stored (uncompressed) entries whose data starts at multiples of 64 bytes, written in
requests of 64 MiB, no fsync, and close as the only sign that it is done.
"""

import argparse
import binascii
import hashlib
import io
import random
import struct
import time
import zipfile

ALIGNMENT = 64
REQUEST_BYTES = 64 << 20
TENSOR_BYTES = 48 << 20


class Appender(io.RawIOBase):
    """Gathers into 64 MiB requests, keeps the digest and the time spent writing."""

    def __init__(self, path):
        self.file = open(path, "wb", buffering=0)
        self.digest = hashlib.sha256()
        self.pending = bytearray()
        self.offset = 0
        self.seconds = 0.0

    def append(self, data):
        self.digest.update(data)
        self.offset += len(data)
        self.pending += data
        while len(self.pending) >= REQUEST_BYTES:
            self._write(REQUEST_BYTES)

    def _write(self, count):
        view = memoryview(self.pending)[:count]
        began = time.perf_counter()
        done = 0
        while done < count:
            done += self.file.write(view[done:])
        self.seconds += time.perf_counter() - began
        view.release()
        del self.pending[:count]

    def finish(self):
        self._write(len(self.pending))
        began = time.perf_counter()
        self.file.close()
        self.seconds += time.perf_counter() - began


def entries(mib, seed):
    """The pickled index and the tensors: names and bytes. Random, so that nothing compresses it."""
    source = random.Random(seed)
    yield "checkpoint/data.pkl", source.randbytes(40_000)
    yield "checkpoint/byteorder", b"little"
    block = source.randbytes(1 << 20)
    left, number = mib << 20, 0
    while left:
        count = min(left, TENSOR_BYTES)
        # Every MiB differs from every other by its head, without the cost of random bytes for all.
        body = b"".join(struct.pack("<QQ", number, i) + block[16:] for i in range(count >> 20))
        yield f"checkpoint/data/{number}", body
        left, number = left - count, number + 1
    yield "checkpoint/version", b"3\n"


def write(path, mib, seed):
    out = Appender(path)
    directory = b""
    count = 0
    for name, body in entries(mib, seed):
        crc, encoded = binascii.crc32(body), name.encode()
        offset = out.offset
        padding = -(offset + 30 + len(encoded) + 4) % ALIGNMENT
        extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding
        out.append(struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0x0800, 0, 0, 0x21, crc, len(body), len(body), len(encoded), len(extra)) + encoded + extra)
        assert out.offset % ALIGNMENT == 0
        out.append(body)
        # Offsets beyond 4 GiB would need the ZIP64 extra field; a test checkpoint stays below.
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0x0800, 0, 0, 0x21, crc, len(body), len(body), len(encoded), 0, 0, 0, 0, 0, offset) + encoded
        count += 1
    start = out.offset
    out.append(directory)
    out.append(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), start, 0))
    out.finish()
    return out.digest.hexdigest(), out.offset, out.seconds


def digest(path):
    total, size, seconds = hashlib.sha256(), 0, 0.0
    with open(path, "rb", buffering=0) as file:
        while True:
            began = time.perf_counter()
            chunk = file.read(8 << 20)
            seconds += time.perf_counter() - began
            if not chunk:
                break
            total.update(chunk)
            size += len(chunk)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    return total.hexdigest(), size, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["write", "digest"])
    parser.add_argument("file")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.what == "write":
        sha, size, seconds = write(options.file, options.mib, options.seed)
    else:
        sha, size, seconds = digest(options.file)
    # digest, bytes, and the seconds spent in the file system's calls alone
    print(sha, size, f"{seconds:.3f}")


if __name__ == "__main__":
    main()
