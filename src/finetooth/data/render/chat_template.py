"""Chat templates: a model's jinja text, rendered in a sandbox as transformers renders it.

The instruction and plain templates are jinja texts as well. So there is one way to render, and whichever
template a model was trained with can be saved beside it for any other tool to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import meta, nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import REASONING_KEYS, as_dicts, with_text_arguments
from finetooth.errors import DataError
from finetooth.types import Message

Clock = Callable[[], datetime]
MAX_CHARACTERS = 20_000_000  # of one rendering: far beyond any model's context, well below the memory

# Variables by which templates turn thinking on and off: Qwen3 and others, DeepSeek-V3.1 and Granite, Cohere.
SWITCHES = ("enable_thinking", "thinking", "reasoning")
READS = r"\.{0}\b|[\[(]\s*['\"]{0}['\"]"  # a template reads a field of this name of a message

INSTRUCTION = """\
{{ PREFIX }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '### Response:\\n' + message['content'] + EOS }}
        {%- if not loop.last %}{{ '\\n\\n' }}{% endif %}
    {%- elif message['content'] %}
        {{- '### Instruction:\\n' if loop.first else '### Input:\\n' }}
        {{- message['content'] + '\\n\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"""

PLAIN = """\
{{ PREFIX }}
{%- for message in messages %}
    {{- message['content'] }}
    {%- if message['role'] == 'assistant' %}{{ EOS }}{% endif %}
    {%- if add_generation_prompt or not loop.last %}{{ '\\n' }}{% endif %}
{%- endfor %}"""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's text for other tools; here its body is simply rendered."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance variable

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The immutable sandbox, in which a product such as `'a' * 10**12` is refused before it is computed."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sized = left if hasattr(left, "__len__") else right if hasattr(right, "__len__") else None
        factor = right if sized is left else left
        if sized is not None and isinstance(factor, int) and len(sized) * factor > MAX_CHARACTERS:
            raise jinja2.exceptions.SecurityError("a product of the template is too large")
        if operator == "**" and (abs(left) > 2**32 or abs(right) > 64):
            raise jinja2.exceptions.SecurityError("a power of the template is too large")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(clock: Clock, form: str) -> str:
    return clock().strftime(form)


class ChatTemplate:
    """A compiled template. `render` gives the text of a conversation.

    source: jinja text. variables: what else it may name (bos_token, eos_token, ...). where: for messages.
    clock: what `strftime_now` reads. switch: the variable that turns thinking on and off, or "".
    text_arguments: it has refused calls whose arguments are objects, and written them as JSON text. Raises
    DataError when the text is not jinja.
    """

    def __init__(self, source: str, variables: Mapping[str, str], where: str, clock: Clock) -> None:
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = partial(_strftime_now, clock)
        self.source = source
        self.where = where
        self._variables = dict(variables)
        self._thoughts = [name for name in REASONING_KEYS if re.search(READS.format(name), source)]
        try:
            self._template = environment.from_string(source)
            reads = meta.find_undeclared_variables(environment.parse(source))
        except jinja2.TemplateError as error:
            raise DataError(f"{where}: not a valid jinja template ({error}).") from error
        self.text_arguments = False
        self.switch = ""
        self.switch = next((name for name in SWITCHES if name in reads and self._turns(name)), "")

    def by_default(self, thinking: bool) -> str:
        """The jinja text whose switch is set so unless a caller says otherwise."""
        bare = self.source
        for mode in (True, False):
            bare = bare.removeprefix(_default(self.switch, mode))
        return _default(self.switch, thinking) + bare

    def _turns(self, name: str) -> bool:
        """Whether this variable changes what is written for a question, or for an answer."""
        self.switch = name
        question, answer = Message("user", "Which way?"), Message("assistant", "Left.")
        try:
            return any(
                self.render(talk, len(talk) == 1, (), True) != self.render(talk, len(talk) == 1, (), False)
                for talk in ([question], [question, answer])
            )
        except TemplateRefusal:
            return False

    def render(
        self,
        messages: Sequence[Message],
        generation: bool,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: bool | None = None,
    ) -> str:
        """The conversation's text, with the opening of an answer at its end where `generation` is True.

        tools: what the template is given as `tools`. thinking: how its switch is set; None leaves it.
        Raises TemplateRefusal when the template refuses the conversation, DataError when it does not end.
        """
        switch = {self.switch: thinking} if self.switch and thinking is not None else {}
        conversation = as_dicts(messages)
        for message in conversation:
            if "reasoning_content" in message:
                message.update(dict.fromkeys(self._thoughts, message["reasoning_content"]))
        given = {
            "tools": [dict(tool) for tool in tools] or None,  # none: templates tell None from []
            "documents": None,
            "add_generation_prompt": generation,
            **switch,
            **self._variables,
        }
        try:
            return self._written(conversation, given)
        except TemplateRefusal as refusal:
            spelled = with_text_arguments(conversation)
            if spelled == conversation or not isinstance(refusal.__cause__, TypeError):
                raise
            text = self._written(spelled, given)
            self.text_arguments = True
            return text

    def _written(self, conversation: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> str:
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(messages=conversation, **given):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_CHARACTERS:
                    raise DataError(
                        f"{self.where}: wrote more than {MAX_CHARACTERS:,} characters for one row."
                    )
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            RecursionError,
        ) as error:
            raise TemplateRefusal(f"{self.where}: cannot render this conversation ({error}).") from error
        return "".join(pieces)


class TemplateRefusal(DataError):
    """A template's own `raise_exception`, or a failure of it, for one conversation."""


def _default(switch: str, thinking: bool) -> str:
    """What sets a switch that no caller sets, in front of a template; trim_blocks takes the line break."""
    value = "true" if thinking else "false"
    return f"{{%- if {switch} is not defined %}}{{%- set {switch} = {value} %}}{{%- endif %}}\n"


def built_in(source: str, prefix: str, eos: str) -> str:
    """The instruction or plain template for a tokenizer: its BOS and EOS texts written in."""
    texts = {"PREFIX": json.dumps(prefix, ensure_ascii=False), "EOS": json.dumps(eos, ensure_ascii=False)}
    return re.sub("PREFIX|EOS", lambda match: texts[match.group()], source)


def select_template(tokenizer: Tokenizer, template: str) -> tuple[str, str, str]:
    """Kind, jinja text and name of a template, from what the task says."""
    if template == "auto":
        template = "chat" if tokenizer.chat_template else "instruction"
    if template == "chat":
        if not tokenizer.chat_template:
            raise DataError(
                f"template: chat, but {tokenizer.directory} has no chat template. "
                "Use `template: instruction` or a file: `template: file.jinja`."
            )
        return "chat", tokenizer.chat_template, "The chat template"
    if template in ("instruction", "plain"):
        if tokenizer.eos_token_id is None:
            raise DataError(
                f"template: {template} ends answers with the tokenizer's eos_token, and "
                f"{tokenizer.directory} names none in tokenizer_config.json. Add it there, "
                "or use `template: file.jinja`."
            )
        prefix = "".join(tokenizer.text_of(index) for index in tokenizer.prefix_ids)
        source = INSTRUCTION if template == "instruction" else PLAIN
        eos = tokenizer.special_tokens["eos_token"]
        return template, built_in(source, prefix, eos), f"The {template} template"
    path = Path(template)
    if path.suffix not in (".jinja", ".j2") or not path.is_file():
        raise DataError(
            f"template: {template}: no such file. "
            "Expected auto, chat, instruction, plain or the path of a .jinja file."
        )
    try:
        return "file", path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"template: {template}: cannot be read as UTF-8 text: {error}.") from None
