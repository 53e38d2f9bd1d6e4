"""The pieces that tiny programs are made of: what each does, in words of two languages and in Python."""

from typing import Literal, NamedTuple

Kind = Literal["numbers", "number", "text", "words", "truth"]

# What a program may be given: the name of its parameter, and in words.
INPUTS: dict[Kind, tuple[str, str, str]] = {
    "numbers": ("xs", "a list of integers", "整数列表"),
    "number": ("n", "a non-negative integer", "非负整数"),
    "text": ("s", "a string", "字符串"),
}


class Piece(NamedTuple):
    """One step from a value of kind `takes` to one of kind `gives`.

    In `code`, `{e}` stands for the value, `{a}` for the value where it must bind tightly, `{k}` for an integer from 2
    up and `{c}` for a letter. `loose`: the code does not bind tightly itself. `first`: the value must be the
    parameter alone, as it is written twice. `branch`: what happens depends on the value.
    """

    takes: Kind
    gives: Kind
    code: str
    en: tuple[str, ...]
    zh: tuple[str, ...]
    loose: bool = False
    first: bool = False
    branch: bool = False


def _each(code: str, en: str, other: str, zh: str, branch: bool = False) -> Piece:
    return Piece("numbers", "numbers", f"[{code} for x in {{a}}]", (en, other), (zh,), branch=branch)


def _keep(condition: str, en: str, other: str, zh: str) -> Piece:
    return Piece("numbers", "numbers", f"[x for x in {{a}} if {condition}]", (en, other), (zh,))


PIECES: dict[str, Piece] = {
    # Lists of integers: each, some, in another order, a part.
    "add": _each("x + {k}", "add {k} to each number", "increase every number by {k}", "每个数加 {k}"),
    "subtract": _each("x - {k}", "subtract {k} from each number", "decrease every number by {k}", "每个数减 {k}"),
    "multiply": _each("x * {k}", "multiply each number by {k}", "take every number times {k}", "每个数乘 {k}"),
    "divide": _each("x // {k}", "divide each number by {k}, rounding down", "floor-divide every number by {k}",
                    "每个数整除以 {k}"),
    "remainder": _each("x % {k}", "take each number modulo {k}", "replace every number by its remainder modulo {k}",
                       "每个数对 {k} 取余"),
    "square": _each("x * x", "square each number", "take the square of every number", "每个数平方"),
    "negate": _each("-x", "negate each number", "flip the sign of every number", "每个数取相反数"),
    "absolute": _each("abs(x)", "take the absolute value of each number", "drop the sign of every number",
                      "每个数取绝对值"),
    "at-most": _each("min(x, {k})", "replace numbers above {k} by {k}", "cap every number at {k}",
                     "把大于 {k} 的数换成 {k}"),
    "at-least": _each("max(x, {k})", "replace numbers below {k} by {k}", "raise every number to at least {k}",
                      "把小于 {k} 的数换成 {k}"),
    "even": _keep("x % 2 == 0", "keep the even numbers", "remove the odd numbers", "保留偶数"),
    "odd": _keep("x % 2 == 1", "keep the odd numbers", "remove the even numbers", "保留奇数"),
    "above": _keep("x > {k}", "keep the numbers greater than {k}", "keep what is above {k}", "保留大于 {k} 的数"),
    "below": _keep("x < {k}", "keep the numbers less than {k}", "keep what is below {k}", "保留小于 {k} 的数"),
    "multiples": _keep("x % {k} == 0", "keep the multiples of {k}", "keep the numbers divisible by {k}",
                       "保留 {k} 的倍数"),
    "without": _keep("x != {k}", "remove every {k}", "drop all numbers equal to {k}", "去掉等于 {k} 的数"),
    "positive": _keep("x > 0", "keep the positive numbers", "keep what is above zero", "保留正数"),
    "negative": _keep("x < 0", "keep the negative numbers", "keep what is below zero", "保留负数"),
    "sort": Piece("numbers", "numbers", "sorted({e})",
                  ("sort in ascending order", "order from smallest to largest"), ("从小到大排序",)),
    "sort-down": Piece("numbers", "numbers", "sorted({e}, reverse=True)",
                       ("sort in descending order", "order from largest to smallest"), ("从大到小排序",)),
    "reverse": Piece("numbers", "numbers", "{a}[::-1]", ("reverse the list", "turn the list around"),
                     ("把列表反转",)),
    "first": Piece("numbers", "numbers", "{a}[:{k}]", ("take the first {k} numbers", "keep only the first {k}"),
                   ("取前 {k} 个数",)),
    "last": Piece("numbers", "numbers", "{a}[-{k}:]", ("take the last {k} numbers", "keep only the last {k}"),
                  ("取后 {k} 个数",)),
    "skip": Piece("numbers", "numbers", "{a}[{k}:]", ("skip the first {k} numbers", "leave out the first {k}"),
                  ("跳过前 {k} 个数",)),
    "every-second": Piece("numbers", "numbers", "{a}[::2]",
                          ("take every second number", "keep every other number"), ("每隔一个取一个数",)),
    "distinct": Piece("numbers", "numbers", "sorted(set({e}))",
                      ("remove duplicates and sort", "sort the distinct numbers"), ("去重并排序",)),
    "add-if-even": _each("x + {k} if x % 2 == 0 else x", "add {k} to the even numbers only",
                         "increase only the even numbers by {k}", "只给偶数加 {k}", branch=True),
    "multiply-if-odd": _each("x * {k} if x % 2 == 1 else x", "multiply the odd numbers only by {k}",
                             "take only the odd numbers times {k}", "只把奇数乘 {k}", branch=True),
    "zero-if-negative": _each("0 if x < 0 else x", "replace negative numbers by 0", "turn negative numbers into 0",
                              "把负数换成 0", branch=True),
    "subtract-if-above": _each("x - {k} if x > {k} else x", "subtract {k} from the numbers greater than {k} only",
                               "decrease only the numbers above {k} by {k}", "只给大于 {k} 的数减 {k}", branch=True),
    # From lists of integers to one value.
    "sum": Piece("numbers", "number", "sum({e})", ("return the sum", "add them all up"), ("求和",)),
    "largest": Piece("numbers", "number", "max({e})", ("return the largest", "give the maximum"), ("求最大值",)),
    "smallest": Piece("numbers", "number", "min({e})", ("return the smallest", "give the minimum"), ("求最小值",)),
    "count": Piece("numbers", "number", "len({e})", ("return how many there are", "count them"), ("求个数",)),
    "head": Piece("numbers", "number", "{a}[0]", ("return the first one", "give the one at the front"),
                  ("取第一个",)),
    "tail": Piece("numbers", "number", "{a}[-1]", ("return the last one", "give the one at the end"),
                  ("取最后一个",)),
    "occurrences": Piece("numbers", "number", "{a}.count({k})",
                         ("count how often {k} occurs", "return the number of times {k} occurs"),
                         ("求 {k} 出现的次数",)),
    "joined": Piece("numbers", "text", "''.join(str(x) for x in {a})",
                    ("write the numbers one after another as a string", "join the numbers into a string"),
                    ("把各数连成字符串",)),
    "any-above": Piece("numbers", "truth", "any(x > {k} for x in {a})",
                       ("tell whether any number is greater than {k}", "say if at least one is above {k}"),
                       ("判断是否有数大于 {k}",)),
    "all-below": Piece("numbers", "truth", "all(x < {k} for x in {a})",
                       ("tell whether all numbers are less than {k}", "say if every one is below {k}"),
                       ("判断是否都小于 {k}",)),
    # Integers.
    "plus": Piece("number", "number", "{a} + {k}", ("add {k}", "increase it by {k}"), ("加 {k}",), loose=True),
    "minus": Piece("number", "number", "{a} - {k}", ("subtract {k}", "decrease it by {k}"), ("减 {k}",), loose=True),
    "times": Piece("number", "number", "{a} * {k}", ("multiply by {k}", "take it times {k}"), ("乘 {k}",), loose=True),
    "quotient": Piece("number", "number", "{a} // {k}", ("divide by {k}, rounding down", "floor-divide it by {k}"),
                      ("整除以 {k}",), loose=True),
    "modulo": Piece("number", "number", "{a} % {k}", ("take it modulo {k}", "return the remainder modulo {k}"),
                    ("对 {k} 取余",), loose=True),
    "squared": Piece("number", "number", "{a} ** 2", ("square it", "take its square"), ("求平方",), loose=True),
    "size": Piece("number", "number", "abs({e})", ("take its absolute value", "drop its sign"), ("求绝对值",)),
    "is-even": Piece("number", "truth", "{a} % 2 == 0", ("tell whether it is even", "say if it is even"),
                     ("判断是否为偶数",), loose=True),
    "is-above": Piece("number", "truth", "{a} > {k}", ("tell whether it is greater than {k}", "say if it is above {k}"),
                      ("判断是否大于 {k}",), loose=True),
    "as-text": Piece("number", "text", "str({e})", ("turn it into a string", "write it as a string"),
                     ("转成字符串",)),
    "digits": Piece("number", "numbers", "[int(d) for d in str({e})]",
                    ("list its digits", "make a list of its digits"), ("列出各位数字",)),
    "range": Piece("number", "numbers", "list(range({e}))",
                   ("list the numbers from 0 up to it, without it", "count up from 0 to just below it"),
                   ("列出从 0 到它（不含）的数",)),
    "divisors": Piece("number", "numbers", "[d for d in range(1, {e} + 1) if {e} % d == 0]",
                      ("list its divisors", "list all numbers that divide it"), ("列出它的约数",), first=True),
    "halve-or-times": Piece("number", "number", "{e} // 2 if {e} % 2 == 0 else {e} * {k}",
                            ("halve it if it is even, otherwise multiply it by {k}",
                             "if it is even take half of it, else {k} times it"),
                            ("偶数则减半，否则乘 {k}",), loose=True, first=True, branch=True),
    "plus-or-minus": Piece("number", "number", "{e} - {k} if {e} > {k} else {e} + {k}",
                           ("subtract {k} if it is greater than {k}, otherwise add {k}",
                            "if it is above {k} take {k} away, else add {k}"),
                           ("大于 {k} 则减 {k}，否则加 {k}",), loose=True, first=True, branch=True),
    # Strings.
    "upper": Piece("text", "text", "{a}.upper()", ("turn it into upper case", "make all letters capital"),
                   ("变成大写",)),
    "lower": Piece("text", "text", "{a}.lower()", ("turn it into lower case", "make all letters small"),
                   ("变成小写",)),
    "swap-case": Piece("text", "text", "{a}.swapcase()", ("swap upper and lower case", "flip the case of all letters"),
                       ("大小写互换",)),
    "backwards": Piece("text", "text", "{a}[::-1]", ("reverse it", "write it backwards"), ("倒着写",)),
    "beginning": Piece("text", "text", "{a}[:{k}]", ("take the first {k} characters", "keep only the {k} at the front"),
                       ("取前 {k} 个字符",)),
    "ending": Piece("text", "text", "{a}[-{k}:]", ("take the last {k} characters", "keep only the {k} at the end"),
                    ("取后 {k} 个字符",)),
    "without-letter": Piece("text", "text", "{a}.replace('{c}', '')",
                            ("remove every letter {c}", "delete all letters {c}"), ("去掉字母 {c}",)),
    "star": Piece("text", "text", "{a}.replace('{c}', '*')",
                  ("replace every letter {c} by a star", "put a star for each letter {c}"), ("把字母 {c} 换成星号",)),
    "without-spaces": Piece("text", "text", "{a}.replace(' ', '')", ("remove the spaces", "delete all spaces"),
                            ("去掉空格",)),
    "without-vowels": Piece("text", "text", "''.join(c for c in {a} if c not in 'aeiou')",
                            ("remove the small vowels", "delete the letters aeiou"), ("去掉小写元音",)),
    "repeat": Piece("text", "text", "{a} * {k}", ("repeat it {k} times", "write it {k} times in a row"),
                    ("重复 {k} 遍",), loose=True),
    "length": Piece("text", "number", "len({e})", ("return its length", "count its characters"), ("求长度",)),
    "letter-count": Piece("text", "number", "{a}.count('{c}')",
                          ("count the letter {c}", "return how many letters {c} there are"), ("求字母 {c} 的个数",)),
    "starts": Piece("text", "truth", "{a}.startswith('{c}')",
                    ("tell whether it starts with {c}", "say if it begins with {c}"), ("判断是否以 {c} 开头",)),
    "contains": Piece("text", "truth", "'{c}' in {a}", ("tell whether it contains {c}", "say if {c} occurs in it"),
                      ("判断是否含有 {c}",), loose=True),
    "palindrome": Piece("text", "truth", "{e} == {e}[::-1]",
                        ("tell whether it is a palindrome", "say if it reads the same backwards"),
                        ("判断是否为回文",), loose=True, first=True),
    "upper-if-long": Piece("text", "text", "{e}.upper() if len({e}) > {k} else {e}",
                           ("turn it into upper case if it has more than {k} characters",
                            "if it is longer than {k} characters make it upper case"),
                           ("长度大于 {k} 则变成大写",), loose=True, first=True, branch=True),
    "backwards-if-short": Piece("text", "text", "{e}[::-1] if len({e}) < {k} else {e}",
                                ("reverse it if it has fewer than {k} characters",
                                 "if it is shorter than {k} characters write it backwards"),
                                ("长度小于 {k} 则倒着写",), loose=True, first=True, branch=True),
    "split": Piece("text", "words", "{a}.split()", ("split it into words", "make a list of its words"),
                   ("拆成单词",)),
    # Lists of words.
    "sort-words": Piece("words", "words", "sorted({e})", ("sort the words", "put the words in order"),
                        ("给单词排序",)),
    "reverse-words": Piece("words", "words", "{a}[::-1]", ("reverse the order of the words", "turn the words around"),
                           ("把单词顺序反转",)),
    "long-words": Piece("words", "words", "[w for w in {a} if len(w) > {k}]",
                        ("keep the words longer than {k}", "remove the words of up to {k} letters"),
                        ("保留长度大于 {k} 的单词",)),
    "upper-words": Piece("words", "words", "[w.upper() for w in {a}]",
                         ("write each word in capitals", "make every word upper case"), ("每个单词变成大写",)),
    "initials": Piece("words", "text", "''.join(w[0] for w in {a})",
                      ("join the first letters of the words", "return the initials as one string"),
                      ("连接各单词的首字母",)),
    "lengths": Piece("words", "numbers", "[len(w) for w in {a}]",
                     ("take the length of each word", "replace every word by its length"), ("求每个单词的长度",)),
    "dashes": Piece("words", "text", "'-'.join({e})", ("join the words with dashes", "put dashes between the words"),
                    ("用短横连接单词",)),
    "word-count": Piece("words", "number", "len({e})", ("count the words", "return how many words there are"),
                        ("求单词个数",)),
    "first-word": Piece("words", "text", "{a}[0]", ("return the first word", "give the word at the front"),
                        ("取第一个单词",)),
    "longest-word": Piece("words", "text", "max({e}, key=len)", ("return the longest word", "give the longest word"),
                          ("取最长的单词",)),
}  # fmt: skip
