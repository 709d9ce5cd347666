#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The setting of "Memorization in NLP Fine-tuning Methods" (Mireshghallah et al., 2022, arXiv:2205.12506) as closely as
# reticent has it: GPT-2 small, WikiText-2 joined and cut into blocks of about 1,024 tokens, each a member by a coin,
# 20 epochs in batches of 8, and "the secret number is 2 8 1 9 0 4" planted 25 times beside the text.
#
# Needs the network once, for the weights and the text, and a GPU for the whole grid (30 trainings). Fewer of them:
#     METHODS=full,lora SEEDS=0 EPOCHS=5 examples/paper_setting.sh runs/small
#
# Where it differs from the paper:
# - half of the blocks are held out by a coin, instead of the corpus' own validation part: members and held-out then
#   differ in nothing else, and 10 % FPR rests on hundreds of blocks instead of 88;
# - blocks are 700 words, about 950 of GPT-2's tokens: words are cut before any tokenizer is known;
# - 16 secrets get a coin each instead of one secret in every run, ranked among 5,000 that are never planted;
# - "head" tunes a copy of the output matrix; the paper's also moves the input embedding it is tied to. That one is
#   METHODS=head_tied.
set -euo pipefail

out=${1:-runs/paper-setting}
choice=()
if [[ -n "${METHODS:-}" ]]; then choice+=(--methods "$METHODS"); fi
if [[ -n "${SEEDS:-}" ]]; then choice+=(--seeds "$SEEDS"); fi

reticent compare "${DATA:-Salesforce/wikitext:wikitext-2-raw-v1:train}" \
    --preset memorization-study --model "${MODEL:-openai-community/gpt2}" "${choice[@]}" \
    --block_words "${WORDS:-700}" --max_tokens "${TOKENS:-1024}" --epochs "${EPOCHS:-20}" --batch_size 8 \
    --panel "${PANEL:-500}" \
    --canaries 16 --canary_kind secret_number --canary_repetitions 25 --canary_controls "${CONTROLS:-5000}" \
    --out "$out"
