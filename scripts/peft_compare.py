"""Gives an adapter of ours to PEFT, and one of PEFT's to us, and compares the logits.

python3 peft_compare.py ANEGPT BASE DATA WORK: BASE is a directory that transformers and anegpt read, DATA
conversations in JSON lines.
"""

import subprocess
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

# Sums of some hundred products in f32, in another order, of logits of order 10.
EXACT = 1e-4


def anegpt(*args):
    done = subprocess.run([ANEGPT, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"anegpt {' '.join(map(str, args))}: {done.stderr}")


def logits(model):
    ids = torch.arange(40).reshape(2, 20) * 5 % 200
    with torch.no_grad():
        return model.eval()(ids).logits


def read(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def compare(name, one, other):
    worst = (one - other).abs().max().item()
    if worst > EXACT:
        sys.exit(f"FAILED: {name}: logits differ by {worst}")
    print(f"ok: {name} (logits differ by at most {worst:.1e})", flush=True)


ANEGPT, base, data, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])

# Ours in PEFT.
settings = ["--lora", "rank=4,alpha=12,targets=q_proj,v_proj,down_proj", "--steps", 30, "--lr", "1e-2"]
anegpt("sft", "-m", base, "--data", data, *settings, "--device", "cpu", "--out", work / "tuned")
anegpt("export", work / "tuned", "--to", "peft", "--out", work / "ours")
merged = logits(read(work / "tuned" / "latest"))
changed = (merged - logits(read(base))).abs().max().item()
if changed < 0.1:
    sys.exit(f"FAILED: tuning changed the logits by {changed} only")
compare("PEFT computes our adapter", logits(PeftModel.from_pretrained(read(base), work / "ours")), merged)

# Theirs in ours.
torch.manual_seed(3)
config = LoraConfig(r=3, lora_alpha=5, target_modules=["k_proj", "o_proj", "up_proj"], task_type="CAUSAL_LM")
theirs = get_peft_model(read(base), config)
for name, parameter in theirs.named_parameters():
    if "lora_" in name:
        torch.nn.init.normal_(parameter, std=0.3)
theirs.peft_config["default"].base_model_name_or_path = str(base)
theirs.save_pretrained(work / "theirs")
anegpt("export", work / "theirs", "--to", "hf", "--out", work / "merged")
compare("anegpt computes PEFT's adapter", logits(read(work / "merged")), logits(theirs))
