#!/usr/bin/env bash
# Our tokenizers against llama.cpp's own vectors, which come with the source distribution of llama-cpp-python.
# Needs pip and the package registry; keeps what it fetched in $SHARDCLUSTER_CACHE.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.3.36
cache=${SHARDCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shardcluster}
sources=$cache/llama_cpp_python-$version
mkdir -p "$cache"

if [ ! -d "$sources/models" ]; then
    # pip asks a source distribution for its metadata, which builds nothing.
    pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$cache" "llama-cpp-python==$version"
    rm -rf "$sources.part" && mkdir -p "$sources.part"
    tar -xzf "$cache/llama_cpp_python-$version.tar.gz" -C "$sources.part" --strip-components=3 \
        --wildcards '*/vendor/llama.cpp/models/ggml-vocab-*' '*/vendor/llama.cpp/models/templates/*'
    mv "$sources.part" "$sources"
    rm "$cache/llama_cpp_python-$version.tar.gz"
fi

GGML_VOCABS=$sources/models cargo test --quiet -p shard-engine --test vocabularies -- --ignored --nocapture
