"""How long samples are for a model, as training will see them, found without decoding a frame."""

from __future__ import annotations

from kinema.messages import Conversation
from kinema.tasks.train import find_base
from kinema.training.examples import ExampleMaker
from kinema.training.loading import load_config, load_processor
from kinema.training.settings import from_flat

_CONTEXT_OF_UNKNOWN = 2048


class Lengths:
    """Counts tokens of samples; no weights are loaded.

    Args:
        model: a `VideoLM`, by folder or name.
        max_length: tokens that fit, instead of all the model's positions.

    Raises:
        UsageError: it is no `VideoLM`.
        ModelNotFound: it is not there.
    """

    def __init__(self, model: str, *, max_length: int | None = None) -> None:
        base = find_base(from_flat({"model_name_or_path": model}))
        config = load_config(base.folder)
        positions = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.limit = int(max_length or positions or _CONTEXT_OF_UNKNOWN)
        self._maker = ExampleMaker(
            load_processor(base.folder),
            config,
            family=base.family,
            checkpoint=base.checkpoint,
            max_length=self.limit,
        )

    def of(self, conversation: Conversation) -> int:
        """Tokens of a sample, visual ones included.

        Raises:
            KinemaError: the model does not take it.
        """
        return self._maker.length(conversation)
