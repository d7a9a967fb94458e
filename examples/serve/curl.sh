#!/usr/bin/env bash
# Every interface of a running server once. Usage: bash examples/serve/curl.sh [URL] [KEY]
set -euo pipefail
url=${1:-http://127.0.0.1:8000}
key=${2:-none}
ask() { curl --fail-with-body --silent --show-error --header "Authorization: Bearer $key" "$@"; echo; }

echo "# Is it ready?"
ask --retry 20 --retry-delay 1 --retry-all-errors "$url/v2/health/ready"

echo "# What can be asked"
ask "$url/v1/models"

echo "# Open Inference Protocol: the router chooses"
ask "$url/v2/models/auto/infer" --json '{
  "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2],
              "data": ["a film to see again", "the goal of the match"]}]}'

echo "# JSON lines in and out, as they come"
printf '%s\n' '{"text": "a film to see again"}' '{"text": "the goal of the match"}' |
  ask "$url/predict" --header 'Content-Type: application/x-ndjson' --data-binary @-

echo "# As vLLM's /classify has it"
ask "$url/classify" --json '{"model": "auto", "input": ["a film to see again"]}'

echo "# Take over what is new in the bank now"
ask --request POST "$url/admin/reload"

echo "# Metrics"
ask "$url/metrics" | grep '^expertbank_answers_total'
