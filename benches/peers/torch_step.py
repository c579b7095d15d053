"""Times training steps of a Llama-style model in PyTorch: forward, backward, fused AdamW.

Prints one JSON object. Run by run.py; useful alone too.
"""

import json

from timing import arguments, measure

import torch
import torch.nn as nn
import torch.nn.functional as F


class RmsNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.gain


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Block(nn.Module):
    def __init__(self, dim, heads, hidden, qk_norm):
        super().__init__()
        self.heads = heads
        self.n1, self.n2 = RmsNorm(dim), RmsNorm(dim)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.w1, self.w3 = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
        self.w2 = nn.Linear(hidden, dim, bias=False)
        head = dim // heads
        self.nq, self.nk = (RmsNorm(head), RmsNorm(head)) if qk_norm else (None, None)

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        h = self.n1(x)
        q, k, v = (p(h).view(b, t, self.heads, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        if self.nq is not None:
            q, k = self.nq(q), self.nk(k)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
        h = self.n2(x)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


class Model(nn.Module):
    def __init__(self, dim, layers, heads, hidden, vocab, tied, qk_norm, seq):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, qk_norm) for _ in range(layers))
        self.norm, self.head = RmsNorm(dim), nn.Linear(dim, vocab, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        if tied:
            self.head.weight = self.embed.weight
        e = dim // heads
        angle = torch.outer(torch.arange(seq), 10000.0 ** (-torch.arange(0, e, 2) / e))
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, x, y):
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1), y.flatten())


def main():
    a = arguments(__doc__, "dim, layers, heads, hidden, vocab, tied, qk_norm", seq=256)
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    geometry = json.loads(a.geometry)
    model = Model(**geometry, seq=a.seq)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)

    def update():
        adam.step()
        adam.zero_grad(set_to_none=False)

    measure(a, geometry["vocab"], torch.compile(model) if a.mode == "compile" else model, update)


main()
