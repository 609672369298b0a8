"""The frozen language model of Time-LLM: from a local directory, or a tiny random one. The extra `[llm]`."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from trading_bot.errors import CheckpointError, ConfigurationError

RANDOM = "random"  # in the place of a directory
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_FINGERPRINT = 64  # numbers of each weight
_PROBE = "<|start_prompt|>min -1.250, max 3.000, trend upward<|end_prompt|>"
_TINY = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024, "n_inner": 128}


def load_transformers() -> Any:
    """The library of language models.

    Raises
    ------
    ConfigurationError
        If it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigurationError(
            f"Time-LLM needs the library transformers, which is not installed ({error}); pip install "
            f"'trading-bot[llm]', or build it without a language model: llm='none' or llm='attention'"
        ) from None


class Backbone(nn.Module):
    """A language model that nothing trains: not among the parameters, always in evaluation mode, not in checkpoints.

    A checkpoint holds a fingerprint of it instead, so that weights fitted to one language model are not read with
    another.

    Parameters
    ----------
    network : of transformers, without a head
    encode : text → token numbers
    label : what logs and reports call it
    """

    fingerprint: torch.Tensor

    def __init__(self, network: Any, encode: Callable[[str], list[int]], label: str) -> None:
        super().__init__()
        self._network = (network.eval().requires_grad_(False),)  # in a tuple, PyTorch does not see it
        self.encode = encode
        self.label = label
        self.width = int(network.config.hidden_size)
        self.longest = int(getattr(network.config, "max_position_embeddings", 0)) or None
        self.register_buffer("fingerprint", _fingerprint(network, encode))

    @property
    def network(self) -> Any:
        """The language model itself."""
        return self._network[0]

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return len(self.network.get_input_embeddings().weight)

    def mixtures(self, weights: torch.Tensor) -> torch.Tensor:
        """Mixtures (N, width) of the embeddings of all tokens, with these weights (N, vocabulary); float32."""
        words: torch.Tensor = self.network.get_input_embeddings().weight
        return (weights.to(words.dtype) @ words).float()  # the weights are the smaller ones to convert

    def forward(self, prompts: Sequence[str], patches: torch.Tensor) -> torch.Tensor:
        """What the patches (B, P, width) become when they are read after their prompts: float32 (B, P, width).

        Shorter prompts are padded at their left and the padding is masked, so that all end where the patches begin.

        Raises
        ------
        ConfigurationError
            If a prompt and the patches are longer than what the language model can read.
        """
        numbers, mask = padded([self.encode(prompt) for prompt in prompts])
        count = patches.shape[1]
        if self.longest is not None and mask.shape[1] + count > self.longest:
            raise ConfigurationError(
                f"found a prompt of {mask.shape[1]} tokens and {count} patches; {self.label} reads at most "
                f"{self.longest}: shorten the description"
            )
        words = self.network.get_input_embeddings()(numbers.to(patches.device))  # (B, L, width)
        mask = torch.cat((mask, mask.new_ones(len(patches), count)), dim=1).to(patches.device)
        read = self.network(
            inputs_embeds=torch.cat((words, patches.to(words.dtype)), dim=1),
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),  # padding takes no place
            use_cache=False,
        ).last_hidden_state
        result: torch.Tensor = read[:, -count:].float()
        return result

    def check(self, fingerprint: torch.Tensor | None) -> None:
        """Refuse a checkpoint's fingerprint that is not this language model's; None is nothing to compare with.

        Raises
        ------
        CheckpointError
        """
        if fingerprint is not None and not torch.equal(fingerprint.cpu(), self.fingerprint.cpu()):
            raise CheckpointError(
                f"these weights were fitted to another language model than {self.label}; wanted the same: put back the "
                f"one they were trained with, or build the network with the llm_path and llm_layers of then"
            )

    def _apply(self, fn: Any, recurse: bool = True) -> Backbone:
        """Move to another device or precision, as PyTorch does with what it sees."""
        self.network._apply(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.check(state_dict.get(f"{prefix}fingerprint"))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def padded(tokens: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers (B, L) padded with 0 at their left, and the mask (B, L), 0 at the padding."""
    longest = max(map(len, tokens))
    numbers = torch.zeros(len(tokens), longest, dtype=torch.long)
    mask = torch.zeros(len(tokens), longest, dtype=torch.long)
    for row, each in enumerate(tokens):
        numbers[row, longest - len(each) :] = torch.tensor(each, dtype=torch.long)
        mask[row, longest - len(each) :] = 1
    return numbers, mask


def random_backbone(seed: int, layers: int) -> Backbone:
    """A tiny GPT-2 that was never trained and reads bytes; the same seed, the same weights.

    Raises
    ------
    ConfigurationError
        If transformers is not installed.
    """
    library = load_transformers()
    sizes = {**_TINY, "n_layer": min(layers, _TINY["n_layer"])}
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # numbers, even where only shapes are wanted
        torch.manual_seed(seed)
        network = library.GPT2Model(library.GPT2Config(vocab_size=256, bos_token_id=0, eos_token_id=0, **sizes))
    label = f"random GPT-2 (seed {seed}, {sizes['n_layer']} layers, never trained)"
    return Backbone(network, lambda text: list(text.encode("utf-8")), label)


def local_backbone(path: str, layers: int) -> Backbone:
    """The first layers of the language model in a directory; nothing is ever downloaded, and no code in it is run.

    Raises
    ------
    ConfigurationError
        If transformers is not installed, there is no such directory, or something is missing in it or cannot be read.
    """
    folder = Path(path).expanduser()
    _check_folder(folder)
    library = load_transformers()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = library.AutoConfig.from_pretrained(folder, **local)
        depth = int(config.num_hidden_layers)
        config.num_hidden_layers = min(layers, depth)
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        tokenizer = library.AutoTokenizer.from_pretrained(folder, **local)
        with _quiet(library), torch.device("cpu"):
            network, loaded = library.AutoModel.from_pretrained(
                folder, config=config, dtype="auto", use_safetensors=True, output_loading_info=True, **local
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigurationError(
            f"{folder} cannot be read as a language model ({error}); wanted a directory that transformers saved: copy "
            f"it again, whole"
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise ConfigurationError(
            f"{folder} lacks {len(missing)} weights of its language model, such as {missing[0]}; wanted all of them: "
            f"copy its *.safetensors again"
        )
    label = f"{folder.name} ({config.num_hidden_layers} of {depth} layers)"
    return Backbone(network, lambda text: list(tokenizer(text)["input_ids"]), label)


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without its bar and its list of the layers that were left out on purpose; what is missing is looked at here."""
    told = library.utils.logging
    level, bar = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity_error()
    told.disable_progress_bar()
    try:
        yield
    finally:
        told.set_verbosity(level)
        if bar:
            told.enable_progress_bar()


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigurationError(
            f"llm_path {str(folder)!r} is not a directory; wanted one with a language model that transformers saved "
            f"(nothing is downloaded), or {RANDOM!r} for one that was never trained"
        )
    missing = [
        what
        for what, there in (
            ("config.json", (folder / "config.json").is_file()),
            ("weights (*.safetensors)", any(folder.glob("*.safetensors"))),
            (f"a tokenizer ({' or '.join(_TOKENIZERS)})", any((folder / name).is_file() for name in _TOKENIZERS)),
        )
        if not there
    ]
    if missing:
        raise ConfigurationError(
            f"{folder} lacks {', '.join(missing)}; wanted a whole language model as transformers saves it: copy there "
            f"what is missing"
        )


def _fingerprint(network: nn.Module, encode: Callable[[str], list[int]]) -> torch.Tensor:
    """SHA-256 (32,) of the names and first numbers of all weights, and of how a prompt becomes tokens."""
    digest = hashlib.sha256(str([int(token) for token in encode(_PROBE)]).encode())
    for name, weight in network.named_parameters():
        first = weight.detach().flatten()[:_FINGERPRINT].float().cpu().numpy()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + first.astype(np.float32).tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8, device="cpu")
