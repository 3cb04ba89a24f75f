"""Real shapes on this machine: random Stable Diffusion 1.5 weights edit a 512 x 512 picture in two steps.

    python benchmarks/full_size.py [--dtype fp32 bf16] [--oracle]

For each dtype a child process loads the folder (stored in that dtype) and edits; it reports the load's time, its peak
memory over what the imports took, as a ratio to the bytes of the files, and the seconds of the edit. `--oracle` runs
the reference on the same folder beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
TOKENIZER = Path(__file__).parents[1] / "sdedit_cli" / "assets" / "starter" / "tokenizer"
CONFIGS = {
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 2,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "sample_size": 512,
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    },
    "scheduler": {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}
FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}


def write_folder(folder: Path, dtype: str) -> int:
    """Random weights in the diffusers layout, the tokenizer left to the packaged one; returns the files' bytes."""
    import torch
    from safetensors.torch import save_file

    from sdedit_cli.configs.clip import CLIPTextConfig
    from sdedit_cli.configs.unet import UNetConfig
    from sdedit_cli.configs.vae import VAEConfig
    from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, UNet2DCondition

    build = {
        "unet": lambda config: UNet2DCondition(UNetConfig.from_dict(config)),
        "vae": lambda config: AutoencoderKL(VAEConfig.from_dict(config)),
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig.from_dict(config)),
    }
    total = 0
    for part, config in CONFIGS.items():
        (folder / part).mkdir(parents=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text(json.dumps(config))
        if part not in build:
            continue
        torch.manual_seed(0)
        state = {
            k: v.to(getattr(torch, DTYPES[dtype])).contiguous() for k, v in build[part](config).state_dict().items()
        }
        path = folder / part / f"{FILES[part]}.safetensors"
        save_file(state, path)
        total += path.stat().st_size
    libraries = {part: ["diffusers", kind] for part, kind in CLASSES.items()}
    index = {"_class_name": "StableDiffusionImg2ImgPipeline", "requires_safety_checker": False, **libraries}
    index["text_encoder"] = ["transformers", "CLIPTextModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return total


def memory(field: str) -> int:
    """Bytes of VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))


def child(folder: str, dtype: str, which: str) -> None:
    import torch
    from PIL import Image

    if which == "oracle":
        from diffusers import StableDiffusionImg2ImgPipeline
        from transformers import CLIPTextModel, CLIPTokenizer
    else:
        from sdedit_cli import StableDiffusionImg2ImgPipeline
    baseline = memory("VmRSS")
    began = time.perf_counter()
    options = {"torch_dtype": getattr(torch, DTYPES[dtype])}
    if which == "oracle":
        encoder = CLIPTextModel.from_pretrained(Path(folder) / "text_encoder", dtype=options["torch_dtype"])
        tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)
        options |= {"text_encoder": encoder, "tokenizer": tokenizer, "safety_checker": None}
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, **options)
    # Mapped weights count only once they are read.
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        for parameter in part.parameters():
            parameter.view(-1)[::1024].float().sum()
    loaded = time.perf_counter() - began
    peak = memory("VmHWM") - baseline
    picture = Image.linear_gradient("L").resize((512, 512)).convert("RGB")
    began = time.perf_counter()
    call = {"prompt": "a photo of a cat", "image": picture, "strength": 1.0, "num_inference_steps": 2}
    image = pipe(**call, generator=torch.Generator().manual_seed(0)).images[0]
    edited = time.perf_counter() - began
    print(json.dumps({"load_s": loaded, "load_peak": peak, "edit_s": edited, "size": image.size}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    print("| dtype | program | files MB | load s | load peak / files | edit of 2 steps s |")
    print("|---|---|---|---|---|---|")
    for dtype in args.dtype:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            size = write_folder(folder, dtype)
            for which in ("sdedit", "oracle") if args.oracle else ("sdedit",):
                command = [sys.executable, __file__, "--child", str(folder), dtype, which]
                out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                row = json.loads(out.splitlines()[-1])
                cells = (dtype, which, f"{size / 1e6:.0f}", f"{row['load_s']:.2f}", f"{row['load_peak'] / size:.2f}")
                print("| " + " | ".join((*cells, f"{row['edit_s']:.1f}")) + " |", flush=True)


if __name__ == "__main__":
    main()
