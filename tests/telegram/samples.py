"""Texts that put rendering to the test: realistic answers, and a generator of what nobody would write."""

# ruff: noqa: RUF001 - Chinese has its own colon

from __future__ import annotations

import random
from collections import Counter

from nanochat.channels.telegram.split import split
from nanochat.channels.telegram.text import Entity, Formatted, render
from tests.fakes.telegram_rules import refusal

RECIPE = """\
Sure! Here is a **simple pancake recipe** 🥞 for two people.

## Ingredients

- 200 g flour *(sifted)*
- 2 eggs
  - at room temperature
  - or `3` small ones
- 300 ml milk
- a pinch of salt

## Steps

1. Whisk the **eggs** and the milk.

   Let it rest for *ten* minutes.
2. Fold in the flour:

   ```python
   def fold(bowl: list[str]) -> None:
   \tbowl.append("flour")  # gently
   ```
3. Fry, see [this video](https://example.org/watch?v=1&t=2s).

> **Tip:** a hot pan, *not* a smoking one.
> Use `ghee`.

| What | How much | When |
|:-----|---------:|:----:|
| butter | 10 g | before |
| maple syrup | 1,5 dl | **after** |

---

Enjoy! Cost is ~5 to ~8 €, and ||do not tell the cat||.
"""

CHINESE = """\
**重点：**后面的文字很重要。请看**“引用”**和`代码`。

1. 第一步：安装 **Python 3.11**；
2. 第二步：运行 `pip install nanochat`。
   - 子项目：*强调*文字
   - [文档](https://例え.jp/路径)

| 名称 | 价格 | 说明 |
|:--|--:|:-:|
| 苹果 | 12 | 红色的 |
| 草莓🍓 | 8 | 小 |

**'강조'**는 중요합니다. ~~삭제~~되었습니다. 𠮷野家で食べる。👨‍👩‍👧‍👦
"""

CODE = """\
The bug is in `parse()`: `List<T>` is *never* closed. Compare `a || b` with a||b.

```c++
template <typename T>
List<T> parse(const char *s) {
    // **not bold** in here, _nor_ here
    return s ? List<T>{s} : List<T>{};
}
```

Then run

    make -j2 && ./a.out < in.txt

~~~sh title="run me.sh"
$ echo "```"
~~~

<details>
<summary>Why?</summary>

Because of snake_case_names and 2 * 3 * 4 = 24, see [RFC][1] and <https://example.org/a_b_c>.

</details>

[1]: https://example.org/rfc "A title"

- [x] reproduce
- [ ] fix `it`
- [ ] tell <mailto:me@example.org> or [localhost](http://localhost:8080/) ![a chart](https://example.org/c.png)

Title
=====
***All* of it** at `` a`b ``, ~~**gone**~~, __under__ \\*stars\\* &copy; &lt;b&gt;.
"""

ANSWERS = {"recipe": RECIPE, "chinese": CHINESE, "code": CODE}

PIECES = (
    *"*_~|`#>-+=!:<>()[]{}\\/&;.,\"'",
    *("\n", "\n", "\n\n", " ", " ", "  ", "    ", "\t", "\r\n", "\x00", "\x1b", "\ud83d", "\u2028", "\u202e", "\xa0", "\u200d"),
    *("**", "__", "~~", "||", "```", "~~~", "***", "---", "===", "> ", "- ", "1. ", "# ", "- [ ] ", "|---|", "](", "![", "](http://a.b"),
    *("a", "bc", "Δ", "重点", "：", "。", "😀", "👩‍👧", "é", "http://x.y/z", "<b>", "</b>", "<!-- c -->"),
    *("| a | b |\n|--|:-:|\n| c |"),
    *("```py\n", "[a](http://b.c)", "[d](e)", "<f@g.h>", "&amp;", "&#10;", "&#x202e;", "&nbsp;"),
)  # fmt: skip


def noise(random_: random.Random, most: int = 24) -> str:
    """A text out of marks and little else."""
    return "".join(random_.choices(PIECES, k=random_.randint(1, most)))


def problem(formatted: Formatted, limit_units: int = 4096) -> str | None:
    """Why Telegram would not take it."""
    return refusal(formatted.text, [entity.as_dict() for entity in formatted.entities], limit_units=limit_units)


def problems(markdown: str) -> list[str]:
    """Why Telegram would not take what becomes of a text."""
    return [why for part in split(render(markdown)) if (why := problem(part)) is not None]


def covered(formatted: Formatted, entity: Entity) -> str:
    """The text of an entity."""
    return formatted.text.encode("utf-16-le")[2 * entity.offset : 2 * entity.end].decode("utf-16-le")


def told(formatted: Formatted) -> list[tuple[str, str]]:
    """The entities as pairs of type and text."""
    return [(entity.type, covered(formatted, entity)) for entity in formatted.entities]


def solid(text: str) -> str:
    """Without blanks."""
    return "".join(text.split())


def letters(text: str) -> Counter[str]:
    """How often each letter and digit stands in a text."""
    return Counter(character for character in text if character.isalnum())
