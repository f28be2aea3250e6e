#!/bin/sh
# Install a bundle beside what is installed, without a network: sh install.sh RELEASE_PUBLIC_KEY.pem /opt/covenant
# Makes /opt/covenant/VERSION; /opt/covenant/current is set to it only with a third argument, `use`. Run as root, or who owns the folder.
set -eu
[ $# -ge 2 ] || { echo "usage: sh install.sh RELEASE_PUBLIC_KEY.pem FOLDER [use]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
sh "$here/verify.sh" "$1"
version=$(cat "$here/VERSION")
target=$2/$version
python=${PYTHON:-python3}
if [ ! -e "$target/.complete" ]; then
  rm -rf "$target"
  mkdir -p "$2"
  "$python" -m venv "$target"
  "$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-cache-dir --require-hashes --only-binary=:all: \
    --find-links "$here/wheels" -r "$here/requirements.txt"
  touch "$target/.complete"
fi
echo "installed $target"
if [ "${3:-}" = use ]; then
  # One rename: there is no moment without a link.
  ln -s "$version" "$2/.current.$$"
  mv -T "$2/.current.$$" "$2/current"
  echo "$2/current is $version; restart the service"
fi
