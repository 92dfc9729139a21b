#!/usr/bin/env python3
"""What Jinja2, set up as transformers sets it up, makes of conversations: one JSON line for each template.

usage: chat_templates.py FOLDER_OF_JINJA_FILES > FOLDER_OF_JINJA_FILES/jinja2.jsonl
Each line: {"name", "cases": [{"messages", "text" or "refused" or "error"}]}. Needs jinja2. The tests of shard-engine
read it: tests/data/chat was made by it, and e2e/tokenizers.sh makes it of the templates that come with llama.cpp.
"""
import datetime
import json
import pathlib
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 7, 19, 11, 54, 56)
user, assistant, system = (lambda text, role=role: {"role": role, "content": text} for role in ("user", "assistant", "system"))
CONVERSATIONS = [
    [user("Hello!")],
    [system("You are  helpful.\n"), user(" Tell me\n a story. ")],
    [system("Be brief."), user("Hi"), assistant("Hello! <b>How</b> are you?"), user("Fine & you?")],
    [user("one"), user("two")],
    [user("Grüße 東京 'quoted' \"twice\""), assistant("<think>hm</think>\n\nYes."), user("")],
]


class Refused(Exception):
    pass


class Generation(jinja2.ext.Extension):
    """{% generation %} marks what training looks at; its body is rendered as it is."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.If(jinja2.nodes.Const(True), body, [], [], lineno=line)


def refuse(message):
    raise Refused(message)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
env.globals["raise_exception"] = refuse
env.globals["strftime_now"] = NOW.strftime

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
    source = path.read_text(encoding="utf-8")
    cases = []
    for messages in CONVERSATIONS:
        try:
            text = env.from_string(source).render(
                messages=messages, add_generation_prompt=True, bos_token="<s>", eos_token="</s>", tools=None, documents=None
            )
            cases.append({"messages": messages, "text": text})
        except Refused as error:
            cases.append({"messages": messages, "refused": str(error)})
        except Exception as error:  # the template does not take this conversation
            cases.append({"messages": messages, "error": repr(error)})
    print(json.dumps({"name": path.stem, "cases": cases}, ensure_ascii=False))
