"""Stock transformers: greedy `generate` with left padding, and scoring labels behind a context.

Labels are scored in one of two ways: every label row by row as a whole sequence (context, label, stop), in
batches, with logits only where the label is; or, `cached`, with the context's keys and values computed once
for each row, which is what a careful user of the library writes.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from protocol import Channel, Facts, in_parts, read_rows, read_spec, serve
from transformers import AutoModelForCausalLM

PADDING, STOP = 0, 2  # of the random model; a real one's are told


def generating(spec: Facts, model: Any) -> Any:
    """A turn answers all contexts, or those in the `range` of the message, `batch` of it at a time."""
    rows = read_rows(spec)
    pad, stop = spec.get("padding", PADDING), spec.get("stop", STOP)

    def turn(message: Facts) -> Facts:
        answers: list[list[int]] = []
        for part in in_parts(rows[slice(*message.get("range", (None,)))], message["batch"]):
            longest = max(len(row["tokens"]) for row in part)
            padding = [longest - len(row["tokens"]) for row in part]
            ids = [[pad] * empty + row["tokens"] for empty, row in zip(padding, part, strict=True)]
            mask = [[0] * empty + [1] * (longest - empty) for empty in padding]
            out = model.generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                do_sample=False,
                max_new_tokens=spec["max_tokens"],
                pad_token_id=pad,
                eos_token_id=stop,
            )
            answers += [until_stop(row, stop) for row in out[:, longest:].tolist()]
        return {"answers": answers}

    return turn


def until_stop(tokens: list[int], stop: int = STOP) -> list[int]:
    """An answer without the padding behind its stop token."""
    return tokens[: tokens.index(stop) + 1] if stop in tokens else tokens


def scoring(spec: Facts, model: Any) -> Any:
    """A turn scores every option behind one context, `batch` options at a time."""
    rows, options = read_rows(spec), torch.tensor(spec["options"])
    score = cached_scores if spec.get("cached") else whole_scores

    def turn(message: Facts) -> Facts:
        context = torch.tensor(rows[message["row"]]["tokens"])
        with torch.inference_mode():
            return {"scores": score(model, context, options, message["batch"]).tolist()}

    return turn


def whole_scores(model: Any, context: torch.Tensor, options: torch.Tensor, batch: int) -> torch.Tensor:
    """Each option's log-probability from whole sequences; the logits only at its tokens."""
    size, found = options.shape[1], []
    for part in options.split(batch):
        ids = torch.cat([context.expand(len(part), -1), part], 1)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=size + 1).logits[:, :-1]
        found.append(of_tokens(logits, part))
    return torch.cat(found)


def cached_scores(model: Any, context: torch.Tensor, options: torch.Tensor, batch: int) -> torch.Tensor:
    """The same from the context's keys and values, computed once and repeated for each batch of options."""
    first = model(input_ids=context[None], use_cache=True, logits_to_keep=1)
    found = []
    for part in options.split(batch):
        past = copy.deepcopy(first.past_key_values)
        past.batch_repeat_interleave(len(part))
        rest = model(input_ids=part[:, :-1], past_key_values=past).logits
        found.append(of_tokens(torch.cat([first.logits.expand(len(part), -1, -1), rest], 1), part))
    return torch.cat(found)


def of_tokens(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The sum of the tokens' log-probabilities of each sequence."""
    return torch.log_softmax(logits, -1).gather(-1, tokens[..., None])[..., 0].sum(1)


def main() -> None:
    """Load what the case asks for and serve its turns."""
    spec = read_spec()
    torch.set_num_threads(spec["threads"])
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32).eval()
    turns = {"generate": generating, "choose": scoring}
    serve(Channel(), turns[spec["task"]](spec, model), "torch", "transformers")


if __name__ == "__main__":
    main()
