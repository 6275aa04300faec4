"""JSON documents, each with its value or refused."""

from embarchive.errors import Damaged
from embarchive.strictjson import parse_strict_json

CAP = 4096
DOCUMENTS = [
    b'{"a":1,"b":[true,false,null],"c":"x"}',
    b" [1, -2.5, 1e3 ,0.0] ",
    b'"text"',
    b"{}",
    b"",
    b"{",
    b"nul",
    b'{"a":1,}',
    b'{"a":1} 2',
    b'{"a":1,"a":2}',
    b'{"a":1,"\\u0061":2}',
    b'{"a":{"b":1,"b":1}}',
    b'[{"a":1},{"a":2}]',
    b'{"a":"a","b":["a","a"]}',
    b'{"a":["b",{"b":1}],"b":2}',
    b'{"__proto__":1,"__proto__":2}',
    b'{"__proto__":1}',
    b'{"a,b":"{\\"a\\":1,","c":"[]]}"}',
    b'{"a\\\\":1,"a\\\\":2}',
    b'{"a\\"":1,"a":2}',
    b"NaN",
    b"[Infinity]",
    b"[-Infinity]",
    b"[1e400]",
    b"[-1e400]",
    b"[1e308]",
    b"[9007199254740992]",
    b"[9007199254740993]",
    b"[-9007199254740992]",
    b"[-9007199254740993]",
    b"[123456789012345678]",
    b"[1234567890123456789012345]",
    b"[01]",
    b"[.5]",
    b"[1.]",
    b"[+1]",
    b'["\xff"]',
    b'["\xc3\xa9"]',
    b'["\xed\xa0\x80"]',
    b'["\\ud800"]',
    b'["\\ud83d\\ude00"]',
    b'["\\ude00\\ud83d"]',
    b'["\\\\ud800"]',
    b'{"\\ud800":1}',
    b"\xef\xbb\xbf{}",
    b'["\n"]',
    b'["\\x"]',
    b"[" * 64 + b"]" * 64,
    b"[" * 65 + b"]" * 65,
    b'{"a":' * 64 + b"1" + b"}" * 64,
    b'{"a":' * 65 + b"1" + b"}" * 65,
    b"[" + b"1," * 2046 + b"1]",
    b"[" + b"1," * 2047 + b"1]",
]


def make():
    found = []
    for data in DOCUMENTS:
        try:
            found.append({"hex": data.hex(), "value": parse_strict_json(data, "document", CAP)})
        except Damaged:
            found.append({"hex": data.hex(), "refused": True})
    return {"cap": CAP, "documents": found}
