#!/bin/sh
# Leader election: run it on every host. One of them leads at a time; when it ends, or its host dies
# or is cut off, the next in the queue leads.
#
#   examples/leader_election.sh /mnt/k/a web     (in one shell)
#   examples/leader_election.sh /mnt/k/b web     (in another: it waits)
set -eu
mount=${1:?usage: leader_election.sh MOUNT SERVICE}
service=${2:?usage: leader_election.sh MOUNT SERVICE}

mkdir -p "$mount/services/$service"
exec 9>>"$mount/services/$service/leader.lck"
echo "waiting to lead $service"
flock 9

# The fencing token grows with every grant: what the leader changes elsewhere can carry it, so that
# a leader of yesterday is recognised.
token=$(getfattr --only-values -n user.keepfs.token "$mount/services/$service/leader.lck" 2>/dev/null || true)
echo "$(hostname).$$" >"$mount/services/$service/leader"
echo "leading $service${token:+ with token $token}"

# Lead, as long as the lock is ours: a write through its descriptor fails once it is lost.
while echo alive >&9; do
    sleep "${INTERVAL:-1}"
done 2>/dev/null
echo "no longer leading $service" >&2
exit 1
