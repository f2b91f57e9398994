#!/bin/bash
# Runs the commands of docs/operations.md on a fresh machine, in namespaces of their own.
# The arguments: a temporary directory, the binary, the repository, the file with the commands.
set -eu -o pipefail
tmp=$1 binary=$2 repository=$3 commands=$4
. "$(dirname "$0")/machine.sh"

mount -t tmpfs -o mode=755 tmpfs "$tmp"
ip link set lo up
machine "$tmp" "$binary" "$repository"
status=0
type_commands "$tmp" "$commands" < /dev/null || status=$?
cat "$tmp/root/run/recado.log" >&2 || true
exit $status
