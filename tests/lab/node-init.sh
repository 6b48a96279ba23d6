#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First process of a node: makes the mounts that are the node's own, then becomes its keeper.
# usage: node-init.sh DIRECTORY NAME NAMESERVER PYTHON
set -eu
directory=$1 name=$2 nameserver=$3 python=$4
lab=$(dirname "$(readlink -f "$0")")

echo "$name" > /proc/sys/kernel/hostname
mount -t proc proc /proc

# A sysfs shows the links of the network namespace it is mounted from; what is mounted below /sys (the cgroups) moves over.
mkdir "$directory/sys"
mount --rbind /sys "$directory/sys"
mount -t sysfs sysfs /sys
awk -v old="$directory/sys" '$5 == old { id = $1 } { parent[$5] = $2 }
    END { for (point in parent) if (parent[point] == id) print substr(point, length(old) + 1) }' /proc/self/mountinfo |
while read -r below; do
    mount --rbind "$directory/sys$below" "/sys$below"
done
umount -l "$directory/sys"

# /etc and /var/lib are the machine's, written to in memory; the data of dockerd and dni is on disk, as on any host.
mkdir "$directory/layers" "$directory/docker" "$directory/dni"
mount -t tmpfs tmpfs "$directory/layers"
for tree in etc var/lib; do
    layer="$directory/layers/$tree"
    mkdir -p "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=/$tree,upperdir=$layer/upper,workdir=$layer/work" "/$tree"
done
mkdir -p /etc/docker /var/lib/docker /var/lib/dni
rm -rf /etc/docker/* /etc/dni
mount --bind "$directory/docker" /var/lib/docker
mount --bind "$directory/dni" /var/lib/dni
rm -f /etc/resolv.conf /etc/hosts
echo "nameserver $nameserver" > /etc/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" > /etc/hosts

# Shared, so that an engine with a root file system of its own has the same sockets and network namespaces in it.
mount -t tmpfs -o mode=755 tmpfs /run
mount --make-rshared /run
mkdir /run/lock

exec "$python" -I -S "$lab/keeper.py"
