#!/bin/sh
# Push a directory of configuration to all hosts in one step: no host ever sees half of it.
#
#   examples/config_push.sh /mnt/k/a ./etc app      MOUNT/config/app is now a copy of ./etc
set -eu
mount=${1:?usage: config_push.sh MOUNT DIRECTORY NAME}
from=${2:?usage: config_push.sh MOUNT DIRECTORY NAME}
name=${3:?usage: config_push.sh MOUNT DIRECTORY NAME}

# Pushes of several hosts wait for each other.
mkdir -p "$mount/config/.versions/$name"
exec 9>>"$mount/config/.versions/$name.lck"
flock 9

# The name is a link; what it leads to is complete before the link is replaced, in one rename.
version=$(mktemp -d "$mount/config/.versions/$name/XXXXXX")
cp -R "$from/." "$version/"
ln -s ".versions/$name/${version##*/}" "$version.link"
mv -T "$version.link" "$mount/config/$name"

# Older versions go; a reader inside one keeps the files it has open.
for old in "$mount/config/.versions/$name"/*; do
    [ "$old" = "$version" ] || rm -rf "$old"
done
echo "pushed $(find "$version" -type f | wc -l) files to $mount/config/$name"
