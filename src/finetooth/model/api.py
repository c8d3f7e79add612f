"""`Model`: the one class through which everything in finetooth uses a local model.

Training is `logprobs` and backward; scoring is `logprobs`; answers are `generate` and `choose`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from finetooth.config.task import EMBEDDED
from finetooth.data.hub import model_directory
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model import capability, fused, head, load, lora, reward_head, rows, saving
from finetooth.model.attention.interface import AttentionPlan, TreeAttention
from finetooth.model.device import mixed_precision, named, on_device, resolve_device, resolve_dtype
from finetooth.model.generation import choose, generate, streaming
from finetooth.model.generation.choose import Choice
from finetooth.model.generation.decode import Decoder, Network, RowDecoder, TreeDecoder
from finetooth.model.generation.generate import GenerationStream
from finetooth.model.generation.sampling import check_sampling
from finetooth.model.head import Head
from finetooth.tree import Ints, PrefixTree, Row
from finetooth.types import Completion, Piece, Sampling

# Generation keeps keys and values of as many tokens as this memory holds, or half of the weights' if more.
KEYS_BYTES = 1 << 30
BACKENDS = ("auto", "dense", "segment", "flex", "rows")


class Model:
    """A causal language model, its tokenizer, and optionally a LoRA adapter.

    hf: the stock transformers model. peft: its PEFT wrapper when it has an adapter. attention: the back-end
    in use. dtype: what matrix products are computed in; master_weights: base weights are wider (see load).
    stop_ids: tokens that end an answer. max_tokens: longest row. notes: what was decided at load, in words.
    """

    def __init__(self, hf: Any, tokenizer: Tokenizer | None, attention: str, stop_ids: frozenset[int]):
        self.hf, self.tokenizer, self.attention, self.stop_ids = hf, tokenizer, attention, stop_ids
        self.peft: PeftModel | None = None
        self.dtype: torch.dtype = next(hf.parameters()).dtype
        self.master_weights = False
        self.name = ""
        self.fresh = False
        # The last layer computes only what is read (fused.py); `rows` takes several rows a call (rows.py).
        self.trimmed = self.padded = False
        self.speed = "stock"  # which modules are fused: a key of capability.VARIANTS
        self.notes: list[str] = []
        self.max_tokens = load.longest_row(hf.config)

    @classmethod
    def load(
        cls,
        name: str | Path,
        adapter: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        seed: int = 0,
        master_weights: bool = False,
        tokenizer: Tokenizer | None = None,
    ) -> Model:
        """Load a model by the embedded name, a local directory or a hub id.

        name: may also be a directory that holds a PEFT adapter; its base is then loaded first. A directory
        with config and tokenizer but no weights is initialised from `seed`. device: auto, cpu or cuda[:N].
        dtype: of matrix products: float32, float64 or bfloat16; auto is bfloat16 on CUDA and float32 on the
        CPU. Base weights are stored in it too, unless master_weights asks for float32 ones: what training
        them needs. Adapters are float32 always. attention: auto, dense, segment (CPU), flex (CUDA) or rows;
        auto takes the fastest that passes the capability proof. tokenizer: the directory's own, where it has
        been loaded already. Raises ModelError.
        """
        if attention not in BACKENDS:
            raise ModelError(f"attention {attention!r} is not known; choose one of {', '.join(BACKENDS)}.")
        if adapter is None and name not in EMBEDDED and (Path(name) / "adapter_config.json").is_file():
            name, adapter = lora.base_of(Path(name)), name
        directory = model_directory(str(name))
        where = resolve_device(device)
        computes = resolve_dtype(dtype, where)
        config = load.load_config(directory)
        tokenizer = tokenizer or Tokenizer.load(directory)
        stored = torch.float32 if master_weights and computes == torch.bfloat16 else computes
        hf, fresh = load.load_weights(directory, config, stored, seed)
        embedded = hf.get_input_embeddings().weight.shape[0]
        if tokenizer.backend.get_vocab_size(with_added_tokens=False) > embedded:
            raise ModelError(
                f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens but the model embeds only "
                f"{embedded}; they do not belong together."
            )
        stops = load.end_tokens(directory, config) | {tokenizer.eos_token_id}
        model = cls(hf.to(where), tokenizer, "rows", frozenset(stop for stop in stops if stop is not None))
        model.name, model.fresh, model.dtype, model.master_weights = (
            str(name),
            fresh,
            computes,
            stored != computes,
        )
        model.notes.append(f"{hf.num_parameters():,} parameters, {named(stored, computes)} on {where.type}")
        model.notes += [f"no weights in {directory}: initialised from seed {seed}"] * fresh
        model.notes += load.routing_note(config)
        load.disable_dropout(hf)
        model.choose_backend(attention)
        if adapter is not None:
            model._put_on(Path(adapter))
        return model.eval()

    @classmethod
    def wrap(cls, hf: Any, attention: str) -> Model:
        """A network without tokenizer: what the capability proof compares."""
        return cls(hf, None, attention, frozenset())

    def choose_backend(self, wanted: str) -> None:
        """Compute through the back-end that is wanted, or for auto the fastest proven one. ModelError."""
        backend = capability.proven_backend(self.hf, wanted, self.dtype, Model.wrap)
        self.set_backend(backend)
        self.notes += [backend.note] if backend.note else []

    def set_backend(self, backend: capability.Backend) -> None:
        """Compute through this back-end from now on."""
        self.attention, self.speed, self.padded = backend.attention, backend.speed, backend.padded
        self.trimmed = capability.prepare(self.hf, backend)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.hf.parameters()).device  # type: ignore[no-any-return]

    # Scores ------------------------------------------------------------------------------------------------

    def logprobs(self, tree: PrefixTree, temperature: float = 1.0) -> Tensor:
        """Log-probability of each scored token: [M], nats, float32, differentiable, in the rows' order.

        In a bfloat16 model logits are bfloat16 products, and their softmax is float32.
        """
        self._check(tree.token_N, int(tree.depth_N.max()))
        if not tree.node_M.size:
            return torch.zeros(0, device=self.device)
        if self.attention == "rows":
            return rows.logprobs(self._row_logits, tree, temperature, self.padded)
        at_K, read_M = np.unique(tree.parent_N[tree.node_M], return_inverse=True)
        hidden_KD = self._tree_hidden(tree, at_K)
        return self._scores(hidden_KD, read_M, tree.token_N[tree.node_M], temperature)

    def _scores(self, hidden_KD: Tensor, read_M: Ints, token_M: Ints, temperature: float = 1.0) -> Tensor:
        with mixed_precision(self.device, self.dtype if self.master_weights else torch.float32):
            return head.logprobs(Head.of(self.hf), hidden_KD, read_M, token_M, temperature)

    def hidden(self, tree: PrefixTree, nodes_K: Ints) -> Tensor:
        """Last hidden states at these nodes of the tree: [K, D], differentiable."""
        self._check(tree.token_N, int(tree.depth_N.max()))
        if self.attention == "rows":
            return rows.hidden(self._states, tree, nodes_K)
        return self._tree_hidden(tree, nodes_K)

    def scores(self, tree: PrefixTree) -> Tensor:
        """What a reward model takes each row to be worth, read at its last token: [R], at least float32,
        differentiable.
        """
        last_R = np.array([path[-1] for path in tree.path_R])
        node_K, at_R = np.unique(last_R, return_inverse=True)
        score_K = reward_head.read(self.hf, self.hidden(tree, node_K))
        return score_K.index_select(0, self._tensor(at_R))

    def _tree_hidden(self, tree: PrefixTree, nodes_K: Ints) -> Tensor:
        plan = TreeAttention(tree, self.attention, self.device, self.dtype)
        return self._trunk(tree.token_N, tree.depth_N, plan, nodes_K)

    def _trunk(self, token_N: Ints, depth_N: Ints, plan: AttentionPlan, nodes_K: Ints) -> Tensor:
        """Last hidden states at these of N tokens, whose attention is `plan`: [K, D]."""
        read_K = self._tensor(nodes_K)
        plan.read_K = read_K if self.trimmed else None
        with mixed_precision(self.device, self.dtype):
            out = self.hf.base_model(
                input_ids=self._tensor(token_N)[None],
                position_ids=self._tensor(depth_N)[None],
                use_cache=False,
                tree=plan,
            )
        hidden: Tensor = out.last_hidden_state[0].to(self.dtype)
        return hidden if self.trimmed else hidden.index_select(0, read_K)

    def _head(self, hidden_KD: Tensor) -> Tensor:
        with mixed_precision(self.device, self.dtype):
            return Head.of(self.hf).without_gradient(hidden_KD)

    def _next_logits(self, token_T: Ints) -> Tensor:
        return self._row_logits([token_T], np.array([token_T.size - 1]))[0, 0]

    def _row_logits(self, rows_B: Sequence[Ints], at_K: Ints) -> Tensor:
        """The stock forward of several rows, read at these positions: [B, K, V]."""
        with mixed_precision(self.device, self.dtype):
            return head.at_least_float32(rows.logits(self.hf, rows_B, at_K))

    def _states(self, token_T: Ints) -> Tensor:
        """The stock trunk of one row: [T, D]."""
        with mixed_precision(self.device, self.dtype):
            out = self.hf.base_model(input_ids=self._tensor(token_T)[None], use_cache=False)
        return out.last_hidden_state[0]  # type: ignore[no-any-return]

    # Answers -----------------------------------------------------------------------------------------------

    def generate(self, contexts: Sequence[Row], sampling: Sampling) -> Iterator[Completion]:
        """Answers to contexts, as they end (completion.row is the index of the context).

        Every completion carries the log-probabilities of its own tokens at the sampling temperature.
        """
        return (done for _, done in self._written(contexts, sampling) if done is not None)

    def stream(self, contexts: Sequence[Row], sampling: Sampling) -> Iterator[Piece]:
        """The same answers while they are written: pieces of text that no later token changes."""
        return streaming.stream(self._written(contexts, sampling), self.tokenizer, sampling.stop)

    def _written(self, contexts: Sequence[Row], sampling: Sampling) -> GenerationStream:
        check_sampling(sampling, self.tokenizer is not None)
        for row in contexts:
            self._check(row.tokens, len(row) - 1)
        answers = generate.pending_completions([row.tokens for row in contexts], sampling, self.max_tokens)
        slots = max((answer.room for answer in answers), default=1) - 1  # the last token is not gone on from
        decoder = self._decoder([contexts[answer.row].tokens for answer in answers], slots)
        decode = self.tokenizer.decode if self.tokenizer else lambda tokens: ""
        return generate.generate(decoder, answers, sampling, self.stop_ids, decode)

    def choose(self, contexts: Sequence[Row], options: Sequence[Sequence[int]]) -> Iterator[Choice]:
        """The most likely of the same options behind each context: exact, by best-first search."""
        trie = choose.build_trie(options)
        for row in contexts:
            self._check(row.tokens, len(row) + max(map(len, options)) - 2)
        decoder = self._decoder([row.tokens for row in contexts], choose.inner_nodes(trie), branching=True)
        return choose.choose(decoder, trie)

    def _decoder(self, contexts_R: Sequence[Ints], slots: int, branching: bool = False) -> Decoder:
        if self.attention == "rows":
            return RowDecoder(self._next_logits, contexts_R)
        weights = sum(weight.numel() * weight.element_size() for weight in self.hf.parameters())
        memory = max(KEYS_BYTES, weights // 2)
        vocabulary = self.hf.get_output_embeddings().weight.shape[0]
        network = Network(self._trunk, self._head, self._scores, vocabulary, self.device)
        return TreeDecoder(network, contexts_R, max(1, slots), memory, branching)

    # Weights -----------------------------------------------------------------------------------------------

    def add_lora(self, rank: int, seed: int) -> lora.Coverage:
        """Freeze the base and put LoRA adapters on all its linear layers; returns what they cover."""
        if self.peft is not None:
            raise ModelError("The model already has an adapter.")
        self.peft, coverage = lora.add_lora(self.hf, rank, seed)
        self._fuse_lora()
        self.notes.append(str(coverage))
        return coverage

    def _fuse_lora(self) -> None:
        if self.attention != "rows":  # rows is the specification: PEFT's own forward
            fused.fuse_lora(self.hf)

    def named_trainable(self) -> dict[str, torch.nn.Parameter]:
        """The weights that training changes, by name; tied weights once."""
        return {name: weight for name, weight in self.hf.named_parameters() if weight.requires_grad}

    def trainable(self) -> list[torch.nn.Parameter]:
        """The weights that training changes."""
        return list(self.named_trainable().values())

    def state(self) -> dict[str, Tensor]:
        """A copy of the trainable weights by name, on the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self.named_trainable().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put trainable weights back. ModelError when names or shapes differ."""
        weights = self.named_trainable()
        if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in state.items()}:
            raise ModelError("These weights belong to another model or adapter.")
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(state[name])

    def digest(self, adapter: bool = True) -> str:
        """Hex digest of all weights (without the adapter's): equal exactly for the same function."""
        return saving.digest(self.hf, adapter)

    def add_stop(self, token: int) -> None:
        """Make a token end answers; saved with the model."""
        self.stop_ids |= {token}

    def save(self, path: str | Path, chat_template: str | None = None) -> None:
        """Write the adapter in PEFT's format, or the whole model in Hugging Face's, with its tokenizer.

        chat_template: the jinja text that the model was trained with; it travels along.
        """
        saving.save(self.hf, self.peft, self.stop_ids, Path(path))
        if self.tokenizer is not None:
            self.tokenizer.save(Path(path), chat_template)

    def with_adapter(self, directory: str | Path) -> Model:
        """Another model: the base weights of this one, which it shares in memory, under a saved adapter.

        For frozen base weights, so for a model with an adapter of its own. Raises ModelError as load does.
        """
        assert self.peft is not None and not reward_head.is_reward(self.hf), (
            "the base must be frozen and bare"
        )
        hf = lora.bare_copy(self.peft)
        other = Model(hf, self.tokenizer, self.attention, self.stop_ids)
        other.name, other.fresh, other.dtype, other.master_weights = (
            self.name,
            self.fresh,
            self.dtype,
            self.master_weights,
        )
        other.set_backend(capability.Backend(self.attention, self.speed, self.padded))
        other._put_on(Path(directory))
        return other.eval()

    def _put_on(self, directory: Path) -> None:
        """Apply a saved adapter."""
        self.peft = lora.load_adapter(self.hf, directory)
        self._fuse_lora()
        self.stop_ids |= load.end_tokens(directory, self.hf.config)

    @contextmanager
    def without_adapter(self) -> Iterator[Model]:
        """The base model alone inside, where there is an adapter; it is on again afterwards."""
        with self.peft.disable_adapter() if self.peft is not None else nullcontext():
            yield self

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return bool(self.hf.training)

    def train(self, mode: bool = True) -> Model:
        """Training mode (dropout of the base stays 0)."""
        (self.peft or self.hf).train(mode)
        return self

    def eval(self) -> Model:
        """Evaluation mode."""
        return self.train(False)

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Evaluation mode inside, and afterwards the mode that it was in."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    # Helpers -----------------------------------------------------------------------------------------------

    def _tensor(self, values: Ints) -> Tensor:
        return on_device(values, self.device)

    def _check(self, token_N: Ints, depth: int) -> None:
        if depth >= self.max_tokens:
            row = f"A row of {depth + 1} tokens"
            raise ModelError(f"{row} is longer than the model's {self.max_tokens} positions.")
        vocabulary = self.hf.get_input_embeddings().weight.shape[0]
        if int(token_N.max()) >= vocabulary:
            found = f"Token id {int(token_N.max())}"
            raise ModelError(f"{found} is outside the model's vocabulary of {vocabulary}.")
