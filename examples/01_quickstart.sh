#!/usr/bin/env bash
# The whole job with the commands a user would type: three tasks, one after the other, the router
# retrained after each, the proof that nothing was forgotten, one bundle, three answers from it.
# Needs: pip install 'expertbank[offline]'. Asks no model hub. Takes minutes on two cores.
set -euo pipefail

export HF_HUB_OFFLINE=1
export EXPERTBANK_HOME="${1:-.quickstart/bank}"
bundle="$(dirname "$EXPERTBANK_HOME")/bundle"
rm -rf "$EXPERTBANK_HOME" "$bundle"

# Show a command as it would be typed, then run it.
step() {
  printf '\n$'
  for word in "$@"; do
    case "$word" in *\ *) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
  done
  printf '\n'
  "$@"
}

step expertbank init --max-length 192

step expertbank add --task bbc_news --limit 1000 --epochs 2
step expertbank retrain-router
step expertbank forgetting-report --verify

step expertbank add --task boolq --limit 2000 --epochs 3 --eval-limit 1000
step expertbank retrain-router
step expertbank forgetting-report --verify

step expertbank add --task privacy_qa --limit 2000 --epochs 2 --eval-limit 1000
step expertbank retrain-router
step expertbank forgetting-report --verify

step expertbank export "$bundle"

step expertbank predict --bundle "$bundle" "The striker scored twice as the champions won the cup final on Sunday"
step expertbank predict --bundle "$bundle" "is the sky blue" --text-pair "The sky looks blue because air scatters short wavelengths of sunlight more than long ones, which is called Rayleigh scattering."
step expertbank predict --bundle "$bundle" "do you sell my data to advertisers" --text-pair "We do not sell your personal information to third parties for their own marketing."
