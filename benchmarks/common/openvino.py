"""The reference's UNet and decoder as OpenVINO reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .children import Answer


def convert(model: str) -> Answer:
    """The files of both, converted once and kept beside the model in `openvino`: in float32, of any shape."""
    import openvino
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    class Decoder(torch.nn.Module):
        def __init__(self, vae: Any) -> None:
            super().__init__()
            self.vae = vae

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.vae.decode(x, return_dict=False)[0]

    class Predictor(torch.nn.Module):
        def __init__(self, unet: Any) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            return self.unet(x, t, encoder_hidden_states=text, return_dict=False)[0]

    folder = Path(model) / "openvino"
    config = UNet2DConditionModel.load_config(model, subfolder="unet")
    width, scaling = config["cross_attention_dim"], AutoencoderKL.load_config(model, subfolder="vae")["scaling_factor"]
    x = torch.randn(2, 4, 16, 16)
    for name, kind, wrapped, part, inputs in (
        ("unet", UNet2DConditionModel, Predictor, "unet", (x, torch.tensor(500.0), torch.randn(2, 77, width))),
        ("decoder", AutoencoderKL, Decoder, "vae", (x,)),
    ):
        path = folder / f"{name}.xml"
        if not path.exists():
            network = wrapped(kind.from_pretrained(model, subfolder=part, torch_dtype=torch.float32)).eval()
            with torch.no_grad():
                made = openvino.convert_model(network, example_input=inputs)
            openvino.save_model(made, path, compress_to_fp16=False)
    return {
        "unet": str(folder / "unet.xml"),
        "decoder": str(folder / "decoder.xml"),
        "width": width,
        "scaling": scaling,
    }
