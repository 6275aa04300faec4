#!/usr/bin/env bash
# An archive on Slurm: plan, train and encode in arrays, commit. On the login node:
#   ARCHIVE=s3://bucket/prefix SCENES=/scenes PARTS=64 bash slurm.sh submit
# Run the same again after a failure: what is done stays done.
#SBATCH --job-name=embarchive
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${ARCHIVE:?a shared folder or s3://bucket/prefix}"
: "${PARTS:=16}"    # one part is one task of an array
: "${AT_ONCE:=16}"  # tasks at once
: "${TRIES:=3}"
export OMP_NUM_THREADS=1  # another number gives other last bits
# S3: sbatch hands the environment on, so set AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
# and, for another store than Amazon's, AWS_ENDPOINT_URL where you submit.

again() {
  local try
  for ((try = 1; try <= TRIES; try++)); do
    if embarchive "$@"; then return 0; fi
    echo "embarchive $1: try $try of $TRIES failed" >&2
    if ((try < TRIES)); then sleep "${WAIT:-30}"; fi
  done
  return 1
}

submit() {
  local options=(--parsable --kill-on-invalid-dep=yes) before="" step
  for step in plan backbone train encode commit; do
    local array=()
    case $step in train | encode) array=(--array="0-$((PARTS - 1))%$AT_ONCE") ;; esac
    before=$(sbatch "${options[@]}" ${before:+--dependency=afterok:${before%%;*}} \
      "${array[@]}" --job-name="embarchive-$step" "$0" "$step")
    echo "$step: job ${before%%;*}"
  done
}

part="${SLURM_ARRAY_TASK_ID:-0}/$PARTS"
case "${1:-}" in
  submit) submit ;;
  # SCENES: paths between blanks, on a file system that all nodes have.
  plan)
    read -ra scenes <<<"${SCENES:?rasters or folders}"
    again plan "${scenes[@]}" --out "$ARCHIVE" --parts "$PARTS" ${RECIPE:+--recipe "$RECIPE"} ;;
  backbone) again train "$ARCHIVE" --backbone ;;
  train) again train "$ARCHIVE" --part "$part" ;;
  encode) again encode "$ARCHIVE" --part "$part" ;;
  commit) again commit "$ARCHIVE" ;;
  *) echo "slurm.sh: expected submit, plan, backbone, train, encode or commit" >&2; exit 2 ;;
esac
