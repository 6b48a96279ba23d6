#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First process of a machine: gives it a root file system and cgroups of its own, then becomes systemd.
# usage: machine-init.sh DIRECTORY NAME NAMESERVER REPOSITORY CGROUP
set -eu
directory=$1 name=$2 nameserver=$3 repository=$4 cgroup=$5

# Where each hierarchy of cgroups is mounted, its type, and what it controls.
hierarchies() {
    awk '{ dash = 1; while ($dash != "-") dash++ } $(dash + 1) ~ /^cgroup2?$/ { print $5, $(dash + 1), $(dash + 3) }' \
        /proc/self/mountinfo
}

enter_cgroup() {
    at=$1
    for part in $(echo "$2" | tr / ' '); do
        controllers=$(sed 's/^/+/; s/ / +/g' "$at/cgroup.controllers" 2> /dev/null || true)
        [ -z "$controllers" ] || echo "$controllers" > "$at/cgroup.subtree_control" || true
        mkdir -p "$at/$part"
        for needed in cpuset.cpus cpuset.mems; do
            [ ! -e "$at/cgroup.clone_children" ] || [ ! -e "$at/$needed" ] || cat "$at/$needed" > "$at/$part/$needed"
        done
        at=$at/$part
    done
    echo $$ > "$at/cgroup.procs"
}

if [ -n "$cgroup" ]; then
    hierarchies | while read -r point _; do
        enter_cgroup "$point" "$cgroup" < /dev/null
    done
    exec unshare --cgroup -- "$0" "$directory" "$name" "$nameserver" "$repository" ""
fi

# The machine's own root file system, written to in memory; the data of Docker is on disk, as on any host.
own=$directory/root
mkdir "$own" "$directory/docker" "$directory/containerd"
mount -t tmpfs tmpfs "$own"
mkdir "$own/upper" "$own/work" "$own/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$own/upper,workdir=$own/work" "$own/merged"
cd "$own/merged"

mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
hierarchies | while read -r point type options; do
    case $options in *name=*) options=none,$options ;; esac
    [ "$type" = cgroup ] || options=rw
    mkdir -p ".$point"
    mount -t "$type" -o "$options" "$type" ".$point"
done

mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    : > "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p ".$directory" ".$repository" var/lib/docker var/lib/containerd etc/docker etc/tmpfiles.d
mount --bind "$directory" ".$directory"
mount --bind "$repository" ".$repository"
mount -o remount,bind,ro ".$repository"
mount --bind "$directory/docker" var/lib/docker
mount --bind "$directory/containerd" var/lib/containerd

# Of the machine's services those start that a test enables.
rm -rf etc/systemd/system/*.wants etc/systemd/system/dbus-* etc/docker/* etc/dni etc/fstab var/lib/dni
ln -s /dev/null etc/tmpfiles.d/tmp.conf  # what is in /tmp at boot has just been put there
rm -f etc/resolv.conf etc/hosts
echo "nameserver $nameserver" > etc/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" > etc/hosts
echo "$name" > etc/hostname
ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target

mkdir -p mnt
pivot_root . mnt
umount -l /mnt
mount --make-rshared /run
echo ready
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --pdeathsig KILL -- /lib/systemd/systemd > /dev/null 2>&1
