#!/usr/bin/env bash
# Our tokenizers and chat templates against public data, which comes with the source distribution of llama-cpp-python:
# llama.cpp's vocabularies with strings and their ids, and the templates of many models, rendered by Jinja2.
# Needs pip and the package registry; keeps what it fetched in $SHARDCLUSTER_CACHE.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.3.36
cache=${SHARDCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shardcluster}
models=$cache/llama_cpp_python-$version
mkdir -p "$cache"

if [ ! -d "$models" ]; then
    # pip asks a source distribution for its metadata, which builds nothing.
    pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$cache" "llama-cpp-python==$version"
    rm -rf "$models.part" && mkdir "$models.part"
    tar -xzf "$cache/llama_cpp_python-$version.tar.gz" -C "$models.part" --strip-components=4 \
        --wildcards '*/vendor/llama.cpp/models/ggml-vocab-*' '*/vendor/llama.cpp/models/templates/*'
    mv "$models.part" "$models"
    rm "$cache/llama_cpp_python-$version.tar.gz"
fi

if [ ! -x "$cache/venv/bin/python" ]; then
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet jinja2
fi
"$cache/venv/bin/python" e2e/chat_templates.py "$models/templates" > "$cache/jinja2.jsonl"
mv "$cache/jinja2.jsonl" "$models/templates/"

export GGML_VOCABS=$models CHAT_TEMPLATES=$models/templates
cargo test --quiet -p shard-engine --test vocabularies --test chat -- --ignored --nocapture
