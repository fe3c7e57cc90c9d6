#!/usr/bin/env bash
# A real Slurm cluster on one machine, as long as COMMAND runs in it. Needs root, Slurm, munge and iproute2.
#
#   cluster.sh HOSTS COMMAND [ARGUMENT...]        e.g. cluster.sh 2 bash, then sinfo, sbatch, srun --mpi=pmix
#
# Inside of it, also by COMMAND:
#
#   cluster.sh cut K          host K loses its power: nothing of it says so to anybody
#   cluster.sh unplug K, plug K     its network cable
#   cluster.sh repair K       it has power and cable again
#   cluster.sh controller stop, controller start      slurmctld
#
# Controller and hosts n1, n2, ... have namespaces of their own: network (10.77.0.0/24), processes, host name, /dev/shm,
# /run. Nothing outside is touched, several clusters do not meet, and all of it goes with the first process, however
# that ends. $TMPDIR is shared by all hosts; so is every directory but /dev/shm. Exit status: COMMAND's; 77, with the
# reason, where this machine does not allow such a cluster.
set -euo pipefail
self=$(realpath "$0")
dir=/run/cluster

cannot() {
  echo "cluster.sh: no Slurm cluster can run here: $*" >&2
  exit 77
}

# Mounts of the new namespace must not reach the old one. unshare sees to it, except in a chroot, whose root is no
# mount.
private_mounts() {
  unshare --mount true 2>/dev/null && return
  local probe shared=0
  probe=$(mktemp -d)
  unshare --mount --propagation unchanged mount -t tmpfs tmpfs "$probe" || {
    rmdir "$probe"
    cannot "mount namespaces are forbidden"
  }
  if umount "$probe" 2>/dev/null; then shared=1; fi
  rmdir "$probe"
  ((!shared)) ||
    cannot "in this chroot, mounts of a new namespace would be seen outside; bind-mount its root onto itself first"
  propagation=(--propagation unchanged)
}

outside() {
  [ "$(id -u)" = 0 ] || cannot "this needs root"
  local program
  for program in slurmctld slurmd sbatch munged ip unshare; do
    command -v $program >/dev/null ||
      cannot "$program is missing; install slurm-wlm, munge and iproute2 (./jobs/packages.sh --tests, as root)"
  done
  propagation=()
  private_mounts
  new=(unshare --net --uts --ipc --mount --pid --fork --kill-child "${propagation[@]}")
  "${new[@]}" true 2>/dev/null || cannot "namespaces are forbidden: $("${new[@]}" true 2>&1)"
  "${new[@]}" ip link add bridge0 type bridge 2>/dev/null || cannot "the kernel has no network bridges"
  exec "${new[@]}" "$self" --controller "$@"
}

write_configuration() {  # HOSTS
  local k cpus=2 memory
  memory=$(awk '/MemTotal/ {print int($2 / 1024 / 2)}' /proc/meminfo)
  {
    cat <<END
ClusterName=lexring
SlurmctldHost=controller(10.77.0.254)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
SchedulerParameters=sched_min_interval=0,batch_sched_delay=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=5
SlurmctldPidFile=$dir/slurmctld.pid
StateSaveLocation=$dir/state
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmdSpoolDir=$dir/spool.%n
TmpFS=$dir/tmp.%n
PartitionName=test Nodes=n[1-$1] Default=YES MaxTime=60 State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n[1-$1] MaxTime=60 State=UP PriorityTier=2 PreemptMode=OFF
END
    for k in $(seq "$1"); do echo "NodeName=n$k NodeAddr=10.77.0.$k CPUs=$cpus RealMemory=$memory Gres=gpu:2"; done
  } >"$SLURM_CONF"
  printf "Name=gpu File=/dev/%s\n" null zero >"$dir/gres.conf"  # devices that nobody opens
  # No control groups are used; but slurmd looks for some unless it is told which, and version 2 wants systemd.
  echo "CgroupPlugin=cgroup/v1" >"$dir/cgroup.conf"
  {
    echo "127.0.0.1 localhost"
    echo "10.77.0.254 controller"
    for k in $(seq "$1"); do echo "10.77.0.$k n$k"; done
  } >"$dir/hosts"
}

start_host() {  # K
  unshare --net --uts --ipc --mount --pid --fork --kill-child --propagation unchanged \
    "$self" --host "$1" >"$dir/log/n$1.out" 2>&1 </dev/null &
  local host=$!
  echo $host >"$dir/host.$1"
  until [ "$(readlink /proc/$host/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
  ip link add "host$1" type veth peer name eth0 netns "$host"
  ip link set "host$1" master bridge0 up
}

# The cable first: a machine without power sends no RST.
cut() {  # K
  unplug "$1"
  kill -KILL "$(<"$dir/host.$1")"
}
unplug() { ip link set "host$1" down; }
plug() { ip link set "host$1" up; }
repair() {
  if kill -0 "$(<"$dir/host.$1")" 2>/dev/null; then
    plug "$1"
  else
    ip link delete "host$1" 2>/dev/null || true
    start_host "$1"
  fi
}

host() {  # K
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /dev/shm
  hostname "n$1"
  until ip link set eth0 up 2>/dev/null; do sleep 0.02; done
  ip addr add "10.77.0.$1/24" dev eth0
  ip link set lo up
  exec slurmd -D -N "n$1"
}

control() {  # start, stop
  case $1 in
    start)
      slurmctld -D >>"$dir/log/slurmctld.out" 2>&1 </dev/null &
      echo $! >"$dir/controller" ;;
    stop)
      kill "$(<"$dir/controller")"
      while [ -e "/proc/$(<"$dir/controller")/exe" ]; do sleep 0.05; done ;;
  esac
}

controller() {  # HOSTS COMMAND...
  local hosts=$1 status=0 tries=0 k
  shift
  trap 'exit 143' TERM INT
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /run
  mkdir -p /dev/shm /run/munge "$dir"/{state,log,shared}
  mount -t tmpfs tmpfs /dev/shm  # process numbers of two clusters are alike, and so would be the names of MPI's files
  for k in $(seq "$hosts"); do mkdir "$dir"/{spool,tmp}."n$k"; done
  hostname controller
  export SLURM_CONF=$dir/slurm.conf TMPDIR=$dir/shared
  write_configuration "$hosts"
  if [ -e /etc/hosts ]; then mount --bind "$dir/hosts" /etc/hosts; fi

  (umask 077; head -c 1024 /dev/urandom >/run/munge/munge.key)
  munged --key-file=/run/munge/munge.key --seed-file=/run/munge/seed --log-file=/run/munge/munged.log
  ip link add bridge0 type bridge
  ip addr add 10.77.0.254/24 dev bridge0
  ip link set bridge0 up
  ip link set lo up
  control start
  for k in $(seq "$hosts"); do start_host "$k"; done
  until [ "$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | sort -u | wc -l)" = "$hosts" ]; do
    ((++tries < 300)) || { echo "cluster.sh: the hosts did not come up" >&2; status=1; break; }
    sleep 0.1
  done
  ((status)) || "$@" || status=$?
  ((!status)) || tail -n 30 "$dir"/log/*.out >&2
  exit "$status"
}

case ${1:-} in
  --controller | --host) role=${1#--}; shift; "$role" "$@" ;;
  cut | unplug | plug | repair) [ -d "$dir" ] || exit 2; "$@" ;;
  controller) [ -d "$dir" ] || exit 2; control "$2" ;;
  [1-9]*) (($# > 1)) || { sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2; }; outside "$@" ;;
  *) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
