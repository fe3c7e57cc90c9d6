#!/usr/bin/env bash
# Submits a pretraining, and the evaluation of what it makes, which waits for it and writes the report. From the root of
# the repository:
#
#   jobs/slurm/chain.sh [--sbatch='SBATCH OPTION...'] CONFIG... [--KEY VALUE...] -- EVALUATE KEYS
#
#   jobs/slurm/chain.sh --sbatch='-N 2 --ntasks-per-node 2' configs/lex_paper.ini --data.train pile.h5 --mesh.cp 4 \
#     -- --data valid.h5 --lengths 1024,8192,1048576 --mesh.cp 4
#
# CONFIG and KEY: see pretrain.sbatch; EVALUATE KEYS: see evaluate.sbatch; SBATCH OPTIONs are for both. Prints the ids
# of the two jobs. The evaluation is cancelled where the pretraining fails.
set -euo pipefail

case ${1:---help} in -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
die() {
  echo "chain.sh: $*; see jobs/slurm/chain.sh --help" >&2
  exit 2
}
[ -f jobs/slurm/pretrain.sbatch ] ||
  die "there is no jobs/slurm/pretrain.sbatch in $PWD; start it from the root of the repository"
[[ " $* " == *" -- "* ]] || die "the keys of the evaluation are missing; give them after --"

site=${LEXRING_SITE:-jobs/slurm/site.env}
[ -f "$site" ] || die "$site is missing; copy jobs/slurm/site.env.example to jobs/slurm/site.env and edit it"
# shellcheck source=/dev/null
source "$site"

options=()
case $1 in --sbatch=*) read -r -a options <<<"${1#--sbatch=}"; shift ;; esac
training=() configs=()
while [ "$1" != -- ]; do training+=("$1"); shift; done
shift
for word in "${training[@]}"; do
  [[ $word != --* ]] || break
  configs+=(--config "$word")
done
# What is wrong with the keys is said now, not in the queue.
run=$("${LEXRING_BINARY:-build/release/lexring}" config "${configs[@]}" "${training[@]:${#configs[@]} / 2}" \
  --only checkpoint.directory)

first=$(sbatch --parsable "${options[@]}" jobs/slurm/pretrain.sbatch "${training[@]}")
second=$(sbatch --parsable "${options[@]}" --dependency="afterok:${first%%;*}" --kill-on-invalid-dep=yes \
  jobs/slurm/evaluate.sbatch "$run" "$@")
echo "pretraining: job ${first%%;*}"
echo "evaluation: job ${second%%;*}, of $run"
