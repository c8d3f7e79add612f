"""`Model`: the one class through which finetooth uses a local model.

Training is `logprobs` and a backward pass; scoring is `logprobs`; text comes from `generate` and `choose`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from finetooth import machine
from finetooth.config.named_models import is_named
from finetooth.data.cache import Say, silent
from finetooth.data.hub import model_directory
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model import capability, dequantise, fused, head, load, lora, reward_head, rows, saving
from finetooth.model.attention.interface import AttentionPlan, TreeAttention
from finetooth.model.device import (
    at_least_float32,
    describe_dtypes,
    mixed_precision,
    on_device,
    resolve_device,
    resolve_dtype,
)
from finetooth.model.generation import choose, generate, streaming
from finetooth.model.generation.choose import Choice, Wanted
from finetooth.model.generation.decode import Decoder, Network, RowDecoder, TreeDecoder
from finetooth.model.generation.generate import GenerationStream
from finetooth.model.generation.sampling import check_sampling
from finetooth.model.head import Head
from finetooth.tree import Ints, PrefixTree, Row
from finetooth.types import Completion, Piece, Sampling

# Memory for the KV cache of a generation: this many bytes, or half of what the weights take if that is more.
KEYS_BYTES = 1 << 30


class Model:
    """A causal language model, its tokenizer, and optionally a LoRA adapter.

    hf: the transformers model. peft: its PEFT wrapper if it has an adapter. attention: the back-end in use;
    variant: which of its modules are fused (a key of capability.VARIANTS); trimmed: the last layer computes
    only the tokens that are read (fused.py); padded: `rows` computes several rows a call (rows.py). dtype: of
    matrix products; master_weights: the base weights are float32 although products are bfloat16. stop_ids:
    tokens that end an answer. max_tokens: the longest row. notes: what `load` decided, one sentence each.
    """

    def __init__(self, hf: Any, tokenizer: Tokenizer | None, attention: str, stop_ids: frozenset[int]):
        self.hf, self.tokenizer, self.attention, self.stop_ids = hf, tokenizer, attention, stop_ids
        self._base_stop_ids = stop_ids  # without those of an adapter or a template
        self.peft: PeftModel | None = None
        self.dtype: torch.dtype = next(hf.parameters()).dtype
        self.name, self.fresh, self.master_weights = "", False, False
        self.variant, self.trimmed, self.padded = "stock", False, False
        self.notes: list[str] = []
        self.max_tokens = load.context_length(hf.config)

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
        say: Say = silent,
    ) -> Model:
        """Load a model by its name, a local directory, a GGUF file or a hub id. Raises ModelError.

        name: may also be a directory with a PEFT adapter, whose base is then loaded first. A directory with
        config and tokenizer but no weights is initialised at random from `seed`. device: auto, cpu or
        cuda[:N]. dtype: of matrix products: float32, float64 or bfloat16; auto is bfloat16 on CUDA, float32
        on the CPU. The base weights have the same dtype, unless master_weights keeps them in float32, as full
        fine-tuning needs. Adapters are always float32. attention: auto, dense, segment (CPU), flex (CUDA) or
        rows; auto is the fastest that passes the capability proof. tokenizer: the directory's own, if it has
        been loaded already. say: told before a GGUF file is
        dequantised, which is done once and takes a while.
        """
        machine.start_contention_monitor()
        if attention not in (known := ("auto", *capability.BACKENDS)):
            raise ModelError(f"attention {attention!r} is unknown; choose one of {', '.join(known)}.")
        if adapter is None and not is_named(name) and (Path(name) / "adapter_config.json").is_file():
            name, adapter = lora.base_of(Path(name)), name
        directory = model_directory(str(name), say=say)
        notes = dequantise.add_weights(directory, say)
        target = resolve_device(device)
        computed = resolve_dtype(dtype, target)
        config = load.load_config(directory)
        tokenizer = tokenizer or Tokenizer.load(directory)
        stored = torch.float32 if master_weights and computed == torch.bfloat16 else computed
        hf, fresh = load.load_weights(directory, config, stored, seed)
        embedded = hf.get_input_embeddings().weight.shape[0]
        if tokenizer.backend.get_vocab_size(with_added_tokens=False) > embedded:
            raise ModelError(
                f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens but the model embeds only "
                f"{embedded}; they do not belong together."
            )
        stops = load.end_tokens(directory, config) | {tokenizer.eos_token_id}
        model = cls(hf.to(target), tokenizer, "rows", frozenset(stop for stop in stops if stop is not None))
        model.name, model.fresh = str(name), fresh
        model.dtype, model.master_weights = computed, stored != computed
        model.notes += notes
        model.notes.append(
            f"{hf.num_parameters():,} parameters, {describe_dtypes(stored, computed)} on {target.type}"
        )
        if fresh:
            model.notes.append(f"no weights in {directory}: initialised from seed {seed}")
        if load.has_experts(config):
            model.notes.append(
                "experts: the router's load-balancing loss is not part of the loss (see docs/models.md)"
            )
        load.disable_dropout(hf)
        model.choose_backend(attention)
        if adapter is not None:
            model._apply_adapter(Path(adapter))
        return model.eval()

    @classmethod
    def wrap(cls, hf: Any, attention: str) -> Model:
        """A model without a tokenizer, as the capability proof compares them."""
        return cls(hf, None, attention, frozenset())

    def choose_backend(self, requested: str) -> None:
        """Use the requested back-end, or for auto the fastest proven one. Raises ModelError."""
        backend = capability.proven_backend(self.hf, requested, self.dtype, Model.wrap)
        self.set_backend(backend)
        self.notes += [backend.note] if backend.note else []

    def set_backend(self, backend: capability.Backend) -> None:
        """Use this back-end from now on."""
        self.attention, self.variant, self.padded = backend.attention, backend.variant, backend.padded
        self.trimmed = capability.install_backend(self.hf, backend)

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.hf.parameters()).device  # type: ignore[no-any-return]

    # Scores ------------------------------------------------------------------------------------------------

    def logprobs(self, tree: PrefixTree, temperature: float = 1.0) -> Tensor:
        """Log-probability of each scored token: [M], nats, float32, differentiable, in the rows' order.

        A bfloat16 model computes logits in bfloat16 and their softmax in float32.
        """
        self._check(tree.token_N, int(tree.depth_N.max()))
        if not tree.node_M.size:
            return torch.zeros(0, device=self.device)
        if self.attention == "rows":
            return rows.logprobs(self._row_logits, tree, temperature, self.padded)
        node_K, read_M = np.unique(tree.parent_N[tree.node_M], return_inverse=True)
        hidden_KD = self.hidden(tree, node_K)
        return self._head_logprobs(hidden_KD, read_M, tree.token_N[tree.node_M], temperature)

    def _head_logprobs(
        self, hidden_KD: Tensor, read_M: Ints, token_M: Ints, temperature: float = 1.0
    ) -> Tensor:
        with mixed_precision(self.device, self.dtype if self.master_weights else torch.float32):
            return head.logprobs(Head.of(self.hf), hidden_KD, read_M, token_M, temperature)

    def hidden(self, tree: PrefixTree, nodes_K: Ints) -> Tensor:
        """Last hidden states at these nodes of the tree: [K, D], differentiable."""
        self._check(tree.token_N, int(tree.depth_N.max()))
        if self.attention != "rows":
            plan = TreeAttention(tree, self.attention, self.device, self.dtype)
            return self._trunk(tree.token_N, tree.depth_N, plan, nodes_K)

        def stock(token_T: Ints) -> Tensor:
            with mixed_precision(self.device, self.dtype):
                out = self.hf.base_model(input_ids=self._tensor(token_T)[None], use_cache=False)
            return out.last_hidden_state[0]  # type: ignore[no-any-return]

        return rows.hidden(stock, tree, nodes_K)

    def scores(self, tree: PrefixTree) -> Tensor:
        """A reward model's score of each row, read at its last token: [R], float32 or float64,
        differentiable.
        """
        last_R = np.array([path[-1] for path in tree.path_R])
        node_K, index_R = np.unique(last_R, return_inverse=True)
        score_K = reward_head.read(self.hf, self.hidden(tree, node_K))
        return score_K.index_select(0, self._tensor(index_R))

    def _trunk(self, token_N: Ints, depth_N: Ints, plan: AttentionPlan, nodes_K: Ints) -> Tensor:
        """Last hidden states at nodes_K of N tokens, with the attention of `plan`: [K, D]."""
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

    def _row_logits(self, rows_B: Sequence[Ints], at_K: Ints) -> Tensor:
        """Logits of several rows at positions at_K, by the stock forward: [B, K, V]."""
        with mixed_precision(self.device, self.dtype):
            return at_least_float32(rows.logits(self.hf, rows_B, at_K))

    # Generation --------------------------------------------------------------------------------------------

    def generate(self, contexts: Sequence[Row], sampling: Sampling) -> Iterator[Completion]:
        """Completions of contexts, in the order in which they finish (completion.row: index of the context).

        Every completion carries the log-probabilities of its own tokens at the sampling temperature.
        """
        return (done for _, done in self._generated(contexts, sampling) if done is not None)

    def stream(self, contexts: Sequence[Row], sampling: Sampling) -> Iterator[Piece]:
        """The same completions while they are generated, as pieces of text that no later token changes."""
        return streaming.stream(self._generated(contexts, sampling), self.tokenizer, sampling.stop)

    def _generated(self, contexts: Sequence[Row], sampling: Sampling) -> GenerationStream:
        check_sampling(sampling, self.tokenizer is not None)
        for row in contexts:
            self._check(row.tokens, len(row) - 1)
        pending = generate.pending_completions([row.tokens for row in contexts], sampling, self.max_tokens)
        slots = max((answer.max_tokens for answer in pending), default=1) - 1  # nothing follows the last
        decoder = self._decoder([contexts[answer.row].tokens for answer in pending], slots)
        decode = self.tokenizer.decode if self.tokenizer else lambda tokens: ""
        return generate.generate(decoder, pending, sampling, self.stop_ids, decode)

    def choose(
        self,
        contexts: Sequence[Row],
        options: Sequence[Sequence[int]],
        shares: bool = False,
        temperature: float = 1.0,
        distribution: bool = False,
    ) -> Iterator[Choice]:
        """The most likely of the options after each context: exact, by best-first search.

        shares: also its probability among the options at this temperature, to 1e-4. distribution: also the
        exact log-probabilities of all options. Each takes longer than the one before.
        """
        trie = choose.build_trie(options)
        for row in contexts:
            self._check(row.tokens, len(row) + max(map(len, options)) - 2)
        decoder = self._decoder([row.tokens for row in contexts], choose.inner_nodes(trie), branching=True)
        wanted: Wanted = "all" if distribution else "share" if shares else "best"
        return choose.choose(decoder, trie, wanted, temperature)

    def _decoder(self, contexts_R: Sequence[Ints], slots: int, branching: bool = False) -> Decoder:
        if self.attention == "rows":
            return RowDecoder(lambda ids: self._row_logits([ids], np.array([ids.size - 1]))[0, 0], contexts_R)

        def logits(hidden_KD: Tensor) -> Tensor:
            with mixed_precision(self.device, self.dtype):
                return Head.of(self.hf).without_gradient(hidden_KD)

        vocabulary = self.hf.get_output_embeddings().weight.shape[0]
        network = Network(self._trunk, logits, self._head_logprobs, vocabulary, self.device)
        return TreeDecoder(network, contexts_R, max(1, slots), self.cache_bytes(), branching)

    def cache_bytes(self) -> int:
        """The most bytes that the keys and values of one generation take."""
        weights: int = sum(weight.numel() * weight.element_size() for weight in self.hf.parameters())
        return max(KEYS_BYTES, weights // 2)

    # Weights -----------------------------------------------------------------------------------------------

    def add_lora(self, rank: int, seed: int) -> lora.Coverage:
        """Freeze the base and put LoRA adapters on all its linear layers; returns what they cover.

        Raises ModelError when there is an adapter already, or a linear layer that LoRA cannot adapt.
        """
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
        """The trainable weights by name; tied weights once."""
        return {name: weight for name, weight in self.hf.named_parameters() if weight.requires_grad}

    def trainable(self) -> list[torch.nn.Parameter]:
        """The trainable weights."""
        return list(self.named_trainable().values())

    def state(self) -> dict[str, Tensor]:
        """A copy of the trainable weights by name, on the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self.named_trainable().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore trainable weights. Raises ModelError when names or shapes differ."""
        weights = self.named_trainable()
        if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in state.items()}:
            raise ModelError("These weights belong to another model or adapter.")
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(state[name])

    def digest(self, adapter: bool = True) -> str:
        """Hex digest of all weights, or of all but the adapter's. Equal weights have equal digests."""
        return saving.digest(self.hf, adapter)

    def add_stop(self, token: int) -> None:
        """Let this token end answers too; it is saved with the model."""
        self.stop_ids |= {token}

    def save(self, path: str | Path, chat_template: str | None = None) -> None:
        """Write the adapter in PEFT's format, or the whole model in Hugging Face's, with its tokenizer.

        chat_template: the jinja text that the model was trained with; saved as the tokenizer's.
        """
        saving.save(self.hf, self.peft, self.stop_ids, Path(path))
        if self.tokenizer is not None:
            self.tokenizer.save(Path(path), chat_template)

    def with_adapter(self, directory: str | Path) -> Model:
        """Another model with a saved adapter, which shares the base weights of this one in memory.

        Equals `load(base, adapter=directory)`. For models with an adapter of their own, whose base is frozen,
        and not for reward models. Raises ModelError as `load` does.
        """
        assert self.peft is not None and not reward_head.is_reward(self.hf), "the base must be frozen"
        other = Model(lora.shared_base(self.peft), self.tokenizer, self.attention, self._base_stop_ids)
        other.name, other.fresh = self.name, self.fresh
        other.dtype, other.master_weights = self.dtype, self.master_weights
        other.set_backend(capability.Backend(self.attention, self.variant, self.padded))
        other._apply_adapter(Path(directory))
        return other.eval()

    def _apply_adapter(self, directory: Path) -> None:
        self.peft = lora.load_adapter(self.hf, directory)
        self._fuse_lora()
        self.stop_ids |= load.end_tokens(directory, self.hf.config)

    @contextmanager
    def without_adapter(self) -> Iterator[Model]:
        """This model with its adapter disabled, if it has one; enabled again on exit, trainable as before."""
        if self.peft is None:
            yield self
            return
        trainable = {id(weight) for weight in self.trainable()}
        try:
            with self.peft.disable_adapter():
                yield self
        finally:  # PEFT makes every weight of an adapter that it enables trainable
            for weight in self.hf.parameters():
                weight.requires_grad_(id(weight) in trainable)

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return bool(self.hf.training)

    def train(self, mode: bool = True) -> Model:
        """Training mode; the base's dropout stays 0."""
        (self.peft or self.hf).train(mode)
        return self

    def eval(self) -> Model:
        """Evaluation mode."""
        return self.train(False)

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Evaluation mode in this context; on exit the mode that the model was in."""
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
        """Raise ModelError for a position (from 0) or a token id that the model does not have."""
        if depth >= self.max_tokens:
            raise ModelError(
                f"A row of {depth + 1} tokens is longer than the model's {self.max_tokens} positions."
            )
        vocabulary = self.hf.get_input_embeddings().weight.shape[0]
        if int(token_N.max()) >= vocabulary:
            raise ModelError(
                f"Token id {int(token_N.max())} is outside the model's vocabulary of {vocabulary}."
            )
