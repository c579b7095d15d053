#!/usr/bin/env python3
"""Makes the files beside it: small tokenizers of other libraries, and what these libraries encode.

    pip install sentencepiece==0.2.3 tokenizers==0.23.3
    python make.py

Every case is the name of a file, whether names of markers count, a text, its ids and their text.
"""
import json, pathlib, unicodedata
import sentencepiece as spm
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXT = [
    "The lighthouse keeper lit the lamp each evening, and each morning he put it out again.",
    "One night the lamp wouldn't light; 23 ships were near, and the keeper's daughter ran down",
    "to the harbour with a lantern. \"Turn back!\" she called. \"Turn back, the rocks are here!\"",
    "Die Schiffe kehrten um, les bateaux aussi, и корабли тоже, 船も戻った。",
    "In the morning there were 23 ships in the harbour, and 230 sailors thanked her.",
    "for i in range(10):\n    print(i, i * 2)\n",
] * 3
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
OTHER = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
         r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
NANOCHAT = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         rf"|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = [
    "The keeper's lamp",
    " leading, trailing and  double  spaces ",
    "tabs\tand\r\nlines\n\n\n  end\n ",
    "WE'LL see: they're 12345 ships, 1 lamp!!! ...",
    "harbour harbourharbour theretherethere rangerangerange hehehe 232323",
    "naïve e\u0301 ÷ 漢字 🙂👩‍👧 и船",
    "<s> </s> <unk> <0x0A> <|end|><tool> x <wide> y",
    "▁ mark ▁▁",
    "",
    "HELLO you, Hello YOU and hello <Tool>s, <TOOL> <|END|>",
    "ΚΟΣΜΟΣ ΣΑΣ ΣΑΣ. İ",
    "a<tool>b a <tool> b <tool><tool>",
    "café cafe\u0301 CAFÉ",
    "a  b the    cat   <one two>  x <one  two>  ",
    "<tool>\n\n   indented\n\n\t\tmore   ",
    "漢 漢字 漢",
]


def byte_level(name, pre_tokenizer, normalizer=None, ignore_merges=False, template=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer, t.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer:
        t.normalizer = normalizer
    t.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=380, show_progress=False, special_tokens=["<|end|>"],
        initial_alphabet=pre.ByteLevel.alphabet()))
    t.add_tokens([AddedToken("<tool>", normalized=False),
                  AddedToken("<wide>", lstrip=True, rstrip=True, normalized=False)])
    if template:
        t.post_processor = template
    t.save(str(HERE / f"{name}.json"), pretty=False)


def by_hand(name, letters, merges, added, **parts):
    """A vocabulary of the letters and what the merges give, with added tokens."""
    options = {k: parts.pop(k) for k in ("unk_token", "fuse_unk", "ignore_merges") if k in parts}
    vocab = {c: i for i, c in enumerate(dict.fromkeys(letters))}
    for word in parts.pop("words", []) + ["".join(m) for m in merges]:
        vocab.setdefault(word, len(vocab))
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    t.decoder = decoders.Fuse()
    for key, value in parts.items():
        setattr(t, key, value)
    for token in added:
        (t.add_special_tokens if token.special else t.add_tokens)([token])
    t.save(str(HERE / f"{name}.json"), pretty=False)


def split(pattern):
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"),
                         pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def metaspace(name, pre_tokenizer, normalizer=None, bytes_too=True):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=bytes_too))
    if pre_tokenizer:
        t.pre_tokenizer = pre_tokenizer
    if normalizer:
        t.normalizer = normalizer
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                   decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"]
    raw = [f"<0x{b:02X}>" for b in range(256)] if bytes_too else []
    t.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=len(raw) + 150, show_progress=False, special_tokens=special + raw))
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if a["content"] in special]
    (HERE / f"{name}.json").write_text(json.dumps(data, ensure_ascii=False))


def pieces(name, **options):
    with open(HERE / f"{name}.model", "wb") as out:
        spm.SentencePieceTrainer.Train(
            sentence_iterator=iter(TEXT), model_writer=out, minloglevel=2,
            **{"normalization_rule_name": "identity", "hard_vocab_limit": False, **options})


byte_level("gpt2", pre.ByteLevel(add_prefix_space=False))
byte_level("gpt2_prefix", pre.ByteLevel(add_prefix_space=True))
byte_level("llama3", split(LLAMA3), ignore_merges=True, template=processors.Sequence([
    processors.ByteLevel(),
    processors.TemplateProcessing("<|end|> $A", "<|end|> $A $B", [("<|end|>", 0)])]))
byte_level("qwen", split(LLAMA3.replace("{1,3}", "")), normalizers.NFC())
byte_level("possessive", split(OTHER))
byte_level("digits", pre.Sequence([pre.Digits(individual_digits=True),
                                   pre.ByteLevel(add_prefix_space=False)]))
metaspace("llama2", None, normalizers.Sequence([normalizers.Prepend("▁"),
                                                normalizers.Replace(" ", "▁")]))
metaspace("metaspace_first", pre.Metaspace(prepend_scheme="first"))
metaspace("metaspace_unknown", pre.Metaspace(prepend_scheme="always", split=False), bytes_too=False)
ALL = "".join(TEXT + TEXTS)
ABC = "".join(dict.fromkeys(
    ALL + unicodedata.normalize("NFC", ALL) + "".join(c.lower() for c in ALL)))
byte_level("nanochat", split(NANOCHAT))
byte_level("o200k", split(O200K))
by_hand("added_lower", ABC + "▁", [("h", "e"), ("l", "l")],
        [AddedToken("Hello", normalized=True), AddedToken("<Tool>", normalized=True, rstrip=True),
         AddedToken("<|END|>", normalized=True, special=True), AddedToken("you", single_word=True)],
        normalizer=normalizers.Lowercase())
by_hand("added_prepend", ABC + "▁", [("▁", "a")],
        [AddedToken("<tool>", normalized=True), AddedToken("<wide>", normalized=True, lstrip=True)],
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))
by_hand("added_nfc", ABC + "é", [("f", "é")], [AddedToken("cafe\u0301", normalized=True)],
        normalizer=normalizers.NFC())
by_hand("added_metaspace", ABC + "▁", [("▁", "t")],
        [AddedToken("<tool>", normalized=True), AddedToken("Back!", normalized=True)],
        normalizer=normalizers.Lowercase(), pre_tokenizer=pre.Metaspace(prepend_scheme="first"))
# Merges reach neither "the" nor "lamp"; only whole words are taken.
by_hand("whole_words", ABC + "▁", [("t", "h")], [], words=["the", "▁lamp"], ignore_merges=True,
        pre_tokenizer=pre.Metaspace(prepend_scheme="always"))
by_hand("whole_words_bytes", sorted(pre.ByteLevel.alphabet()), [("t", "h")], [], words=["The", "Ġlamp"],
        ignore_merges=True, pre_tokenizer=pre.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel())
# Words are apart in the text, so unknown characters of two words are two.
by_hand("unknown_by_word", ["<unk>"] + [c for c in ABC if c not in "漢字"], [], [],
        unk_token="<unk>", fuse_unk=True, pre_tokenizer=pre.Metaspace(prepend_scheme="never"))
pieces("bpe_bytes", model_type="bpe", vocab_size=420, byte_fallback=True,
       remove_extra_whitespaces=False)
pieces("bpe_unknown", model_type="bpe", vocab_size=150, character_coverage=0.98)
pieces("bpe_user_defined", model_type="bpe", vocab_size=420, byte_fallback=True,
       remove_extra_whitespaces=False, user_defined_symbols=["keep", "▁23", "<wide>"])
pieces("bpe_spaces_defined", model_type="bpe", vocab_size=420, byte_fallback=True,
       user_defined_symbols=["  ", "<one two>", "<one  two>", "▁▁", "<tool>"])
pieces("unigram", model_type="unigram", vocab_size=180)
pieces("unigram_bytes", model_type="unigram", vocab_size=420, byte_fallback=True,
       remove_extra_whitespaces=False, user_defined_symbols=["keep"])
pieces("char", model_type="char", vocab_size=80, add_dummy_prefix=False)
pieces("unsupported_nmt_nfkc", model_type="bpe", vocab_size=150,
       normalization_rule_name="nmt_nfkc")

cases = []
for path in sorted(HERE.glob("*.json")):
    if path.name == "cases.json":
        continue
    t = Tokenizer.from_file(str(path))
    for special in (False, True):
        t.encode_special_tokens = not special
        all_ids = [t.encode(text, add_special_tokens=False).ids for text in TEXTS]
        cases += [[path.name, special, text, ids, t.decode(ids)]
                  for text, ids in zip(TEXTS, all_ids)]
for path in sorted(HERE.glob("*.model")):
    if not path.name.startswith("unsupported"):
        t = spm.SentencePieceProcessor(str(path))
        cases += [[path.name, False, text, t.encode(text), t.decode(t.encode(text))]
                  for text in TEXTS]
for path in sorted((HERE / "saved").glob("*.json")):  # what this project writes for a .model
    saved, model = Tokenizer.from_file(str(path)), HERE / f"{path.stem}.model"
    saved.encode_special_tokens = True
    original = spm.SentencePieceProcessor(str(model))
    for text in TEXTS + ["<tool>", "<0x0A>", "<wide><0x0A><wide>", "keep<s>keep", "keep keepkeep",
                         "▁23 a23 23▁23", "  <tool>  <tool>  ", "a   b    c     d", "<one  two>   x"]:
        if "unigram" in path.name and any(marker in text for marker in ("<s>", "<0x")):
            continue  # a unigram model there takes the name of a marker in a text for the marker
        ids, want = saved.encode(text, add_special_tokens=False).ids, original.encode(text)
        assert ids == want, (path.name, text, ids, want)
lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
(HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
