"""OpenVINO as what computes the networks: Intel's library for its CPUs, GPUs and NPUs.

A network is converted once for its architecture (`topology`), without its weights, which a `shelf` keeps between runs;
with weights and shapes it is compiled for a device (`program`) and called in place of the layers (`networks`).
"""

from __future__ import annotations

from .machine import Machine as Machine
from .machine import check_installed as check_installed
from .machine import device_for as device_for
from .machine import is_installed as is_installed
from .networks import attach as attach
from .shelf import InMemory as InMemory
from .shelf import Shelf as Shelf
