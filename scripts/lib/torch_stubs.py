"""Lets PyPI's torch, which is built for CUDA, be imported on a machine without CUDA.

    torch_stubs.py SITE_PACKAGES/torch/lib

The wheel links against gigabytes of NVIDIA libraries that a CPU never calls. For every library that
the loader misses, this builds an empty one under the same name: with the symbol versions that torch
asks for, and a function that answers 999 (an unknown CUDA error) for every symbol that nothing here
defines. Needs readelf, ldd and a C compiler.
"""

import collections
import glob
import os
import re
import subprocess
import sys
import tempfile


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def missing_libraries(objects):
    return sorted(set(re.findall(r"^\s*(\S+) => not found", output("ldd", *objects), re.MULTILINE)))


def versions_by_library(objects):
    """Which symbol versions torch expects of each library: {library: {version}}."""
    found, library = collections.defaultdict(set), None
    for line in output("readelf", "-W", "-V", *objects).splitlines():
        if named := re.search(r"File: (\S+)", line):
            library = named.group(1)
        elif (needed := re.search(r"Name: (\S+)\s+Flags", line)) and library:
            found[library].add(needed.group(1))
    return found


def symbols(objects):
    """(undefined symbols by version, names defined somewhere among the objects)"""
    undefined, defined = collections.defaultdict(set), set()
    for line in output("readelf", "-W", "--dyn-syms", *objects).splitlines():
        words = line.split()
        if len(words) < 8 or not words[0].rstrip(":").isdigit():
            continue
        name, _, version = words[7].partition("@")
        if words[6] != "UND":
            defined.add(name)
        elif words[4] != "WEAK" or version:
            undefined[version.lstrip("@")].add(name)
    return undefined, defined


def build(directory, library, names_by_version):
    every = {name for names in names_by_version.values() for name in names}
    script = "".join(
        f"{version} {{ global: {''.join(name + '; ' for name in sorted(names)) or 'fused_stub_empty;'} }};\n"
        for version, names in sorted(names_by_version.items()) if version
    )
    with tempfile.TemporaryDirectory() as work:
        source, map_file = os.path.join(work, "stub.c"), os.path.join(work, "stub.map")
        with open(source, "w") as out:
            out.write("".join(f"int {name}(void) {{ return 999; }}\n" for name in sorted(every)))
            out.write("int fused_stub_empty(void) { return 999; }\n")
        with open(map_file, "w") as out:
            out.write(script)
        command = ["cc", "-w", "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{library}", "-o", os.path.join(directory, library), source]
        if script:
            command.append(f"-Wl,--version-script={map_file}")
        subprocess.run(command, check=True)


def main(directory):
    objects = sorted(path for path in glob.glob(os.path.join(directory, "*.so*")))
    missing = missing_libraries(objects)
    versions = versions_by_library(objects)
    undefined, defined = symbols(objects)
    # The interpreter brings its own symbols; what has no version may live in any stub, so: the first.
    unversioned = {
        name for name in undefined[""] - defined
        if name.isidentifier() and not name.startswith(("Py", "_Py", "_Z", "__"))
    }
    for library in missing:
        names = {version: undefined[version] for version in versions[library]}
        names[""] = unversioned
        unversioned = set()
        build(directory, library, names)
    print(f"stubs for {len(missing)} CUDA libraries: {' '.join(missing) or 'none missing'}")


if __name__ == "__main__":
    main(sys.argv[1])
