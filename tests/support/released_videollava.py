"""Video-LLaVA as ``LanguageBind/Video-LLaVA-7B-hf`` is: files of transformers 4, in small.

Weights stand under the names of 2024, in float16 shards; ``processor_config.json`` has no
``patch_size``; image and video processor share ``preprocessor_config.json``; the chat template
marks what the assistant says with ``{% generation %}``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from support.checkpoints import SIDE, make_video_llava

TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ message['content'][0]['text'] }}{% else %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{# Then all videos #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}"
    "{{ '<video>\n' }}{% endfor %}"
    "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_NAMES = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.(image_tower|video_tower)\.(?!vision_model\.)", r"\1.vision_model."),
    (r"^model\.", ""),
)
"""From the names that transformers 5 saves to those of the release."""
_LEFT = ("video_preprocessor_config.json", "chat_template.jinja", "processor_config.json")


def write_video_llava(folder: Path, *, template: bool = True) -> Path:
    """The released folder; without ``template`` as it was before August 2024."""
    torch.manual_seed(0)
    make_video_llava(folder)
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    renamed = {}
    for name, tensor in whole.items():
        old = name
        for pattern, replacement in _NAMES:
            old = re.sub(pattern, replacement, old)
        renamed[old] = tensor.half()
    names, where = sorted(renamed), {}
    for part, chosen in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{part}-of-00002.safetensors"
        save_file({n: renamed[n] for n in chosen}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(chosen, file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in _LEFT:
        (folder / name).unlink(missing_ok=True)
    pixels = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "VideoLlavaImageProcessor",
        "processor_class": "VideoLlavaProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    (folder / "processor_config.json").write_text('{"processor_class": "VideoLlavaProcessor"}')
    if template:
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder
