#!/bin/sh
# Back a directory up, with receipts: returns when the snapshot is on this host's disk and on its
# peers', verified. Then reads it back from another mount, if one is given.
#
#   examples/backup.sh /mnt/k/a /etc           or, to read it back from b:
#   examples/backup.sh /mnt/k/a /etc /mnt/k/b
set -eu
mount=${1:?usage: backup.sh MOUNT DIRECTORY [OTHER-MOUNT]}
what=${2:?usage: backup.sh MOUNT DIRECTORY [OTHER-MOUNT]}
other=${3:-$mount}

host=$(hostname)
mkdir -p "$mount/backup/node/$host"
tar -C / -c "${what#/}" >"$mount/backup/node/$host/backup"

# shellcheck disable=SC2012
newest=$(ls -t "$mount/backup/node/$host/snapshots" | head -n 1)
echo "snapshot $newest"
tar -t <"$other/backup/node/$host/backup" | wc -l | sed 's/$/ entries, read back/'
