#!/usr/bin/env python3
"""Makes the files beside it: small tokenizers of other libraries, and what these libraries encode.

    pip install sentencepiece==0.2.3 tokenizers==0.23.3
    python make.py

Every case is the name of a file, whether names of markers count, a text and its ids.
"""
import json, pathlib
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
pieces("bpe_bytes", model_type="bpe", vocab_size=420, byte_fallback=True,
       remove_extra_whitespaces=False)
pieces("bpe_unknown", model_type="bpe", vocab_size=150, character_coverage=0.98)
pieces("bpe_user_defined", model_type="bpe", vocab_size=420, byte_fallback=True,
       remove_extra_whitespaces=False, user_defined_symbols=["keep", "▁23", "<wide>"])
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
        cases += [[path.name, special, text, t.encode(text, add_special_tokens=False).ids]
                  for text in TEXTS]
for path in sorted(HERE.glob("*.model")):
    if not path.name.startswith("unsupported"):
        t = spm.SentencePieceProcessor(str(path))
        cases += [[path.name, False, text, t.encode(text)] for text in TEXTS]
lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
(HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
