#!/usr/bin/env bash
# The whole job with the commands a user would type: three tasks one after the other, the proof that
# nothing was forgotten, one task replaced and one removed, the report as a page, one bundle, its
# answers, and the same bundle behind HTTP.
# Needs the extras offline and serve. Asks no model hub. Takes minutes on two cores.
# Its bank is .quickstart/bank, made anew by every run, or the one to make that you name.
set -euo pipefail

export HF_HUB_OFFLINE=1
export EXPERTBANK_HOME="${1:-.quickstart/bank}"
place="$(dirname "$EXPERTBANK_HOME")"
if [ -z "${1:-}" ]; then
  rm -rf .quickstart/bank .quickstart/bundle
else
  for path in "$EXPERTBANK_HOME" "$place/bundle" "$place/report.html" "$place/serve.log"; do
    if [ -e "$path" ] || [ -L "$path" ]; then
      echo "$path exists, and may be yours: name a bank in an empty folder, or none" >&2
      exit 3
    fi
  done
fi

# Show a command as it would be typed, then run it.
step() {
  printf '\n$'
  for word in "$@"; do
    case "$word" in *\ *) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
  done
  printf '\n'
  "$@"
}

step expertbank init --max-length 128

step expertbank add --task bbc_news --limit 600 --epochs 2 --retrain-router
step expertbank add --task exam_subject --limit 1500 --epochs 2 --retrain-router
step expertbank add --task stereotype --limit 1500 --epochs 2 --retrain-router
step expertbank forgetting-report --verify

# A new version of a task that is there, from all its rows, and a task that nobody wants any more.
step expertbank add --task exam_subject --new-version --limit 6000 --epochs 3
step expertbank remove --task stereotype --yes
step expertbank retrain-router
step expertbank forgetting-report --map --html "$place/report.html"

step expertbank export "$place/bundle"
step expertbank predict --bundle "$place/bundle" \
  'The striker scored twice as the champions won the cup final on Sunday' \
  'Which nerve supplies the deltoid muscle?' \
  'Der Zug nach Hamburg fährt heute von Gleis sieben.'

port=8321
printf '\n$ expertbank serve --bundle %s --port %s &\n' "$place/bundle" "$port"
expertbank serve --bundle "$place/bundle" --port "$port" > "$place/serve.log" 2>&1 &
server=$!
trap 'kill "$server" 2> /dev/null || true' EXIT
cd "$(dirname "$0")/.."
step python examples/serve/client.py --url "http://127.0.0.1:$port" 'Which drug reverses the effect of heparin?'
printf '\n$ kill %%1\n'
kill "$server"
wait "$server"
