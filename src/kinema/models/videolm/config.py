"""Every choice that makes a `VideoLM` what it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from kinema.errors import UnknownName, UsageError
from kinema.models.videolm.features import FeaturesHeader
from kinema.models.videolm.fusion import FUSIONS
from kinema.models.videolm.layout import TokenLayout
from kinema.models.videolm.positions import TIMES
from kinema.models.videolm.projector import check_projector

_CHOICES: Mapping[str, Collection[str]] = {
    "select_feature": ("patch", "cls_patch", "cls"),
    "pooling": ("frames", "spatio_temporal", "cls", "grid"),
    "time": TIMES,
    "fusion": FUSIONS,
    "media_wrap": ("outside", "inside", "none"),
}


class VideoLMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Settings of tower, pooling, projector, time, fusion and language model.

    ``vision_config`` is the configuration of a CLIP or SigLIP vision model or of a timm model
    (``timm_wrapper``); ``text_config`` that of any causal language model. ``vision_hidden_size``
    and ``vision_grid`` follow from a transformers tower and must be given for a timm one.

    Raises:
        UsageError: two choices that do not go together.
        UnknownName: a choice that does not exist.
    """

    model_type = "kinema_videolm"
    attribute_map: ClassVar[dict[str, str]] = {"image_token_id": "media_token_id"}
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: Any = None
    text_config: Any = None
    vision_hidden_size: int = 0
    vision_grid: list[int] = field(default_factory=list)
    """Rows and columns of patches of one frame."""

    select_layer: int | list[int] = -2
    """Hidden state of the tower, -1 the last; of a list, the last one becomes tokens."""
    select_feature: str = "patch"
    """patch, cls_patch (class token first) or cls."""
    post_layernorm: bool = False
    """Put the selected states through the tower's final norm."""

    pooling: str = "frames"
    """frames, spatio_temporal, cls or grid."""
    pool_grid: int = 2
    """With grid: k, a frame becomes k×k means."""
    num_temporal_tokens: int = 100
    """With spatio_temporal: temporal tokens of every video, absent frames being zero."""

    projector: str = "mlp2x_gelu"
    """identity, linear, mlp<N>x_gelu, mlp_downsample or resampler."""
    num_queries: int = 16
    """With resampler: tokens that every medium becomes."""

    time: str = "none"
    """A row of positions.TIMES: none, learned or timestamps."""
    max_frames: int = 1000
    """Rows of the learned table, and the exact frame count of layer_bias."""

    fusion: str = "splice"
    """A row of fusion.FUSIONS: splice; layer_bias and cross_attention do that and more."""
    layer_bias_scale: float = 0.1
    cross_attention_every: int = 1
    """With cross_attention: a block after every this many decoder layers."""
    cross_attention_heads: int = 8

    media_wrap: str = "outside"
    """Where start and end token stand: outside the run, inside it, or none."""
    media_token_id: int = 0
    media_start_token_id: int | None = None
    media_end_token_id: int | None = None
    tie_word_embeddings: bool = False

    kinema_family: str = ""
    """The family whose sampling, template and placeholders the model was trained with."""
    kinema_sampling: dict[str, Any] = field(default_factory=dict)
    """Fields of a FrameSampling, where the checkpoint has its own."""

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        self._fill_from_tower()
        _check_choices(self)

    def _fill_from_tower(self) -> None:
        tower = self.vision_config
        if not self.vision_hidden_size:
            self.vision_hidden_size = getattr(tower, "hidden_size", 0)
        if not self.vision_grid and hasattr(tower, "patch_size"):
            side = tower.image_size // tower.patch_size
            self.vision_grid = [side, side]
        if not self.vision_hidden_size or not self.vision_grid:
            raise UsageError(
                f"vision_hidden_size and vision_grid do not follow from a {tower.model_type}.",
                hint="For tf_efficientnet_lite0 at 224 px they are 1280 and [7, 7].",
            )

    @property
    def has_class_token(self) -> bool:
        """True when the tower puts a class token before the patches."""
        return bool(self.vision_config.model_type == "clip_vision_model")

    @property
    def select_layers(self) -> list[int]:
        """The selected hidden states, the one that becomes tokens last."""
        layers = self.select_layer
        return [layers] if isinstance(layers, int) else list(layers)

    @property
    def layout(self) -> TokenLayout:
        """How many tokens a medium becomes."""
        rows, columns = self.vision_grid
        return TokenLayout(
            grid=(rows, columns) if self.select_feature != "cls" else (1, 1),
            has_class_token=self.select_feature == "cls_patch",
            pooling=self.pooling,
            pool_grid=self.pool_grid,
            num_temporal_tokens=self.num_temporal_tokens,
            downsample=2 if self.projector == "mlp_downsample" else 1,
            num_queries=self.num_queries if self.projector == "resampler" else 0,
            wrap=self.media_wrap,
            timestamps=self.time == "timestamps",
        )

    def check_features(self, made: Mapping[str, Any]) -> None:
        """Refuse features that another tower, layer or pooling made.

        Args:
            made: the header of a features file.

        Raises:
            MediumRefused: names the first difference.
        """
        FeaturesHeader(**made).check(self)

    @property
    def visual_token_ids(self) -> list[int]:
        """Ids whose embeddings are replaced by features."""
        wrap = (self.media_start_token_id, self.media_end_token_id)
        inside = [i for i in wrap if i is not None and self.media_wrap == "inside"]
        return [self.media_token_id, *inside]


def _check_choices(config: VideoLMConfig) -> None:
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise UnknownName(name, getattr(config, name), choices)
    check_projector(config.projector)
    _check_class_token(config)
    _check_per_frame(config)


def _check_class_token(config: VideoLMConfig) -> None:
    if config.pooling == "cls" and config.select_feature != "cls":
        raise UsageError(
            f"pooling=cls takes class tokens and select_feature is {config.select_feature}.",
            hint="Set select_feature to cls.",
        )
    if config.select_feature != "patch" and not config.has_class_token:
        raise UsageError(
            f"select_feature={config.select_feature} needs a class token, and a "
            f"{config.vision_config.model_type} has none.",
            hint="Use select_feature=patch; pooling=grid with pool_grid=1 is one token a frame.",
        )
    grid_needed = config.pooling == "grid" or config.projector == "mlp_downsample"
    if grid_needed and config.select_feature != "patch":
        raise UsageError(
            f"{config.pooling} with {config.projector} folds the patch grid, and "
            f"select_feature={config.select_feature} is no grid.",
            hint="Set select_feature to patch.",
        )


def _check_per_frame(config: VideoLMConfig) -> None:
    if config.pooling == "spatio_temporal" and (
        config.time == "timestamps" or config.projector in ("mlp_downsample", "resampler")
    ):
        raise UsageError(
            "pooling=spatio_temporal mixes frames, so neither timestamps nor mlp_downsample nor "
            "resampler can tell them apart.",
            hint="Use pooling frames, grid or cls.",
        )
    if config.projector == "resampler" and config.time == "timestamps":
        raise UsageError(
            "projector=resampler makes one run of tokens of all frames, so no time can stand "
            "before each.",
            hint="Leave time at none: the resampler knows when a frame is shown.",
        )
    if config.fusion == "layer_bias" and config.pooling != "cls":
        raise UsageError(
            f"fusion=layer_bias reads one class token a frame, and pooling is {config.pooling}.",
            hint="Set pooling and select_feature to cls.",
        )
