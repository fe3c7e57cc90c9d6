#!/usr/bin/env bash
# Two hosts on one machine, joined by a link of a chosen rate: MPI ranks on them talk over TCP, as they would on two
# machines. For measuring how communication hides behind computing. Needs root, iproute2 and util-linux.
#
#   two_hosts.sh up                    two network namespaces and a pair of virtual cards between them
#   two_hosts.sh limit MBIT            caps the link, each direction by itself (0: no cap)
#   two_hosts.sh run N COMMAND...      COMMAND under mpirun: N ranks on each host, the lower ones on the first
#   two_hosts.sh bytes                 bytes that the first host has sent so far
#   two_hosts.sh down                  ends it
#
# Each host has its own network, host name (h1, h2), /tmp and /dev/shm, and half of the processors. Ranks of one host
# share memory: the cap is not theirs. TWO_HOSTS_MPIRUN: further arguments of mpirun.
set -euo pipefail
name=lexring-h
state=/run/lexring-two-hosts

host_exec() {  # host_exec K COMMAND...: nsenter, not 'ip netns exec', which remounts /sys
  local k=$1
  shift
  exec nsenter --net="/run/netns/$name$k" unshare --uts --mount --ipc sh -c \
    "hostname h$k && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /tmp &&
      cd \"\$1\" && shift && exec taskset -c $(processors "$k") \"\$@\"" \
    sh "$PWD" "$@"
}

processors() {  # of host K, as a list for taskset
  local all
  all=$(nproc --all)
  if [ "$all" -lt 2 ]; then
    echo 0
  elif [ "$1" = 1 ]; then
    echo "0-$((all / 2 - 1))"
  else
    echo "$((all / 2))-$((all - 1))"
  fi
}

up() {
  down
  mkdir -p "$state"
  for k in 1 2; do ip netns add "$name$k"; done
  ip link add lexring0 netns "${name}1" type veth peer name lexring0 netns "${name}2"
  for k in 1 2; do
    nsenter --net="/run/netns/$name$k" sh -c \
      "ip address add 10.78.0.$k/24 dev lexring0
       ip link set lexring0 up
       ip link set lo up
       ip route add default dev lexring0"
  done
  # What mpirun starts remote daemons with: 'agent HOST COMMAND...', the command being text for a shell.
  {
    echo "#!/usr/bin/env bash"
    echo "host=\$1; shift"
    echo "exec '$(realpath "$0")' agent \"\${host##*.}\" \"\$*\""
  } > "$state/agent"
  chmod +x "$state/agent"
}

limit() {
  for k in 1 2; do
    nsenter --net="/run/netns/$name$k" tc qdisc delete dev lexring0 root 2> /dev/null || true
    [ "$1" = 0 ] || nsenter --net="/run/netns/$name$k" \
      tc qdisc add dev lexring0 root tbf rate "$1mbit" burst 256kb latency 100ms
  done
}

down() {
  for k in 1 2; do ip netns delete "$name$k" 2> /dev/null || true; done
  rm -rf "$state"
}

run() {
  local ranks=$1
  shift
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=passive
  # shellcheck disable=SC2086
  host_exec 1 mpirun --host "10.78.0.1:$ranks,10.78.0.2:$ranks" -n "$((2 * ranks))" \
    --map-by slot --bind-to none --oversubscribe --mca plm_rsh_agent "$state/agent" --mca routed direct \
    --mca oob_tcp_if_include lexring0 --mca btl_tcp_if_include lexring0 --mca btl_vader_single_copy_mechanism none \
    -x OMP_NUM_THREADS -x OMP_WAIT_POLICY ${TWO_HOSTS_MPIRUN:-} "$@"
}

case ${1:-} in
  up) up ;;
  limit) limit "${2:?MBIT}" ;;
  run) shift && run "$@" ;;
  agent) host_exec "$2" sh -c "$3" ;;
  bytes) nsenter --net="/run/netns/${name}1" ip -s -j link show lexring0 | sed 's/.*"tx":{"bytes":\([0-9]*\).*/\1/' ;;
  down) down ;;
  *) sed -n '2,/^set/p' "$0" | sed '$d'; exit 2 ;;
esac
