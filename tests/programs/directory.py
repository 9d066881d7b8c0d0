"""Reading a directory while its entries come and go, with the C library's own calls.

    directory.py churn DIRECTORY COUNT    reads on, goes back, and counts what it sees
    directory.py sizes DIRECTORY COUNT    writes files that are about to be listed
"""

import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)


class Dirent(ctypes.Structure):
    _fields_ = [
        ("ino", ctypes.c_uint64),
        ("off", ctypes.c_int64),
        ("reclen", ctypes.c_uint16),
        ("type", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    ]


libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long
for name in ("readdir", "telldir", "rewinddir", "closedir"):
    getattr(libc, name).argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Directory:
    def __init__(self, path):
        self.stream = libc.opendir(os.fsencode(path))
        assert self.stream, os.strerror(ctypes.get_errno())

    def read(self):
        entry = libc.readdir(self.stream)
        return os.fsdecode(entry.contents.name) if entry else None

    def rest(self):
        return list(iter(self.read, None))

    def tell(self):
        return libc.telldir(self.stream)

    def seek(self, place):
        libc.seekdir(self.stream, place)

    def rewind(self):
        libc.rewinddir(self.stream)

    def close(self):
        libc.closedir(self.stream)


def churn(count):
    keep = {f"keep-{n:06}" for n in range(count)}
    gone = [f"gone-{n * 7 % count:06}" for n in range(count)]
    for name in [*keep, *gone]:
        os.mkfifo(name)
    directory = Directory(".")
    seen, places, made = [], [], 0
    while (name := directory.read()) is not None:
        seen.append(name)
        places.append(directory.tell())
        if len(seen) % 20 == 0:
            for _ in range(15):
                if gone:
                    os.unlink(gone.pop())
                    os.mkfifo(f"new-{made:06}")
                    os.mkfifo(f"a-new-{made:06}")
                    made += 1
    assert seen.count(".") == seen.count("..") == 1, seen[:3]
    kept = [name for name in seen if name in keep]
    assert len(kept) == len(keep) and set(kept) == keep, (len(kept), len(set(kept)))
    assert not gone and made == count, "the directory changed all the while"

    # Every place goes on with what came after it, whatever has been removed since.
    for at in range(0, len(seen), max(1, len(seen) // 40)):
        directory.seek(places[at])
        rest = [name for name in directory.rest() if name in keep]
        expected = [name for name in seen[at + 1 :] if name in keep]
        assert sorted(rest) == sorted(expected), (at, len(rest), len(expected))
    directory.rewind()
    now = directory.rest()
    assert len(now) == len(set(now)), "nothing twice"
    assert set(now) == set(os.listdir(".")) | {".", ".."}
    directory.close()


def sizes(count):
    for n in range(count):
        open(f"{n:06}", "w").close()
    left = {f"{n:06}" for n in range(count)}
    with os.scandir(".") as entries:
        for seen, entry in enumerate(entries):
            left.discard(entry.name)
            os.stat(entry.name)
            if seen == 10:
                # Their attributes may have been read, and they have not been returned.
                for name in left:
                    with open(name, "w") as file:
                        file.write("text")
                written = set(left)
    for name in written:
        assert os.stat(name).st_size == 4, name
        with open(name) as file:
            assert file.read() == "text", name


os.chdir(sys.argv[2])
{"churn": churn, "sizes": sizes}[sys.argv[1]](int(sys.argv[3]))
