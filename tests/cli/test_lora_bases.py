"""`sdedit lora` on checkpoints whose files do not tell everything: what is asked for there can be given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.tiny.folders import save_folder
from helpers.tiny.single_files import save_single_file
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.main import run


def test_what_an_unusual_checkpoint_is_asked_for_can_be_given_where_loras_are_made_and_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_folder(tmp_path / "folder", "sd15", block_out_channels=(24, 48), norm_num_groups=8)
    base = save_single_file(tmp_path / "base.safetensors", folder, "sd15")
    tuned = {name: tensor.clone() for name, tensor in load_file(base).items()}
    tuned["model.diffusion_model.time_embed.0.weight"][0, 0] += 1
    save_file(tuned, tmp_path / "tuned.safetensors")
    lora, merged = tmp_path / "lora.safetensors", tmp_path / "merged.safetensors"
    commands = (
        ["lora", "extract", str(tmp_path / "tuned.safetensors"), str(base), str(lora), "--rank", "1"],
        ["lora", "merge", str(base), str(merged), "--lora", str(lora)],
    )
    for words in commands:
        assert run(words) == 3
        assert "give --config" in capsys.readouterr().err
        assert run([*words, "--config", str(folder)]) == 0
    without_base = ["lora", "merge", str(tmp_path / "one.safetensors"), "--lora", str(lora)]
    assert run([*without_base, "--config", str(folder)]) == 2
    found, name = load_file(merged), "model.diffusion_model.time_embed.0.weight"
    torch.testing.assert_close(found[name], tuned[name], atol=1e-6, rtol=0)


def test_a_merge_is_told_what_its_base_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_single_file(tmp_path / "base.safetensors", save_folder(tmp_path / "folder", "sd21"), "sd21")
    name = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    config = json.loads((tmp_path / "folder" / "text_encoder" / "config.json").read_text())
    width, inner = config["hidden_size"], config["intermediate_size"]
    down, up = torch.ones(1, width), torch.ones(inner, 1)
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, tmp_path / "l.safetensors")
    words = ["lora", "merge", str(base), str(tmp_path / "DST"), "--lora", str(tmp_path / "l.safetensors")]
    assert run([*words, "--prediction-type", "epsilon"]) == 0
    assert "predicts epsilon" in capsys.readouterr().err
    scheduler = json.loads((tmp_path / "DST" / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "epsilon"
