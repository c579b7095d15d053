"""Text from a trained model: generation, losses and tokens.

A model runs in a process of its own, the program ``anegpt`` that comes with the package, which reads
the weights once and answers requests as lines of JSON (``anegpt pipe``). It ends with the object, or
with this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Deque, Dict, Iterator, List, Optional, Sequence, Tuple, Type, Union

#: A path as a string or an object.
PathLike = Union[str, "os.PathLike[str]"]


def command() -> Path:
    """Path of the program ``anegpt``: ANEGPT_COMMAND, else the one that comes with the package.

    Raises:
        RuntimeError: there is none.
    """
    named = os.environ.get("ANEGPT_COMMAND")
    place = Path(named) if named else Path(__file__).parent / "bin" / "anegpt"
    if not place.exists():
        raise RuntimeError(
            f"the program anegpt was not found ({place}): install the package with pip, or set "
            "ANEGPT_COMMAND to the program"
        )
    return place


class Generated(str):
    """A continuation: the text, without the prompt, and what it took."""

    #: Its tokens.
    tokens: Tuple[int, ...]
    #: Tokens of the prompt, with the one that begins a text if there is one.
    prompt_tokens: int
    #: Why it ended: ``end_of_text``, ``max_tokens``, ``context_full`` or ``stop_string``.
    finish_reason: str
    #: Seconds from the prompt's last token to the last one.
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Speed of generation, without reading the prompt."""
        return len(self.tokens) / self.seconds if self.seconds > 0 else 0.0


def _generated(text: str, done: Dict[str, Any]) -> Generated:
    result = Generated(text)
    result.tokens = tuple(done["tokens"])
    result.prompt_tokens = done["prompt_tokens"]
    result.finish_reason = done["finish_reason"]
    result.seconds = done["seconds"]
    return result


@dataclass(frozen=True)
class Loss:
    """The loss of a model on a text. ``float(loss)`` is :attr:`nats_per_token`."""

    #: Mean loss of the tokens that were predicted, in nats.
    nats_per_token: float
    #: The same in bits per byte of UTF-8, which does not depend on the tokenizer.
    bits_per_byte: float
    #: Loss of each token that was predicted, in nats: the negative logarithm of its probability.
    #: The text's first token is among them if the tokenizer has one that begins a text.
    tokens: Tuple[float, ...]
    #: Bytes of these tokens.
    bytes: int

    def __float__(self) -> float:
        return self.nats_per_token


class Model:
    """A trained model; :func:`load` makes one. As a context manager it ends its process.

    Methods may be called from several threads, which take turns. A process that was forked from this
    one cannot use it.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._unfinished: Optional["_Answer"] = None
        # In a session of its own, so that Ctrl-C in a terminal is this process's to handle.
        self._process = subprocess.Popen(
            [str(command()), "pipe", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _end, self._process, self._owner)
        try:
            ready = self._read()
        except BaseException:
            self._end()
            raise
        #: One line that says what it is: parameters, layers, widths.
        self.description: str = ready["model"]
        #: One line that says where it runs.
        self.device: str = ready["device"]
        #: Number of parameters.
        self.parameters: int = ready["parameters"]
        #: Tokens of its vocabulary.
        self.vocab_size: int = ready["vocab_size"]
        #: Most tokens that it reads at once.
        self.context: int = ready["context"]

    def generate(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 256,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 0.95,
        seed: int = 1,
        stop: Union[str, Sequence[str]] = (),
    ) -> Generated:
        """Continues a text and returns the continuation.

        Args:
            prompt: the text; an empty one begins a new text.
            max_tokens: longest continuation, in tokens.
            temperature: sampling temperature; 0 always takes the most likely token.
            top_k: sample from this many most likely tokens; 0 from all.
            top_p: sample from the most likely tokens that together have this probability.
            seed: the same seed gives the same text.
            stop: end before the first of these texts, which is not part of the continuation.

        Raises:
            ValueError: a setting is out of range, or the prompt cannot be continued.
            RuntimeError: the device fails.
        """
        answer = self._ask_to_generate(prompt, max_tokens, temperature, top_k, top_p, seed, stop)
        return _generated("".join(answer), answer.done())

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 256,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 0.95,
        seed: int = 1,
        stop: Union[str, Sequence[str]] = (),
    ) -> Iterator[str]:
        """Continues a text and yields it piece by piece, as soon as each is there.

        Args and errors are those of :meth:`generate`.
        """
        yield from self._ask_to_generate(prompt, max_tokens, temperature, top_k, top_p, seed, stop)

    def loss(self, text: str) -> Loss:
        """The loss of the model on a text.

        A text longer than the model reads is cut into pieces of :attr:`context` tokens (of 1024, where
        it reads more), each of which begins without memory of those before. ``anegpt eval`` does the
        same, and has options for other lengths.

        Raises:
            ValueError: the text has no token to be predicted, or cannot be encoded.
            RuntimeError: the device fails.
        """
        done = self._ask({"loss": {"text": text}}).done()
        return Loss(
            done["nats_per_token"], done["bits_per_byte"], tuple(done["losses"]), done["bytes"]
        )

    def encode(self, text: str) -> List[int]:
        """Tokens of a text, without one that begins it.

        Raises:
            ValueError: the text cannot be encoded.
        """
        tokens: List[int] = self._ask({"encode": {"text": text}}).done()["tokens"]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens.

        Raises:
            ValueError: a token is not of the vocabulary.
        """
        request = {"decode": {"tokens": [int(token) for token in tokens]}}
        text: str = self._ask(request).done()["text"]
        return text

    def close(self) -> None:
        """Ends the model's process."""
        self._end()

    def __enter__(self) -> "Model":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Model {self.description}>"

    def _ask_to_generate(
        self,
        prompt: str,
        max_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
        stop: Union[str, Sequence[str]],
    ) -> "_Answer":
        settings = {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "stop": [stop] if isinstance(stop, str) else list(stop),
        }
        return self._ask({"generate": settings})

    def _ask(self, request: Dict[str, Any]) -> "_Answer":
        """Sends a request; what was not yet read of the last answer is kept for whoever reads it."""
        with self._lock:
            if self._owner != os.getpid():
                raise RuntimeError(
                    "this process was forked from the one that loaded the model: load it here, or "
                    "give multiprocessing the start method `spawn`"
                )
            if not self._end.alive:
                raise RuntimeError("the model is closed")
            if self._unfinished is not None:
                self._unfinished.finish()
            try:
                stdin = _pipe(self._process.stdin)
                stdin.write(json.dumps(request).encode("utf-8") + b"\n")
                stdin.flush()
            except BrokenPipeError:
                raise RuntimeError(self._gone()) from None
            self._unfinished = _Answer(self)
            return self._unfinished

    def _read(self) -> Dict[str, Any]:
        """The next line of an answer."""
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError(self._gone())
        answer: Dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = ValueError if answer.get("kind") == "request" else RuntimeError
            raise kind(answer["error"])
        return answer

    def _gone(self) -> str:
        return f"the model's process has ended (exit code {self._process.wait()})"


class _Answer:
    """The pieces of an answer, and what ends it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._pieces: Deque[str] = deque()
        self._done: Optional[Dict[str, Any]] = None
        self._error: Optional[Exception] = None

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._model._lock:
                if not self._pieces and not self._ended():
                    self._advance()
                piece = self._pieces.popleft() if self._pieces else None
            if piece is not None:
                yield piece
            elif self._error is not None:
                raise self._error
            elif self._done is not None:
                return

    def done(self) -> Dict[str, Any]:
        """What ends the answer."""
        self.finish()
        if self._error is not None:
            raise self._error
        assert self._done is not None, "an answer ends with a result or an error"
        return self._done

    def finish(self) -> None:
        """Reads all that is left."""
        with self._model._lock:
            while not self._ended():
                self._advance()

    def _ended(self) -> bool:
        return self._done is not None or self._error is not None

    def _advance(self) -> None:
        try:
            line = self._model._read()
        except (ValueError, RuntimeError) as error:
            self._error = error
        else:
            if "text" in line:
                self._pieces.append(line["text"])
            else:
                self._done = line["done"]
        if self._ended():
            self._model._unfinished = None


def _pipe(end: Optional[IO[bytes]]) -> IO[bytes]:
    assert end is not None, "both ends were asked for"
    return end


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """Closes the pipes and ends the process, unless this is a fork of the one that started it."""
    if os.getpid() != owner:
        return
    for end in (process.stdin, process.stdout):
        if end is not None:
            try:
                end.close()
            except BrokenPipeError:
                pass
    process.terminate()
    process.wait()


def load(
    path: PathLike,
    *,
    tokenizer: Optional[PathLike] = None,
    device: Optional[str] = None,
    chip: Optional[str] = None,
    numerics: Optional[str] = None,
) -> Model:
    """Loads a model.

    Args:
        path: a directory that ``anegpt train`` wrote or a checkpoint in it, a directory in the layout
            of Hugging Face, a GGUF file, a llama2.c ``.bin`` file, or ``hf://organisation/name``.
        tokenizer: a tokenizer file, where the model comes without one.
        device: where to compute: ``auto``, ``ane``, ``emulator``, ``cpu``, … as for ``anegpt
            generate``, whose default it has.
        chip: the chip that the emulator is, ``m1`` … ``m6``.
        numerics: arithmetic of the emulator: ``f32``, ``fast`` or ``exact``.

    Raises:
        ValueError: there is no model at `path`, or it cannot be read.
        RuntimeError: there is no such device here.
    """
    arguments: List[str] = []
    options = [("tokenizer", tokenizer), ("device", device), ("chip", chip), ("numerics", numerics)]
    for name, value in options:
        if value is not None:
            arguments += [f"--{name}", os.fspath(value)]
    return Model([*arguments, "--", os.fspath(path)])
