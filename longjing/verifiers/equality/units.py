"""Units of measurement and money by all their spellings. Nothing is converted: 5 cm isn't 0.05 m, and m isn't ms."""

import re
from functools import lru_cache

Unit = tuple[tuple[str, int], ...]  # names and powers: km/h is (("h", -1), ("km", 1))

_PREFIXES = {"k": "kilo", "M": "mega", "G": "giga", "T": "tera", "c": "centi", "d": "deci", "h": "hecto", "m": "milli",
             "μ": "micro", "n": "nano", "p": "pico"}  # fmt: skip
# symbol: names, and the prefixes in use
_BASES = {
    "m": ("meter metre", "kcdmμn"), "g": ("gram gramme", "kmμ"), "s": ("second", "mμnp"),
    "L": ("liter litre", "cdhmμ"), "A": ("ampere amp", "kmμn"), "K": ("kelvin", "m"), "mol": ("mole", "kmμ"),
    "cd": ("candela", ""), "Hz": ("hertz", "kMGT"), "N": ("newton", "kM"), "Pa": ("pascal", "hkMG"),
    "J": ("joule", "kMGm"), "W": ("watt", "kMGTm"), "C": ("coulomb", "mμn"), "V": ("volt", "kMm"),
    "F": ("farad", "mμnp"), "Ω": ("ohm", "kM"), "T": ("tesla", "mμ"), "Wb": ("weber", "m"), "H": ("henry", "mμ"),
    "eV": ("electronvolt", "kMG"), "B": ("byte", "kMGT"), "bit": ("bit", "kMG"), "cal": ("calorie", "k"),
    "bar": ("bar", "m"), "Wh": ("watt-hour", "kMGT"),
}  # fmt: skip
# by name: all spellings that no prefix and no plural makes
_SPELLINGS = {
    "L": "l 升", "mL": "ml 毫升", "cL": "cl", "dL": "dl", "kB": "KB", "μm": "μm um micron microns", "μg": "mcg",
    "s": "sec secs 秒", "min": "min mins minute minutes 分钟", "h": "h hr hrs hour hours 小时",
    "day": "d day days 天 日", "week": "week weeks wk 周 星期", "month": "month months 月 个月",
    "year": "year years yr yrs 年", "decade": "decade decades", "century": "century centuries",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles", "lb": "lb lbs",
    "oz": "oz ounce ounces", "ton": "ton tons", "t": "tonne tonnes t 吨", "acre": "acre acres",
    "ha": "hectare hectares ha 公顷", "gal": "gallon gallons gal", "qt": "quart quarts", "pint": "pint pints",
    "cup": "cup cups", "tbsp": "tablespoon tablespoons tbsp", "tsp": "teaspoon teaspoons tsp",
    "rad": "radian radians rad rads 弧度", "°": "degree degrees deg ° 度", "°C": "celsius °C 摄氏度",
    "°F": "fahrenheit °F", "%": "% percent pct", "rpm": "rpm", "knot": "knot knots", "atm": "atm", "mmHg": "mmHg",
    "psi": "psi", "hp": "hp", "ly": "ly light-year light-years", "AU": "AU", "dB": "dB", "M": "M", "u": "u amu",
    "ppm": "ppm", "sr": "steradian sr", "unit": "unit units", "USD": "$ \\$ usd USD US$ dollar dollars 美元",
    "EUR": "€ EUR eur euro euros 欧元", "GBP": "£ GBP 英镑", "pound": "pound pounds", "¥": "¥",
    "JPY": "yen JPY 円 日元", "CNY": "元 块 CNY RMB yuan 人民币", "INR": "₹ INR rupee rupees Rs", "RUB": "₽",
    "KRW": "₩", "cent": "cent cents ¢ penny pennies", "角": "角", "分": "分", "m": "米", "cm": "cms 厘米", "mm": "毫米",
    "km": "kms 千米 公里", "dm": "分米", "g": "克", "kg": "kgs 千克 公斤", "mg": "毫克", "斤": "斤", "亩": "亩",
    "V": "伏",
    "W": "瓦", "N": "牛 牛顿", "J": "焦 焦耳",
}  # fmt: skip
_COMPOSED: dict[str, dict[str, int]] = {
    "mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "kmh": {"km": 1, "h": -1}, "mps": {"m": 1, "s": -1},
    "cc": {"cm": 3}, "sqft": {"ft": 2}, "平方米": {"m": 2}, "平方厘米": {"cm": 2}, "平方千米": {"km": 2},
    "平方公里": {"km": 2}, "平方分米": {"dm": 2}, "立方米": {"m": 3}, "立方厘米": {"cm": 3}, "立方分米": {"dm": 3},
}  # fmt: skip
# What is counted, said or not; two of them differ.
_COUNTED = (
    "time times way ways person persons people student students child children boy boys girl girls man men woman "
    "women point points piece pieces item items solution solutions root roots side sides digit digits coin coins "
    "book books ball balls apple apples page pages ticket tickets question questions number numbers integer "
    "integers element elements triangle triangles square squares pair pairs set sets step steps mark marks vertex "
    "vertices edge edges face faces arrangement arrangements permutation permutations combination combinations "
    "subset subsets function functions term terms "
    "个 只 名 位 种 条 张 本 次 岁 人 件 支 根 棵 颗 辆 头 匹 份 块 片 页 间 座 套 双 对 倍 组 题 步 枚 朵 盒 箱 "
    "袋 瓶 杯 把 台 部 首 篇 场"
)
COUNTED = frozenset(_COUNTED.split())
SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "百": 10**2, "千": 10**3, "万": 10**4, "十万": 10**5, "百万": 10**6, "千万": 10**7, "亿": 10**8, "十亿": 10**9,
    "百亿": 10**10, "千亿": 10**11, "万亿": 10**12,
}  # fmt: skip
_EITHER = {"pound": ("lb", "GBP"), "¥": ("CNY", "JPY")}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_AFTER = {"squared": 2, "cubed": 3}
_TOKEN = re.compile(
    r"\^ ?\{? ?(-?\d)(?: ?\})?|(/|per\b|每)|(\\cdot|\*|\.|\\times|\s+|[{}]|\\text)|"
    r"(° ?(?:[CF]\b)?|\\\$|US\$|[$€£¥₹₽₩¢%]|[A-Za-zμΩ-]+|[\u4e00-\u9fff円]+)(\d(?!\d))?"
)


def _table() -> dict[str, str]:
    table = {spelled: name for name, spellings in _SPELLINGS.items() for spelled in spellings.split()}
    for symbol, (names, prefixes) in _BASES.items():
        for prefix, prefix_name in [("", ""), *((prefix, _PREFIXES[prefix]) for prefix in prefixes)]:
            table.setdefault(prefix + symbol, prefix + symbol)
            for name in names.split():
                for spelled in (prefix_name + name, prefix_name + name + "s"):
                    table.setdefault(spelled, prefix + symbol)
    return table


_UNITS = _table()


@lru_cache(maxsize=4096)
def read_unit(text: str) -> Unit | None:
    """The unit that all of the text names, as `km/h`, `\\text{ meters per second}` and `m^2`; None if it is none."""
    powers: dict[str, int] = {}
    position, sign, next_power, last = 0, 1, 1, None
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        power, per, between, name, digit = match.groups()
        if power is not None:
            if last is None:
                return None
            powers[last] += (int(power) - 1) * (1 if powers[last] > 0 else -1)
        elif per is not None:
            if sign < 0:
                return None
            sign = -1
        elif between is None:
            name = name.replace(" ", "")
            lower = name.casefold()
            if lower in _POWERS:
                next_power = _POWERS[lower]
                continue
            if lower in _AFTER and last is not None:
                powers[last] *= _AFTER[lower]
                continue
            parts = _named(name)
            if parts is None:
                return None
            if set(parts) in ({"°C"}, {"°F"}) and set(powers) == {"°"}:  # degrees Celsius
                powers.clear()
            for part, times in parts.items():
                powers[part] = powers.get(part, 0) + sign * times * next_power * int(digit or 1)
                last = part
            next_power = 1
    return tuple(sorted((name, power) for name, power in powers.items() if power)) or None


def _named(name: str) -> dict[str, int] | None:
    if name in _COMPOSED:
        return _COMPOSED[name]
    # Case tells mW from MW, and m from M; of a word it says nothing.
    match = _UNITS.get(name) or (_UNITS.get(name.casefold()) if len(name) > 3 else None)
    return None if match is None else {match: 1}


def agree(one: Unit, other: Unit) -> bool:
    """Whether they are the same unit; a pound may be a weight or money, and ¥ of either country."""
    if one == other:
        return True
    if len(one) != 1 or len(other) != 1:
        return False
    (name, power), (second, also) = one[0], other[0]
    return power == also and (second in _EITHER.get(name, ()) or name in _EITHER.get(second, ()))
