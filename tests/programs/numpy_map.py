"""numpy through a shared mapping: the file is changed by stores to memory, with no write call.

    numpy_map.py FILE            makes the file, maps it, changes it
    numpy_map.py --check FILE    maps it and checks what is there
"""

import sys

import numpy

COUNT = 3_000_000
expected = numpy.arange(COUNT, dtype=numpy.int32)
expected[1_000_000:1_000_100] = -1

if sys.argv[1] == "--check":
    found = numpy.load(sys.argv[2], mmap_mode="r")
    assert (found == expected).all()
else:
    numpy.save(sys.argv[1], numpy.arange(COUNT, dtype=numpy.int32))
    mapped = numpy.load(sys.argv[1], mmap_mode="r+")
    mapped[1_000_000:1_000_100] = -1
    mapped.flush()
    del mapped
    assert (numpy.load(sys.argv[1]) == expected).all()
