"""Times training steps of nanochat's model and optimizer in PyTorch, under torch.compile.

The formulas are those of nanochat of July 2026: the model (value embeddings, smear, backout, sliding windows,
logits capped at 15) and an update by Muon for the matrices of the layers, stacked by shape, and AdamW for the
rest, always compiled. Prints one JSON object. Run by run.py; useful alone too.
"""

import json
import math

from timing import arguments, measure

import torch
import torch.nn as nn
import torch.nn.functional as F

HEAD = 128
COEFFICIENTS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def rms(x):
    return F.rms_norm(x, (x.size(-1),))


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), -1)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, width, heads, gated):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (linear(width, width) for _ in range(4))
        self.gate = linear(12, heads) if gated else None

    def forward(self, n, value, cos, sin, mask):
        b, t, c = n.shape
        q, k, v = (p(n).view(b, t, self.heads, HEAD) for p in (self.q, self.k, self.v))
        if value is not None:
            gate = 3 * torch.sigmoid(self.gate(n[..., :12]))
            v = v + gate.unsqueeze(-1) * value.view(b, t, self.heads, HEAD)
        q, k = (1.2 * rms(rotate(x, cos, sin)) for x in (q, k))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.o(y.transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, width, heads, gated):
        super().__init__()
        self.attention = Attention(width, heads, gated)
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

    def forward(self, z, value, cos, sin, mask):
        h = z + self.attention(rms(z), value, cos, sin, mask)
        return h + self.down(F.relu(self.up(rms(h))).square())


class Model(nn.Module):
    def __init__(self, depth, vocab, seq):
        super().__init__()
        heads = math.ceil(depth * 64 / HEAD)
        width, self.depth, self.vocab = heads * HEAD, depth, vocab
        padded = math.ceil(vocab / 64) * 64
        valued = [i % 2 == (depth - 1) % 2 for i in range(depth)]
        self.wte, self.head = nn.Embedding(padded, width), linear(width, padded)
        self.blocks = nn.ModuleList(Block(width, heads, v) for v in valued)
        self.values = nn.ModuleDict({str(i): nn.Embedding(padded, width) for i in range(depth) if valued[i]})
        self.resid = nn.Parameter(torch.tensor([1.15 - 0.1 * i / max(depth - 1, 1) for i in range(depth)]))
        self.x0 = nn.Parameter(torch.tensor([0.2 - 0.15 * i / max(depth - 1, 1) for i in range(depth)]))
        self.smear_gate = linear(24, 1)
        self.smear, self.backout = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.full((1,), 0.2))
        angle = torch.outer(torch.arange(seq), 100000.0 ** (-torch.arange(0, HEAD, 2) / HEAD))
        self.register_buffer("cos", angle.cos()[:, None, :])
        self.register_buffer("sin", angle.sin()[:, None, :])
        short = math.ceil(math.ceil(seq / 4) / 128) * 128
        distance = torch.arange(seq)[:, None] - torch.arange(seq)[None, :]
        self.register_buffer("mask", (distance >= 0) & (distance <= short))
        self.long = [i % 4 == 3 or i == depth - 1 or short >= seq for i in range(depth)]

    def forward(self, tokens, targets):
        u = rms(self.wte(tokens))
        gate = self.smear * torch.sigmoid(self.smear_gate(u[:, 1:, :24]))
        x = x0 = torch.cat((u[:, :1], u[:, 1:] + gate * u[:, :-1]), 1)
        for i, block in enumerate(self.blocks):
            value = self.values[str(i)](tokens) if str(i) in self.values else None
            z = self.resid[i] * x + self.x0[i] * x0
            x = block(z, value, self.cos, self.sin, None if self.long[i] else self.mask)
            if i == self.depth // 2:
                middle = x
        x = rms(x - self.backout * middle)
        logits = 15 * torch.tanh(self.head(x)[..., : self.vocab].float() / 15)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


@torch.compile(dynamic=False, fullgraph=True)
def adamw_step(p, g, m, v, t, lr, beta1, beta2, decay):
    p.mul_(1 - lr * decay)
    m.lerp_(g, 1 - beta1)
    v.lerp_(g.square(), 1 - beta2)
    p.sub_(lr / (1 - beta1**t) * m / ((v / (1 - beta2**t)).sqrt() + 1e-10))


@torch.compile(dynamic=False, fullgraph=True)
def muon_step(p, g, momentum, second, mu, lr, decay):
    """Updates matrices of one shape, stacked [count, out, in]."""
    rows, columns = p.shape[-2:]
    momentum.lerp_(g, 1 - mu)
    u = g.lerp(momentum, mu)
    x = u * (u.norm(dim=(-2, -1), keepdim=True) / rows**0.5) / u.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-6)
    for a, b, c in COEFFICIENTS:
        if rows > columns:
            gram = x.mT @ x
            x = a * x + x @ (b * gram + c * (gram @ gram))
        else:
            gram = x @ x.mT
            x = a * x + (b * gram + c * (gram @ gram)) @ x
    x = x * (min(rows, columns) ** 0.5 / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-6))
    line = -1 if rows >= columns else -2
    q = x.square().mean(dim=line, keepdim=True)
    second.lerp_(q, 0.1)
    s = second.clamp_min(1e-10).rsqrt()
    size = x.size(line)
    before = (size * q).sum(dim=(-2, -1), keepdim=True).sqrt()
    after = (size * q * s.square()).sum(dim=(-2, -1), keepdim=True).sqrt()
    x = x * s * (before / after.clamp_min(1e-10))
    rate = lr * max(1.0, rows / columns) ** 0.5
    p.sub_(rate * x + rate * decay * p * (x * p >= 0))


class MuonAdamW:
    """Nanochat's groups: `rules` of AdamW are (parameters, rate, betas, decay)."""

    def __init__(self, model):
        scale = (model.wte.embedding_dim / 768) ** -0.5
        values = list(model.values.parameters())
        self.rules = [
            ([model.head.weight], 0.008 * scale, (0.8, 0.96), 0.01),
            ([model.wte.weight], 0.3 * scale, (0.8, 0.995), 0.001),
            (values, 0.15 * scale, (0.8, 0.995), 0.01),
            ([model.resid], 0.005, (0.8, 0.95), 0.05),
            ([model.x0], 0.5, (0.96, 0.95), 0.0),
            ([model.smear_gate.weight, model.smear, model.backout], 0.2, (0.8, 0.95), 0.0),
        ]
        self.state = {p: (torch.zeros_like(p), torch.zeros_like(p)) for rule in self.rules for p in rule[0]}
        shapes = {}
        for p in model.blocks.parameters():
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.stacks = []
        for (rows, columns), group in sorted(shapes.items()):
            lines = (rows, 1) if rows >= columns else (1, columns)
            state = torch.zeros(len(group), rows, columns), torch.zeros(len(group), *lines)
            self.stacks.append((group, *state))
        self.t = 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        scalar = lambda x: torch.tensor(x, dtype=torch.float32)
        t = scalar(float(self.t))
        for group, lr, (beta1, beta2), decay in self.rules:
            for p in group:
                adamw_step(p, p.grad, *self.state[p], t, scalar(lr), scalar(beta1), scalar(beta2), scalar(decay))
        for group, momentum, second in self.stacks:
            stacked, grads = torch.stack(list(group)), torch.stack([p.grad for p in group])
            muon_step(stacked, grads, momentum, second, scalar(0.85), scalar(0.02), scalar(0.28))
            torch._foreach_copy_(group, list(stacked.unbind(0)))


def main():
    a = arguments(__doc__, "depth, vocab", seq=512)
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    geometry = json.loads(a.geometry)
    model = Model(geometry["depth"], geometry["vocab"], a.seq)
    optimizer = MuonAdamW(model)

    def update():
        optimizer.step()
        model.zero_grad(set_to_none=True)

    measure(a, geometry["vocab"], torch.compile(model, dynamic=False) if a.mode == "compile" else model, update)


main()
