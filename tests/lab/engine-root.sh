#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Gives this mount namespace, a copy of a lab host's, the root file system of another Docker Engine, and runs a command
# in it; without one, holds it.
# usage: engine-root.sh ENGINE_ROOT DIRECTORY [COMMAND...]
set -eu
engine=$1 directory=$2
shift 2
own="$directory/engine"

mkdir -p "$own"
mount -t tmpfs tmpfs "$own"
mkdir "$own/upper" "$own/work" "$own/root"
mount -t overlay overlay -o "lowerdir=$engine,upperdir=$own/upper,workdir=$own/work" "$own/root"
cd "$own/root"
cp /etc/resolv.conf /etc/hosts etc/
# The host's directory too, at the same path: what `docker run -v` names there is found.
for tree in /proc /sys /dev /run /etc/docker /var/lib/docker /var/lib/dni "$directory"; do
    [ -e "$tree" ] || continue
    mkdir -p ".$tree"
    mount --rbind "$tree" ".$tree"
done
pivot_root . mnt
mount --make-rprivate /mnt
umount -l /mnt
[ $# = 0 ] || exec "$@"
echo ready
exec sleep infinity
