"""Chat templates: jinja text, rendered in a sandbox exactly as transformers does.

The instruction and plain templates are jinja texts as well, so that whichever template a model was trained
with can be saved with it for other tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import meta, nodes
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import generate_lorem_ipsum

from finetooth.data.render.limits import (
    MAX_CHARACTERS,
    WIDTH,
    TemplateLimit,
    limited,
    refuse_large,
    refuse_large_json,
)
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import REASONING_KEYS, as_dicts, with_text_arguments
from finetooth.errors import DataError
from finetooth.types import Message

Clock = Callable[[], datetime]
WIDE = re.compile(r"%[^a-zA-Z%]*(?:\*|\d{6})")  # a printf format of a large or computed width
LARGE = 10**300

# Variables that switch thinking on and off: in Qwen3 and others, DeepSeek-V3.1 and Granite, Cohere.
SWITCHES = ("enable_thinking", "thinking", "reasoning")
READS = r"\.{0}\b|[\[(]\s*['\"]{0}['\"]"  # the template reads a message field of this name

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
    """`{% generation %}` marks the assistant's text for other tools; here only its body is rendered."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance variable

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The immutable sandbox, which refuses steps such as `'a' * 10**12` before computing them."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """A call, unless its result is too large."""
        method = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
        if isinstance(getattr(method, "__self__", None), str) or function is generate_lorem_ipsum:
            refuse_large(method, arguments, named)
        return super().call(context, function, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sized = left if hasattr(left, "__len__") else right if hasattr(right, "__len__") else None
        factor = right if sized is left else left
        if sized is not None and isinstance(factor, int) and len(sized) * factor > MAX_CHARACTERS:
            raise jinja2.exceptions.SecurityError("a product of the template is too large")
        if operator == "%" and isinstance(left, str) and WIDE.search(left):
            raise jinja2.exceptions.SecurityError("a format of the template is too wide")
        if (
            operator == "*"
            and isinstance(left, int)
            and isinstance(right, int)
            and max(abs(left), abs(right)) > LARGE
        ):
            raise jinja2.exceptions.SecurityError("a number of the template is too large")
        if operator == "**" and (abs(left) > 2**32 or abs(right) > 64):
            raise jinja2.exceptions.SecurityError("a power of the template is too large")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses to compute what is too large."""

    @wraps(function)  # with jinja's marks of what it passes first
    def call(*arguments: Any, **named: Any) -> Any:
        plain = [
            one for one in arguments if not isinstance(one, jinja2.nodes.EvalContext | jinja2.Environment)
        ]
        if function is do_format and WIDE.search(str(plain[0])):
            raise jinja2.exceptions.SecurityError("a format of the template is too wide")
        refuse_large(function, tuple(plain), named)
        return function(*arguments, **named)

    return call


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(indent, int) and indent > WIDTH:
        raise jinja2.exceptions.SecurityError("an indentation of the template is too wide")
    refuse_large_json(value)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class TemplateRefusal(DataError):
    """The template called `raise_exception` or failed for one conversation."""


class ChatTemplate:
    """A compiled template. `render` returns the text of a conversation.

    source: jinja text. variables: further variables (bos_token, eos_token, ...). where: name for messages.
    clock: for `strftime_now`. switch: the variable that switches thinking on and off, or "".
    text_arguments: whether it has refused call arguments as objects and accepted them as JSON text. Raises
    DataError if the text is not valid jinja.
    """

    def __init__(self, source: str, variables: Mapping[str, str], where: str, clock: Clock) -> None:
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        for name in ("center", "indent", "wordwrap", "replace", "truncate", "batch", "slice", "format"):
            environment.filters[name] = _checked(environment.filters[name])
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: clock().strftime(form)
        self.source = source
        self.where = where
        self._variables = dict(variables)
        self._reasoning_keys = [name for name in REASONING_KEYS if re.search(READS.format(name), source)]
        try:
            with limited(where):
                self._template = environment.from_string(source)
                reads = meta.find_undeclared_variables(environment.parse(source))
        except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError, OverflowError) as error:
            raise DataError(f"{where}: not a valid jinja template ({error}).") from error
        self.text_arguments = False
        self.switch = ""
        self.switch = next((name for name in SWITCHES if name in reads and self._is_switch(name)), "")

    def with_default(self, thinking: bool) -> str:
        """The jinja text with a default for its thinking switch."""
        bare = self.source
        for mode in (True, False):
            bare = bare.removeprefix(_default(self.switch, mode))
        return _default(self.switch, thinking) + bare

    def _is_switch(self, name: str) -> bool:
        """Whether this variable changes the text of a question or of an answer."""
        self.switch = name
        question, answer = Message("user", "Which way?"), Message("assistant", "Left.")
        try:
            return any(
                self.render(turns, generation, (), True) != self.render(turns, generation, (), False)
                for turns, generation in (([question], True), ([question, answer], False))
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
        """The text of a conversation, with the opening of an answer at its end if `generation`.

        tools: passed to the template as `tools`. thinking: value of its thinking switch; None: unset.
        Raises TemplateRefusal if the template refuses the conversation, TemplateLimit if it takes too long or
        its text is too long.
        """
        switch = {self.switch: thinking} if self.switch and thinking is not None else {}
        conversation = as_dicts(messages)
        for message in conversation:
            if "reasoning_content" in message:
                message.update(dict.fromkeys(self._reasoning_keys, message["reasoning_content"]))
        variables = {
            "tools": [dict(tool) for tool in tools] or None,  # templates distinguish None from []
            "documents": None,
            "add_generation_prompt": generation,
            **switch,
            **self._variables,
        }
        try:
            return self._generate(conversation, variables)
        except TemplateRefusal as refusal:
            converted = with_text_arguments(conversation)
            if converted == conversation or not isinstance(refusal.__cause__, TypeError):
                raise
            text = self._generate(converted, variables)
            self.text_arguments = True
            return text

    def _generate(self, conversation: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        pieces: list[str] = []
        size = 0
        try:
            with limited(self.where):
                for piece in self._template.generate(messages=conversation, **variables):
                    pieces.append(piece)
                    size += len(piece)
                    if size > MAX_CHARACTERS:
                        raise TemplateLimit(
                            f"{self.where}: wrote more than {MAX_CHARACTERS:,} characters for one row."
                        )
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            raise TemplateRefusal(f"{self.where}: cannot render this conversation ({error}).") from error
        return "".join(pieces)


def _default(switch: str, thinking: bool) -> str:
    """Jinja text in front of a template that sets an unset switch; trim_blocks removes the line break."""
    value = "true" if thinking else "false"
    return f"{{%- if {switch} is not defined %}}{{%- set {switch} = {value} %}}{{%- endif %}}\n"


def built_in(source: str, prefix: str, eos: str) -> str:
    """The instruction or plain template with a tokenizer's BOS and EOS texts inserted."""
    texts = {"PREFIX": json.dumps(prefix, ensure_ascii=False), "EOS": json.dumps(eos, ensure_ascii=False)}
    return re.sub("PREFIX|EOS", lambda match: texts[match.group()], source)


def select_template(tokenizer: Tokenizer, template: str) -> tuple[str, str, str]:
    """(kind, jinja text, name for messages) of the task's `template`."""
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
                f"{tokenizer.directory} has none in tokenizer_config.json. Add it there, "
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
