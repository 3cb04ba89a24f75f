"""The networks: UNet, autoencoders, CLIP text encoder. Imports torch."""

from __future__ import annotations

from .base import wrapped as wrapped
from .clip import CLIPTextModel as CLIPTextModel
from .context import Context as Context
from .context import ImageSource as ImageSource
from .deep import Deep as Deep
from .freeu import FreeU as FreeU
from .ip_adapter import ImageAdapter as ImageAdapter
from .ops import Ops as Ops
from .tiles import Tiles as Tiles
from .tiles import blended as blended
from .tiny_vae import TinyAutoencoder as TinyAutoencoder
from .tokens import Merging as Merging
from .unet import UNet2DCondition as UNet2DCondition
from .vae import AutoencoderKL as AutoencoderKL
from .vae import Gaussian as Gaussian
from .wrap import Wrap as Wrap
