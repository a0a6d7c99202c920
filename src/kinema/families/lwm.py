"""Large World Model: frames as VQGAN codes between the words, question first."""

from kinema.families.base import Family
from kinema.types import FrameSampling

# One turn is what the weights were trained on; further turns go on in the same line.
_ONE_LINE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content[0].text }} "
    "{% elif message.role == 'user' %}USER: "
    "{{ message.content | selectattr('type', 'eq', 'text') | map(attribute='text') | join('\\n') }}"
    "{% for part in message.content if part.type != 'text' %}"
    "{{ '\\n' }}<{{ part.type }}>"  # a bare line break behind a tag would be trimmed
    "{% endfor %} "
    "{% else %}ASSISTANT: {{ message.content[0].text }} {% endif %}"
    "{% endfor %}ASSISTANT:"
)

LWM = Family(
    name="lwm",
    title="LWM Vision Chat",
    example="lwm:LargeWorldModel/LWM-Chat-1M-Jax",
    hub_files=("params", "vqgan", "tokenizer*", "*.json"),
    model_types=("lwm",),
    engines=("lwm",),
    config_required=False,
    ragged_batch_ok=True,
    default_sampling=FrameSampling(num_frames=8, formula="linspace"),
    template=_ONE_LINE,
    system="You are a helpful assistant.",
)
