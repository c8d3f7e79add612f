"""The facts of a run on which the estimate of its memory and time is based."""

from __future__ import annotations

from functools import partial

import numpy as np

from finetooth import machine
from finetooth.config.method_keys import RL_METHODS
from finetooth.config.task import TrainConfig
from finetooth.model import reward_head
from finetooth.model.activations import activation_bytes
from finetooth.model.api import Model
from finetooth.model.device import held_memory
from finetooth.model.generation.decode import LOGIT_NUMBERS
from finetooth.model.head import KEEP_NUMBERS, Head
from finetooth.runs.context import RunContext
from finetooth.training import checkpoint, schedule, selection
from finetooth.training.defaults import as_group
from finetooth.training.estimate import MemoryFacts, Workload, workload
from finetooth.training.model_memory import PROCESS
from finetooth.training.probe import Probe
from finetooth.tree import PrefixTree, Row

NO_LIMIT = 1 << 62


def probe_of(context: RunContext) -> Probe:
    """The probe of a run that is set up. Raises ConfigError where its training does not fit into memory."""
    task, device = context.task, context.model.device
    report = partial(context.console.print, highlight=False, soft_wrap=True)
    facts = memory_facts(context.model, task.train, _answer_bytes(context))
    work = _workload(context)
    return Probe(facts, work, task.train, task.model, device, context.path, report)


def _workload(context: RunContext) -> Workload:
    """The steps that are left. Sampled answers are taken to be as long as expected ones."""
    config, seed = context.task.train, context.training_seed
    units = schedule.group_by_unit(context.train_rows)
    if config.method in RL_METHODS:
        units = [list(as_group(row, config.group_size)) for row in context.train_rows]
    assert isinstance(config.batch_size, int) and isinstance(config.micro_tokens, int), "resolved"
    total = schedule.total_steps(len(units), config.batch_size, float(config.epochs), config.max_steps)
    done = max([0, *checkpoint.steps(context.path / "train" / "checkpoints")])
    return workload(units, config.batch_size, config.micro_tokens, seed, total, min(done, total - 1))


def memory_facts(model: Model, config: TrainConfig, answers: int) -> MemoryFacts:
    """What the memory of training this model depends on. answers: bytes of generation at a validation."""
    token, layer_token, input_token = activation_bytes(model)
    machine.release_free_memory()
    held, peak = held_memory(model.device)
    size = {name: weight.numel() * weight.element_size() for name, weight in model.hf.named_parameters()}
    weights, trained = sum(size.values()), sum(size[name] for name in model.named_trainable())
    optimizer, copies = 2 * trained, 0
    if config.optimizer == "muon":  # one moment for the matrices, two for the embeddings
        optimizer = trained + sum(size[name] for name in model.named_trainable() if "embed" in name)
    if config.method in RL_METHODS:
        copies = 2 * trained  # the start, and the current weights while it is measured
    head, kept_logits, head_gradient = 0.0, 0, 0
    if not reward_head.is_reward(model.hf):
        weight = Head.of(model.hf).linear.weight
        vocabulary, hidden = weight.shape
        head, kept_logits = 4.0 * 4 * hidden, NO_LIMIT  # a frozen head keeps vectors, a trained one logits
        if weight.requires_grad:
            head, kept_logits = 4.0 * vocabulary, 4 * KEEP_NUMBERS.get(model.device.type, 0)
            tied = weight is model.hf.get_input_embeddings().weight
            # Of tied embeddings the sum of both gradients is a new tensor.
            head_gradient = (2 if tied else 1) * weight.numel() * weight.element_size()
    return MemoryFacts(
        process=max(0, held - weights) if held else PROCESS,  # where the system does not tell
        peak=peak,
        weights=weights,
        trained=trained,
        optimizer=optimizer,
        copies=copies,
        token=token,
        layer_token=layer_token,
        input_token=input_token,
        checkpointing=config.checkpointing,
        head=head,
        kept_logits=kept_logits,
        head_gradient=head_gradient,
        adapter=model.peft is not None,
        preflight=config.preflight != "off",
        answers=answers,
    )


def _answer_bytes(context: RunContext) -> int:
    """Keys, values and logits of the longest generation: the answers of a validation, or the sampled ones."""
    model, config, length = context.model, context.task.train, context.task.evaluate.max_tokens
    assert isinstance(length, int), "the configuration is resolved"
    count = selection.MOST if config.select == "score" else selection.SHOWN
    contexts = [_context(row) for row in context.validation_rows[:count]]
    if config.method in RL_METHODS:
        assert isinstance(config.batch_size, int), "the configuration is resolved"
        contexts = [_context(row) for row in context.train_rows[: config.batch_size]] * config.group_size
    if config.method == "reward_model" or not contexts:
        return 0
    text = model.hf.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    slot = 2 * int(text.num_hidden_layers * heads * width) * model.dtype.itemsize
    slots = len(PrefixTree.build(contexts)) + len(contexts) * length
    return min(model.cache_bytes(), slots * slot) + 4 * LOGIT_NUMBERS


def _context(row: Row) -> Row:
    """The tokens before the first scored one."""
    start = int(np.flatnonzero(row.weight)[0]) if row.weight.any() else len(row)
    return Row(row.tokens[: max(1, start)], np.zeros(max(1, start)))
