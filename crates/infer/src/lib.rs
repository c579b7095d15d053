//! Text generation: KV cache and sampler.
