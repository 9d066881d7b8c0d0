"""Data sets as training and queries read them: a model, a table, a folder of images.

    dataset_reads.py make-model FILE MIB            a safetensors file
    dataset_reads.py read-model FILE PROCESSES      safe_open and every tensor, in so many processes at once; a digest
    dataset_reads.py make-table FILE                a Parquet file of 20 row groups
    dataset_reads.py read-column FILE               pyarrow: one column; prints {"needed": bytes, "answer": ...}
    dataset_reads.py read-group FILE                pyarrow: one row group of two columns; the same
    dataset_reads.py query FILE                     duckdb: a sum over a range of rows; the same
    dataset_reads.py make-images DIRECTORY COUNT    small files in ten classes
    dataset_reads.py read-images DIRECTORY WORKERS EPOCHS [shuffle]
                                                    torch's DataLoader; prints the seconds of each epoch, and a digest

Needed is what the file's own metadata says: the footer and the chunks of the columns and row groups asked for.
"""

import hashlib
import json
import multiprocessing
import pathlib
import sys
import time

import numpy

TENSOR_BYTES = 32 << 20
ROWS, GROUP_ROWS = 1_000_000, 50_000
CLASSES = 10


def make_model(path, mib):
    from safetensors.numpy import save_file

    source = numpy.random.default_rng(3)
    count = max(1, (int(mib) << 20) // TENSOR_BYTES)
    shape = (TENSOR_BYTES // 4096, 1024)
    save_file({f"layer.{n}": source.integers(0, 2**32, shape, dtype=numpy.uint32) for n in range(count)}, path)


def digest_of_model(path):
    from safetensors import safe_open

    total = hashlib.blake2b()
    with safe_open(path, framework="numpy") as file:
        for name in sorted(file.keys()):
            total.update(file.get_tensor(name).view(numpy.uint8))
    return total.hexdigest()


def read_model(path, processes):
    with multiprocessing.get_context("spawn").Pool(int(processes)) as pool:
        [digest] = set(pool.map(digest_of_model, [path] * int(processes), chunksize=1))
    print(digest)


def make_table(path):
    import pyarrow
    import pyarrow.parquet

    random = numpy.random.default_rng(4)
    columns = {f"feature_{n}": random.standard_normal(ROWS) for n in range(8)}
    table = pyarrow.table({"number": numpy.arange(ROWS), **columns})
    pyarrow.parquet.write_table(table, path, row_group_size=GROUP_ROWS, compression="zstd", use_dictionary=False)


def needed(path, columns, groups=None):
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_metadata(path)
    total = metadata.serialized_size + 8
    for group in range(metadata.num_row_groups) if groups is None else groups:
        chunks = (metadata.row_group(group).column(n) for n in range(metadata.num_columns))
        total += sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in columns)
    return total


def tell(path, answer, *asked):
    print(json.dumps({"answer": float(answer), "needed": needed(path, *asked)}))


def read_column(path):
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        column = file.read(columns=["feature_3"])["feature_3"]
    tell(path, column.to_numpy().sum(), ["feature_3"])


def read_group(path):
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        group = file.read_row_group(7, columns=["feature_1", "feature_6"])
    tell(path, group["feature_6"].to_numpy().sum(), ["feature_1", "feature_6"], [7])


def query(path):
    import duckdb

    first, last = 11 * GROUP_ROWS + 10, 11 * GROUP_ROWS + 4000
    found = duckdb.sql(f"SELECT sum(feature_5) FROM read_parquet('{path}') WHERE number BETWEEN {first} AND {last}")
    tell(path, found.fetchall()[0][0], ["number", "feature_5"], [11])


def make_images(directory, count):
    random = numpy.random.default_rng(5)
    for number in range(int(count)):
        folder = pathlib.Path(directory, f"class-{number % CLASSES}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06}.jpg").write_bytes(random.bytes(int(random.integers(2_000, 30_000))))


class Images:
    """What torchvision's ImageFolder is to a DataLoader."""

    def __init__(self, directory):
        self.files = sorted(pathlib.Path(directory).glob("*/*.jpg"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, number):
        return number, hashlib.blake2b(self.files[number].read_bytes()).digest()


def read_images(directory, workers, epochs, *shuffle):
    from torch.utils.data import DataLoader

    images = Images(directory)
    seconds, digests = [], set()
    for _ in range(int(epochs)):
        began = time.perf_counter()
        loader = DataLoader(images, batch_size=32, num_workers=int(workers), shuffle=bool(shuffle), collate_fn=list)
        found = sorted(item for batch in loader for item in batch)
        seconds.append(time.perf_counter() - began)
        digests.add(hashlib.blake2b(b"".join(digest for _, digest in found)).hexdigest())
    [digest] = digests
    print(json.dumps({"count": len(images), "seconds": seconds, "digest": digest}))


if __name__ == "__main__":
    commands = [make_model, read_model, make_table, read_column, read_group, query, make_images, read_images]
    {command.__name__.replace("_", "-"): command for command in commands}[sys.argv[1]](*sys.argv[2:])
