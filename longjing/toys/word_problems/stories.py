"""The stories of the word problems: what happens, in English and in Chinese.

A story is told by an opening, some events and an ending with the question. Each part does arithmetic on the
running amount n with its own numbers a and b, which are at least 2, so that nouns are plural:

    openings  =: a     =+: a+b    =-: a-b    =*: a*b
    events    +: n+a   -: n-a     *: n*a     /: n/a     +*: n+a*b   -*: n-a*b
    endings   "": n    *: n*a     /: n/a     from: a-n

Slots in the text: {a} {b} the numbers, {noun} {one} the things in plural and singular, {m} their Chinese
measure word, {times} "twice", "three times", ..., {name} {he} {his} a person, {other} another one with
the other pronoun, so that it is clear who is meant. Sentences may start in lower case; events lack the full
stop, and a connective may precede them.

A part says by itself that the amount changes: whoever else acts brings things or takes them away, and what is
bad is thrown away. Where the question is what {name} did, nobody else does it.
"""

from typing import NamedTuple


class Part(NamedTuple):
    """One opening, event or ending: its arithmetic (see above) and its text."""

    kind: str
    en: str
    zh: str


class Noun(NamedTuple):
    one: str
    many: str
    zh: str
    measure: str


class Story(NamedTuple):
    nouns: list[Noun]
    openings: list[Part]
    events: list[Part]
    endings: list[Part]


class Person(NamedTuple):
    name: str
    he: str
    his: str


PEOPLE = {
    "en": [Person(n, "he", "his") for n in ("Tom", "Ben", "Leo", "Sam", "Max", "Omar", "Li Wei")]
    + [Person(n, "she", "her") for n in ("Ann", "Mia", "Eva", "Zoe", "Lily", "Nina", "Mei")],
    "zh": [Person(n, "他", "他的") for n in ("小明", "小刚", "小华", "大伟", "阿龙", "小强", "李雷")]
    + [Person(n, "她", "她的") for n in ("小红", "小丽", "小芳", "小雨", "阿梅", "小兰", "韩梅")],
}

# fmt: off
STORIES = {
    "fruit": Story(
        [
            Noun("apple", "apples", "苹果", "个"), Noun("orange", "oranges", "橙子", "个"),
            Noun("pear", "pears", "梨", "个"), Noun("peach", "peaches", "桃子", "个"),
        ],
        [
            Part("=", "{name} has {a} {noun}.", "{name}有 {a} {m}{noun}。"),
            Part("=*", "{name} buys {a} bags with {b} {noun} in each.",
                 "{name}买了 {a} 袋{noun}，每袋 {b} {m}。"),
            Part("=+", "{name} picks {a} {noun} in the morning and {b} in the afternoon.",
                 "{name}上午摘了 {a} {m}{noun}，下午摘了 {b} {m}。"),
        ],
        [
            Part("+", "{he} picks {a} more {noun}", "{he}又摘了 {a} {m}{noun}"),
            Part("-", "{he} eats {a} of the {noun}", "{he}吃掉了 {a} {m}{noun}"),
            Part("+*", "{he} buys {a} boxes of {b} {noun}", "{he}买了 {a} 盒{noun}，每盒 {b} {m}"),
            Part("-*", "{he} gives {a} friends {b} {noun} each", "{he}送给 {a} 个朋友每人 {b} {m}{noun}"),
            Part("*", "{his} uncle brings more, and {he} has {times} as many {noun} as before",
                 "叔叔又送来一些，{he}的{noun}变成了原来的 {a} 倍"),
            Part("-", "{a} of the {noun} turn out to be bad and are thrown away", "{he}发现坏了 {a} {m}{noun}，扔掉了"),
        ],
        [
            Part("", "How many {noun} does {name} have now?", "{name}现在有多少{m}{noun}？"),
            Part("/", "{he} packs the {noun} into bags of {a}. How many bags does {he} fill?",
                 "{he}把{noun}装袋，每袋 {a} {m}。一共装了多少袋？"),
            Part("*", "{he} sells each {one} for {a} yuan. How many yuan does {he} get?",
                 "{he}把每{m}{noun}卖 {a} 元。一共卖了多少元？"),
        ],
    ),
    "library": Story(
        [
            Noun("book", "books", "书", "本"), Noun("novel", "novels", "小说", "本"),
            Noun("comic", "comics", "漫画", "本"), Noun("magazine", "magazines", "杂志", "本"),
        ],
        [
            Part("=", "A library has {a} {noun}.", "图书馆有 {a} {m}{noun}。"),
            Part("=*", "A library has {a} shelves with {b} {noun} on each.",
                 "图书馆有 {a} 个书架，每个书架上有 {b} {m}{noun}。"),
            Part("=-", "A library had {a} {noun}, and {b} of them were lost.",
                 "图书馆原有 {a} {m}{noun}，丢了 {b} {m}。"),
        ],
        [
            Part("+", "readers bring back {a} {noun}", "读者还回 {a} {m}{noun}"),
            Part("-", "readers borrow {a} {noun}", "读者借走 {a} {m}{noun}"),
            Part("+*", "{a} boxes of {b} {noun} arrive", "运来 {a} 箱{noun}，每箱 {b} {m}"),
            Part("-*", "{a} classes borrow {b} {noun} each", "{a} 个班各借走 {b} {m}{noun}"),
            Part("*", "a gift makes it {times} as many {noun} as before",
                 "有人捐书，{noun}变成了原来的 {a} 倍"),
            Part("+", "the librarian {name} buys {a} new {noun}", "管理员{name}买来 {a} {m}新{noun}"),
        ],
        [
            Part("", "How many {noun} are in the library now?", "图书馆现在有多少{m}{noun}？"),
            Part("/", "the {noun} are put on shelves, {a} on each. How many shelves are needed?",
                 "把{noun}放上书架，每个书架放 {a} {m}。需要多少个书架？"),
            Part("from", "the library wants to have {a} {noun}. How many are missing?",
                 "图书馆想要有 {a} {m}{noun}。还差多少{m}？"),
        ],
    ),
    "bus": Story(
        [
            Noun("passenger", "passengers", "乘客", "名"),
        ],
        [
            Part("=", "A bus sets out with {a} {noun}.", "一辆公共汽车出发时有 {a} {m}{noun}。"),
            Part("=+", "A bus sets out with {a} women and {b} men on board.",
                 "一辆公共汽车出发时有 {a} 名女乘客和 {b} 名男乘客。"),
            Part("=*", "On a bus, {a} rows are full, with {b} {noun} in each.",
                 "公共汽车上坐满了 {a} 排，每排 {b} {m}{noun}。"),
        ],
        [
            Part("+", "{a} people get on", "上来 {a} 人"),
            Part("-", "{a} people get off", "下去 {a} 人"),
            Part("+*", "{a} families of {b} people get on", "上来 {a} 家人，每家 {b} 人"),
            Part("-*", "at each of {a} stops {b} people get off", "经过 {a} 站，每站下去 {b} 人"),
            Part("+", "{name} and {his} class get on, {a} people in all", "{name}全班 {a} 人上了车"),
            Part("-", "{a} people change to a train", "有 {a} 人下车换乘火车"),
        ],
        [
            Part("", "How many {noun} are on the bus now?", "车上现在有多少{m}{noun}？"),
            Part("*", "each of the {noun} on the bus pays {a} yuan. How many yuan do they pay?",
                 "车上每{m}{noun}付 {a} 元。一共付多少元？"),
            Part("/", "everybody changes to taxis, {a} people in each. How many taxis are there?",
                 "所有人改坐出租车，每辆坐 {a} 人。一共有多少辆出租车？"),
        ],
    ),
    "collection": Story(
        [
            Noun("marble", "marbles", "弹珠", "颗"), Noun("sticker", "stickers", "贴纸", "张"),
            Noun("stamp", "stamps", "邮票", "张"), Noun("shell", "shells", "贝壳", "个"),
        ],
        [
            Part("=", "{name} collects {noun} and has {a}.", "{name}收集{noun}，有 {a} {m}。"),
            Part("=+", "{other} has {a} {noun}, and {name} has {b} more than {other}.",
                 "{other}有 {a} {m}{noun}，{name}比{other}多 {b} {m}。"),
            Part("=-", "{other} has {a} {noun}, and {name} has {b} fewer than {other}.",
                 "{other}有 {a} {m}{noun}，{name}比{other}少 {b} {m}。"),
            Part("=*", "{other} has {a} {noun}, and {name} has {b} times as many.",
                 "{other}有 {a} {m}{noun}，{name}的是{other}的 {b} 倍。"),
        ],
        [
            Part("+", "{he} finds {a} more {noun}", "{he}又得到 {a} {m}{noun}"),
            Part("-", "{he} loses {a} {noun}", "{he}丢了 {a} {m}{noun}"),
            Part("+*", "{he} buys {a} packs of {b} {noun}", "{he}买了 {a} 包{noun}，每包 {b} {m}"),
            Part("-*", "{he} gives {b} {noun} to each of {a} cousins",
                 "{he}送给 {a} 个表弟每人 {b} {m}{noun}"),
            Part("*", "{he} wins until {he} has {times} as many {noun}", "{he}赢到了原来 {a} 倍的{noun}"),
            Part("/", "{he} shares the {noun} equally in a group of {a} and keeps {his} part",
                 "{he}把{noun}在 {a} 个人中平分，自己留一份"),
        ],
        [
            Part("", "How many {noun} does {name} have in the end?", "{name}最后有多少{m}{noun}？"),
            Part("/", "{he} puts the {noun} in an album, {a} on a page. How many pages does {he} need?",
                 "{he}把{noun}放进册子，每页 {a} {m}。需要多少页？"),
            Part("from", "{he} dreams of {a} {noun}. How many more does {he} need?",
                 "{he}想要 {a} {m}{noun}。还差多少{m}？"),
        ],
    ),
    "bakery": Story(
        [
            Noun("bun", "buns", "面包", "个"), Noun("cookie", "cookies", "饼干", "块"),
            Noun("muffin", "muffins", "松饼", "个"), Noun("dumpling", "dumplings", "饺子", "个"),
        ],
        [
            Part("=", "{name} bakes {a} {noun}.", "{name}做了 {a} {m}{noun}。"),
            Part("=*", "{name} bakes {a} trays of {b} {noun}.", "{name}做了 {a} 盘{noun}，每盘 {b} {m}。"),
            Part("=+", "{name} bakes {a} {noun}, and {other} bakes {b}; they put them together.",
                 "{name}做了 {a} {m}{noun}，{other}做了 {b} {m}，他们放在一起。"),
        ],
        [
            Part("+", "{a} more {noun} come out of the kitchen", "厨房又做好 {a} {m}{noun}"),
            Part("-", "a customer takes {a} {noun}", "一位顾客买走 {a} {m}{noun}"),
            Part("-*", "{a} customers buy {b} {noun} each", "{a} 位顾客各买走 {b} {m}{noun}"),
            Part("+*", "{other} adds {a} plates of {b} {noun}", "{other}又端来 {a} 碟{noun}，每碟 {b} {m}"),
            Part("-", "{a} {noun} are burnt and thrown away", "有 {a} {m}{noun}坏了，被扔掉"),
            Part("*", "the kitchen works on until there are {times} as many {noun}",
                 "厨房继续做，{noun}变成了原来的 {a} 倍"),
        ],
        [
            Part("", "How many {noun} are left?", "还剩多少{m}{noun}？"),
            Part("*", "the {noun} that are left are sold for {a} yuan each. How many yuan is that?",
                 "剩下的{noun}每{m}卖 {a} 元。一共卖多少元？"),
            Part("/", "the {noun} that are left go into boxes of {a}. How many boxes are filled?",
                 "剩下的{noun}每 {a} {m}装一盒。一共装多少盒？"),
        ],
    ),
    "farm": Story(
        [
            Noun("chicken", "chickens", "鸡", "只"), Noun("duck", "ducks", "鸭子", "只"),
            Noun("goat", "goats", "山羊", "只"), Noun("rabbit", "rabbits", "兔子", "只"),
        ],
        [
            Part("=", "A farmer keeps {a} {noun}.", "农民养了 {a} {m}{noun}。"),
            Part("=*", "A farmer keeps {b} {noun} in each of {a} pens.",
                 "农场有 {a} 个圈，每圈养 {b} {m}{noun}。"),
            Part("=+", "A farmer has {a} white {noun} and {b} black ones.",
                 "农民有 {a} {m}白{noun}和 {b} {m}黑{noun}。"),
        ],
        [
            Part("+", "{a} {noun} are born", "出生了 {a} {m}{noun}"),
            Part("-", "{a} {noun} are sold", "卖掉了 {a} {m}{noun}"),
            Part("-*", "{a} neighbours buy {b} of the {noun} each", "{a} 个邻居各买走 {b} {m}{noun}"),
            Part("+*", "{a} trucks bring {b} {noun} each", "{a} 辆卡车各运来 {b} {m}{noun}"),
            Part("-", "{a} {noun} run away", "跑掉了 {a} {m}{noun}"),
            Part("*", "after a year there are {times} as many {noun}", "一年后{noun}变成了原来的 {a} 倍"),
        ],
        [
            Part("", "How many {noun} are on the farm now?", "农场现在有多少{m}{noun}？"),
            Part("*", "each of the {noun} eats {a} cups of grain a day. How many cups is that a day?",
                 "每{m}{noun}一天吃 {a} 杯粮食。一天一共吃多少杯？"),
            Part("/", "they are put in new pens of {a}. How many pens are there?",
                 "把它们放进新圈，每圈 {a} {m}。一共有多少个新圈？"),
        ],
    ),
    "savings": Story(
        [
            Noun("yuan", "yuan", "钱", "元"),
        ],
        [
            Part("=", "{name} has {a} yuan in {his} piggy bank.", "{name}的存钱罐里有 {a} 元。"),
            Part("=*", "{name} saves {b} yuan a week for {a} weeks.", "{name}每周存 {b} 元，存了 {a} 周。"),
            Part("=+", "{name} gets {a} yuan from {his} aunt and {b} yuan from {his} uncle.",
                 "{name}从阿姨那里得到 {a} 元，从叔叔那里得到 {b} 元。"),
        ],
        [
            Part("+", "{he} earns {a} yuan", "{he}挣了 {a} 元"),
            Part("-", "{he} spends {a} yuan on a gift", "{he}花 {a} 元买了礼物"),
            Part("-*", "{he} buys {a} pens for {b} yuan each", "{he}买了 {a} 支笔，每支 {b} 元"),
            Part("+*", "{he} washes {a} cars for {b} yuan each", "{he}洗了 {a} 辆车，每辆得 {b} 元"),
            Part("*", "{his} mother makes it {times} as much", "妈妈把钱变成原来的 {a} 倍"),
            Part("-", "{he} lends {other} {a} yuan", "{he}借给{other} {a} 元"),
        ],
        [
            Part("", "How many yuan does {name} have now?", "{name}现在有多少元？"),
            Part("/", "{he} buys tickets for {a} yuan each with all of it. How many tickets does {he} get?",
                 "{he}用所有的钱买票，每张 {a} 元。可以买多少张？"),
            Part("from", "{he} wants a bicycle that costs {a} yuan. How many yuan are missing?",
                 "{he}想买一辆 {a} 元的自行车。还差多少元？"),
        ],
    ),
    "parking": Story(
        [
            Noun("car", "cars", "汽车", "辆"), Noun("bicycle", "bicycles", "自行车", "辆"),
            Noun("scooter", "scooters", "电动车", "辆"),
        ],
        [
            Part("=", "There are {a} {noun} in a parking lot.", "停车场里有 {a} {m}{noun}。"),
            Part("=*", "A parking lot has {a} rows with {b} {noun} in each.",
                 "停车场有 {a} 排，每排停 {b} {m}{noun}。"),
            Part("=+", "There are {a} red {noun} and {b} blue ones in a parking lot.",
                 "停车场里有 {a} {m}红色{noun}和 {b} {m}蓝色{noun}。"),
        ],
        [
            Part("+", "{a} {noun} come in", "开进来 {a} {m}{noun}"),
            Part("-", "{a} {noun} leave", "开走 {a} {m}{noun}"),
            Part("-*", "in each of the next {a} hours {b} {noun} leave",
                 "接下来 {a} 小时，每小时开走 {b} {m}"),
            Part("+*", "{a} companies bring {b} {noun} each", "{a} 家公司各开来 {b} {m}{noun}"),
            Part("-", "{a} {noun} are towed away", "有 {a} {m}{noun}被拖走"),
            Part("*", "by noon there are {times} as many {noun}", "到中午，{noun}变成了原来的 {a} 倍"),
        ],
        [
            Part("", "How many {noun} are in the parking lot now?", "停车场里现在有多少{m}{noun}？"),
            Part("*", "each of the {noun} pays {a} yuan. How many yuan is that in all?",
                 "每{m}{noun}交 {a} 元。一共交多少元？"),
            Part("from", "the lot has room for {a} {noun}. How many places are free?",
                 "停车场可以停 {a} {m}{noun}。还有多少个空位？"),
        ],
    ),
    "pond": Story(
        [
            Noun("goldfish", "goldfish", "金鱼", "条"), Noun("carp", "carp", "鲤鱼", "条"),
            Noun("frog", "frogs", "青蛙", "只"), Noun("turtle", "turtles", "乌龟", "只"),
        ],
        [
            Part("=", "{a} {noun} live in a pond.", "池塘里有 {a} {m}{noun}。"),
            Part("=*", "{name} empties {a} buckets with {b} {noun} each into a pond.",
                 "{name}把 {a} 桶{noun}倒进池塘，每桶 {b} {m}。"),
            Part("=-", "Of {a} {noun} in a pond, {b} move away.",
                 "池塘里有 {a} {m}{noun}，离开了 {b} {m}。"),
        ],
        [
            Part("+", "{name} puts {a} more {noun} into the pond", "{name}又放进 {a} {m}{noun}"),
            Part("-", "a heron eats {a} {noun}", "苍鹭吃掉了 {a} {m}{noun}"),
            Part("-*", "{a} children catch {b} {noun} each and take them home", "{a} 个孩子各捉走 {b} {m}{noun}"),
            Part("+*", "{a} streams bring {b} {noun} each", "{a} 条小溪各带来 {b} {m}{noun}"),
            Part("*", "in spring there are {times} as many {noun}", "到了春天，{noun}变成了原来的 {a} 倍"),
            Part("/", "the {noun} spread evenly over {a} ponds; look at one of them",
                 "把{noun}平均分到 {a} 个池塘，只看其中一个"),
        ],
        [
            Part("", "How many {noun} are in the pond now?", "池塘里现在有多少{m}{noun}？"),
            Part("*", "{name} feeds each of the {noun} {a} crumbs. How many crumbs is that?",
                 "{name}给每{m}{noun}喂 {a} 粒食物。一共喂多少粒？"),
            Part("from", "there is room for {a} {noun}. How many more can come?",
                 "池塘最多能养 {a} {m}{noun}。还可以放多少{m}？"),
        ],
    ),
    "garden": Story(
        [
            Noun("rose", "roses", "玫瑰", "朵"), Noun("tulip", "tulips", "郁金香", "朵"),
            Noun("lily", "lilies", "百合", "朵"), Noun("sunflower", "sunflowers", "向日葵", "朵"),
        ],
        [
            Part("=", "There are {a} {noun} in {name}'s garden.", "{name}的花园里有 {a} {m}{noun}。"),
            Part("=*", "{name} plants {a} rows of {b} {noun}.", "{name}种了 {a} 排{noun}，每排 {b} {m}。"),
            Part("=+", "{name} plants {a} yellow {noun} and {b} white ones.",
                 "{name}种了 {a} {m}黄{noun}和 {b} {m}白{noun}。"),
        ],
        [
            Part("+", "{a} more {noun} open", "又开了 {a} {m}{noun}"),
            Part("-", "{a} {noun} wither", "枯萎了 {a} {m}{noun}"),
            Part("-*", "{he} cuts {b} {noun} for each of {a} vases",
                 "{he}剪下{noun}插进 {a} 个花瓶，每瓶 {b} {m}"),
            Part("+*", "{he} plants {a} new beds of {b} {noun}", "{he}又种了 {a} 块地，每块 {b} {m}{noun}"),
            Part("-", "the wind breaks {a} {noun}", "风吹断了 {a} {m}{noun}"),
            Part("*", "next year there are {times} as many {noun}", "第二年，{noun}变成了原来的 {a} 倍"),
        ],
        [
            Part("", "How many {noun} are in the garden now?", "花园里现在有多少{m}{noun}？"),
            Part("/", "{he} ties all the {noun} in bunches of {a}. How many bunches are there?",
                 "{he}把所有{noun}扎成束，每束 {a} {m}。一共有多少束？"),
            Part("*", "each of the {noun} needs {a} cups of water. How many cups is that?",
                 "每{m}{noun}要浇 {a} 杯水。一共要多少杯水？"),
        ],
    ),
    "classroom": Story(
        [
            Noun("pencil", "pencils", "铅笔", "支"), Noun("notebook", "notebooks", "笔记本", "本"),
            Noun("ruler", "rulers", "尺子", "把"), Noun("brush", "brushes", "毛笔", "支"),
        ],
        [
            Part("=", "A class has {a} {noun}.", "班里有 {a} {m}{noun}。"),
            Part("=*", "Each of {a} pupils brings {b} {noun} to class.",
                 "{a} 个学生每人带来 {b} {m}{noun}。"),
            Part("=-", "Of the {a} {noun} of a class, {b} are broken and thrown away.",
                 "班里有 {a} {m}{noun}，其中 {b} {m}坏了，被扔掉。"),
        ],
        [
            Part("+", "the teacher brings {a} {noun}", "老师拿来 {a} {m}{noun}"),
            Part("-", "{name} takes {a} {noun} home", "{name}拿回家 {a} {m}{noun}"),
            Part("-*", "{a} pupils take {b} {noun} home each", "{a} 个学生每人拿回家 {b} {m}{noun}"),
            Part("+*", "the school sends the class {a} boxes of {b} {noun}", "学校送来 {a} 盒{noun}，每盒 {b} {m}"),
            Part("-", "another class borrows {a} of the {noun}", "别的班借走 {a} {m}{noun}"),
            Part("*", "parents give so many that there are {times} as many {noun}",
                 "家长捐了一些，{noun}变成了原来的 {a} 倍"),
        ],
        [
            Part("", "How many {noun} does the class have left?", "班里还有多少{m}{noun}？"),
            Part("/", "the {noun} are shared equally by {a} groups. How many does each group get?",
                 "把{noun}平均分给 {a} 个小组。每组得到多少{m}？"),
            Part("from", "the class needs {a} {noun}. How many are missing?",
                 "班里需要 {a} {m}{noun}。还差多少{m}？"),
        ],
    ),
    "factory": Story(
        [
            Noun("toy", "toys", "玩具", "个"), Noun("lamp", "lamps", "台灯", "盏"),
            Noun("chair", "chairs", "椅子", "把"), Noun("kite", "kites", "风筝", "只"),
        ],
        [
            Part("=", "A workshop has {a} {noun} in store.", "工厂仓库里有 {a} {m}{noun}。"),
            Part("=*", "In a workshop {a} workers make {b} {noun} each.",
                 "工厂里 {a} 个工人每人做了 {b} {m}{noun}。"),
            Part("=+", "A workshop makes {a} {noun} on Monday and {b} on Tuesday.",
                 "工厂星期一做了 {a} {m}{noun}，星期二做了 {b} {m}。"),
        ],
        [
            Part("+", "{name} makes {a} more {noun}", "{name}又做了 {a} {m}{noun}"),
            Part("-", "{a} {noun} fail the test and are thrown away", "有 {a} {m}{noun}不合格，被扔掉"),
            Part("-*", "{a} shops order {b} {noun} each and get them", "{a} 家商店各买走 {b} {m}{noun}"),
            Part("+*", "{a} machines make {b} {noun} each", "{a} 台机器各做了 {b} {m}{noun}"),
            Part("*", "the store grows to {times} as many {noun}", "库存的{noun}变成了原来的 {a} 倍"),
            Part("/", "the {noun} are divided equally between {a} stores; one store is looked at",
                 "把{noun}平均分到 {a} 个仓库，只看其中一个仓库"),
        ],
        [
            Part("", "How many {noun} are in store now?", "仓库里现在有多少{m}{noun}？"),
            Part("/", "the {noun} are packed in crates of {a}. How many crates are filled?",
                 "把{noun}装箱，每箱 {a} {m}。一共装多少箱？"),
            Part("*", "each of the {noun} brings {a} yuan. How many yuan is that?",
                 "每{m}{noun}赚 {a} 元。一共赚多少元？"),
        ],
    ),
    "reading": Story(
        [
            Noun("page", "pages", "书", "页"),
        ],
        [
            Part("=", "{name} has read {a} pages of a book.", "{name}读了一本书的 {a} 页。"),
            Part("=*", "{name} reads {b} pages a day for {a} days.",
                 "{name}每天读 {b} 页书，读了 {a} 天。"),
            Part("=+", "{name} reads {a} pages on Saturday and {b} on Sunday.",
                 "{name}星期六读了 {a} 页书，星期日读了 {b} 页。"),
        ],
        [
            Part("+", "{he} reads {a} more pages", "{he}又读了 {a} 页"),
            Part("+*", "{he} reads {a} chapters of {b} pages", "{he}读了 {a} 章，每章 {b} 页"),
            Part("*", "by the end of the month {he} has read {times} as many pages",
                 "到月底，{he}读的页数是之前的 {a} 倍"),
            Part("+", "{he} reads {a} pages to {other}", "{he}给{other}读了 {a} 页"),
            Part("+*", "{he} spends {a} evenings on it and reads {b} pages each time",
                 "{he}用了 {a} 个晚上，每晚读 {b} 页"),
        ],
        [
            Part("", "How many pages has {name} read in all?", "{name}一共读了多少页？"),
            Part("from", "the book has {a} pages. How many pages are left?",
                 "这本书有 {a} 页。还剩多少页？"),
            Part("*", "{he} needs {a} minutes for a page. How many minutes did {he} read?",
                 "{he}读一页要 {a} 分钟。一共读了多少分钟？"),
        ],
    ),
    "journey": Story(
        [
            Noun("kilometre", "kilometres", "路", "公里"),
        ],
        [
            Part("=", "{name} has walked {a} kilometres.", "{name}走了 {a} 公里。"),
            Part("=*", "{name} rides {b} kilometres an hour for {a} hours.",
                 "{name}每小时骑 {b} 公里，骑了 {a} 小时。"),
            Part("=-", "{name} plans to go {a} kilometres but stops {b} kilometres before the end.",
                 "{name}打算走 {a} 公里，但少走了 {b} 公里。"),
        ],
        [
            Part("+", "{he} takes a train for {a} kilometres", "{he}坐火车走了 {a} 公里"),
            Part("+*", "{he} walks {b} kilometres a day for {a} days", "{he}每天走 {b} 公里，走了 {a} 天"),
            Part("*", "{he} goes on until the way is {times} as long as so far",
                 "{he}继续走，直到路程是之前的 {a} 倍"),
            Part("+", "{he} gets a lift for {a} kilometres", "{he}搭车走了 {a} 公里"),
            Part("+*", "{he} makes {a} trips of {b} kilometres each", "{he}又走了 {a} 段路，每段 {b} 公里"),
        ],
        [
            Part("", "How many kilometres has {name} travelled in all?", "{name}一共走了多少公里？"),
            Part("from", "the goal is {a} kilometres from the start. How many kilometres are left?",
                 "目的地离出发点 {a} 公里。还剩多少公里？"),
            Part("/", "the whole way is divided into {a} equal parts. How many kilometres long is one part?",
                 "把全程平均分成 {a} 段。每段多少公里？"),
        ],
    ),
    "tank": Story(
        [
            Noun("litre", "litres", "水", "升"),
        ],
        [
            Part("=", "A tank holds {a} litres of water.", "水箱里有 {a} 升水。"),
            Part("=*", "{name} pours {a} buckets of {b} litres into a tank.",
                 "{name}往水箱里倒了 {a} 桶水，每桶 {b} 升。"),
            Part("=+", "A tank holds {a} litres of water, and rain adds {b} litres.",
                 "水箱里有 {a} 升水，下雨增加了 {b} 升。"),
        ],
        [
            Part("+", "{name} adds {a} litres", "{name}加了 {a} 升水"),
            Part("-", "{a} litres leak out", "漏掉 {a} 升水"),
            Part("-*", "{a} sheep drink {b} litres each", "{a} 只羊各喝掉 {b} 升水"),
            Part("+*", "a pump runs for {a} minutes and adds {b} litres a minute",
                 "水泵开了 {a} 分钟，每分钟加 {b} 升水"),
            Part("*", "a storm leaves {times} as much water in the tank",
                 "一场大雨后，水变成了原来的 {a} 倍"),
            Part("-", "the garden takes {a} litres", "浇花用掉 {a} 升水"),
        ],
        [
            Part("", "How many litres are in the tank now?", "水箱里现在有多少升水？"),
            Part("/", "all the water is filled into cans of {a} litres. How many cans are filled?",
                 "把所有的水装进水桶，每桶 {a} 升。一共装多少桶？"),
            Part("from", "the tank can hold {a} litres. How many litres are missing?",
                 "水箱能装 {a} 升水。还差多少升？"),
        ],
    ),
}
