"""Bytes made wrong in the ways that bytes go wrong: flipped, cut, spliced, repeated, with other numbers and words."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LONGEST = 64 * 1024  # bytes of a mutated body

NUMBERS = [
    *(b"0 -0 -1 +1 .5 5. 00.5 1e5 1E-5 0x10 1_000 1,5 --1 1..2 1e e5 1d5 1f 50% NaN nan -nan inf -Infinity".split()),
    *(b"1e38 3.4028235e38 3.5e38 1e39 1e307 1e308 1.7976931348623157e308 1e309 1e999 -1e999 1e-999 4.9e-324".split()),
    *(b"9007199254740993 18446744073709551615 18446744073709551616 1e-45 7e-46 2.2250738585072011e-308".split()),
    *(b"true null None NA N/A <NA> #N/A 1.#QNAN -1.#IND NULL NAN none ? - undefined".split()),
    *(b"%d %s {} $5 2024-01-01 1:2 \xd9\xa1\xd9\xa2 \xef\xbc\x91 \xe2\x88\x921 \xc2\xbd".split(b" ")),
    b"\xe2\x80\x890.5", b"0.5\xc2\xa0",
    b"", b" ", b"  0.5 ", b"\t1", b"9" * 40, b"9" * 64, b"9" * 65, b"9" * 400, b"0." + b"1" * 5000, b"1e" + b"9" * 30,
]  # fmt: skip
TOKENS = [
    b'"', b'""', b'"""', b"'", b"\\", b'\\"', b",", b",,", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r\n",
    b"\0", b"\x01", b"\x1a", b"\x1b[31m", b"\x7f", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe9",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"\xc2\x85", b"\xc2\xa0", b"\xf0\x9f\x90\x9a", b"M\xcc\x81",
    b"M", b"F", b"I", b"X", b" M", b"m", b'"M"', b'"M,F"', b"=1+1", b"#", b"<b>", b"${jndi:x}", b"{{7*7}}", b"%00",
    b"sex", b"length",
    b"rings", b"sex,length,diameter,height,whole_weight,shucked_weight,viscera_weight,shell_weight\n",
    b"[", b"]", b"{", b"}", b":", b"[]", b"{}",
    b"[[", b"]]", b"[[]]", b"[{}]", b"[" * 2000, b'{"a":' * 2000, b"[]," * 2000,
    b'{"instances":', b'{"instances":[', b'{"features":[', b'"features":', b'"instances":null,', b'"length":1,',
    b"null", b"true", b"false", b'"\\ud800"', b'"\\u0000"', b'"\\ud83d\\ude00"', b"/**/", b"//", b"[1]x", b"\\u004d",
    b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00", b"'descr': '|O'", b"'descr': '<f8'",
    b"'descr': '>f4'", b"'<f2'", b"'|b1'", b"'<i8'", b"'|V8'", b"'<c16'", b"'<M8[s]'", b"'<U4'", b"[('a','<f4')]",
    b"'fortran_order': True", b"'shape': (10,)", b"(9999999999, 10)", b"(-1, 10)", b"(0, 10)", b"(1, 10, 1)", b"()",
    b"(True, 10)", b"(1e1,)", b"__import__('os')", b"\x80\x04\x95", b"PK\x03\x04", b"\x1f\x8b\x08\x00",
]  # fmt: skip
HTTP_TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t",
    b"\x0b", b"\0", b":", b" :", b"\r\n ", b"\x80", b"0\r\n\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: +5\r\n",
    b"Content-Length: 5, 5\r\n", b"Content-Length: 0x5\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 30000000\r\n", b"Content-Length:\r\n", b"Content-Length : 5\r\n", b"Content_Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"transfer-encoding: CHUNKED\r\n", b"Transfer-Encoding: \x0bchunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\n", b"Upgrade: h2c\r\n",
    b"Connection: Content-Length\r\n", b"Expect: 100-continue\r\n", b"Expect: 200-ok\r\n", b"Host: y\r\n", b"Host:\r\n",
    b"TE: trailers\r\n", b"Trailer: x\r\n", b"Content-Encoding: gzip\r\n",
    b"Accept: application/xml\r\n", b"Range: bytes=0-1\r\n",
    b"X-Forwarded-For: 1\r\n", b"X: " + b"y" * 9000 + b"\r\n",
    b"X: y\r\n" * 101, b"X-Amzn-SageMaker-Custom-Attributes: a\r\n",
    b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ",
    b"CONNECT ", b"TRACE ", b"PRI * ", b"/ping", b"/invocations", b"*",
    b"http://x/invocations", b"//", b"/..", b"%2e", b"%00",
    b"%", b"?a=b", b"#x", b"/" + b"a" * 9000, b"/execution-parameters",
    b" HTTP/1.1", b" HTTP/1.0", b" HTTP/0.9", b" HTTP/2.0",
    b" HTTP/1.2", b" HTTP/1.10", b" http/1.1", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n",
    b"0\r\n", b"5\r\n", b"-1\r\n", b"0x5\r\n", b"ffffffffffffffff\r\n",
    b"5;a=b\r\n", b'5;a="b\r\n', b"5 \r\n", b"00000005\r\n", b"5\n",
]  # fmt: skip
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

Mutation = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Mutator:
    """Makes one input of others. `pool` may grow while it works."""

    random: random.Random
    pool: Sequence[bytes]
    tokens: Sequence[bytes] = tuple(TOKENS)
    numbers: Sequence[bytes] = tuple(NUMBERS)
    longest: int = LONGEST

    def __call__(self, data: bytes) -> bytes:
        kinds = [
            *(self._flip, self._cut, self._repeat, self._splice, self._truncate, self._swap_lines, self._repeat_line),
            *([self._insert_token, self._replace_by_token] * 2 + [self._change_number] * 3),
        ]
        for _ in range(self.random.choice([1, 1, 1, 2, 2, 3, 5])):
            data = self.random.choice(kinds)(data)
        return data[: self.longest]

    def _span(self, data: bytes, most: int = 1000) -> tuple[int, int]:
        start = self.random.randint(0, len(data))
        size = self.random.choice([1, 1, 2, 4, 8, 30, 200, most])
        return start, min(len(data), start + self.random.randint(0, size))

    def _flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self.random.choice([1, 1, 2, 4]) if data else 0):
            position = self.random.randrange(len(changed))
            changed[position] = self.random.choice([changed[position] ^ 1 << self.random.randrange(8), self._byte()])
        return bytes(changed)

    def _byte(self) -> int:
        return self.random.randrange(256)

    def _cut(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data)
        times = self.random.choice([1, 1, 2, 10, 1000])
        return data[:end] + data[start:end] * min(times, self.longest // max(1, end - start)) + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self.random.choice(self.pool)
        start, end = self._span(other)
        at = self.random.randint(0, len(data))
        return self.random.choice([data[:at] + other[start:], data[:at] + other[start:end] + data[at:]])

    def _truncate(self, data: bytes) -> bytes:
        return data[: self.random.randint(0, len(data))]

    def _swap_lines(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        one, other = self.random.randrange(len(lines)), self.random.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
        return b"\n".join(lines)

    def _repeat_line(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        one = self.random.randrange(len(lines))
        return b"\n".join(lines[:one] + [lines[one]] * self.random.choice([2, 2, 3, 50]) + lines[one + 1 :])

    def _insert_token(self, data: bytes) -> bytes:
        at = self.random.choice([0, len(data), self.random.randint(0, len(data))])
        return data[:at] + self.random.choice(self.tokens) + data[at:]

    def _replace_by_token(self, data: bytes) -> bytes:
        start, end = self._span(data, 30)
        return data[:start] + self.random.choice(self.tokens) + data[end:]

    def _change_number(self, data: bytes) -> bytes:
        found = list(_NUMBER.finditer(data[: self.longest]))
        if not found:
            return self._insert_token(data)
        place = self.random.choice(found)
        return data[: place.start()] + self._number(place[0]) + data[place.end() :]

    def _number(self, old: bytes) -> bytes:
        near = [old + b"0", old[:-1], b"-" + old, old * 2, b"%d" % (self.random.randrange(1 << 70))]
        return self.random.choice([*near, self.random.choice(self.numbers), self.random.choice(self.numbers)])


def smallest(data: bytes, fails: Callable[[bytes], bool], lasts: Callable[[], bool]) -> bytes:
    """A shorter input that still fails: pieces are left out, ever smaller ones, while time lasts."""
    size = max(1, len(data) // 2)
    while lasts():
        start, before = 0, len(data)
        while start < len(data) and lasts():
            shorter = data[:start] + data[start + size :]
            if fails(shorter):
                data = shorter
            else:
                start += size
        if size == 1 and len(data) == before:
            break
        size = max(1, size // 2)
    return data
