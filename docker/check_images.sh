#!/usr/bin/env bash
# The install steps of the images, in clean virtual environments: what a build would do, without
# an engine. Checks that the web and the CPU images are without torch and can start.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
extras_of() { sed -nE 's/^RUN pip install .*"\.\[(.*)\]"$/\1/p' "docker/$1.Dockerfile"; }
for image in web worker-cpu; do
  extras="$(extras_of "$image")"
  echo "Installing as the image $image does: $extras"
  "$PYTHON" -m venv "$folder/$image"
  "$folder/$image/bin/pip" install --quiet --disable-pip-version-check \
    --constraint constraints.txt ".[$extras]"
  export WEIGHHOUSE_DATA="$folder/data-$image"
  "$folder/$image/bin/python" -c "import importlib.util, sys; sys.exit('torch is in it' if importlib.util.find_spec('torch') else 0)"
  "$folder/$image/bin/python" manage.py check
  "$folder/$image/bin/python" manage.py migrate --verbosity 0
done
# The wheels of torch and CUDA are gigabytes: that they are there and fit together is looked up.
echo "Looking up what the image worker installs: $(extras_of worker)"
"$PYTHON" -m venv "$folder/worker"
"$folder/worker/bin/pip" install --dry-run --quiet --disable-pip-version-check \
  --constraint constraints.txt ".[$(extras_of worker)]"
WEIGHHOUSE_DATA="$folder/data-web" "$folder/web/bin/python" manage.py collectstatic --noinput --verbosity 0
if docker compose version >/dev/null 2>&1; then
  # In a copy, because compose wants the .env beside it, filled in.
  cp -r docker "$folder/docker"
  sed -E 's/^([A-Z_]+)=$/\1=example/' docker/.env.example >"$folder/docker/.env"
  (cd "$folder/docker" && docker compose config --quiet)
else
  echo "The compose client is not here; the compose file was read as YAML by the tests alone."
fi
echo "The images' install steps work."
