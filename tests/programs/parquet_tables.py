"""Parquet by pyarrow: one file with row groups, and a dataset in partitions.

    parquet_tables.py write DIRECTORY     makes them
    parquet_tables.py read DIRECTORY      prints what is in them, by column, mapped and not
"""

import pathlib
import sys

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet

ROWS = 200_000


def table():
    random = numpy.random.default_rng(5)
    return pyarrow.table({
        "number": numpy.arange(ROWS),
        "value": random.standard_normal(ROWS),
        "word": [f"word-{n % 977}" for n in range(ROWS)],
        "part": numpy.arange(ROWS) % 7,
    })


def write(base):
    base.mkdir()
    pyarrow.parquet.write_table(table(), base / "one.parquet", row_group_size=20_000, compression="zstd")
    pyarrow.dataset.write_dataset(
        table(), base / "many", format="parquet",
        partitioning=pyarrow.dataset.partitioning(pyarrow.schema([("part", pyarrow.int64())]), flavor="hive"),
    )
    with pyarrow.OSFile(str(base / "stream.arrow"), "wb") as sink:
        with pyarrow.ipc.new_file(sink, table().schema) as writer:
            writer.write_table(table())


def read(base):
    for mapped in [False, True]:
        found = pyarrow.parquet.read_table(base / "one.parquet", columns=["value", "word"], memory_map=mapped)
        print(found.num_rows, found["value"].combine_chunks() == table()["value"].combine_chunks())
        print(found["word"][12_345], found["word"].unique().to_pylist()[-1])
    many = pyarrow.dataset.dataset(base / "many", partitioning="hive")
    third = many.to_table(filter=pyarrow.dataset.field("part") == 3)["number"]
    print(many.count_rows(), len(many.files), len(third), pyarrow.compute.sum(third))
    with pyarrow.memory_map(str(base / "stream.arrow")) as source:
        print(pyarrow.ipc.open_file(source).read_all().equals(table()))


{"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]))
