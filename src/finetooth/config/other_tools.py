"""What other tools call our keys: for the message about an unknown key, and for docs/migration.md.

One table says what a name means here. A name is known under every tool with the same meaning.
"""

from __future__ import annotations

from typing import NamedTuple


class Here(NamedTuple):
    """The key that a name stands for, '' when there is none, and what to know about it."""

    key: str
    note: str = ""


AT_ONCE = "train.micro_tokens says how much is computed at once"
ROWS = f"rows per optimizer step; {AT_ONCE}"
FROM_DATA = "the format of the rows decides"
PRECISION = "the type of the weights follows from the device"
PACKING = "rows are never padded, so there is nothing to pack"
ATTENTION = "the fastest attention that passes a proof is taken"
BEST = "the weights that do best on the validation rows are kept"
FULL = "bases are not quantised"
ADAM = "AdamW's usual values"

KEY_MAPPINGS: dict[str, Here] = {
    "sentinel": Here(
        "train.preflight", "its earlier name here; in a run directory also train/preflight.json"
    ),
    # where things are
    "model_name_or_path": Here("model"),
    "base_model": Here("model"),
    "model_type": Here("", "the model's config.json says it"),
    "tokenizer_type": Here("", "the model's directory brings its tokenizer"),
    "trust_remote_code": Here("", "code that comes with a model is never run"),
    "adapter_name_or_path": Here("start", "a run; training goes on with its adapter"),
    "resume_from_checkpoint": Here("", "the same command with the same --out goes on where it stopped"),
    "output_dir": Here("", "it is the flag --out"),
    "overwrite_output_dir": Here("", "nothing is overwritten; give another --out"),
    "run_name": Here("name"),
    "push_to_hub": Here("", "nothing is uploaded"),
    "hub_model_id": Here("", "nothing is uploaded"),
    # data
    "dataset": Here("data.train", "a path, directory, glob, hub id or a list"),
    "datasets": Here("data.train", "a path, directory, glob, hub id or a list; weights with {path, weight}"),
    "dataset_name": Here("data.train"),
    "dataset_dir": Here("data.train", "paths are relative to the task file"),
    "dataset_train_split": Here("data.train", "the file of that split"),
    "dataset_test_split": Here("data.test", "the file of that split"),
    "dataset_prepared_path": Here("", "a run keeps its rows in its own directory"),
    "eval_dataset": Here("data.validation"),
    "test_datasets": Here("data.validation", "what is looked at in training; data.test is sealed"),
    "val_size": Here("data.validation"),
    "val_set_size": Here("data.validation"),
    "max_samples": Here("", "bring fewer rows, or set train.max_steps"),
    "max_length": Here("data.max_tokens", "nothing is cut unless data.overlong says so"),
    "max_seq_length": Here("data.max_tokens", "nothing is cut unless data.overlong says so"),
    "cutoff_len": Here("data.max_tokens", "nothing is cut unless data.overlong says so"),
    "sequence_len": Here("data.max_tokens", "nothing is cut unless data.overlong says so"),
    "dataset_text_field": Here("data.columns", "as in {body: text}"),
    "remove_unused_columns": Here("", "further columns are kept as tags"),
    "preprocessing_num_workers": Here("", "rows are rendered once, in one process"),
    "dataset_num_proc": Here("", "rows are rendered once, in one process"),
    "dataloader_num_workers": Here("", "rows are rendered once, before training"),
    "group_by_length": Here("", PACKING),
    "packing": Here("", PACKING),
    "neat_packing": Here("", PACKING),
    "sample_packing": Here("", PACKING),
    "eval_sample_packing": Here("", PACKING),
    "pad_to_sequence_len": Here("", PACKING),
    # rendering, and what is learned
    "chat_template": Here("template"),
    "chat_template_path": Here("template", "a .jinja file"),
    "system_prompt": Here("instruction"),
    "default_system": Here("instruction"),
    "special_tokens": Here("", "the tokenizer's own are used"),
    "train_on_inputs": Here("", "only answers are learned; of plain text, all of it"),
    "train_on_prompt": Here("", "only answers are learned; of plain text, all of it"),
    "completion_only_loss": Here("", "only answers are learned; of plain text, all of it"),
    "assistant_only_loss": Here("", "only answers are learned; of plain text, all of it"),
    "mask_history": Here("", "every answer of a conversation is learned but those with `weight: 0`"),
    "roles_to_train": Here("", "the assistant's turns are learned; `weight: 0` on a message leaves one out"),
    "train_on_eos": Here("", "the stop token of an answer is always learned"),
    # training
    "stage": Here("train.method"),
    "rl": Here("train.method"),
    "num_train_epochs": Here("train.epochs"),
    "num_epochs": Here("train.epochs"),
    "max_steps": Here("train.max_steps"),
    "per_device_train_batch_size": Here("train.batch_size", ROWS),
    "micro_batch_size": Here("train.batch_size", ROWS),
    "gradient_accumulation_steps": Here("train.batch_size", ROWS),
    "per_device_eval_batch_size": Here("", AT_ONCE),
    "eval_batch_size": Here("", AT_ONCE),
    "learning_rate": Here("train.learning_rate"),
    "lr": Here("train.learning_rate"),
    "lr_scheduler_type": Here("train.schedule"),
    "lr_scheduler": Here("train.schedule"),
    "warmup_ratio": Here("train.warmup"),
    "warmup_steps": Here("train.warmup", "a share of the steps"),
    "weight_decay": Here("train.weight_decay"),
    "max_grad_norm": Here("train.max_grad_norm"),
    "max_norm": Here("train.max_grad_norm"),
    "optim": Here("train.optimizer"),
    "optimizer": Here("train.optimizer"),
    "adam_beta1": Here("", ADAM),
    "adam_beta2": Here("", ADAM),
    "adam_epsilon": Here("", ADAM),
    "label_smoothing_factor": Here("", "the loss is the plain negative log-likelihood"),
    "neftune_noise_alpha": Here("", "no noise is added to embeddings"),
    "finetuning_type": Here("train.adapter", "`full` is none"),
    "adapter": Here("train.adapter", "of the whole model: none"),
    "use_peft": Here("train.adapter"),
    "lora_r": Here("train.rank"),
    "lora_rank": Here("train.rank"),
    "r": Here("train.rank"),
    "lora_alpha": Here("", "it is 32, so that the best learning rate hardly depends on the rank"),
    "lora_dropout": Here("", "it is 0: dropout is off in training, and early stopping takes its place"),
    "lora_target_modules": Here("", "adapters are on all linear layers"),
    "lora_target_linear": Here("", "adapters are on all linear layers"),
    "lora_target": Here("", "adapters are on all linear layers"),
    "load_in_4bit": Here("", FULL),
    "load_in_8bit": Here("", FULL),
    "quantization_bit": Here("", FULL),
    "bf16": Here("", PRECISION),
    "fp16": Here("", PRECISION),
    "tf32": Here("", PRECISION),
    "dtype": Here("", PRECISION),
    "torch_dtype": Here("", PRECISION),
    "attn_implementation": Here("", ATTENTION),
    "flash_attn": Here("", ATTENTION),
    "flash_attention": Here("", ATTENTION),
    "xformers_attention": Here("", ATTENTION),
    "torch_compile": Here("", "what pays is compiled already"),
    "deepspeed": Here("", "training is on one device"),
    "fsdp": Here("", "training is on one device"),
    # while it trains, and afterwards
    "eval_strategy": Here("train.validate_every", "in steps"),
    "eval_steps": Here("train.validate_every"),
    "evals_per_epoch": Here("train.validate_every", "in steps"),
    "save_strategy": Here("train.save_every", "in steps"),
    "save_steps": Here("train.save_every"),
    "saves_per_epoch": Here("train.save_every", "in steps"),
    "save_total_limit": Here("", "only the last checkpoint and the best weights are kept"),
    "logging_steps": Here("train.log_every"),
    "load_best_model_at_end": Here("", BEST),
    "metric_for_best_model": Here("train.select"),
    "report_to": Here("train.track"),
    "wandb_project": Here("train.track", "`[wandb]`; the project is called finetooth"),
    "gradient_checkpointing": Here("train.checkpointing"),
    "early_stopping_patience": Here("train.patience"),
    "plot_loss": Here("", "every run has a page with its curves"),
    "do_train": Here("", "the verb says it: finetooth train"),
    "do_eval": Here("", "the verb says it: finetooth evaluate"),
    "predict_with_generate": Here("", "answers are always generated and graded: evaluate.grader"),
    "max_new_tokens": Here("evaluate.max_tokens"),
    "seed": Here("seed"),
    "data_seed": Here("seed"),
}

TOOLS: dict[str, str] = {
    "TrainingArguments": """output_dir num_train_epochs max_steps per_device_train_batch_size
        gradient_accumulation_steps per_device_eval_batch_size learning_rate lr_scheduler_type warmup_ratio
        warmup_steps weight_decay max_grad_norm optim adam_beta1 adam_beta2 adam_epsilon
        label_smoothing_factor neftune_noise_alpha eval_strategy eval_steps save_strategy save_steps
        save_total_limit logging_steps load_best_model_at_end metric_for_best_model
        report_to gradient_checkpointing
        seed data_seed bf16 fp16 tf32 torch_compile deepspeed fsdp group_by_length
        dataloader_num_workers remove_unused_columns run_name resume_from_checkpoint push_to_hub do_train
        do_eval""",
    "TRL": """model_name_or_path dataset_name dataset_train_split dataset_test_split dataset_text_field
        max_length max_seq_length packing completion_only_loss assistant_only_loss chat_template_path
        dataset_num_proc use_peft lora_r lora_alpha lora_dropout lora_target_modules load_in_4bit
        attn_implementation dtype torch_dtype trust_remote_code""",
    "LLaMA-Factory": """model_name_or_path adapter_name_or_path stage finetuning_type lora_rank lora_alpha
        lora_dropout lora_target dataset dataset_dir eval_dataset val_size max_samples cutoff_len
        train_on_prompt mask_history packing neat_packing default_system quantization_bit flash_attn
        preprocessing_num_workers overwrite_output_dir plot_loss predict_with_generate max_new_tokens""",
    "Axolotl": """base_model model_type tokenizer_type datasets test_datasets val_set_size
        dataset_prepared_path sequence_len sample_packing eval_sample_packing pad_to_sequence_len adapter
        lora_r lora_alpha lora_dropout lora_target_modules lora_target_linear load_in_8bit load_in_4bit
        micro_batch_size gradient_accumulation_steps eval_batch_size num_epochs learning_rate lr_scheduler
        optimizer warmup_ratio warmup_steps weight_decay max_grad_norm train_on_inputs roles_to_train
        train_on_eos chat_template special_tokens bf16 fp16 tf32 flash_attention xformers_attention
        evals_per_epoch saves_per_epoch logging_steps early_stopping_patience resume_from_checkpoint rl
        hub_model_id wandb_project gradient_checkpointing""",
}


def _hint(name: str) -> str:
    key, note = KEY_MAPPINGS[name]
    if not key:
        return f"There is no such key here: {note}."
    return f"Here it is called {key}." + (f" {note[0].upper()}{note[1:]}." if note else "")


# What the error message says. Of a key with the same name in a section, the nearest name is enough.
KEY_HINTS: dict[str, str] = {
    name: _hint(name) for name, (key, _) in KEY_MAPPINGS.items() if key.rsplit(".", 1)[-1] != name
}


def tables() -> str:
    """The tables of docs/migration.md: every name of every tool, our key for it, and what to know."""
    parts = []
    for tool, names in TOOLS.items():
        rows = ["| there | here | to know |", "|---|---|---|"]
        for name in names.split():
            key, note = KEY_MAPPINGS[name]
            rows.append(f"| `{name}` | {f'`{key}`' if key else '–'} | {note} |")
        parts.append(f"## {tool}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)
