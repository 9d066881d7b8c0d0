"""An HDF5 file that is written in chunks, resized, and changed in place.

    h5_file.py write FILE     makes it
    h5_file.py read FILE      prints what is in it, by digests
"""

import hashlib
import sys

import h5py
import numpy

ROWS, COLUMNS = 20_000, 40


def block(seed, rows):
    return numpy.random.default_rng(seed).standard_normal((rows, COLUMNS))


def write(path):
    with h5py.File(path, "w") as file:
        options = {"maxshape": (None, COLUMNS), "chunks": (512, COLUMNS)}
        for name, more in [("plain", {}), ("packed", {"compression": "gzip", "shuffle": True})]:
            data = file.create_dataset(f"group/{name}", (0, COLUMNS), dtype="f8", **options, **more)
            for part in range(4):
                data.resize((part + 1) * ROWS // 4, axis=0)
                data[-ROWS // 4:] = block(part, ROWS // 4)
        file.attrs["note"] = "made"
    # Opened again: chunks in the middle change, the end goes, and comes back as zeros.
    with h5py.File(path, "r+") as file:
        for data in file["group"].values():
            data[3000:3100] = 7.0
            data.resize(ROWS - 1000, axis=0)
            file.flush()
            data.resize(ROWS + 500, axis=0)
        file.create_dataset("later", data=numpy.arange(100_000))
        del file.attrs["note"]
        file.attrs["note"] = "changed"


def read(path):
    with h5py.File(path, "r") as file:
        print(file.attrs["note"])
        for name in ["group/plain", "group/packed", "later"]:
            data = file[name][:]
            print(name, data.shape, hashlib.sha256(data.tobytes()).hexdigest())


{"write": write, "read": read}[sys.argv[1]](sys.argv[2])
