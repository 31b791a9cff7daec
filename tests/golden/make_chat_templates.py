"""Makes chat_templates.jsonl: what Jinja2, set up as transformers does for chat templates, makes of snippets, of the
named templates in core/text/jinja/templates, and of templates with the constructs of published ones.

    python3 -m venv /tmp/reference && /tmp/reference/bin/pip install jinja2==3.1.6
    /tmp/reference/bin/python tests/golden/make_chat_templates.py

The first line holds the contexts. Then: {"template" or "named" or "defined", "context", "text" or "error": true}, and
{"define", "template"} before what uses it. {"autoescape": true} marks those of pages of HTML.
"""
import copy
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment(autoescape=False):
    e = jinja2.sandbox.ImmutableSandboxedEnvironment(
        autoescape=autoescape, trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    e.filters["tojson"] = tojson
    e.globals.update(raise_exception=raise_exception, dict=Dict(), namespace=Namespace)
    return e


ENVIRONMENT = environment()
PAGES = environment(autoescape=True)


def render(template, context, environment=ENVIRONMENT):
    """The text, or None where Jinja2 has an error."""
    context = copy.deepcopy(context)  # the indent filter adds to a list in place
    date = datetime.datetime.fromisoformat(context.pop("strftime_now", "2024-07-26"))
    environment.globals["strftime_now"] = date.strftime
    try:
        text = environment.from_string(template).render(**context)
        text.encode()
        return text
    except Exception:
        return None


CONTEXT = {
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "  Hi there \n"},
                 {"role": "assistant", "content": "Hello!", "name": "Bot"}],
    "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
    "name": "wOrld", "s": "  a, b,,c  ", "empty": "", "n": 7, "zero": 0, "neg": -3, "x": 2.5, "yes": True, "no": False,
    "words": ["beta", "Alpha", "gamma", "alpha"], "numbers": [3, 1, 2, 3], "nested": [[1, 2], [3, 4]],
    "d": {"b": 1, "a": 2, "C": 3}, "people": [{"name": "Ann", "age": 31, "tags": ["x"]}, {"name": "bob", "age": 5},
                                             {"name": "Cy", "age": 31, "tags": []}],
    "unicode": "naïve – 日本語 🙂", "json": {"k": [1, 2.0, None, True, "é<&>\"\n"], "o": {}, "l": []},
    "tool": {"type": "function", "function": {"name": "get", "description": "Gets.\nIt.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "enum": ["a", "b"]}, "n": {"type": ["integer", "null"]}},
        "required": ["city"]}}},
}

# Expressions with ¦ between them, each rendered as {{ … }}.
EXPRESSIONS = r"""
1 ¦ 2.0 ¦ 1e3 ¦ 1.5e-7 ¦ 1e16 ¦ 123456789.125 ¦ 0.1 + 0.2 ¦ 1_000 ¦ 0x1f ¦ 0b101 ¦ 0o17 ¦ 1e22 ¦ 1e-5 ¦ 0.0001 ¦ -0.0 ¦ 100.0 ¦ 1.0e5
'a\n\t\x41\u00e9\\\'"' ¦ "it's" ¦ 'a' 'b' ¦ '\d\q' ¦ '\101'
true ¦ True ¦ none ¦ None ¦ false ¦ undefined_name ¦ ''
[] ¦ [1, 'a', none, true, 2.5] ¦ [1,] ¦ () ¦ (1,) ¦ (1, 2) ¦ 1, 2 ¦ {} ¦ {'a': 1, "b": [1]} ¦ {1: 2, 1.0: 3, true: 4} ¦ {'x': 1,}
["it's", 'say "x"', 'both \' "', 'tab\t', 'é\u200b'] ¦ [1.0, -0.5, 1e100]
n + 1 ¦ n - 10 ¦ n * 2 ¦ n / 2 ¦ n // 2 ¦ n % 4 ¦ -n // 2 ¦ -n % 4 ¦ n ** 2 ¦ 2 ** -1 ¦ 2 ** 3 ** 2 ¦ -2 ** 2 ¦ n % -4 ¦ -7.5 // 2 ¦ -7.5 % 2 ¦ 7 // 2.0 ¦ 1 / 3
'a' + 'b' ¦ 'ab' * 3 ¦ 3 * 'ab' ¦ [1] + [2] ¦ [1, 2] * 2 ¦ (1,) + (2,) ¦ 'a' ~ 1 ~ none ~ true ~ 2.5 ¦ 1 ~ 2 + 3 ¦ '%s-%s' % (1, 'x') ¦ '%d%%' % 5
'%5.1f|%-5s|%05d|%+d|%x|%r' % (3.14159, 'ab', 42, 7, 255, 'q') ¦ '%(a)s' % {'a': 1} ¦ '%s' % [1, 2] ¦ '%.3s!' % 'abcdef' ¦ '%e' % 12345.678 ¦ '%g' % 0.0001
1 < 2 < 3 ¦ 1 < 3 < 2 ¦ 1 == 1.0 ¦ 1 == true ¦ '1' == 1 ¦ [1] == [1.0] ¦ [1] == (1,) ¦ {'a': 1} == {'a': 1.0} ¦ none == none ¦ none == false ¦ undefined_name == undefined_name ¦ undefined_name == none
'a' < 'b' ¦ 'B' < 'a' ¦ [1, 2] < [1, 3] ¦ (1,) < (1, 2) ¦ 1 <= 1.0 ¦ 2 > 1.5 ¦ 'a' != 'b' ¦ 1 != 1.0
'a' in 'abc' ¦ 'd' not in 'abc' ¦ 1 in [1, 2] ¦ 1.0 in [1] ¦ 'a' in d ¦ 'z' in d ¦ not 1 in [2] ¦ 2 in (1, 2) ¦ '' in 'a' ¦ undefined_name in [1] ¦ 1 in undefined_name
1 and 2 ¦ 0 and 2 ¦ 0 or 'x' ¦ '' or none ¦ not 1 ¦ not '' ¦ not not 3 ¦ 1 or raise_exception('no') ¦ 0 and raise_exception('no')
'a' if yes else 'b' ¦ 'a' if no else 'b' ¦ 'a' if no ¦ ('a' if no) is defined ¦ 'a' if no else 'b' if no else 'c' ¦ 1 if yes and no else 2
name[0] ¦ name[-1] ¦ name[1:3] ¦ name[::-1] ¦ name[10] ¦ name[-10:2] ¦ name[:2] ¦ name[2:] ¦ name[::2] ¦ name[4:1:-1] ¦ name[-3:-1] ¦ unicode[8] ¦ unicode[-1] ¦ unicode[8:11] ¦ unicode|length
numbers[0] ¦ numbers[-1] ¦ numbers[9] ¦ numbers[1:] ¦ numbers[::-1] ¦ numbers[::-2] ¦ numbers[:-1] ¦ numbers[5:] ¦ (1,2,3)[1:] ¦ numbers[yes] ¦ numbers['x'] ¦ nested[1][0] ¦ nested.1.0 ¦ messages[0].role ¦ messages[0]['role'] ¦ messages[1:] ¦ messages[-1].name ¦ messages[0].name ¦ messages[0].name is defined
d.a ¦ d['a'] ¦ d.zz ¦ d['zz'] ¦ d.get('a') ¦ d.get('zz') ¦ d.get('zz', 5) ¦ d.get('zz', default=5) ¦ d.items() ¦ d.keys() ¦ d.values() ¦ d.items()|list ¦ d.keys()|list ¦ d|list ¦ d|length ¦ d.items is defined ¦ d['items'] is defined ¦ d|items|list
none.x ¦ n.foo ¦ name.foo ¦ d.a.b ¦ d.a.b.c ¦ undefined_name.x ¦ undefined_name['x'] ¦ undefined_name() ¦ n() ¦ name.foo() ¦ d[[1]] ¦ none[0]
s.strip() ¦ s.lstrip() ¦ s.rstrip() ¦ s.strip(' ,') ¦ 'xxaxx'.strip('x') ¦ 'xxaxx'.lstrip('x') ¦ 'xxaxx'.rstrip('x') ¦ s.strip(none) ¦ '\u3000a\u00a0'.strip()
s.split() ¦ s.split(',') ¦ s.split(', ') ¦ s.split(',', 1) ¦ s.rsplit(',', 1) ¦ 'a b  c'.split() ¦ 'a b  c'.split(' ') ¦ ' a b c '.split(none, 1) ¦ ' a b c '.rsplit(none, 1) ¦ ''.split() ¦ ''.split(',') ¦ 'a</think>b'.split('</think>')[-1] ¦ 'abc'.split('') ¦ 'a-b-c'.split(sep='-', maxsplit=1) ¦ 'aXbXc'.rsplit('X')
name.startswith('wO') ¦ name.startswith(('x', 'w')) ¦ name.endswith('ld') ¦ name.endswith('x') ¦ name.startswith('') ¦ name.startswith(1)
name.upper() ¦ name.lower() ¦ name.title() ¦ name.capitalize() ¦ "they're bill's".title() ¦ 'hello wOrLD-foo_bar 3x'.title() ¦ 'ÉCOLE été'.lower() ¦ 'ÉCOLE été'.upper() ¦ 'привет Мир'.upper() ¦ 'Привет'.lower() ¦ '日本 abc'.upper() ¦ 'ÉCOLE'.capitalize()
name.replace('o', '0') ¦ name.replace('O', 'x', 1) ¦ 'aaa'.replace('a', 'b', 2) ¦ 'abc'.replace('', '-') ¦ 'abc'.replace('', '-', 2) ¦ 'a.b'.replace('.', '\n') ¦ ', '.join(words) ¦ ''.join([]) ¦ '-'.join('abc') ¦ ','.join([1])
name.find('r') ¦ name.find('zz') ¦ 'été'.find('t') ¦ 'abcabc'.rfind('c') ¦ 'abc'.index('c') ¦ 'abc'.index('x') ¦ 'banana'.count('an') ¦ 'abc'.count('') ¦ 'été'.count('é') ¦ 'a\nb\r\nc'.splitlines() ¦ 'a\nb\n'.splitlines(true) ¦ 'a\x0bb\u2028c'.splitlines() ¦ ''.splitlines()
'12'.isdigit() ¦ '1a'.isdigit() ¦ ''.isdigit() ¦ 'ab'.isalpha() ¦ 'a1'.isalnum() ¦ 'a '.isalnum() ¦ '  '.isspace() ¦ 'AB'.isupper() ¦ 'ab1'.islower() ¦ '12'.isupper() ¦ 'prefix-x'.removeprefix('prefix-') ¦ 'x.txt'.removesuffix('.txt') ¦ 'abc'.removeprefix('z') ¦ '{} and {}'.format(1, 'b') ¦ '{0}{1}{0}'.format('a', 'b') ¦ '{x}!'.format(x=[1]) ¦ '{{}}'.format() ¦ '{}'.format()
[1, 2, 1].count(1) ¦ [1, 2].index(2) ¦ [1].index(5) ¦ (1, 2).index(1) ¦ [].append ¦ [].append(1) ¦ d.pop('a') ¦ d.update({}) ¦ d.clear is defined ¦ [1].extend([2]) ¦ name.__class__ ¦ ''.__class__.__mro__ ¦ d.copy()
name|upper ¦ name|lower ¦ name|title ¦ name|capitalize ¦ 'foo-bar (baz) [qux] <q> {z}'|title ¦ n|upper ¦ none|lower ¦ undefined_name|upper ¦ s|trim ¦ 'xxaxx'|trim('x') ¦ none|trim ¦ 5|trim ¦ undefined_name|trim ¦ '\n a \t'|trim
words|length ¦ words|count ¦ name|length ¦ d|length ¦ undefined_name|length ¦ 5|length ¦ none|length ¦ words|first ¦ words|last ¦ []|first ¦ []|last ¦ ''|first ¦ name|first ¦ name|last ¦ d|first ¦ d|last ¦ ([]|first) is defined ¦ undefined_name|first ¦ 5|first
words|join ¦ words|join(', ') ¦ numbers|join('-') ¦ [1, none, 'a', [2]]|join('|') ¦ people|join(', ', attribute='name') ¦ people|join(attribute='age') ¦ words|join(d=',') ¦ 5|join ¦ undefined_name|join
undefined_name|default('x') ¦ undefined_name|d('x') ¦ empty|default('x') ¦ empty|default('x', true) ¦ none|default('x') ¦ none|default('x', boolean=true) ¦ 0|default(5, true) ¦ n|default(5) ¦ undefined_name|default ¦ d.zz|default(default_value=3) ¦ undefined_name.x|default('y')
name|replace('o', 'a') ¦ 'aaa'|replace('a', 'b', 2) ¦ 123|replace(2, 5) ¦ none|replace('o', 'a') ¦ 'aaa'|replace('a', 'b', count=1) ¦ name|replace('o')
'abc'|list ¦ d|list ¦ (1, 2)|list ¦ 5|list ¦ undefined_name|list ¦ range(3)|list ¦ none|list ¦ 5|string ¦ none|string ¦ [1]|string ¦ 'a'|string ¦ undefined_name|string
'42'|int ¦ '42.7'|int ¦ 'x'|int ¦ 'x'|int(5) ¦ 'x'|int(default=9) ¦ 3.9|int ¦ -3.9|int ¦ none|int ¦ true|int ¦ ' 12 '|int ¦ '1_000'|int ¦ ''|int ¦ []|int ¦ undefined_name|int ¦ '1e3'|int ¦ '-5'|int ¦ '+5'|int ¦ '0x10'|int ¦ 'inf'|int
'4.5'|float ¦ 'x'|float ¦ 'x'|float(1.5) ¦ 3|float ¦ none|float ¦ true|float ¦ '1e3'|float ¦ ' 2 '|float ¦ '.5'|float ¦ '5.'|float ¦ 'nan'|float ¦ '-inf'|float ¦ 'Infinity'|float ¦ '1_0.5'|float ¦ '1__0'|float ¦ '0x1'|float
people|map(attribute='name')|list ¦ people|map(attribute='zz')|list ¦ people|map(attribute='zz', default='?')|list ¦ people|map(attribute='tags', default=[])|list ¦ words|map('upper')|list ¦ words|map('replace', 'a', 'o')|join(',') ¦ nested|map(attribute=0)|list ¦ nested|map('first')|list ¦ people|map(attribute='tags.0')|list ¦ none|map('upper')|list ¦ words|map('nosuch')|list ¦ words|map|list ¦ [1, 2]|map('string')|join
people|selectattr('tags')|map(attribute='name')|list ¦ people|selectattr('age', 'equalto', 31)|map(attribute='name')|list ¦ people|selectattr('age', '>', 10)|list|length ¦ people|rejectattr('tags')|map(attribute='name')|list ¦ people|selectattr('tags', 'defined')|list|length ¦ people|selectattr('name', 'in', ['Ann', 'Cy'])|map(attribute='age')|list ¦ people|rejectattr('age', 'lt', 10)|list|length ¦ messages|selectattr('role', '==', 'user')|list ¦ messages|selectattr('role', 'equalto', 'user')|first
numbers|select('odd')|list ¦ numbers|reject('odd')|list ¦ numbers|select|list ¦ [0, 1, '', 'a']|select|list ¦ [0, 1]|reject|list ¦ numbers|select('divisibleby', 3)|list ¦ numbers|select('>', 1)|list ¦ words|select('in', ['beta'])|list ¦ [1, none]|select('none')|list ¦ numbers|select('nosuch')|list ¦ 'abc'|select('eq', 'b')|list
d|dictsort ¦ d|dictsort(true) ¦ d|dictsort(by='value') ¦ d|dictsort(reverse=true) ¦ d|dictsort(false, 'value', true) ¦ d|dictsort(by='x') ¦ 5|dictsort ¦ words|unique|list ¦ numbers|unique|list ¦ words|unique(case_sensitive=true)|list ¦ people|unique(attribute='age')|map(attribute='name')|list ¦ [1, 1.0, true]|unique|list ¦ [[1]]|unique|list
words|sort ¦ words|sort(reverse=true) ¦ words|sort(case_sensitive=true) ¦ numbers|sort ¦ people|sort(attribute='age')|map(attribute='name')|list ¦ people|sort(attribute='age,name')|map(attribute='name')|list ¦ people|sort(attribute='age', reverse=true)|map(attribute='name')|list ¦ [1, 'a']|sort ¦ d|sort ¦ 'bca'|sort ¦ []|sort ¦ [2.5, 1, true]|sort
words|reverse|list ¦ name|reverse ¦ numbers|reverse|first ¦ d|reverse|list ¦ 5|reverse ¦ range(3)|reverse|list ¦ (1, 2)|reverse|list ¦ undefined_name|reverse|list
'a\nb\n\nc'|indent ¦ 'a\nb'|indent(2) ¦ 'a\nb'|indent(2, true) ¦ 'a\n\nb'|indent(2, false, true) ¦ 'a\nb'|indent('> ') ¦ 'a\nb\n'|indent(width=1, first=true) ¦ 5|indent ¦ ''|indent
'<b>'|safe ¦ ('<b>'|safe) ~ '<i>' ¦ -3|abs ¦ neg|abs ¦ 2.5|abs ¦ -2.5|abs ¦ true|abs ¦ 'a'|abs ¦ 2.5|round ¦ 3.5|round ¦ 2.675|round(2) ¦ 42.55|round(1, 'floor') ¦ 42.55|round(1, 'ceil') ¦ 42|round ¦ 42|round(1) ¦ 42|round(0, 'floor') ¦ -2.5|round ¦ 1.005|round(2) ¦ 'a'|round ¦ 7.1|round|int
json|tojson ¦ json|tojson(indent=2) ¦ json|tojson(2) ¦ json|tojson(ensure_ascii=true) ¦ json|tojson(separators=(',', ':')) ¦ {'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true) ¦ unicode|tojson ¦ unicode|tojson(true) ¦ '</s>&\'"'|tojson ¦ none|tojson ¦ true|tojson ¦ 1.0|tojson ¦ 1e100|tojson ¦ (1, 2)|tojson ¦ {1: 2, none: 3, true: 4}|tojson ¦ undefined_name|tojson ¦ range(2)|tojson ¦ d.keys()|tojson ¦ []|tojson(indent=4) ¦ {'a': []}|tojson(indent=1) ¦ '\x01\x7f\u2028'|tojson ¦ tool|tojson(indent=4) ¦ json|tojson(indent='--') ¦ 'a'|tojson|tojson ¦ {'a': undefined_name}|tojson
n is defined ¦ zz is defined ¦ zz is undefined ¦ none is none ¦ n is none ¦ name is string ¦ n is number ¦ true is number ¦ 2.5 is number ¦ 2.5 is float ¦ n is integer ¦ true is integer ¦ d is mapping ¦ [] is mapping ¦ [] is sequence ¦ name is sequence ¦ d is sequence ¦ n is sequence ¦ zz is sequence ¦ [] is iterable ¦ 5 is iterable ¦ zz is iterable ¦ name is iterable ¦ d.items() is sequence ¦ d.items() is iterable ¦ (words|map('upper')) is sequence ¦ (words|map('upper')) is iterable
yes is boolean ¦ n is boolean ¦ yes is true ¦ 1 is true ¦ no is false ¦ 0 is false ¦ n is odd ¦ n is even ¦ n is divisibleby 7 ¦ n is divisibleby(2) ¦ n is eq 7 ¦ n is equalto 7 ¦ n is == 7 ¦ n is ne 8 ¦ n is gt 5 ¦ n is ge 7 ¦ n is lt 5 ¦ n is le 7 ¦ n is greaterthan 6 ¦ n is lessthan 6 ¦ 3 is in [1, 3] ¦ 'a' is in 'abc' ¦ 3 is not in [1] ¦ name is not string ¦ n is not none ¦ name is lower ¦ 'abc' is lower ¦ 'ABC' is upper ¦ 2.0 is even ¦ 2.5 is odd ¦ 'a' is odd ¦ none is sameas none ¦ yes is sameas true ¦ 1 is sameas true ¦ range is callable ¦ n is callable ¦ n is nosuch ¦ not n is odd ¦ n is not odd and yes ¦ -1 is odd ¦ n + 1 is odd ¦ zz is not defined or zz ¦ n is eq n if yes
range(3) ¦ range(1, 3) ¦ range(5, 0, -2) ¦ range(3)|list ¦ range(2, 8, 3)|list ¦ range(0)|list ¦ range(5)[2] ¦ range(5)[-1] ¦ range(5)|length ¦ 2 in range(3) ¦ range(1000000) ¦ range(3, step=1) ¦ range('a') ¦ range(1, 5, 0) ¦ range(3) == range(0, 3) ¦ range(4)|last
dict(a=1) ¦ dict({'a': 1}, b=2) ¦ dict([('a', 1), ['b', 2]]) ¦ dict() ¦ dict(1) ¦ namespace(a=1).a ¦ namespace({'b': 2}).b ¦ namespace(a=1) ¦ namespace(a=1)['a'] ¦ namespace().x ¦ namespace(_x=1) ¦ raise_exception('bad') ¦ raise_exception(5) ¦ strftime_now('%d %b %Y') ¦ strftime_now('%Y-%m-%d %H:%M %A %B %j') ¦ strftime_now()
(1 + 2) * 3 ¦ [1, [2, [3]]][1][1][0] ¦ {'a': {'b': 'c'}}.a.b ¦ [x for x in y] ¦ 1 + ¦ name. ¦ 'abc ¦ (1 ¦ [1 ¦ {1 ¦ } ¦ a b ¦ 1 2 ¦ not ¦ {'a'} ¦ lambda ¦ x = 1 ¦ name|nosuch ¦ name|upper|lower ¦ 'a'.upper().lower() ¦ 'a'|upper ~ 'b' ¦ -1|abs ¦ 1 + -1|abs ¦ 2 * 3|string * 2 ¦ (2 * 3)|string * 2 ¦ - 5 + 3 ¦ +5 ¦ +'a' ¦ -'a' ¦ -none ¦ --5 ¦ not none ¦ 1 + none ¦ 'a' + 1 ¦ 1 + '1' ¦ [] + () ¦ none * 2 ¦ 'a' - 'b' ¦ {} + {} ¦ 1 / 0 ¦ 1 // 0 ¦ 1 % 0 ¦ 0 ** -1 ¦ 1.0 / 0 ¦ true + true ¦ true * 'ab' ¦ -true ¦ 2 ** 0.5 ¦ 9 ** 0.5 ¦ 1 < 'a' ¦ none < 1 ¦ [] < {} ¦ zz + 1 ¦ zz ~ 'a' ¦ zz < 1 ¦ -zz ¦ zz[0] ¦ zz * 2 ¦ 'a' in 5 ¦ 1 in 'a' ¦ [] in {} ¦ {[]: 1} ¦ 9223372036854775807 ¦ 1 if ¦ 1 is ¦ 1 is not ¦ name |  ¦ name |upper ¦ name[ ¦ name[1:2:3:4] ¦ name[1 ¦ f(a=1, 2) ¦ range(a=1, a=2) ¦ {**d} ¦ f(*words) ¦ 1 == 1 == 1 ¦ 'a' 'b' ~ 'c' ¦ 1 ~ ¦ (1)(2) ¦ ''.join(words)|upper ¦ words.0 ¦ words.-1 ¦ d['b']['c'] is defined ¦ none is none is none ¦ not none is none ¦ 1 is odd is true ¦ 'x' if 1 else ¦ if ¦ in ¦ is ¦ a if ¦ and 1 ¦ 01 ¦ 1__0 ¦ 1_ ¦ 0b2 ¦ 1.e3 ¦ 1. ¦ '\x4' ¦ '\u12' ¦ 1e ¦ 10e- ¦ 'é'|upper ¦ $ ¦ a ! b ¦ a != b ¦ a & b ¦ ~1
""".strip()

# Whole templates, divided by lines of ====.
TEMPLATES = r"""
plain text
====
two lines

====
a
{{ name }}
b

====
{% if yes %}
  in
{% endif %}
after
====
{% if yes -%}
  in
{%- endif %}
 after
====
  {% if yes %}  a  {% endif %}  b
====
  {%+ if yes %}a{% endif +%}
b
====
x {%- if yes %} a {% endif -%}   
   y
====
a
    {#- comment -#}
  b
====
a
    {# comment #}
  b {# c #}
c
====
{# a #}{#- b +#}
x{#+ c #}
====
  {{- name -}}  
 z
====
a {{+ name }} b
====
{{ name -}}

   b
====
{%- for i in numbers -%}
  {{ i }},
{%- endfor -%}
====
{% for i in numbers %}
    {{ i }}
{% endfor %}
end
====
	{% if yes %}
	tab
	{% endif %}
====
{% raw %}{{ x }} {% if %}{% endraw %}!
====
a
  {% raw -%}
   {{ y }}
  {%- endraw %}
b
====
  {% raw %}
 keep {# this #}
  {% endraw +%}
b
====
{%- raw %} x {% endraw -%}  y
====
{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}
====
{% if no %}a{% elif no %}b{% else %}c{% endif %}
====
{% if no %}a{% endif %}
====
{% if yes: %}colon{% endif %}
====
{% if 1, %}t{% endif %}
====
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
====
{% for k in d %}{{ k }}{% endfor %}
====
{% for k, v in d|dictsort %}{{ k }}{{ v }}{% endfor %}
====
{% for (a, b) in nested %}{{ a }}{{ b }}{% endfor %}
====
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
====
{% for a, b in numbers %}{{ a }}{% endfor %}
====
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
====
{% for c in name %}{{ c }}.{% endfor %}
====
{% for i in [] %}x{% else %}none{% endfor %}
====
{% for i in numbers %}{{ i }}{% else %}none{% endfor %}
====
{% for i in numbers %}{% continue %}{% else %}quirk{% endfor %}
====
{% for i in numbers %}{% if i == 3 %}{% continue %}{% endif %}{{ i }}{% else %}no{% endfor %}
====
{% for i in numbers %}{% break %}{% else %}else{% endfor %}
====
{% for i in numbers if i > 1 %}{{ loop.index }}:{{ i }}/{{ loop.length }} {% endfor %}
====
{% for i in numbers if i > 9 %}x{% else %}nothing{% endfor %}
====
{% for i in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.depth0 }}
{% endfor %}
====
{% for i in numbers %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}
====
{% for i in numbers %}{% if loop.previtem is defined and loop.previtem == i %}same{% endif %}{{ loop.nextitem is defined }}{% endfor %}
====
{% for i in numbers %}{{ loop.cycle('a', 'b') }}{% endfor %}
====
{% for i in [1, 1, 2] %}{{ loop.changed(i) }} {% endfor %}
====
{% for i in numbers %}{% for j in numbers %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
====
{% for i in numbers %}{% set outer = loop %}{% for j in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
====
{% for i in numbers %}{% if loop.index > 2 %}{% break %}{% endif %}{{ i }}{% endfor %}
====
{% break %}
====
{% for i in 5 %}{% endfor %}
====
{% for i in none %}{% endfor %}
====
{% for i in zz %}x{% else %}empty{% endfor %}
====
{% for loop in numbers %}{% endfor %}
====
{% for i in numbers %}{% set loop = 1 %}{% endfor %}
====
{% for i in numbers %}{% endfor %}{{ i }}|{{ loop }}
====
{% set x = 1 %}{% for i in numbers %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
====
{% set ns = namespace(x=0) %}{% for i in numbers %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}
====
{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}
====
{% set d.x = 1 %}
====
{% set zz.x = 1 %}
====
{% set ns = namespace() %}{% set ns._x = 1 %}
====
{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m.role] %}{% endfor %}{{ ns.l|join(',') }}
====
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = 'xy' %}{{ c }}{{ d }}
====
{% set a, b = 1 %}
====
{% set x = 1, 2 %}{{ x }}
====
{% set x %}  block {{ name }}
{% endset %}[{{ x }}]
====
{% set x | upper | trim %}  block {{ name }}
{% endset %}[{{ x }}]
====
{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y }}
====
{% if yes %}{% set x = 5 %}{% endif %}{{ x }}
====
{% if no %}{% set name = 5 %}{% endif %}{{ name }}
====
{% set true = 1 %}
====
{% set 'a' = 1 %}
====
{% set name = name|upper %}{{ name }}
====
{% set i = 9 %}{% for i in numbers %}{{ i }}{% endfor %}{{ i }}
====
{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(c=5, a=4) }}{{ m() }}
====
{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(1) }}
====
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
====
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
====
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
====
{% macro m(a=1, b) %}{% endmacro %}
====
{% macro m(a) %}{{ a is defined }}{{ x }}{{ name }}{% endmacro %}{{ m() }}{% set x = 3 %}{{ m(none) }}
====
{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
====
{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}
====
{%- macro block(m) -%}
  <{{ m.role }}>
  {%- if m.content %} {{ m.content | trim }}{% endif -%}
{%- endmacro -%}
{% for m in messages %}{{ block(m) }}
{% endfor %}
====
{% macro m(x) %}{% for i in x %}{{ i }}{% endfor %}{% endmacro %}{{ m([1, 2]) | upper }}{{ m('ab') ~ '!' }}
====
{% for i in numbers %}{{ x }}{% for j in [1] %}{{ name }}{{ n }}{% endfor %}{% set name = 1 %}{% set x = 2 %}{{ x }}{% endfor %}
====
{% for i in [1] %}{{ name }}{% endfor %}{% if yes %}{% set name = 1 %}{% endif %}{{ name }}
====
{% for i in [1] %}{{ name }}{% endfor %}{% set name = name %}{{ name }}
====
{% for i in [1] %}{{ name }}{{ n }}{% endfor %}{% set name %}x{% endset %}{% macro n() %}{% endmacro %}{{ name }}
====
{% filter upper %}abc {{ name }}{% endfilter %}
====
{% filter replace('a', 'b') | upper %}abc{% endfilter %}
====
{% for i in numbers %}{% filter upper %}a{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfilter %}{% endfor %}
====
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}
====
{% with a = 1 %}{% with b = a %}{{ b }}{% set c = 3 %}{{ c }}{% endwith %}{{ c }}{% endwith %}
====
{% generation %}x{{ name }}{% set q = 1 %}{% endgeneration %}{{ q }}
====
{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ loop.index }}{% endgeneration %}{% endif %}{% endfor %}
====
{% for i in numbers %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
====
{% if yes %}
====
{% endif %}
====
{% for i in numbers %}{% endif %}
====
{% nosuch %}
====
{{ name
====
{% if name
====
{# open
====
{% raw %} open
====
{{ 'a }}
====
{{ '}}' }}{{ "%}" }}
====
{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a': {'b': {}}}}}
====
{{ name }}}
====
{ { name } } {% if yes %}{%endif%}{{name}}
====
}} %} #}
====
{{ '{{ name }}' }}{{ '{% if %}' }}
====
{%if yes%}a{%else%}b{%endif%}
====
{{ name|upper|lower|title }}{{name | upper | replace ( 'O' , '0' )}}
====
{{
  name
  ~ 'x'
}}
====
{% set x = [
  1,
  2
] %}{{ x }}
====
{% if name is defined and name is not none and name|length > 3 %}ok{% endif %}
====
{% if not name %}a{% elif not (yes and no) %}b{% endif %}
====
{% if (messages | length > 0) and messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ system }}{{ rest|length }}
====
{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}{% endif %}{% endfor %}
====
{% for m in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}{{ index }}{{ m.role }} {% endfor %}
====
{% set g = words|map('upper') %}{{ g|list }}{{ g|list }}
====
{% set g = words|map('upper') %}{{ g|first }}{{ g|join(',') }}
====
{% set g = words|map('upper') %}{% for w in g %}{{ w }}{% break %}{% endfor %}{{ g|join(',') }}
====
{{ words|map('upper')|length }}
====
{{ words|map('upper')|last }}
====
{% for k, v in tool.function.parameters.properties|items %}{{ k }}: {{ v.type if v.type is string else v.type|join('|') }}{% if not loop.last %}, {% endif %}{% endfor %}
====
{% for k, v in tool.function.parameters.properties.items() %}{{ k }}{{ ' required' if k in tool.function.parameters.required }};{% endfor %}
====
{{ tool | tojson(indent=2) | indent(2) }}
====
{%- if tools is defined and tools is not none %}T{% else %}no tools{% endif %}
====
{{ bos_token }}{{ unk_token }}{{ eos_token + '!' }}
====
{% set content = messages[1].content %}{% if content is string %}{{ content.strip() }}{% else %}{% for c in content %}{{ c.text }}{% endfor %}{% endif %}
====
{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' and not ns.found %}{% set ns.found = true %}{{ loop.index0 }}{% endif %}{% endfor %}{{ ns.found }}
====
{% include 'x' %}
====
{% call m() %}{% endcall %}
====
a
b{% if yes %}

c

{% endif %}

d

====
é{{ unicode }}日
  {%- if yes %} ü {%- endif %}
====
{{ '\ud83d' }}
====
{{ numbers|batch(2)|list|length if no else 'skip' }}
====
{% if no %}{{ x|nosuch }}{% endif %}fine
====
{% set x = caller %}{{ x is defined }}
====
{{ self is defined if no }}
====
{% set s = namespace(t='') %}{% for w in words %}{% set s.t = s.t ~ w[0]|upper %}{% if not loop.last %}{% set s.t = s.t ~ '-' %}{% endif %}{% endfor %}{{ s.t }}
====
{%- set a = {'x': 1} -%}{%- set b = dict(a, y=2) -%}{{ b }}{{ a }}
====
{{ (name, n)|join('/') }}{{ (name ~ n)|length }}{{ name ~ n|string|length }}
====
{% for x in range(3) %}{% for y in range(x) %}{{ x }}{{ y }} {% else %}- {% endfor %}{% endfor %}
====
{% for i in range(3) recursive %}{{ i }}{% endfor %}{{ raise_exception('recursive is refused') }}
"""


def snippets():
    for line in EXPRESSIONS.splitlines():
        for expression in line.split(" ¦ "):
            yield "{{ " + expression + " }}"
    yield from TEMPLATES.strip("\n").split("\n====\n")


# Templates with the constructs of published ones, in words of our own, each rendered in all of TOOL_CONTEXTS.
PUBLISHED = {
    "dated_tools": r"""{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2000" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message is taken out so that other lines can come first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: shell\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'shell') | join(", ") + "\n\n"}}
{%- endif %}
{{- "Today: " + date_string + "\n\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("There is no first user message for the tools.") }}
{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\n\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time.") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {%- if builtin_tools is defined and tool_call.name in builtin_tools %}
            {{- "<|python_tag|>" + tool_call.name + ".call(" }}
            {%- for arg_name, arg_val in tool_call.arguments | items %}
                {{- arg_name + '="' + arg_val ~ '"' }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- endif %}
            {%- endfor %}
            {{- ")" }}
        {%- else  %}
            {{- '{"name": "' + tool_call.name + '", ' }}
            {{- '"parameters": ' }}
            {{- tool_call.arguments | tojson }}
            {{- "}" }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
""",
    "chatml_tools": r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'Help.' }}
    {%- endif %}
    {{- "\n\n# Functions\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\nAnswer: {\"name\": <name>, \"arguments\": <object>}<|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}""",
    "inst_tools": r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("user and assistant must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("ids have 9 letters") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("unknown role " ~ message["role"]) }}
    {%- endif %}
{%- endfor %}
""",
    "turns_blocks": r"""{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("content of no known type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
""",
    "short": r"""{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
Name: Smol<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}""",
    "bars": r"""{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "phi": r"""{% for message in messages %}{% if (message['role'] == 'system' and message['content']) %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif (message['role'] == 'user') %}{{'<|user|>
' + message['content'] + '<|end|>
<|assistant|>
'}}{% elif message['role'] == 'assistant' %}{{message['content'] + '<|end|>
'}}{% endif %}{% endfor %}""",
    "deep": r"""{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is none %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<｜Assistant｜><｜calls｜>' + tool['type'] + '<｜sep｜>' + tool['function']['name'] + '\n' + '```json' + '\n' + tool['function']['arguments']|tojson + '\n' + '```' + '<｜end｜>'}}{%- set ns.is_first = true -%}{%- else %}{{'\n' + '<｜call｜>' + tool['type']}}{%- endif %}{%- endfor %}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}{{'<｜outputs end｜>' + message['content'] + eos_token}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + eos_token}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<｜outputs｜>' + message['content']|string + '<｜end｜>'}}{%- set ns.is_output_first = false %}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜outputs end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\n'}}{% endif %}""",
    "macros": r"""{%- macro kind(p) -%}
    {%- if p.type is not string %}{{ p.type | join(" | ") }}{% elif p.type == "array" %}{{ kind(p["items"]) }}[]
    {%- elif p.type == "object" and p.properties %}{ {% for k, v in p.properties | dictsort %}{{ k }}{{ "?" if k not in (p.required or []) }}: {{ kind(v) }}{{ ", " if not loop.last }}{% endfor %} }
    {%- elif p.enum %}{% for e in p.enum %}{{ '"' ~ e ~ '"' }}{{ " | " if not loop.last }}{% endfor %}
    {%- else %}{{ {"string": "string", "integer": "number", "boolean": "boolean"}.get(p.type, "any") }}{% endif -%}
{%- endmacro -%}
{%- macro tool_block(tools=[], indent=2) %}
{%- for tool in tools %}
{{ " " * indent }}// {{ tool.function.description | default("none", true) | replace("\n", " ") }}
{{ " " * indent }}{{ tool["function"]["name"] }}({{ kind(tool.function.parameters) }})
{% endfor %}
{%- endmacro %}
{{- tool_block(tools or []) }}{{ tool_block(indent=1, tools=(tools or [])[:1]) }}
{%- for m in messages if m.role != "tool" %}
{{ loop.index }}/{{ loop.length }} {{ "%-9s" % m.role.upper() }}|{{ (m.content or "") | string | trim | replace("\n", "\\n") }}
{%- else %}
nobody
{%- endfor %}""",
    "marked": r"""{%- for m in messages -%}
{%- if m.role == "assistant" %}<a>{% generation %}{{ m.content }}</a>
{% endgeneration %}
{%- else %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>
{% endif -%}
{%- endfor %}{% if add_generation_prompt %}<a>{% endif %}""",
}


def say(*turns):
    return [dict(zip(("role", "content", "name"), turn)) for turn in turns]


CONVERSATIONS = [
    say(("user", "Hi")), say(("user", "Hi"), ("assistant", "Hello.")), say(("system", "Be kind."), ("user", "Hi")),
    say(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello.")),
    say(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
    say(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")),
    say(("user", "")), say(("user", ""), ("assistant", "")), say(("system", ""), ("user", ""), ("assistant", "")),
    say(("user", "  spaces  "), ("assistant", "  both \n")), say(("user", "\n\nlines\n\n"), ("assistant", "\tx\t")),
    say(("system", "  s \n"), ("user", " u "), ("assistant", " a ")),
    say(("user", "naïve café"), ("assistant", "日本語 🙂 …")), say(("user", "\u3000wide\u3000"), ("assistant", "\u00a0hard\u00a0")),
    say(("user", "{{ x }} {% if %}"), ("assistant", "{# no #} }} %}")), say(("user", "{"), ("assistant", "}}")),
    say(("user", "<b>&amp;</b> \"q\" 'q'"), ("assistant", "a\\nb \\ c")), say(("user", "tabs\tand\r\nreturns"), ("assistant", "x\r\n")),
    say(("user", "<|im_end|>"), ("assistant", "<|im_start|>")), say(("user", "[INST] x [/INST]"), ("assistant", "</s>")),
    say(("assistant", "I begin.")), say(("system", "s"), ("assistant", "a")), say(("system", "s")), [],
    say(("user", "a"), ("user", "b"), ("assistant", "c")), say(("user", "a"), ("assistant", "b"), ("assistant", "c")),
    say(("user", "a"), ("system", "late"), ("assistant", "b")), say(("tool", "result")),
    say(("user", "q"), ("assistant", "<think>\nhm\n</think>\n\nyes")),
    say(("user", "q"), ("assistant", "<think>\nhm\n</think>\n\nyes"), ("user", "r"), ("assistant", "<think>\nho\n</think>\n\nno")),
    say(("user", "q"), ("assistant", "<think>a</think>b"), ("assistant", "<think>c</think>\n\nd")),
    say(("user", "q"), ("assistant", "yes</think>")), say(("user", "q"), ("assistant", "<think>open")),
    say(("user", "Who?"), ("assistant", "I.", "Watson"), ("user", "And?"), ("assistant", "We.")),
    say(*[("user", f"q{i}") if i % 2 == 0 else ("assistant", f"a{i}") for i in range(12)]),
    say(("user", "x" * 500), ("assistant", "y" * 500)),
]

CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "get", "arguments": {"city": "Köln <&>", "n": 2}}}
TOOL_CONVERSATIONS = [
    say(("user", "Weather?")), say(("system", "Be brief."), ("user", "Weather?")),
    say(("user", "Weather?")) + [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "5 °C", "tool_call_id": "abcdefghi"}]
    + say(("assistant", "Cold.")),
    say(("user", "Weather?")) + [{"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "5"}],
    say(("user", "Weather?")) + [{"role": "assistant", "content": "Look:", "tool_calls": [CALL, CALL]},
                                 {"role": "tool", "content": {"t": 5}}, {"role": "tool", "content": "6"}] + say(("assistant", "x")),
    [{"role": "user", "content": [{"type": "text", "text": " Look "}, {"type": "image"}]}, {"role": "assistant", "content": [{"type": "text", "text": "I see."}]}],
]
ARRAY_TOOL = {"type": "function", "function": {"name": "list", "description": "", "parameters": {"type": "object", "properties": {
    "ids": {"type": "array", "items": {"type": "integer"}}, "on": {"type": "boolean"}, "any": {"type": "x"}}}}}

CONTEXTS = {"default": CONTEXT}
for i, conversation in enumerate(CONVERSATIONS):
    for prompt in (False, True):
        CONTEXTS[f"c{i}{'+' if prompt else ''}"] = {"messages": conversation, "tools": None, "documents": None, "add_generation_prompt": prompt,
                                                   "bos_token": "<s>", "eos_token": "</s>"}
for i, conversation in enumerate(TOOL_CONVERSATIONS):
    base = {"messages": conversation, "tools": [CONTEXT["tool"], ARRAY_TOOL], "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
    CONTEXTS[f"t{i}"] = {**base, "add_generation_prompt": True}
    CONTEXTS[f"t{i}!"] = {**base, "add_generation_prompt": False, "tools": [CONTEXT["tool"]], "builtin_tools": ["shell", "get", "other"],
                          "tools_in_user_message": False, "strftime_now": "2025-02-03", "enable_thinking": False}


AUTOESCAPED = [
    "{{ h }}", "<p>{{ h }}</p>", "{{ h|safe }}", "{{ h|e }}", "{{ h|escape|e }}", "{{ h|e|length }}", "{{ '<' }}", "{{ 1 < 2 }}", "{{ none }}", "{{ gone }}",
    "{{ list }}", "{{ list|join(' & ') }}", "{{ list|join('<br>'|safe) }}", "{{ [h, '<br>'|safe]|join('&') }}", "{{ [{'a': h}]|join(',', attribute='a') }}",
    "{{ h ~ '<' }}", "{{ '<br>'|safe ~ h ~ 1 }}", "{% set x %}<b>{{ h }}</b>{% endset %}{{ x }}{{ x|length }}", "{% set x | upper %}<b>{{ h }}</b>{% endset %}{{ x }}",
    "{% macro m(t) %}<i>{{ t }}</i>{% endmacro %}{{ m(h) }}{{ m(m(h)) }}{{ m(h|safe) }}", "{% set y = h %}{{ y }}", "{{ h|string }}{{ h|safe|string }}",
    "{{ h|upper }}", "{{ '%s'|format(h) }}", "{{ '%.1f' % 2.25 }}", "{{ h if true }}", "{{ h|default('x') }}{{ gone|default('<x>') }}", "{{ {'<': 1} }}", "{{ h[0] }}",
    "{% for c in h %}{{ c }}.{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% filter trim %} {{ h }} {% endfilter %}",
    "{{ list|map('e')|join(', ') }}", "{{ h == h|safe }}{{ 'b' in h|safe }}", "{% if '' | safe %}x{% else %}y{% endif %}", "{{ d.h|e }}{{ (h ~ 'é')|e }}",
]
PAGE = {"h": "<b class=\"c\">'&'</b>", "list": ["<", "&amp;", 3, None], "d": {"h": "<script>", "<k>": True}}
CONTEXTS["page"] = PAGE


def named_templates():
    folder = HERE.parent.parent / "core" / "text" / "jinja" / "templates"
    found = {file.stem: file.read_text() for file in sorted(folder.glob("*.jinja"))}
    assert len(found) == 9, found.keys()
    return found


def main():
    rows = [{"contexts": CONTEXTS}]

    def add(template, context, autoescape=False, **label):
        text = render(template, CONTEXTS[context], PAGES if autoescape else ENVIRONMENT)
        rows.append({**(label or {"template": template}), **({"autoescape": True} if autoescape else {}), "context": context, **({"error": True} if text is None else {"text": text})})

    for template in snippets():
        add(template, "default")
    for name, template in named_templates().items():
        for context in CONTEXTS:
            if context[0] == "c":
                add(template, context, named=name)
    for name, template in PUBLISHED.items():
        rows.append({"define": name, "template": template})
        for context in CONTEXTS:
            if context[0] in "tc":
                add(template, context, defined=name)
    for template in AUTOESCAPED:
        add(template, "page", autoescape=True)
        add(template, "page")
    (HERE / "chat_templates.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    results = [row for row in rows if "context" in row]
    print(len(results), "results,", sum("error" in row for row in results), "of them errors")


if __name__ == "__main__":
    main()
