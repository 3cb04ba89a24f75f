"""Files of LoRAs, read as a state dict and written from one: the reference's class methods, which need no pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..adapters.open import HEADER
from ..errors import UsageError
from .adapter_arguments import file_name, header_text, located, tensors_in
from .words import arguments_named

_SAVED = "pytorch_lora_weights.safetensors"
Source = str | os.PathLike[str] | Mapping[str, Tensor]
Layers = Mapping[str, Tensor] | nn.Module


class AdapterFiles:
    """What `StableDiffusionImg2ImgPipeline` has for files of LoRAs beside loading them."""

    @classmethod
    @arguments_named()
    def lora_state_dict(
        cls,
        pretrained_model_name_or_path_or_dict: Source,
        *,
        weight_name: str | None = None,
        return_lora_metadata: bool = False,
        **options: Any,
    ) -> tuple[dict[str, Tensor], None] | tuple[dict[str, Tensor], None, None]:
        """The tensors of a LoRA under the names that its file has, for `load_lora_weights`.

        Alphas are among them, those of a header or a config beside the file too; the reference's second value, for
        alphas that are not, is None, and so is the third, which `return_lora_metadata` asks for. Raises ModelError for
        what cannot be read.
        """
        from ..adapters.write import tensors_of

        found = located(pretrained_model_name_or_path_or_dict, weight_name, options)
        tensors = tensors_of(found) if isinstance(found, Path) else dict(found)
        return (tensors, None, None) if return_lora_metadata else (tensors, None)

    @classmethod
    @arguments_named()
    def save_lora_weights(
        cls,
        save_directory: str | os.PathLike[str],
        unet_lora_layers: Layers | None = None,
        text_encoder_lora_layers: Layers | None = None,
        is_main_process: bool = True,
        weight_name: str | None = None,
        save_function: Any = None,
        safe_serialization: bool = True,
        unet_lora_adapter_metadata: Mapping[str, Any] | None = None,
        text_encoder_lora_adapter_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes layers (tensors by name, or a module of them) as a file that this and other programs load; metadata is
        what PEFT's config says of a part's (`r`, `lora_alpha`, ...). Raises UsageError when there are no layers."""
        given = {"unet": unet_lora_layers, "text_encoder": text_encoder_lora_layers}
        layers = {slot: tensors_in(own) for slot, own in given.items()}
        name = file_name(weight_name or _SAVED)
        if not any(layers.values()):
            raise UsageError("give `unet_lora_layers` or `text_encoder_lora_layers`: there is nothing to save")
        if not safe_serialization or save_function is not None:
            raise UsageError("only safetensors are written; leave safe_serialization and save_function out")
        from ..weights.formats.source import MemorySource
        from ..weights.write.files import OutputFile, write_files
        from ..weights.write.safetensors import items_of

        told = {"unet": unet_lora_adapter_metadata, "text_encoder": text_encoder_lora_adapter_metadata}
        header = {f"{slot}.{key}": value for slot, own in told.items() for key, value in (own or {}).items()}
        tensors = {f"{slot}.{key}": tensor for slot, own in layers.items() for key, tensor in own.items()}
        source = MemorySource({key: tensor.detach().cpu() for key, tensor in tensors.items()})
        if is_main_process:
            metadata = {HEADER: header_text(header)} if header else {}
            files = [OutputFile("", items_of(source), metadata)]
            write_files(Path(save_directory) / name, files, replace=True)
