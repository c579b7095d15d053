"""nanochat's model for transformers, written by `anegpt export --to hf-code`.

    model = AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)

It has the parts that the model in this directory may have, each switched by an entry of `anegpt` in config.json.
With every part, for token t of a sequence and layers i = 0 … L − 1, where rms(x) = x / √(mean x² + ε):

    u_t    = rms(wte[token_t])
    x_t    = u_t + smear_lambda · sigmoid(smear_gate · u_t[:24]) · u_(t−1)           x_0 = u_0
    z      = resid_lambdas[i] · x + x0_lambdas[i] · (x before layer 0)
    h      = z + attention_i(rms(z))
    x      = h + c_proj · relu(c_fc · rms(h))²
    logits = cap · tanh(lm_head · rms(x − backout_lambda · (x after layer L div 2)) / cap)

    attention_i(n):   q, k, v = c_q · n, c_k · n, c_v · n
                      v      += scale · sigmoid(ve_gate · n[:12]) · value_embeds_i[token]    per head, in some layers
                      q, k    = s · rms(rotated(q)), s · rms(rotated(k))                     per head
                      c_proj · softmax(q · k / √(width of a head)) · v                       within the layer's window

Norms, gates, the classifier's cap and the loss are computed in float32, everything else in the type of the weights.
The cache of transformers holds keys and values. What it does not hold is the token before the first new one, which
smear needs: `generate` passes it, and your own loop over a cache must pass it too (`previous_ids`).

Tried with transformers 4.57 and 5.24. Not supported: `inputs_embeds` (value embeddings are looked up by token), a
static cache, new tokens in the vocabulary.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_anegpt import AnegptConfig

# Newer versions of transformers call the cache `cache`, older ones `past_key_values`.
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


def rms(x, eps):
    """x divided by its root mean square along the last axis."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def gate(weight, x):
    """sigmoid(W·x) of the first channels of x, as many as W reads."""
    return torch.sigmoid(F.linear(x[..., : weight.shape[1]].float(), weight.float()))


def rotate(x, angles):
    """Turns channel j of each head [batch, heads, tokens, width] with channel j + width / 2."""
    cos, sin = angles.cos(), angles.sin()
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        width, heads = config.hidden_size, config.num_attention_heads * config.head_dim
        groups = config.num_key_value_heads * config.head_dim
        self.c_q = nn.Linear(width, heads, bias=False)
        self.c_k = nn.Linear(width, groups, bias=False)
        self.c_v = nn.Linear(width, groups, bias=False)
        self.c_proj = nn.Linear(heads, width, bias=False)
        if config.embeds_values(layer):
            channels = config.anegpt["nanochat"]["gate_channels"]
            self.ve_gate = nn.Linear(channels, config.num_key_value_heads, bias=False)

    def forward(self, n, rows, angles, seen, cache):
        """n [batch, tokens, width]; rows: value embeddings [batch, tokens, groups · head], if the layer has them;
        seen: True where a token may attend, [1 or batch, 1, tokens, all tokens]."""
        config, parts = self.config, self.config.anegpt["nanochat"]
        eps = config.anegpt["norm_eps"]

        def heads(x):
            return x.unflatten(-1, (-1, config.head_dim))

        q, k, v = heads(self.c_q(n)), heads(self.c_k(n)), heads(self.c_v(n))
        if rows is not None:
            factor = parts["gate_scale"] * gate(self.ve_gate.weight, n)
            v = v + (factor.unsqueeze(-1) * heads(rows).float()).to(v.dtype)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if config.rotates(self.layer):
            q, k = rotate(q, angles), rotate(k, angles)
        if (scale := parts.get("qk_scale")) is not None:
            q, k = scale * rms(q, eps), scale * rms(k, eps)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        share = config.num_attention_heads // config.num_key_value_heads
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.c_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, n):
        return self.c_proj(self.c_fc(n).relu().square())


class Layer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.eps = config.anegpt["norm_eps"]
        self.attn = Attention(config, layer)
        self.mlp = FeedForward(config)

    def forward(self, z, rows, angles, seen, cache):
        h = z + self.attn(rms(z, self.eps), rows, angles, seen, cache)
        return h + self.mlp(rms(h, self.eps))


class AnegptForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = AnegptConfig
    _no_split_modules = ["Layer"]
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        parts, layers = config.anegpt["nanochat"], range(config.num_hidden_layers)
        rows, width = config.rows(), config.hidden_size
        groups = config.num_key_value_heads * config.head_dim
        blocks = nn.ModuleList(Layer(config, layer) for layer in layers)
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(rows, width), "h": blocks})
        tables = {str(layer): nn.Embedding(rows, groups) for layer in layers if config.embeds_values(layer)}
        self.value_embeds = nn.ModuleDict(tables)
        if not config.anegpt["tied"]:
            self.lm_head = nn.Linear(width, rows, bias=False)
        if parts["smear_channels"]:
            self.smear_gate = nn.Linear(parts["smear_channels"], 1, bias=False)
            self.smear_lambda = nn.Parameter(torch.zeros(1))
        if parts["residual_scales"]:
            self.resid_lambdas = nn.Parameter(torch.ones(len(layers)))
            self.x0_lambdas = nn.Parameter(torch.zeros(len(layers)))
        if parts["backout"]:
            self.backout_lambda = nn.Parameter(torch.zeros(1))
        self.post_init()

    def get_input_embeddings(self):
        return self.transformer["wte"]

    def resize_token_embeddings(self, *args, **kwargs):
        raise NotImplementedError("the vocabulary of a model that anegpt wrote cannot be changed here")

    def prepare_inputs_for_generation(self, input_ids, *args, **kwargs):
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        cached = input_ids.shape[1] - inputs["input_ids"].shape[1]
        if cached > 0:
            inputs["previous_ids"] = input_ids[:, cached - 1 : cached]
        return inputs

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        cache=None,
        past_key_values=None,
        previous_ids=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        inputs_embeds=None,
        return_dict=None,
        **ignored,
    ):
        """Logits [batch, tokens, vocabulary] in float32, of tokens `input_ids` that follow those in the cache.

        `attention_mask` [batch, all tokens] is 0 for padding. `previous_ids` [batch, 1] are the tokens before the first
        new ones, for a cache that is not empty. `labels` are shifted here; −100 is not counted.
        """
        if input_ids is None or inputs_embeds is not None:
            raise ValueError("this model needs input_ids, since it looks value embeddings up by token")
        cache = cache if cache is not None else past_key_values
        if cache is None and (use_cache or (use_cache is None and not self.training)):
            cache = DynamicCache()
        old, new = (cache.get_seq_length() if cache is not None else 0), input_ids.shape[1]
        if attention_mask is not None and tuple(attention_mask.shape[1:]) != (old + new,):
            raise ValueError(f"attention_mask must be [batch, {old + new}], not {list(attention_mask.shape)}")
        positions = self.positions(position_ids, attention_mask, old, input_ids)
        x = self.stream(input_ids, positions, cache, old, attention_mask, previous_ids)
        last = rms(x, self.config.anegpt["norm_eps"])
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.logits(last[:, keep])
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        output = CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache})
        return output.to_tuple() if return_dict is False else output

    def positions(self, given, attention_mask, old, input_ids):
        """The places of the new tokens in their sequences, [1 or batch, tokens]; padding before a sequence has none."""
        if given is not None:
            return given
        if attention_mask is not None:
            return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, old:]
        return torch.arange(old, old + input_ids.shape[1], device=input_ids.device)[None]

    def stream(self, ids, positions, cache, old, attention_mask, previous_ids):
        """The stream after the last layer, [batch, tokens, width]."""
        config, parts = self.config, self.config.anegpt["nanochat"]
        angles, seen = self.angles(positions), {}
        x = start = self.embed(ids, positions, old, previous_ids)
        middle = None
        for i, layer in enumerate(self.transformer["h"]):
            window = config.window(i)
            if window not in seen:
                seen[window] = self.seen(window, old, ids, attention_mask)
            if parts["residual_scales"]:
                x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * start
            rows = self.value_embeds[str(i)](ids) if config.embeds_values(i) else None
            x = layer(x, rows, angles, seen[window], cache)
            if i == config.num_hidden_layers // 2:
                middle = x
        return x - self.backout_lambda * middle if parts["backout"] else x

    def embed(self, ids, positions, old, previous_ids):
        """The first stream: rows of the tokens, each with a share of the one before it."""
        parts, eps = self.config.anegpt["nanochat"], self.config.anegpt["norm_eps"]

        def look_up(ids):
            rows = self.transformer["wte"](ids)
            return rms(rows, eps) if parts["embedding_norm"] else rows

        u = look_up(ids)
        if not parts["smear_channels"]:
            return u
        if old > 0 and previous_ids is None:
            raise ValueError("with a cache, this model also needs `previous_ids`, the token before the first new one")
        first = look_up(previous_ids) if old > 0 else torch.zeros_like(u[:, :1])
        before = torch.cat([first, u[:, :-1]], 1)
        share = self.smear_lambda.float() * gate(self.smear_gate.weight, u) * (positions > 0).unsqueeze(-1)
        return u + (share * before.float()).to(u.dtype)

    def angles(self, positions):
        """The angle of each pair of channels, [1 or batch, 1, tokens, width of a head / 2]; nanochat turns backwards."""
        theta, width = self.config.anegpt.get("rope_theta"), self.config.head_dim
        if theta is None:
            return None
        # Apple's GPUs have no float64.
        wide = torch.float32 if positions.device.type == "mps" else torch.float64
        pairs = torch.arange(0, width, 2, device=positions.device, dtype=wide)
        direction = -1.0 if self.config.anegpt["nanochat"]["rope_reversed"] else 1.0
        angles = direction * positions.to(wide).unsqueeze(-1) * theta ** (-pairs / width)
        return angles.float().unsqueeze(1)

    def seen(self, window, old, ids, attention_mask):
        """True where a new token (by row) attends to a token, [1 or batch, 1, tokens, all tokens]."""
        new = ids.shape[1]
        places = torch.arange(old + new, device=ids.device)
        back = places[old:, None] - places[None, :]
        seen = (back >= 0) & (back < window) if window else back >= 0
        if attention_mask is None:
            return seen[None, None]
        # Padding attends to itself, so that no row is empty.
        return (seen[None, None] & attention_mask[:, None, None, :].bool()) | (back == 0)

    def logits(self, x):
        """Logits [batch, tokens, vocabulary], without the rows that only fill the table up."""
        weight = self.transformer["wte"].weight if self.config.anegpt["tied"] else self.lm_head.weight
        logits = F.linear(x, weight[: self.config.vocab_size]).float()
        cap = self.config.anegpt["nanochat"].get("softcap")
        return logits if cap is None else cap * torch.tanh(logits / cap)
