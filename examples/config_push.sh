#!/bin/sh
# Push a directory of configuration to all hosts in one step: no host ever sees half of it.
#
#   examples/config_push.sh /mnt/k/a ./etc app      makes MOUNT/config/app a copy of ./etc
set -eu
mount=${1:?usage: config_push.sh MOUNT DIRECTORY NAME}
from=${2:?usage: config_push.sh MOUNT DIRECTORY NAME}
name=${3:?usage: config_push.sh MOUNT DIRECTORY NAME}

mkdir -p "$mount/config"
next=$(mktemp -d "$mount/config/.$name.XXXXXX")
trap 'rm -rf "$next"' EXIT
cp -R "$from/." "$next/"

# Pushes of several hosts wait for each other.
exec 9>>"$mount/config/.$name.lck"
flock 9
current="$mount/config/$name"
if [ -e "$current" ]; then
    # The new tree and the old one change places in one entry of the log.
    mv --exchange "$next" "$current" 2>/dev/null || {
        mv "$current" "$next.old"
        mv "$next" "$current"
        rm -rf "$next.old"
    }
else
    mv "$next" "$current"
fi
echo "pushed $(find "$current" -type f | wc -l) files to $current"
