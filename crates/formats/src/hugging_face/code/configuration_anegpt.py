"""The configuration of a model that `anegpt export --to hf-code` wrote."""

from transformers import PretrainedConfig


class AnegptConfig(PretrainedConfig):
    """A model's shape is the entry `anegpt`, which `anegpt` reads back. Other entries are transformers' own.

    The usual names of extents are views of the shape: they can be read and not changed, since the weights have them.
    """

    model_type = "anegpt"

    def __init__(self, anegpt=None, **kwargs):
        self.anegpt = dict(anegpt or {})
        # Where the classifier is the embedding, there is no second tensor to be tied to it.
        super().__init__(**{**kwargs, "tie_word_embeddings": False})

    @property
    def vocab_size(self):
        return self.anegpt["vocab_size"]

    @property
    def hidden_size(self):
        return self.anegpt["n_embd"]

    @property
    def intermediate_size(self):
        return self.anegpt["hidden"]

    @property
    def num_hidden_layers(self):
        return self.anegpt["n_layer"]

    @property
    def num_attention_heads(self):
        return self.anegpt["n_head"]

    @property
    def num_key_value_heads(self):
        return self.anegpt["n_kv_head"]

    @property
    def head_dim(self):
        return self.anegpt["head_dim"]

    @property
    def max_position_embeddings(self):
        return self.anegpt["seq_len"]

    def window(self, layer):
        """The tokens that a layer attends to, the token itself among them; 0 if to all."""
        windows = self.anegpt.get("windows") or [0]
        return windows[layer % len(windows)]

    def rotates(self, layer):
        """True if the layer rotates queries and keys."""
        return self.anegpt.get("rope_theta") is not None and layer not in self.anegpt.get("no_rope", [])

    def embeds_values(self, layer):
        """True if rows looked up by token are added to the layer's values: in every second one, the last among them."""
        shape = self.anegpt
        return shape["nanochat"]["value_embeds"] and (shape["n_layer"] - 1 - layer) % 2 == 0

    def rows(self):
        """Rows of the tables of tokens: the vocabulary, filled up to a multiple."""
        multiple = self.anegpt["nanochat"]["vocab_multiple"]
        return -(-self.vocab_size // multiple) * multiple
