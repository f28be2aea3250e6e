#!/bin/sh
# Verify a bundle before anything in it is installed: sh verify.sh RELEASE_PUBLIC_KEY.pem
# Needs openssl 3 and sha256sum. The key must have come to you on another way than this bundle; compare its fingerprint.
set -eu
[ $# -eq 1 ] || { echo "usage: sh verify.sh RELEASE_PUBLIC_KEY.pem" >&2; exit 2; }
key=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"
signed=$(mktemp)
trap 'rm -f "$signed"' EXIT
# The purpose of the signature with its length in two bytes, then the list: a key signs nothing else that looks like this.
{ printf '\000\022covenant/bundle/v1'; cat SHA256SUMS; } > "$signed"
openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in "$signed" -sigfile SHA256SUMS.sig > /dev/null 2>&1 || {
  echo "refused: SHA256SUMS is not signed by $key; do not install this bundle, and tell whoever sent it" >&2; exit 3; }
sha256sum --check --strict --quiet SHA256SUMS || {
  echo "refused: a file is not the one that was signed; copy the bundle again" >&2; exit 3; }
# What the list does not name, to the letter, was not signed; nor is a link, whose other end may change after this.
odd=$(LC_ALL=C find . -name '*[!A-Za-z0-9._+-]*' -o ! -type f ! -type d)
[ -z "$odd" ] || { echo "refused: neither a plain file nor a folder, or of a strange name: $odd" >&2; exit 3; }
extra=$(find . -type f ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig | sed 's|^\./||' | sort | while read -r file; do
  cut -c67- SHA256SUMS | grep -qxF -e "$file" || echo "$file"; done)
[ -z "$extra" ] || { echo "refused: not in the signed list: $extra" >&2; exit 3; }
echo "this bundle is whole, and signed by $(openssl pkey -pubin -in "$key" -outform DER | tail -c 32 | sha256sum | cut -c1-64 | sed 's/......../& /g')"
