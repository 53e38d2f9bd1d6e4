"""Questions that look like its own and aren't: percentages, powers, roots, decimals, fractions, other mathematics.

A small model calculates whatever has numbers in it. So it reads what it can't do beside what it can, and says so
instead of answering 1,200 to 15% of 80.
"""

from random import Random

from longjing.toys.corpus.document import Document

# Questions, subject by subject. {a} to {d} are numbers, {a} below {b} and {c} below {d}; {e} and {f}
# have a decimal.
_QUESTIONS = {
    "en": [
        ["What is {a}% of {b}?", "{a}% of {b}", "Calculate {a}% of {b}.", "What is {a} percent of {b}?",
         "How much is {a} percent of {b}?", "Increase {b} by {a}%.", "{a} is what percent of {b}?"],
        ["What is {a}^2?", "{a}^2", "{a}^3", "{a}**2", "What is {a} squared?", "Calculate {a} to the power of 3.",
         "What is 2 to the power of {a}?", "{a} cubed"],
        ["What is the square root of {b}?", "sqrt({b})", "Square root of {b}", "What is the cube root of {b}?"],
        ["{e}+{f}", "What is {e}+{f}?", "{f}-{e}", "Calculate {e}*{a}.", "{e}*{f}", "What is {f}/{a}?", "{e} plus {f}",
         "Round {e}."],
        ["What is 1/{a}+1/{b}?", "{a}/{b}+{c}/{d}", "{a}/{b}-{c}/{d}", "1/{a}+1/{b}", "What is {a}/{b} times {c}/{d}?",
         "Simplify {a}/{b}.", "What is {a}/{b} as a decimal?"],
        ["What is the average of {a}, {b} and {c}?", "Find the mean of {a} and {b}.",
         "What is the median of {a}, {b}, {c}?"],
        ["Is {b} a prime number?", "Is {b} prime?", "What are the factors of {b}?", "What is {a} factorial?",
         "Factor {b}.", "What is the greatest common divisor of {a} and {b}?", "What is {b} mod {a}?"],
        ["Solve x^2={b}.", "x^2+{a}x={b}", "Solve x^2-{b}=0.", "What is log({b})?", "sin({b})", "What is cos({a})?",
         "What is the derivative of x^{a}?", "Integrate x^{a}.", "Solve x+{a}>{b}."],
        ["How many minutes are there in {a} hours?", "Convert {b} kilometres to metres.",
         "What is {b} dollars in euros?", "How many days are there in {a} weeks?",
         "What is the area of a circle of radius {a}?", "What is {b} in binary?",
         "What comes next: {a}, {b}, {d}?", "Which is larger, {a} or {b}?"],
    ],
    "zh": [
        ["{b} 的 {a}% 是多少？", "{b}的{a}%", "求 {b} 的百分之 {a}。", "{a} 是 {b} 的百分之几？"],
        ["{a} 的平方是多少？", "{a}的立方", "计算 {a}^2。", "2 的 {a} 次方是多少？"],
        ["{b} 的平方根是多少？", "根号{b}", "求 {b} 的立方根。"],
        ["{e}+{f}等于多少？", "{f}减{e}", "计算 {e}*{a}。", "{e}乘{f}是多少？"],
        ["{a}/{b}+{c}/{d}等于多少？", "计算 1/{a}+1/{b}。", "{b}分之{a}加{d}分之{c}", "{b} 分之 {a} 是多少？"],
        ["{a}、{b} 和 {c} 的平均数是多少？", "求 {a} 和 {b} 的平均值。"],
        ["{b} 是质数吗？", "{b} 有哪些因数？", "{a} 和 {b} 的最大公约数是多少？", "{a} 的阶乘是多少？"],
        ["解方程 x^2={b}。", "log({b}) 是多少？"],
        ["{a} 小时是多少分钟？", "{b} 公里等于多少米？", "{a} 个星期有几天？", "半径为 {a} 的圆面积是多少？",
         "找规律：{a}、{b}、{d}，下一个数是？", "{a} 和 {b} 哪个大？"],
    ],
}  # fmt: skip
_ANSWERS = {
    "en": [
        "I work with whole numbers and + - * / only, and this is more than that.",
        "Sorry, that is beyond me: I stay with whole numbers and + - * /.",
        "I haven't learnt that kind of question, and I don't want to guess.",
        "That is beyond me. I can do sums of whole numbers, equations and number puzzles.",
    ],
    "zh": [
        "我只用整数和加减乘除，这个我不会。",
        "对不起，这超出了我的能力：我只用整数和加减乘除。",
        "这种题我没学过，也不想乱猜。",
        "这个我不会。我会整数的算术、方程和数字游戏。",
    ],
}


def write(random: Random) -> Document:
    """One question with an empty reasoning, declined; its style is `limits`."""
    language = "zh" if random.random() < 0.3 else "en"
    question = random.choice(random.choice(_QUESTIONS[language])).format(**_numbers(random))
    answer = random.choice(_ANSWERS[language])
    return Document(question, "", answer, "limits", thinking=random.random() < 0.5)


def _numbers(random: Random) -> dict[str, str]:
    """Numbers for the gaps of a question."""
    (a, b), (c, d) = (
        sorted(random.sample(range(2, 10 ** random.choice([1, 2, 3]) + 10), 2)) for _ in range(2)
    )
    e, f = (f"{random.randrange(10 ** random.choice([1, 2]))}.{random.randint(1, 99)}" for _ in range(2))
    return {"a": str(a), "b": str(b), "c": str(c), "d": str(d), "e": e, "f": f}
