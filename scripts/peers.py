"""Gives models of ours to other programs, and theirs to us, and compares what both compute.

python3 peers.py ANEGPT CHECKPOINT..., with any of transformers and torch, xllamacpp (llama.cpp) and gguf, mlx-lm.

Every comparison is of the greedy tokens after some prompts, up to the token that ends a text, and of the
logarithm of the probability of each token of a text.
"""

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

# Of the words of test-peers.sh's documents; llama2.c's model knows English.
WORDS = (["aa", "bb cc", "cc aa bb"], "aa bb cc aa! bb cc cc bb aa aa bb! " * 3 + "Größe 漢字, it's 2026?")
STORIES = (["Once", "Once upon a time", ""], "Once upon a time, there was a little girl named Lily. 漢字!")
# Longer than the windows of the models.
LONG = (WORDS[0], "aa bb cc aa! bb cc cc bb aa aa bb! " * 12 + "Größe 漢字, it's 2026?")
MOST = 60
EXACT = 1e-4
# llama.cpp looks GELU up in a table of f16.
GELU_TABLE = 5e-3


def anegpt(*args):
    done = subprocess.run([ANEGPT, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"anegpt {' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


def check(name, condition, what=""):
    if not condition:
        sys.exit(f"FAILED: {name}: {what}")
    print(f"ok: {name}", flush=True)


def ask(model, request):
    """The answer of `anegpt pipe` to one request."""
    command = [ANEGPT, "pipe", str(model), "--device", "cpu"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "done" not in answer:
        sys.exit(f"anegpt pipe {model}: {answer}")
    return answer["done"]


def greedy(model, prompt):
    args = ["-p", prompt, "--temperature", 0, "-n", MOST, "--device", "cpu", "--json"]
    answer = json.loads(anegpt("generate", "-m", model, *args))
    return answer["tokens"], answer["finish_reason"]


def compare(name, model, tokens, logs, ids, within=EXACT):
    """`tokens`: those after each prompt; `logs[i]`: ln p of every token after `ids[: i + 1]`."""
    for prompt, theirs in zip(PROMPTS, tokens):
        ours, reason = greedy(model, prompt)
        # Programs differ in whether the token that ends a text is one of it.
        same = ours == theirs or (reason == "end_of_text" and ours == theirs[:-1])
        check(f"{name}: tokens after {prompt!r}", same, f"{theirs} not {ours}, {reason}")
    theirs = [-row[token] for row, token in zip(logs, ids[1:])]
    # −ln p of each token but the first.
    ours = ask(model, {"loss": {"text": TEXT}})["losses"]
    check(f"{name}: as many tokens", len(theirs) == len(ours), f"{ids}, {len(ours)} losses")
    most = max(abs(a - b) for a, b in zip(theirs, ours))
    check(f"{name}: ln p of {len(ours)} tokens: {most:.1e} < {within}", most < within)


def log_softmax(row):
    largest = max(row)
    total = math.log(sum(math.exp(x - largest) for x in row)) + largest
    return [x - total for x in row]


# ---- transformers, mlx-lm ----


def described(directory, **more):
    """The ids that begin and end a text, as transformers reads them from the files alone."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(directory, **more)
    config = AutoConfig.from_pretrained(directory, **more)
    entries = json.loads((Path(directory) / "config.json").read_text())
    bos, eos = entries["bos_token_id"], entries["eos_token_id"]
    for place in (config, GenerationConfig.from_pretrained(directory), tokenizer):
        # A tokenizer knows one end: the first.
        end = eos[0] if place is tokenizer and isinstance(eos, list) else eos
        ids = (place.bos_token_id, place.eos_token_id)
        check(f"ids of {type(place).__name__}", ids == (bos, end), f"{ids} not {bos}, {end}")
    check("model_max_length", tokenizer.model_max_length == config.max_position_embeddings)
    ids = tokenizer("aa").input_ids
    check("a text begins with one bos", ids[0] == bos and ids.count(bos) == 1, ids)
    return tokenizer


def torch_outputs(model, tokenizer):
    import torch

    texts = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer(prompt).input_ids])
        out = model.generate(ids, do_sample=False, max_new_tokens=MOST)[0]
        texts.append(out[ids.shape[1] :].tolist())
    with torch.no_grad():
        ids = tokenizer(TEXT).input_ids
        logits = model(torch.tensor([ids])).logits[0].double()
    return texts, torch.log_softmax(logits, -1).tolist(), ids


def transformers(checkpoint, work, to="hf"):
    """Every kind of directory that is exported; returns ln p of every token, from that of f32."""
    import torch
    from transformers import AutoModelForCausalLM

    # transformers' own classes load without it.
    trust = {"trust_remote_code": True} if to == "hf-code" else {}
    for dtype, shard in [("f32", None), ("f32", 20000), ("f16", None), ("bf16", 9000)]:
        place = work / f"{to}-{dtype}-{shard}"
        more = ["--shard-bytes", shard] if shard else []
        anegpt("export", checkpoint, "--to", to, "--dtype", dtype, "--out", place, *more)
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **trust).eval()
        asked = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
        check(f"{place.name}: dtype", model.config.dtype in (asked, torch.float32), model.config.dtype)
        check(f"{place.name}: several files", (shard is None) == (place / "model.safetensors").exists())
        outputs = torch_outputs(model, described(place, **trust))
        compare(f"transformers, {place.name}", place, *outputs)
        rows = outputs[1] if dtype == "f32" else rows
    return rows


def nanochat(checkpoint, work):
    """nanochat's models: by the class of transformers, or by the code that is exported with them."""
    import transformers as library

    shape = json.loads((Path(checkpoint) / "config.json").read_text())["anegpt"]
    to = "hf-code" if shape["nanochat"]["value_embeds"] else "hf"
    transformers(checkpoint, work, to)
    place = work / f"{to}-f32-None"
    entries = json.loads((place / "config.json").read_text())
    check("its own class", (entries["model_type"] == "nanochat") == (to == "hf") == ("auto_map" not in entries))
    check("the class is there", to == "hf-code" or hasattr(library, entries["architectures"][0]))
    anegpt("import", place, "--out", work / "back")
    same_weights(checkpoint, work / "back", shape["vocab_size"])
    if to == "hf-code":
        code(checkpoint, work)
        if has("tiktoken"):
            from_nanochat(checkpoint, work, shape)


def same_weights(ours, theirs, tokens):
    """The bits are the same, but for rows beyond the vocabulary, which a file may leave out."""
    from safetensors.numpy import load_file

    a, b = (load_file(Path(place) / "model.safetensors") for place in (ours, theirs))
    check(f"{Path(theirs).name}: the same {len(a)} tensors", a.keys() == b.keys(), a.keys() ^ b.keys())
    for name, tensor in a.items():
        table = name.startswith(("lm_head", "transformer.wte", "value_embeds"))
        rows = tokens if table and tensor.shape != b[name].shape else len(tensor)
        if tensor[:rows].tobytes() != b[name].tobytes():
            sys.exit(f"FAILED: {theirs}: {name} has other bits")


def code(checkpoint, work):
    """What the exported code does besides greedy text: batches, caches, beams, the loss, and saving."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = work / "hf-code-f32-None"
    load = dict(trust_remote_code=True, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(place, **load).eval()
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=True)
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "left"
    settings = dict(do_sample=False, max_new_tokens=MOST, pad_token_id=tokenizer.pad_token_id)
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    rows = model.generate(**batch, **settings)[:, batch.input_ids.shape[1] :].tolist()
    for prompt, row in zip(PROMPTS, rows):
        ours, _ = greedy(place, prompt)
        ended = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
        check(f"in a padded batch: {prompt!r}", ended == ours, f"{ended} not {ours}")
    conversation(place, tokenizer)
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    with torch.no_grad():
        whole = model(ids).logits
        vocabulary = json.loads((place / "config.json").read_text())["anegpt"]["vocab_size"]
        check("logits of the vocabulary alone", whole.shape == (1, ids.shape[1], vocabulary))
        pieces, cache = [], None
        for start in range(0, ids.shape[1], 100):
            given = {"previous_ids": ids[:, start - 1 : start]} if start else {}
            out = model(ids[:, start : start + 100], past_key_values=cache, use_cache=True, **given)
            cache = out.past_key_values if hasattr(out, "past_key_values") else out.cache
            pieces.append(out.logits)
        most = (torch.cat(pieces, 1) - whole).abs().max().item()
        check(f"logits by pieces: {most:.1e} < {EXACT}", most < EXACT)
        loss, rest = model(ids, labels=ids).loss.item(), ask(place, {"loss": {"text": TEXT}})["losses"]
        mean = sum(rest) / len(rest)
        check(f"the loss: {loss} is {mean}", abs(loss - mean) < EXACT)
    beams = [model.generate(ids[:, :9], num_beams=3, use_cache=cached, **settings).tolist() for cached in (True, False)]
    check("beams with and without a cache", beams[0] == beams[1], beams)
    half = AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        check("logits in bfloat16", half(ids).logits.isfinite().all().item())
    # What transformers saves is a model of anegpt still.
    model.save_pretrained(work / "saved")
    tokenizer.save_pretrained(work / "saved")
    anegpt("import", work / "saved", "--out", work / "saved-back")
    same_weights(checkpoint, work / "saved-back", vocabulary)


def conversation(place, tokenizer):
    """transformers renders a conversation to the tokens that `anegpt chat` reads."""
    messages = [("system", "aa"), ("user", "bb cc"), ("assistant", "cc!"), ("user", "aa")]
    said = [{"role": role, "content": text} for role, text in messages]
    theirs = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=False)
    texts = ["<|bos|><|user_start|>", "aa\n\nbb cc", "<|user_end|><|assistant_start|>", "cc!"]
    texts += ["<|assistant_end|><|user_start|>", "aa", "<|user_end|><|assistant_start|>"]
    ours = []
    for text in texts:
        names = text.replace("><", "> <").split(" ") if text.startswith("<|") else []
        ours += tokenizer.convert_tokens_to_ids(names) or ask(place, {"encode": {"text": text}})["tokens"]
    check("a conversation's tokens", theirs == ours, f"{theirs} not {ours}")
    end = tokenizer.convert_tokens_to_ids("<|assistant_end|>")
    check("generation ends with an answer", end in json.loads((place / "generation_config.json").read_text())["eos_token_id"])


def from_nanochat(checkpoint, work, shape):
    """The script of docs/from-nanochat.md, with files as nanochat writes them."""
    import pickle

    import tiktoken
    import torch
    from safetensors.torch import load_file

    place = work / "d3"
    place.mkdir()
    weights = load_file(Path(checkpoint) / "model.safetensors")
    torch.save({f"_orig_mod.{name}": weight for name, weight in weights.items()}, place / "model_000200.pt")
    config = {name: shape[name] for name in ("n_layer", "n_head", "n_kv_head", "n_embd", "vocab_size")}
    config |= {"sequence_len": shape["seq_len"], "window_pattern": "SSSL"}
    (place / "meta_000200.json").write_text(json.dumps({"model_config": config}))
    file = json.loads((Path(checkpoint) / "tokenizer.json").read_text())
    special = {token["content"]: token["id"] for token in file["added_tokens"]}
    pattern = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    # The bytes of every token, as anegpt has them: ids 0 to 255 are bytes in the order of their values.
    tokens = {bytes([byte]): byte for byte in range(256)}
    names = {name: tokens_id for name, tokens_id in file["model"]["vocab"].items() if name not in special}
    of = {id: name for name, id in names.items()}
    spelled = {of[byte]: bytes([byte]) for byte in range(256)}
    tokens |= {b"".join(spelled[letter] for letter in name): id for name, id in names.items()}
    encoding = tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=tokens, special_tokens=special)
    with open(place / "tokenizer.pkl", "wb") as out:
        pickle.dump(encoding, out)
    refused = subprocess.run([ANEGPT, "generate", str(place)], capture_output=True, text=True)
    check("nanochat's own files are refused", "docs/from-nanochat.md" in refused.stderr, refused.stderr)
    page = (Path(__file__).parent.parent / "docs" / "from-nanochat.md").read_text()
    script = work / "from_nanochat.py"
    script.write_text(page.split("```python\n")[1].split("```")[0])
    subprocess.run([sys.executable, script, place, place, work / "converted"], check=True)
    config = json.loads((work / "converted" / "config.json").read_text())["anegpt"]
    different = {name for name in shape.keys() | config.keys() if (shape.get(name) or None) != (config.get(name) or None)}
    check("the shape of a converted model", not different, different)
    same_weights(checkpoint, work / "converted", shape["vocab_size"])
    for prompt in PROMPTS:
        ours, theirs = greedy(checkpoint, prompt), greedy(work / "converted", prompt)
        check(f"converted: tokens after {prompt!r}", ours == theirs, f"{theirs} not {ours}")
    ids = [ask(model, {"encode": {"text": TEXT}})["tokens"] for model in (checkpoint, work / "converted")]
    check("converted: tokens of a text", ids[0] == ids[1] == encoding.encode_ordinary(TEXT), ids)


def from_transformers(work):
    """Models that transformers has written, in each of the types and in several files."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, LlamaConfig, Qwen3Config
    from transformers import AutoModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(work / "hf-f32-None")
    size = {"vocab_size": 288, "bos_token_id": None, "eos_token_id": 7, "pad_token_id": 7}
    wide = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4)
    wide |= dict(num_key_value_heads=2, max_position_embeddings=128, **size)
    configs = {
        "llama": LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": 5e5}, **wide),
        "qwen3": Qwen3Config(head_dim=16, tie_word_embeddings=True, **wide),
        "qwen3-windows": Qwen3Config(
            head_dim=16, use_sliding_window=True, sliding_window=5, max_window_layers=1, **wide
        ),
        "gpt2": GPT2Config(n_embd=48, n_layer=2, n_head=3, n_positions=128, **size),
    }
    torch.manual_seed(1)
    dtypes = [torch.float32, torch.bfloat16, torch.float32, torch.float16]
    for (name, config), dtype in zip(configs.items(), dtypes):
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                # Far from the initial values, which make every text the same.
                weight += 0.2 * torch.randn_like(weight)
        place = work / f"theirs-{name}"
        model.to(dtype).save_pretrained(place, max_shard_size="30KB")
        tokenizer.save_pretrained(place)
        check(f"theirs-{name}: several files", (place / "model.safetensors.index.json").exists())
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
        compare(f"theirs-{name}, {dtype}", place, *torch_outputs(model, tokenizer))


def mlx(checkpoint):
    import mlx.core as mx
    from mlx_lm import load, stream_generate

    model, wrapped = load(str(checkpoint))
    streams = (stream_generate(model, wrapped, prompt, max_tokens=MOST) for prompt in PROMPTS)
    texts = [[response.token for response in stream] for stream in streams]
    ids = described(checkpoint)(TEXT).input_ids
    logits = model(mx.array([ids]))[0].astype(mx.float32).tolist()
    compare("mlx-lm", checkpoint, texts, [log_softmax(row) for row in logits], ids)


# ---- llama.cpp ----


class LlamaCpp:
    """llama.cpp with weights and cache in f32."""

    def __init__(self, path):
        import xllamacpp as x

        p = x.CommonParams()
        p.model.path = str(path)
        p.verbosity = -1
        p.n_ctx, p.n_gpu_layers, p.warmup, p.cpuparams.n_threads = 128, 0, False, 2
        p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
        p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = x.Server(p)

    def complete(self, prompt, most, **more):
        ask = {"prompt": prompt, "n_predict": most, "temperature": 0, "cache_prompt": False, **more}
        answer = self.server.handle_completions(ask)
        return json.loads(answer) if isinstance(answer, (str, bytes)) else answer

    def greedy(self, prompt):
        answer = self.complete(prompt, MOST, n_probs=1)
        return [entry["id"] for entry in answer["choices"][0]["logprobs"]["content"]]

    def logs(self, ids, vocab):
        """ln p of every token after these."""
        answer = self.complete(ids, 1, n_probs=vocab)
        row = [-math.inf] * vocab
        for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            row[entry["id"]] = entry["logprob"]
        return row


def llama_cpp(path, checkpoint, rows):
    """Compares with our reading of the file, and with `rows` of transformers if there are any."""
    config = json.loads((Path(checkpoint) / "config.json").read_text())
    within = GELU_TABLE if config["model_type"] == "gpt2" else EXACT
    ids = [config["bos_token_id"], *ask(checkpoint, {"encode": {"text": TEXT}})["tokens"]]
    peer = LlamaCpp(path)
    logs = [peer.logs(ids[: i + 1], config["vocab_size"]) for i in range(len(ids) - 1)]
    compare("llama.cpp", path, [peer.greedy(prompt) for prompt in PROMPTS], logs, ids, within)
    if rows:
        pairs = ((a, b) for row, theirs in zip(logs, rows) for a, b in zip(row, theirs))
        most = max(abs(a - b) for a, b in pairs)
        check(f"llama.cpp: ln p of every token, as transformers: {most:.1e} < {within}", most < within)


def gguf(checkpoint, work, rows):
    """Every kind of GGUF file that is exported: computed by llama.cpp, and by the bytes."""
    from gguf import GGMLQuantizationType as Type
    from gguf import GGUFReader, quants
    from safetensors.numpy import load_file

    files = {dtype: work / f"{dtype}.gguf" for dtype in ("f32", "f16", "bf16", "q8_0")}
    for dtype, path in files.items():
        anegpt("export", checkpoint, "--to", "gguf", "--dtype", dtype, "--out", path)
    read = {dtype: {t.name: t for t in GGUFReader(path).tensors} for dtype, path in files.items()}
    for dtype, kind in {"f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}.items():
        same = 0
        for name, tensor in read[dtype].items():
            if tensor.tensor_type != kind:
                continue
            theirs = quants.quantize(read["f32"][name].data, kind)
            if tensor.data.tobytes() != theirs.tobytes():
                sys.exit(f"FAILED: {dtype}: the bytes of {name} are not those of gguf.quants")
            same += 1
        check(f"{dtype}: the bytes of {same} matrices are those of gguf.quants", same > 6)
        anegpt("import", files[dtype], "--out", work / f"{dtype}-back")
        back = load_file(work / f"{dtype}-back" / "model.safetensors")
        embedding = back.get("wte.weight", back.get("model.embed_tokens.weight"))
        theirs = quants.dequantize(read[dtype]["token_embd.weight"].data, kind)
        check(f"{dtype}: read as gguf.quants does", (embedding == theirs).all())
        check(f"{dtype}: llama.cpp continues", len(LlamaCpp(files[dtype]).greedy(PROMPTS[0])) > 0)
    llama_cpp(files["f32"], checkpoint, rows)


def has(*modules):
    missing = [module for module in modules if not importlib.util.find_spec(module)]
    if missing:
        print(f"skipped: no {missing[0]} in this environment")
    return not missing


def main(checkpoints):
    global PROMPTS, TEXT
    for checkpoint in checkpoints:
        print(f"== {checkpoint}")
        own = json.loads((Path(checkpoint) / "config.json").read_text())["model_type"] == "anegpt"
        PROMPTS, TEXT = LONG if own else STORIES if "stories" in checkpoint else WORDS
        with tempfile.TemporaryDirectory() as scratch:
            work, rows = Path(scratch), None
            if own:
                if has("torch", "transformers"):
                    nanochat(checkpoint, work)
                continue
            if has("torch", "transformers"):
                rows = transformers(checkpoint, work)
                if checkpoint == checkpoints[0]:
                    from_transformers(work)
            if has("mlx_lm"):
                mlx(checkpoint)
            if has("xllamacpp", "gguf"):
                gguf(checkpoint, work, rows)


ANEGPT = sys.argv[1]
main(sys.argv[2:])
