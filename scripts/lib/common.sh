# What every script here shares: where the project is, how to speak, how to install what is missing.
# Source it; it changes into the project's folder.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$PWD/.venv/bin/python

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need_apt PACKAGE...: installs those that are not there yet.
need_apt() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || fail "please install these first (no apt-get here): ${missing[*]}"
    echo "installing ${missing[*]}"
    as_root apt-get -o DPkg::Lock::Timeout=500 update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=500 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_rust: cargo of the version that the workspace asks for, and a C compiler for its dependencies.
need_rust() {
    local wanted found
    need_apt build-essential pkg-config ca-certificates
    command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
    [ -n "$found" ] && printf '%s\n' "$wanted" "$found" | sort -V -C && return
    fail "Rust $wanted or newer is needed (found: ${found:-none}); see https://rustup.rs, then run this again"
}

# need_python NAME...: the packages of scripts/requirements-NAME.txt in .venv. Each file lists all
# that it needs; a stamp remembers which version of the file is installed.
need_python() {
    local name list stamp
    if ! [ -x "$python" ]; then
        need_apt python3 python3-venv
        python3 -m venv .venv
    fi
    for name in "$@"; do
        list=scripts/requirements-$name.txt stamp=.venv/installed-$name.txt
        cmp -s "$list" "$stamp" && continue
        # torch's own list would bring gigabytes of CUDA: its file is complete, so nothing is resolved.
        "$python" -m pip install -q --disable-pip-version-check $([ "$name" = torch ] && echo --no-deps) -r "$list"
        [ "$name" != torch ] || "$python" scripts/lib/torch_stubs.py .venv/lib/python3*/site-packages/torch/lib
        cp "$list" "$stamp"
    done
}

# need_fuse: the device and the helper programs; a mount needs root.
need_fuse() {
    need_apt fuse3
    [ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || fail "/dev/fuse is missing: load the kernel's fuse module"
}

# need_azurite [install]: Microsoft's simulator of Azure's blob store, in target/azurite. Fails where there
# is no npm, unless told to install that too: on a fresh Debian it is some 360 packages.
need_azurite() {
    local version=3.33.0 home=target/azurite
    [ -z "${1-}" ] || command -v npm >/dev/null || need_apt nodejs npm
    command -v npm >/dev/null || return 1
    [ "$(cat $home/version 2>/dev/null)" = $version ] && return
    npm install --prefix $home --ignore-scripts --no-audit --no-fund --loglevel=error \
        "azurite@$version" >$home.log 2>&1 || return 1
    echo $version >$home/version
}

# need_hdfs: the jars of Hadoop that the sources of pyspark carry (220 MB, of which 32 are kept) in
# target/hadoop, with Java and the jars that those lack from Debian.
need_hdfs() {
    local home=target/hadoop work name
    need_apt openjdk-17-jre-headless libjersey1-core-java libjersey1-server-java libjersey1-servlet-java \
        libjsr311-api-java libcommons-daemon-java libasm-java
    [ -e $home/complete ] && return
    work=$(mktemp -d)
    # Its setup is older than today's setuptools.
    python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q "setuptools<60" wheel &&
        "$work/venv/bin/pip" download -q --no-deps --no-build-isolation --no-binary pyspark \
            -d "$work" pyspark==2.4.8 || { rm -rf "$work"; return 1; }
    mkdir -p $home
    set --
    for name in activation commons- guava hadoop-annotations hadoop-auth hadoop-common hadoop-hdfs htrace \
        jackson-core-asl jackson-mapper-asl javax.servlet jaxb jetty jsp leveldb log4j netty protobuf slf4j \
        xercesImpl xmlenc; do
        set -- "$@" "*/deps/jars/$name*"
    done
    tar xzf "$work"/pyspark-*.tar.gz -C $home --strip-components=3 --wildcards "$@" && touch $home/complete
    rm -rf "$work"
    [ -e $home/complete ]
}

# need_cargo_tool NAME VERSION: a program from crates.io that tests run; in target/tools/bin.
need_cargo_tool() {
    local name=$1 version=$2
    cargo install --list --root target/tools | grep -qx "$name v$version:" && return
    echo "installing $name $version"
    cargo install -q --locked --root target/tools "$name" --version "$version"
}
