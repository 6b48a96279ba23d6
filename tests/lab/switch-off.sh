#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Takes from a node what a host has in memory alone, as a loss of power does.
# usage: switch-off.sh processes|mounts|network
set -eu
case $1 in
processes)  # all but the keeper, and who holds the root file system of an engine
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        what=$(tr '\0' ' ' < "$process/cmdline" 2> /dev/null) || continue
        [ "$pid" = 1 ] || [ "$pid" = $$ ] || [ "$what" = "sleep infinity " ] || kill -9 "$pid" 2> /dev/null || true
    done
    ;;
mounts)
    awk '$5 ~ "^/(run|var/lib/docker)/." { print $5 }' /proc/self/mountinfo | sort -r | while read -r point; do
        umount -l "$point" 2> /dev/null || true  # gone with another one
    done
    rm -rf /run/docker* /run/containerd /run/dni
    ;;
network)
    for link in /sys/class/net/*; do
        case ${link##*/} in lo | eth0) ;; *) ip link del "${link##*/}" 2> /dev/null || true ;; esac
    done
    nft flush ruleset
    for variant in iptables-legacy ip6tables-legacy; do
        "$variant" -P FORWARD ACCEPT
        for table in filter nat; do "$variant" -t "$table" -F; "$variant" -t "$table" -X; done
    done
    echo 0 > /proc/sys/net/ipv4/ip_forward
    echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
    ;;
esac
