"""safetensors as its users call it: save_file and load_file on numpy tensors.

    safetensors_file.py save FILE [--mib N]
    safetensors_file.py digest FILE

save_file writes a temporary file with O_EXCL, sets its full size first, writes, chmods and renames.
Both print a digest of names, shapes and bytes.
"""

import argparse
import hashlib

import numpy
from safetensors.numpy import load_file, save_file

TENSOR_BYTES = 32 << 20


def digest(tensors):
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        total.update(numpy.ascontiguousarray(tensors[name]).view(numpy.uint8))
    return total.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["save", "digest"])
    parser.add_argument("file")
    parser.add_argument("--mib", type=int, default=256)
    options = parser.parse_args()
    if options.what == "save":
        source = numpy.random.default_rng(11)
        tensors = {
            f"layer.{n}": source.integers(0, 2**32, (1024, TENSOR_BYTES // 4096), dtype=numpy.uint32)
            for n in range(max(1, (options.mib << 20) // TENSOR_BYTES))
        }
        tensors["bias"] = source.standard_normal(1000, dtype=numpy.float32)
        save_file(tensors, options.file, metadata={"format": "np"})
    else:
        tensors = load_file(options.file)
    print(digest(tensors))


if __name__ == "__main__":
    main()
