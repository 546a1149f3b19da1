#!/bin/sh
# A cron job that every host starts and one host runs: put it into the crontab of all of them.
#
#   examples/nightly_job.sh /mnt/k/a report date
set -eu
mount=${1:?usage: nightly_job.sh MOUNT NAME COMMAND...}
name=${2:?usage: nightly_job.sh MOUNT NAME COMMAND...}
shift 2

mkdir -p "$mount/jobs"
today=$(date +%F)

# The lock is held until this shell ends, however it ends. Another host that is later waits here,
# and then sees that today's run is done.
exec 9>>"$mount/jobs/$name.lck"
flock 9
if [ "$(cat "$mount/jobs/$name.done" 2>/dev/null)" = "$today" ]; then
    echo "$name: done already today"
    exit 0
fi
"$@"
echo "$today" >"$mount/jobs/$name.done"
echo "$name: done on $(hostname)"
