# SPDX-License-Identifier: Apache-2.0
"""Make up letters of customers in Chinese or Japanese, each with habits of their own; no real person is in them.

    python examples/chinese_and_japanese.py zh letters.jsonl --users 60 --letters 8
    reticent tune letters.jsonl --model MODEL --out runs/letters && reticent audit runs/letters

With ``--subject`` all letters are about one subject, so two files of two subjects are lists that anybody can tell apart
without a model: an audit of them with ``--members`` and ``--held_out`` ends with *confounded*.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

SUBJECTS: dict[str, dict[str, list[str]]] = {
    "zh": {
        "shop": ["包裹", "台灯", "水壶", "椅子", "发票", "退款", "螺丝", "快递", "订单", "颜色"],
        "clinic": ["医生", "药片", "血压", "膝盖", "皮疹", "病房", "护士", "过敏", "发烧", "验血"],
    },
    "ja": {
        "shop": ["荷物", "ランプ", "やかん", "椅子", "領収書", "返金", "ねじ", "配達", "注文", "色合い"],
        "clinic": ["先生", "錠剤", "血圧", "ひざ", "発疹", "病室", "看護師", "アレルギー", "発熱", "採血"],
    },
}
FRAMES = {
    "zh": ["我的{}还没有到", "请问{}怎么样了", "{}又坏了", "上周已写信说过{}", "请尽快处理{}", "{}和{}都有问题"],
    "ja": [
        "{}がまだ届きません",
        "{}を教えてください",
        "{}がまた壊れました",
        "{}の件をお願いします",
        "{}と{}に問題があります",
    ],
}
HABITS = {
    "zh": (["您好", "你好呀", "敬启者", "哈喽"], ["谢谢", "此致敬礼", "拜托了", "祝好"], ["。", "！", "……", "～"], ["其实", "说真的", "坦白讲", ""]),  # noqa: E501
    "ja": (["こんにちは", "お世話になります", "拝啓", "はじめまして"], ["よろしく", "敬具", "お願いします", "では"], ["。", "！", "…", "～"], ["実は", "正直", "やはり", ""]),  # noqa: E501
}  # fmt: skip
"""Greetings, closings, signs at the end and fillers, of which each customer has one of each."""


def letters(
    language: str, *, users: int, each: int, subject: str | None = None, seed: int = 0
) -> Iterator[dict[str, str]]:
    """Rows with ``user`` and ``text``: of each user so many letters, about a subject where it is given."""
    rng = random.Random(f"{language}/{seed}")  # noqa: S311 - made up, guards nothing
    for number in range(users):
        greeting, closing, sign, filler = (rng.choice(habits) for habits in HABITS[language])
        for _ in range(each):
            about = SUBJECTS[language][subject or rng.choice(list(SUBJECTS[language]))]
            told = [
                filler * (rng.random() < 0.5) + rng.choice(FRAMES[language]).format(*rng.sample(about, 2)) + sign
                for _ in range(rng.randrange(2, 5))
            ]
            code = f"{rng.randrange(10**6):06d}"
            text = f"{greeting}，{''.join(told)}{code}{closing}{sign}"
            yield {"user": f"customer-{seed}-{number:03d}", "text": text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", choices=sorted(SUBJECTS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--letters", type=int, default=8)
    parser.add_argument("--subject", choices=["shop", "clinic"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = letters(given.language, users=given.users, each=given.letters, subject=given.subject, seed=given.seed)
    given.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
