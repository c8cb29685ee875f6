#!/usr/bin/env bash
# Installs the unmodified clients into a virtual environment: install.sh VENV
#
# pymesos needs http-parser, whose source package carries C code that Cython 0.29.16 generated and
# that no longer compiles for Python 3.11. Its own .pyx does, so the C code is generated anew.
set -euo pipefail
venv=$(realpath -s "$1")
python=$venv/bin/python
here=$(cd "$(dirname "$0")" && pwd)

if ! "$python" -c 'import http_parser.parser' 2>/dev/null; then
  "$python" -m pip install -q --disable-pip-version-check 'cython<3' 'setuptools<80' wheel
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  "$python" -m pip download -q --disable-pip-version-check --no-deps --no-build-isolation \
    --no-binary :all: -d "$work" http-parser==0.9.0
  tar -xzf "$work"/http-parser-*.tar.gz -C "$work"
  source=$work/http-parser-0.9.0
  "$venv/bin/cython" -2 "$source/http_parser/parser.pyx" 2>/dev/null
  "$python" -m pip install -q --disable-pip-version-check --no-build-isolation "$source"
fi
"$python" -m pip install -q --disable-pip-version-check -r "$here/requirements.txt"

# dcos-metronome needs a protobuf that others may not, and a folder of its own for that.
if [[ ! -d $venv/dcos-metronome ]]; then
  new=$venv/dcos-metronome.new
  rm -rf "$new"
  "$python" -m pip install -q --disable-pip-version-check --target "$new" dcos-metronome==0.3.0 'protobuf<3.21' requests &&
    mv "$new" "$venv/dcos-metronome" ||
    echo 'dcos-metronome 0.3.0 cannot be installed: its test is skipped' >&2
fi

# dcoscli 0.6.1 needs Python 3.6, which few have; where it cannot be had, its tests say why they are skipped.
old=
for it in python3.6 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.6.*/bin/python; do
  if "$it" -c '' 2>/dev/null; then old=$it; break; fi
done
if [[ -n $old && ! -x $venv/dcoscli/bin/dcos ]]; then
  "$old" -m venv "$venv/dcoscli" && "$venv/dcoscli/bin/pip" install -q --disable-pip-version-check dcoscli==0.6.1 ||
    echo 'dcoscli 0.6.1 cannot be installed: its tests are skipped' >&2
fi
