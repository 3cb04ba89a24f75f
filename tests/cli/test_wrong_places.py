"""Options and folders given where they do not belong: what is said names the place where they do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.cli import QUICK, events, one_line, photo
from safetensors.torch import save_file

from sdedit_cli.cli.info import file_facts
from sdedit_cli.cli.lora.inspect import facts_of
from sdedit_cli.cli.main import command, run

LONG = "x" * 3000
VISION = '{"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model"}'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "a.png", "--check"], "No such option '--check'; 'sdedit batch' has it."),
        (["run", "a.png", "--ema"], "No such option '--ema'; 'sdedit convert' has it."),
        (["batch", "in", "--save-every", "2"], "No such option '--save-every'; 'sdedit run' has it."),
        (["lora", "inspect", "x", "--to", "peft"], "'sdedit lora convert', 'sdedit lora extract', "),
        (["run", "a.png", "--stren", "1"], "'--strength'"),
        (["run", "a.png", "--nonsense"], "No such option '--nonsense'"),
    ],
)
def test_an_option_of_another_command_names_that_command(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    told = one_line(capfd.readouterr().err)
    assert said in told
    assert "--help'" not in told


@pytest.mark.parametrize(("name", "blank"), [("run", "drawn and shown"), ("batch", "0")])
def test_the_help_of_a_command_says_which_seed_it_takes(name: str, blank: str) -> None:
    page = " ".join(CliRunner().invoke(command, [name, "--help"], terminal_width=100).output.split())
    assert f"equal seeds give equal pictures. [default: {blank}]" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lora", "x:abc"], "no LoRA of that name; 'abc' is no number, as a strength would be (x:0.8)"),
        (["--lora", "blueprint:0,5"], "'0,5' is no number, as a strength would be (blueprint:0.8)"),
        (["--lora", "blueprint:1:half"], "'half' is no number, as a strength would be (blueprint:1:0.8)"),
        (["--ip-adapter", "x:abc", "--ip-image", "a.png"], "no such file or folder; 'abc' is no number"),
        (["--lora", "x"], "no such path, and no LoRA of that name (LoRA folders"),
        (["--lora", "C:/x"], "no such path, and no LoRA of that name (LoRA folders"),
        (["--lora", "a:x.safetensors"], "no such path, and no LoRA of that name (LoRA folders"),
        (["--embedding", "x:abc"], "no such path, and no embedding of that name (embedding folders"),
    ],
)
def test_what_was_meant_as_a_strength_is_told_from_a_name(
    folder: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--dry-run", *words]) == 3
    assert said in " ".join(capfd.readouterr().err.split())


@pytest.fixture
def folders(folder: Path) -> Path:
    """Folders that are no models: of an image encoder, of an IP-Adapter, of a safety checker, with one below."""
    parts = {
        "vision": {"vision_model.post_layernorm.weight": torch.zeros(4)},
        "ip": {"image_proj.proj.weight": torch.zeros(8, 4), "ip_adapter.1.to_k_ip.weight": torch.zeros(4, 768)},
        "safety": {"concept_embeds": torch.zeros(2, 4), "vision_model.a": torch.zeros(2)},
        "all/ip": {"image_proj.proj.weight": torch.zeros(8, 4), "ip_adapter.1.to_k_ip.weight": torch.zeros(4, 768)},
    }
    for name, tensors in parts.items():
        (folder / name).mkdir(parents=True)
        save_file(tensors, folder / name / "model.safetensors")
    (folder / "vision" / "config.json").write_text(VISION)
    (folder / "safety" / "config.json").write_text(VISION)
    (folder / "empty").mkdir()
    photo(folder / "a.png")
    return folder


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        (
            "vision",
            "an image encoder",
            "like an image encoder, not like a Stable Diffusion checkpoint; give its folder",
        ),
        ("ip", "IP-Adapter, base", "model.safetensors in it looks like an IP-Adapter"),
        ("safety", "a safety checker", "looks like a safety checker"),
        ("all", "", "is no model: ip/model.safetensors in it looks like an IP-Adapter"),
        ("empty", "", "has no model_index.json, config.json, or folders"),
    ],
)
def test_a_folder_that_is_no_model_says_what_it_is(
    folders: Path, name: str, kind: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "a.png", "-m", name, "--dry-run"]) == 3
    assert said in " ".join(capfd.readouterr().err.split())
    if kind:
        facts = file_facts(Path(name))
        assert (facts["kind"], facts["weights"]) == (kind, "model.safetensors")
    else:
        assert run(["info", name]) == 3
        assert said in " ".join(capfd.readouterr().err.split())


def test_info_and_lora_inspect_name_one_family(folder: Path) -> None:
    """Also where the keys tell none, and only the shapes of a model's layers do."""
    pairs = {
        "by-width": ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 320, 768),
        "by-shape": ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 1280, 1280),
        "by-name": ("lora_te2_text_model_encoder_layers_0_mlp_fc1", 8, 8),
        "nothing": ("lora_unet_some_layer", 8, 8),
    }
    told: dict[str, str] = {}
    for name, (module, rows, columns) in pairs.items():
        down, up = torch.ones(2, columns), torch.ones(rows, 2)
        path = folder / f"{name}.safetensors"
        save_file({f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}, path)
        told[name] = file_facts(path)["family"]
        assert told[name] == facts_of(path, None)["family"], name
    assert told["by-width"] == "Stable Diffusion 1.x"
    assert told["by-shape"].startswith("Stable Diffusion")
    assert told["by-name"] == "Stable Diffusion XL"
    assert told["nothing"] == ""


def test_a_dry_run_of_a_list_refuses_the_rows_that_the_run_would(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where an earlier row of the same model has a sampler that it knows."""
    photo(folder / "a.png", (32, 24))
    rows = ["a.png,1.png,euler,,", "a.png,2.png,ddim,karras,", "a.png,3.png,eulr,,", "a.png,4.png,ddim,,900 50"]
    rows = [*(f"{row}," for row in rows), "a.png,5.png,euler,,,0.5"]
    (folder / "jobs.csv").write_text("\n".join(["input,output,sampler,schedule,timesteps,eta", *rows]))
    told: list[str] = []
    for more in (["--dry-run"], ["--dtype", "fp32"]):
        assert run(["batch", "jobs.csv", "out", "--strength", "0.1", "--json", *more]) == 4
        found = [event for event in events(capfd.readouterr().out) if event["event"] == "failed"]
        told.append(", ".join(sorted(event["error"] for event in found)))
        assert len(found) == 4
    assert told[0] == told[1]


def test_a_dry_run_says_why_an_output_would_be_made_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        photo(folder / f"{name}.png", (32, 24))
    line = ["batch", "?.png", "out", "-p", "a house", *QUICK]
    assert run(line) == 0
    photo(folder / "a.png", (24, 32))
    capfd.readouterr()
    assert run([*line, "--dry-run"]) == 0
    told = capfd.readouterr().err
    assert f"{Path('out/a.png')}: the input changed" in told
    assert "b.png" not in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "a.png", "--dry-run", "--lora-dir", LONG], 3, "no such folder"),
        (["run", "a.png", "--dry-run", "--embedding-dir", LONG], 3, "no such folder"),
        (["batch", "a.png", "out", "--dry-run", "--mask-dir", LONG], 2, "no such folder"),
        (["batch", "a.png", LONG, "--check"], 3, "cannot be read (File name too long)"),
        (["run", "a.png", "--dry-run", "--sampler", LONG], 2, "unknown sampler"),
        (["run", "a.png", "--dry-run", "-o", LONG], 2, "has no ending"),
        (["run", "a.png", "--dry-run", "-p", f"<lora:blueprint:{LONG}>"], 2, "is no number"),
    ],
    ids=["loras", "embeddings", "masks", "results", "sampler", "output", "tag"],
)
def test_a_name_that_is_too_long_is_told_in_short(
    folder: Path, words: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(words) == code
    told = capfd.readouterr().err
    assert said in told
    assert len(told) < 600
